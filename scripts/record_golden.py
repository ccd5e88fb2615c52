"""Record the curve of a training again: tests/golden/NAME.json.

    python scripts/record_golden.py grpo --reason "the reference reads prompts in one pass"
    python scripts/record_golden.py all --reason "torch 2.12"

Recorded curves are what `tests/test_golden.py` compares with. A curve that changes is a change of
what the program computes, so the file keeps the reason of every recording. Without one, nothing is
recorded. The curve is trained twice, and has to be the same to the bit.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "src")]

from script_options import ScriptParser  # noqa: E402

import golden_runs  # noqa: E402


def main() -> None:
    golden_runs.environment()
    parser = ScriptParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=[*golden_runs.RUNS, "all"])
    parser.add_argument("--reason", required=True, help="why the curve changes; kept in the file")
    options = parser.parse_args()
    if not options.reason.strip():
        parser.error("--reason is empty; say why the curve changes")
    for name in golden_runs.RUNS if options.name == "all" else [options.name]:
        file = golden_runs.GOLDEN / f"{name}.json"
        old = json.loads(file.read_text(encoding="utf-8")) if file.exists() else None
        curve, again = trained(name), trained(name)
        unstable = golden_runs.differences(curve, again)
        if unstable:
            sys.exit(f"{name} is not the same twice: {unstable[0]}; nothing was recorded")
        for line in golden_runs.differences(old, curve) if old else ():
            print(f"{name}: {line}")
        reasons = [*(old["reasons"] if old else ()), options.reason.strip()]
        file.write_text(as_text({"reasons": reasons, **curve}), encoding="utf-8")
        print(f"wrote {file}")


def trained(name: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        return golden_runs.train(name, Path(folder))


def as_text(curve: dict[str, Any]) -> str:
    """JSON with one line a step, so that a difference between two recordings can be read."""
    steps = ",\n".join(f"    {json.dumps(step)}" for step in curve["steps"])
    rest = {key: value for key, value in curve.items() if key != "steps"}
    text = json.dumps({**rest, "steps": []}, indent=2)
    return text.replace('"steps": []', f'"steps": [\n{steps}\n  ]') + "\n"


if __name__ == "__main__":
    main()
