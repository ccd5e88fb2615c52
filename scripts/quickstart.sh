#!/usr/bin/env bash
# From a fresh clone to the table: install, make the mini-world, train the four models, evaluate
# them, print the table and write a report page. Run it again to go on where it stopped.
#   scripts/quickstart.sh [--out DIR] [--seed N]
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
python="$("$root/scripts/setup.sh")"
cd "$root"
export MLFLOW_DISABLE_TELEMETRY=true
exec "$python" scripts/run_table.py "$@"
