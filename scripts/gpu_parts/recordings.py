"""`analyze` on a device against `analyze` on the CPU: real files, trained weights, every window.

    python scripts/gpu_parts/recordings.py --device cuda --scratch DIR --out FILE

The model and the clips of examples/. In float32 labels, texts and reasoning must be the CPU's and
scores must agree to a thousandth; how many labels bfloat16 keeps is only told. A streamed answer
must be the one that is not streamed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "src"))

import torch  # noqa: E402

from r1omni import R1Omni  # noqa: E402
from r1omni.cli import main as r1omni_main  # noqa: E402
from r1omni.recordings.log import LOG, read_log  # noqa: E402

MODEL, CLIPS = ROOT / "examples" / "mini-model", ROOT / "examples" / "clips"
LARGEST_DIFFERENCE = 1e-3  # of a score in float32
EXACT = ("path", "start_s", "label", "text", "reasoning")


def analyze(device: str, dtype: str, out: Path) -> list[dict[str, Any]]:
    """The records of the clips, whole and by windows of a second."""
    records = []
    for kind, words in (("whole", ()), ("windows", ("--window-s", "1", "--hop-s", "0.5"))):
        folder = out / f"{device}_{dtype}_{kind}"
        status = r1omni_main([
            "analyze", str(CLIPS), "--model", str(MODEL), "--device", device, "--dtype", dtype,
            "--out", str(folder), *words,
        ])  # fmt: skip
        if status:
            raise SystemExit(f"analyze on {device} in {dtype} left with status {status}")
        records += [record.row() for record in read_log(folder / LOG)]
    return records


def apart(one: list[dict[str, Any]], other: list[dict[str, Any]]) -> dict[str, Any]:
    """Shares of equal fields, and the largest difference of a score."""
    if len(one) != len(other) or not one:
        raise SystemExit(f"{len(one)} records on one device, {len(other)} on the other")
    pairs = list(zip(one, other, strict=True))
    found: dict[str, Any] = {
        name: sum(a[name] == b[name] for a, b in pairs) / len(pairs) for name in EXACT
    }
    found["scores"] = max(
        abs(value - b["scores"][label]) for a, b in pairs for label, value in a["scores"].items()
    )
    return found


def streams_the_same(device: str) -> bool:
    """Whether an answer that comes token by token is the one that comes at once."""
    omni = R1Omni.from_pretrained(MODEL, device=device)
    inputs = omni.prepare(sorted(CLIPS.glob("*.mp4"))[0])
    whole = omni.generate(inputs, max_new_tokens=64)
    pieces = list(omni.generate(inputs, max_new_tokens=64, stream=True))
    return torch.equal(torch.cat(pieces, dim=1), whole)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    parser.add_argument("--scratch", type=Path, required=True, help="folder for the records")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    given = parser.parse_args()
    right = analyze("cpu", "float32", given.scratch / "recordings")
    found: dict[str, Any] = {"records": len(right)}
    for dtype in ("float32", "bfloat16"):
        started = time.monotonic()
        records = analyze(given.device, dtype, given.scratch / "recordings" / "again")
        found[dtype] = {**apart(records, right), "seconds": round(time.monotonic() - started, 2)}
    found["streams_the_same"] = streams_the_same(given.device)
    given.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    own = found["float32"]
    if not found["streams_the_same"]:
        raise SystemExit("a streamed answer is another than one that is not streamed")
    if own["scores"] > LARGEST_DIFFERENCE or min(own[name] for name in EXACT) < 1:
        raise SystemExit(f"float32 differs from the CPU: {own}")
    print(f"{len(right)} records are the CPU's, scores {own['scores']:.1g} apart")


if __name__ == "__main__":
    main()
