"""Train the mini model by GRPO for many steps and see whether memory or files grow.

    python scripts/long_run.py --steps 300 --json docs/benchmarks/long_run.json

One process runs `python -m r1omni fit --config configs/mini/r1omni.yaml` with fewer prompts in a
batch, and writes a checkpoint every 25 steps. A callback notes resident memory after
every step and the size of the files after every 50. Resident memory moves by some megabytes from
step to step, as torch's passes end, so medians of ten steps are compared: those from step 50 on,
and the last ones. The status is 1 if memory grew by more than 5%.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import lightning as L
from script_options import ScriptParser

ROOT = Path(__file__).resolve().parent.parent
LIMIT = 1.05
_FIRST, _WINDOW, _DISK_EVERY = 50, 10, 50


class Watch(L.Callback):
    """Writes one line of JSON a step: resident memory, and now and then the size of the files.

    Args:
        out: file for the lines; the folders of the run lie beside it.
    """

    def __init__(self, out: str) -> None:
        self._out = Path(out)

    def on_train_batch_end(self, trainer: L.Trainer, *arguments: Any) -> None:
        step = trainer.global_step
        line = {"step": step, "rss_bytes": resident_bytes()}
        if step % _DISK_EVERY == 0:
            line |= {f"{name}_bytes": size for name, size in sizes(self._out.parent).items()}
        with self._out.open("a", encoding="utf-8") as opened:
            opened.write(json.dumps(line) + "\n")


def resident_bytes() -> int:
    """Resident memory of this process, in bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def sizes(folder: Path) -> dict[str, int]:
    """Bytes on disk of what a run writes: its folder, MLflow's store, artifacts, completions."""
    artifacts = [path for path in (folder / "mlruns").rglob("*") if path.is_file()]
    return {
        "run_folder": sum(f.stat().st_size for f in (folder / "run").rglob("*") if f.is_file()),
        "mlflow_store": (folder / "mlflow.db").stat().st_size,
        "artifacts": sum(path.stat().st_size for path in artifacts),
        "completions": sum(p.stat().st_size for p in artifacts if p.parent.name == "completions"),
    }


def run(out: Path, *words: object) -> None:
    """Run a command of r1omni in `out`, its output in a log there.

    Raises:
        SystemExit: it failed.
    """
    path = os.pathsep.join(map(str, (ROOT / "src", ROOT / "scripts")))
    with (out / "log.txt").open("a", encoding="utf-8") as log:
        done = subprocess.run(
            [sys.executable, "-m", "r1omni", *map(str, words)],
            cwd=out, env={"OMP_NUM_THREADS": "1", **os.environ, "PYTHONPATH": path},
            stdout=log, stderr=log, check=False,
        )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"`r1omni {words[0]}` failed; see {out / 'log.txt'}")


def train(out: Path, steps: int, batch_size: int) -> list[dict[str, int]]:
    """Make a mini-world and a fresh model, train, and return the lines of `Watch`."""
    world, init, configs = out / "world", out / "init", ROOT / "configs" / "mini"
    if not init.exists():
        texts = [world / "HumanOmni" / f"{name}.json" for name in ("captions", "reasoning")]
        run(out, "synthesize", "--out", world, "--clips", 60, "--num-workers", 1)
        run(out, "create", "--sizes", configs / "model.yaml", "--texts", *texts, "--out", init)
    lines = out / "memory.jsonl"
    for old in (out / "run", out / "mlruns"):
        shutil.rmtree(old, ignore_errors=True)
    for file in (lines, out / "mlflow.db"):
        file.unlink(missing_ok=True)
    watch = f"[{{class_path: long_run.Watch, init_args: {{out: '{lines}'}}}}]"
    run(
        out,
        "fit", "--config", configs / "r1omni.yaml",
        "--trainer.default_root_dir", out / "run",
        "--trainer.max_steps", steps,
        "--trainer.enable_progress_bar", "false",
        "--trainer.callbacks", watch,
        "--model.init_args.init_from", init,
        # Fresh weights never answer in tags; this reward differs all the same.
        "--model.init_args.grpo.rewards", "[{name: repetition, options: {ngram_size: 1}}]",
        "--data.root", world, "--data.loader.cache_dir", out / "cache",
        "--data.loader.batch_size", batch_size, "--data.loader.decode_workers", 0,
        "--run.tracking_uri", f"sqlite:///{out / 'mlflow.db'}",
        "--run.checkpoint_every", 25,
    )  # fmt: skip
    return [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()]


def report(lines: list[dict[str, int]]) -> dict[str, Any]:
    """Memory early and late, and the files at each look."""
    resident = {line["step"]: line["rss_bytes"] for line in lines}
    last = max(resident)
    early = [resident[step] for step in range(_FIRST, _FIRST + _WINDOW)]
    late = [resident[step] for step in range(last - _WINDOW + 1, last + 1)]
    first, end = statistics.median(early), statistics.median(late)
    return {
        "config": "configs/mini/r1omni.yaml",
        "optimizer_steps": last,
        "rss_mib_at_step_50": round(first / 2**20, 1),
        "rss_mib_at_the_end": round(end / 2**20, 1),
        "rss_ratio": round(end / first, 4),
        "rss_is": f"median of {_WINDOW} steps, from step {_FIRST} on and at the end",
        "files": [
            {name: value for name, value in line.items() if name != "rss_bytes"}
            for line in lines
            if "completions_bytes" in line
        ],
    }


def main() -> int:
    parser = ScriptParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=300, help="optimizer steps, at least 70")
    parser.add_argument("--batch-size", type=int, default=4, help="prompts in a batch")
    parser.add_argument("--out", type=Path, default=ROOT / "outputs" / "long_run")
    parser.add_argument("--json", type=Path, default=None, help="file for the figures")
    options = parser.parse_args()
    if options.steps < _FIRST + 2 * _WINDOW:
        parser.error(f"--steps {options.steps} is too few; give {_FIRST + 2 * _WINDOW} or more")
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    found = {
        "batch_size": options.batch_size,
        **report(train(out, options.steps, options.batch_size)),
    }
    text = json.dumps(found, indent=2)
    print(text)
    if options.json:
        options.json.write_text(text + "\n", encoding="utf-8")
    return int(found["rss_ratio"] > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
