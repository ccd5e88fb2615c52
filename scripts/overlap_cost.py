"""What the look for shared clips costs: seconds, and bytes that are read.

    python scripts/overlap_cost.py                          # files of DFEW's sizes and number
    python scripts/overlap_cost.py --one-size               # the worst case: every file of one size

Files are as long as clips and hold other first bytes each, so that none is another; they are holes
behind these, and take no disk. What a cold disk adds is not in the figures.
"""

from __future__ import annotations

import random
import tempfile
import time
from pathlib import Path

from script_options import ScriptParser

from r1omni.data import overlap
from r1omni.types import Clip, Sample

# Bytes of a clip: a few seconds of film.
_SMALLEST, _LARGEST = 60_000, 600_000


def main() -> None:
    """Write the files, look for shared ones, and print one line."""
    parser = ScriptParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", type=int, default=12_000, help="clips that are trained on")
    parser.add_argument("--test", type=int, default=4_000, help="clips that are judged on")
    parser.add_argument("--one-size", action="store_true", help="give every file one size")
    given = parser.parse_args()
    read: list[int] = []
    digest = overlap._digest

    def counted(path: str, limit: int | None = None) -> str | None:
        size = Path(path).stat().st_size
        read.append(size if limit is None else min(size, limit))
        return digest(path, limit)

    overlap._digest = counted
    with tempfile.TemporaryDirectory() as folder:
        samples = _written(Path(folder), given.train + given.test, given.one_size)
        begin = time.perf_counter()
        found = overlap.shared_clips(samples[: given.train], samples[given.train :])
        taken = time.perf_counter() - begin
    print(
        f"{given.train:,} and {given.test:,} clips: {taken:.1f} s, {len(read):,} reads of "
        f"{sum(read) / 1e6:,.0f} MB in all, {len(found)} shared"
    )


def _written(folder: Path, count: int, one_size: bool) -> list[Sample]:
    chance = random.Random(0)
    samples = []
    for number in range(count):
        path = folder / f"{number}.mp4"
        size = _LARGEST if one_size else chance.randrange(_SMALLEST, _LARGEST)
        with path.open("wb") as file:
            file.write(str(number).encode())
            file.truncate(size)
        samples.append(Sample(str(number), Clip(path), ""))
    return samples


if __name__ == "__main__":
    main()
