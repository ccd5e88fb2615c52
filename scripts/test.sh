#!/usr/bin/env bash
# Install if needed, then lint, formatting, types and tests. Arguments go to pytest:
#
#   scripts/test.sh                  everything that runs on a CPU in minutes
#   scripts/test.sh -m gpu           what needs a CUDA device
#   scripts/test.sh tests/text -x    a part
#   scripts/test.sh -n 0 -s ...      in one process instead of two, with what tests print
#
# scripts/setup.sh says where the environment lies and how to choose another place.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
python="$(scripts/setup.sh)"

export MLFLOW_DISABLE_TELEMETRY=true
# The models of the tests are tiny: two processes make more of two cores than two threads.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
export PYTHONPATH="$PWD/src${PYTHONPATH:+:$PYTHONPATH}"

step() {
    printf '\n== %s\n' "$*" >&2
    "$python" -m "$@"
}

step ruff check .
step ruff format --check .
step mypy src
# A file is one worker's: some prepare trainings that take a minute or two.
step pytest -n 2 --dist loadfile "$@"
