#!/usr/bin/env bash
# Run one command of r1omni on every GPU of this node, or of several nodes.
#
#   scripts/launch_torchrun.sh fit --config configs/r1omni_0.5b/r1omni.yaml --config configs/overlay/fsdp.yaml
#
# On several nodes, on each of them:
#
#   NODES=4 NODE_RANK=0 MASTER_ADDR=first-node scripts/launch_torchrun.sh fit ...
#
# PROCESSES is the number of processes on a node ("gpu": one for each GPU).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python="${R1OMNI_VENV:-.venv}/bin/python"
[[ -x "$python" ]] || { echo "launch: there is no $python; run scripts/setup.sh first" >&2; exit 2; }
[[ $# -gt 0 ]] || { echo "launch: give a command, such as: fit --config FILE" >&2; exit 2; }

nodes="${NODES:-1}"
where=(--standalone)
if [[ "$nodes" -gt 1 ]]; then
    : "${NODE_RANK:?launch: set NODE_RANK, 0 to NODES - 1}" "${MASTER_ADDR:?launch: set MASTER_ADDR, the name of node 0}"
    where=(--nnodes "$nodes" --node-rank "$NODE_RANK" --master-addr "$MASTER_ADDR" --master-port "${MASTER_PORT:-29500}")
fi
exec "$python" -m torch.distributed.run "${where[@]}" --nproc-per-node "${PROCESSES:-gpu}" \
    -m r1omni "$@" --trainer.num_nodes "$nodes"
