#!/usr/bin/env bash
# Install if needed, then lint, formatting, types and tests. Arguments go to pytest:
#
#   scripts/test.sh                  everything that runs on a CPU in minutes
#   scripts/test.sh -m slow          another marker: slow, distributed, gpu
#   scripts/test.sh tests/text -x    a part
#
# scripts/setup.sh says where the environment lies and how to choose another place.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
python="$(scripts/setup.sh)"

export MLFLOW_DISABLE_TELEMETRY=true
# The models of the tests are tiny: many threads only get in each other's way.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-2}"
export PYTHONPATH="$PWD/src${PYTHONPATH:+:$PYTHONPATH}"

step() {
    printf '\n== %s\n' "$*" >&2
    "$python" -m "$@"
}

step ruff check .
step ruff format --check .
step mypy src
step pytest "$@"
