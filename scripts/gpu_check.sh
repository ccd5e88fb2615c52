#!/usr/bin/env bash
# Everything that needs a GPU, on a bare machine that has one: scripts/gpu_check.py says what.
# A python3 that has torch is used as it is, since such a machine may have no way to install
# anything; otherwise scripts/setup.sh installs first.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=python3
"$python" -c 'import torch, lightning, transformers' 2>/dev/null || python="$(scripts/setup.sh)"
exec "$python" scripts/gpu_check.py "$@"
