"""Give damaged recordings to the preparation that training uses, and count what becomes of them.

    python scripts/broken_media.py --out outputs/broken_media --json figures.json

The corpus (`damaged_media.py`) goes through `EmotionDataModule.prepare_clips` twice, with decoding
processes and without, each time in a process of its own: a crash of that process is a failure of
the run. Every file must be served by the loader afterwards or be named in the report of broken
clips; none may take more than 30 s or more memory than `MAX_PEAK_MIB`.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import re
import shutil
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))
os.environ.setdefault("OMP_NUM_THREADS", "1")

from damaged_media import MUTATIONS, Case, make_corpus  # noqa: E402
from script_options import ScriptParser  # noqa: E402

from r1omni.media.config import MediaConfig  # noqa: E402
from r1omni.media.container import MediaError  # noqa: E402
from r1omni.media.processor import MediaProcessor  # noqa: E402
from r1omni.types import Clip, ClipMedia, Modality  # noqa: E402

LIMIT_S = 30.0
# A worker holds about 500 MiB of libraries before its first clip.
MAX_PEAK_MIB = 1024
_PATIENCE_S = 3600.0


@dataclass
class Tally:
    """What one way of preparing made of the corpus.

    Attributes:
        decoded: files that the loader served afterwards.
        skipped: files named in the report of broken clips, with a reason.
        lost: files in neither; each is a failure.
        unexpected: files decoded that hold nothing to decode, or skipped though they are whole.
        reasons: reason -> files, numbers and names left out.
        slowest_s: longest that a file took, in seconds.
        slowest: that file's mutation.
        peak_mib: most memory resident in a process that decodes, in MiB.
        crashed_workers: processes that died on a file.
        hangs: files that took more than 30 s.
        total_s: seconds for the whole corpus.
        run_crashed: whether the run itself ended before its end.
    """

    decoded: int
    skipped: int
    lost: list[str]
    unexpected: list[str]
    reasons: dict[str, int]
    slowest_s: float
    slowest: str
    peak_mib: int
    crashed_workers: int
    hangs: int
    total_s: float
    run_crashed: bool

    def failures(self) -> list[str]:
        """Broken promises, in words."""
        found = [f"no reason given: {name}" for name in self.lost]
        found += [f"unexpected: {name}" for name in self.unexpected]
        if self.run_crashed:
            found.append("the run crashed")
        if self.hangs or self.slowest_s > LIMIT_S:
            found.append(f"a file ({self.slowest}) took {self.slowest_s} s")
        if self.peak_mib > MAX_PEAK_MIB:
            found.append(f"a process took {self.peak_mib} MiB, {MAX_PEAK_MIB} are allowed")
        return found


class RecordingProcessor(MediaProcessor):
    """Notes for every clip how long it took and how much memory its process has taken so far.

    Args:
        config: how to decode.
        log: file to which every process appends a line a clip.
    """

    def __init__(self, config: MediaConfig, log: Path) -> None:
        super().__init__(config)
        self.log = log

    def load(self, clip: Clip, modality: Modality = "video_audio") -> ClipMedia:
        started = time.monotonic()
        try:
            return super().load(clip, modality)
        finally:
            seconds = time.monotonic() - started
            row = {"path": _damaged(clip), "seconds": seconds, "peak_mib": peak_mib()}
            with self.log.open("a") as log:
                log.write(json.dumps(row) + "\n")


def peak_mib() -> int:
    """Most memory that was resident in this process so far, in MiB (Linux)."""
    # Not getrusage: its figure survives exec, so that a child has its parent's.
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) // 1024  # type: ignore[index]


def _damaged(clip: Clip) -> str:
    return str(clip.audio_path or clip.path)


def prepare(corpus: Path, run_dir: Path, decode_workers: int) -> None:
    """Prepare the corpus as a run does; writes the report, the log and the files served."""
    # Not at the top: the decoding processes import this file, and these take seconds.
    from r1omni.data.datamodule import EmotionDataModule
    from r1omni.data.loader_config import LoaderConfig
    from r1omni.data.registry import DatasetSpec

    run_dir.mkdir(parents=True, exist_ok=True)
    module = EmotionDataModule(
        root=str(corpus),
        predict=[DatasetSpec("own", ".", split="all", options={"file": "corpus.jsonl"})],
        loader=LoaderConfig(
            decode_workers=decode_workers,
            clip_limit_s=LIMIT_S,
            max_broken_ratio=1.0,
            cache_dir=str(run_dir / "cache"),
        ),
    )
    module.setup("predict")
    module.prepare_clips(RecordingProcessor(MediaConfig(), run_dir / "log.jsonl"), run_dir)
    [loader] = module.predict_dataloader()
    served = [_damaged(sample.clip) for batch in loader for sample in batch.samples]
    (run_dir / "served.json").write_text(json.dumps(served))


def measure(corpus: Path, cases: Sequence[Case], run_dir: Path, decode_workers: int) -> Tally:
    """Run `prepare` in a process of its own and read what it left."""
    shutil.rmtree(run_dir, ignore_errors=True)
    started = time.monotonic()
    process = multiprocessing.get_context("spawn").Process(
        target=_prepare_quietly, args=(corpus, run_dir, decode_workers)
    )
    process.start()
    process.join(_PATIENCE_S)
    total_s = time.monotonic() - started
    process.kill()
    process.join()
    return count(cases, run_dir, total_s, run_crashed=process.exitcode != 0)


def _prepare_quietly(corpus: Path, run_dir: Path, decode_workers: int) -> None:
    logging.disable(logging.WARNING)  # the report has every broken clip
    prepare(corpus, run_dir, decode_workers)


def count(
    cases: Sequence[Case], run_dir: Path, total_s: float = 0.0, run_crashed: bool = False
) -> Tally:
    """Read what `prepare` left in its folder."""
    rows = _lines(run_dir / "log.jsonl")
    reasons = {
        row["audio_path"] or row["path"]: row["reason"]
        for row in _lines(run_dir / "broken_clips_predict.jsonl")
    }
    served_list = run_dir / "served.json"
    served = set(json.loads(served_list.read_text())) if served_list.exists() else set()
    outcomes = [(case, str(case.path) in served, reasons.get(str(case.path))) for case in cases]
    kinds = {str(case.path): case.kind for case in cases}
    slowest = max(rows, key=lambda row: row["seconds"], default={"path": "", "seconds": 0.0})
    return Tally(
        decoded=len(served),
        skipped=len(reasons),
        lost=[str(MediaError(str(c.path))) for c, there, why in outcomes if not there and not why],
        unexpected=[
            f"{case.kind}: {why or MediaError(f'{case.path}: was decoded')}"
            for case, there, why in outcomes
            if case.expected == ("skipped" if there else "decoded") and (there or why)
        ],
        reasons=dict(Counter(map(general, reasons.values())).most_common()),
        slowest_s=round(slowest["seconds"], 2),
        slowest=kinds.get(slowest["path"], ""),
        peak_mib=max((row["peak_mib"] for row in rows), default=0),
        crashed_workers=sum("process ended" in why for why in reasons.values()),
        hangs=sum("was not decoded within" in why for why in reasons.values()),
        total_s=round(total_s, 1),
        run_crashed=run_crashed,
    )


def _lines(path: Path) -> list[dict]:
    """Rows of a JSON Lines file, none where a crash left no file."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().split("\n") if line]


