"""Compute a batch again that stopped a training, and say where its numbers go wrong.

python scripts/replay_batch.py outputs/run/nonfinite/step_000123_rank_0.pt
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))

from script_options import ScriptParser  # noqa: E402

from r1omni.training.nonfinite import replay  # noqa: E402
from r1omni.types import R1OmniError  # noqa: E402


def main() -> int:
    parser = ScriptParser(description=__doc__.splitlines()[0])
    parser.add_argument("batch", type=Path)
    parser.add_argument("--model", help="what the run started from, where it is not where it was")
    options = parser.parse_args()
    try:
        found = replay(options.batch, options.model)
    except R1OmniError as error:
        print(f"replay_batch: error: {error}", file=sys.stderr)
        return 1
    for what, names in (
        ("weights", found.weights),
        ("inputs", found.inputs),
        ("log-probabilities of", found.samples),
        ("gradients", found.gradients),
    ):
        shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
        print(f"{what} that are not finite: {shown or 'none'}")
    print(f"loss {found.loss:g}, largest finite gradient {found.largest_gradient:g}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
