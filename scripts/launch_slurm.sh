#!/usr/bin/env bash
# Train on many nodes under SLURM; a job that runs out of time saves, and is queued again.
#
#   sbatch --nodes 4 scripts/launch_slurm.sh RUN_FOLDER fit --config FILE --config configs/overlay/fsdp.yaml
#
#SBATCH --job-name r1omni
#SBATCH --ntasks-per-node 1
#SBATCH --gpus-per-node 8
#SBATCH --cpus-per-task 64
#SBATCH --exclusive
#SBATCH --requeue
#SBATCH --open-mode append
#SBATCH --signal B:TERM@120
set -uo pipefail
cd "${SLURM_SUBMIT_DIR:?submit this file with sbatch, from the root of the repository}"

run_dir="${1:?launch: give the folder of the run, then the command}"
shift
resume=()
if compgen -G "$run_dir/checkpoints/step_*.ckpt" > /dev/null; then
    resume=(--ckpt_path last)
fi
# SLURM has ended the earlier try of this job, on whatever node it was.
[[ -z "${SLURM_RESTART_COUNT:-}" ]] || rm -f "$run_dir/run.lock"
MASTER_ADDR="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)"
export MASTER_ADDR NODES="$SLURM_JOB_NUM_NODES"

# One launcher a node; it starts a process for each GPU.
srun --kill-on-bad-exit 1 bash -c \
    'NODE_RANK=$SLURM_NODEID exec scripts/launch_torchrun.sh "$@"' launch \
    "$@" --trainer.default_root_dir "$run_dir" "${resume[@]}" &
job=$!
terminated=
trap 'terminated=1; kill -TERM "$job"' TERM
wait "$job"
status=$?
if [[ -n "$terminated" ]]; then
    wait "$job" # until every rank has saved
    scontrol requeue "$SLURM_JOB_ID"
    exit 0
fi
exit "$status"