def general(reason: str) -> str:
    """A reason without the file's name and with N for every number."""
    return re.sub(r"-?(?<!mp)\d+(\.\d+)?", "N", re.sub(r"^.*?/\d{4}/.*?: (?=\S)", "", reason))


def main() -> int:
    parser = ScriptParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "outputs" / "broken_media")
    parser.add_argument("--files", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, default=None, help="file for the figures")
    options = parser.parse_args()
    out = options.out.resolve()
    shutil.rmtree(out / "corpus", ignore_errors=True)
    cases = make_corpus(out / "corpus", options.files, options.seed)
    tallies = {
        name: measure(out / "corpus", cases, out / name, decode_workers)
        for name, decode_workers in (("decode_workers_2", 2), ("decode_workers_0", 0))
    }
    mutations = Counter(case.kind for case in cases)
    report = {
        "files": len(cases),
        "seed": options.seed,
        "limit_s": LIMIT_S,
        "max_peak_mib": MAX_PEAK_MIB,
        "mutations": {kind: mutations[kind] for kind in MUTATIONS},
        **{name: asdict(tally) for name, tally in tallies.items()},
    }
    text = json.dumps(report, indent=2)
    print(text)
    if options.json:
        options.json.write_text(text + "\n", encoding="utf-8")
    failures = [f"{name}: {what}" for name, t in tallies.items() for what in t.failures()]
    print("\n".join(failures), file=sys.stderr)
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
