#!/usr/bin/env bash
# Install if needed, then lint, formatting, types and tests. Arguments go to pytest:
#
#   scripts/test.sh                  everything that runs on a CPU in minutes
#   scripts/test.sh -m gpu           what needs a CUDA device
#   scripts/test.sh tests/text -x    a part
#   scripts/test.sh -n 0 -s ...      in one process instead of two, with what tests print
#
# scripts/setup.sh says where the environment lies and how to choose another place. Pages are tested in
# Debian's Chromium, which is installed by apt where it is missing and one is root.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
python="$(scripts/setup.sh)"

if ! command -v chromium >/dev/null && command -v apt-get >/dev/null && [[ $EUID -eq 0 ]]; then
    echo "test: installing Chromium, for the tests of pages" >&2
    DEBIAN_FRONTEND=noninteractive apt-get -qq update >&2
    DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends chromium >&2
fi

export MLFLOW_DISABLE_TELEMETRY=true
# The models of the tests are tiny: two processes make more of two cores than two threads.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
# Hundreds of processes would compile the package anew, and pytest the tests.
unset PYTHONDONTWRITEBYTECODE
export PYTHONPATH="$PWD/src${PYTHONPATH:+:$PYTHONPATH}"

step() {
    printf '\n== %s\n' "$*" >&2
    "$python" -m "$@"
}

step ruff check .
step ruff format --check .
step mypy src
# A file is one worker's: some prepare trainings that take a minute or two, and tests/conftest.py
# says which begin first.
step pytest -n 2 --dist loadfile --no-loadscope-reorder "$@"
