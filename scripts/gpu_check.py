"""Whether everything that needs a GPU works on this machine, and how fast: one part at a time.

    scripts/gpu_check.sh                        # docs/benchmarks/gpu/<part>.json and .log
    scripts/gpu_check.sh --only kernels,grpo    # some of the parts
    scripts/gpu_check.sh --device cpu           # the same parts at tiny sizes, without a GPU

Each part is a process of its own with its own limit; one that fails or takes too long is written
down, and the rest goes on. Parts come in the order of their worth. Needs torch, Triton, Lightning,
transformers and pytest; the part `resume` also what decodes (av) and tracks (mlflow). Nothing is
downloaded: models have random weights and clips are noise or drawn.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PARTS_DIR = ROOT / "scripts" / "gpu_parts"
PACKAGES = ("torch", "triton", "lightning", "transformers", "peft", "av", "mlflow-skinny", "mlflow",
            "liger-kernel")  # fmt: skip


@dataclass(frozen=True)
class Part:
    """One check.

    Attributes:
        name: also of its files.
        command: words after the interpreter; {size}, {device}, {scratch}, {out} and {folder} are
            filled in, `out` being the JSON file to write and `folder` the folder it lies in.
        limit_s: seconds after which it is stopped.
    """

    name: str
    command: tuple[str, ...]
    limit_s: int


def _own(name: str, file: str, *words: str, limit_s: int, sized: bool = True) -> Part:
    sizes = ("--size", "{size}") if sized else ()
    rest = ("--device", "{device}", "--scratch", "{scratch}", "--out", "{out}")
    return Part(name, (str(PARTS_DIR / file), *words, *sizes, *rest), limit_s)


PARTS = (
    Part("kernels", ("-m", "pytest", "-q", "{parallel}", "-m", "gpu", "tests/kernels",
                     "tests/doctor", "--junitxml", "{folder}/kernels.xml"), 150),
    _own("grpo", "steps.py", "grpo", limit_s=100),
    _own("parity", "parity.py", limit_s=100),
    Part("kernel_benchmark", ("scripts/benchmark_kernels.py", "--device", "{device}", "--out",
                              "{folder}", "--sizes", "{kernel_sizes}"), 120),
    _own("grpo_fsdp2", "steps.py", "grpo_fsdp2", limit_s=100),
    _own("sft", "steps.py", "sft", limit_s=60),
    _own("grpo_lora", "steps.py", "grpo_lora", limit_s=80),
    _own("profile", "steps.py", "profile", limit_s=80),
    _own("resume", "resume.py", limit_s=150, sized=False),
)  # fmt: skip


@dataclass(frozen=True)
class Result:
    """What became of a part: "passed", "failed" or "stopped" at its limit."""

    name: str
    status: str
    seconds: float
    last_line: str


def run_part(part: Part, words: dict[str, str], folder: Path, limit_s: float) -> Result:
    """Run a part to its end or to its limit, its output in a log."""
    line = [sys.executable]
    for word in part.command:
        filled = word.format(**words, out=folder / f"{part.name}.json", folder=folder)
        line += filled.split() if word == "{parallel}" else [filled]
    log = folder / f"{part.name}.log"
    started = time.monotonic()
    with log.open("wb") as output:
        # In a group of its own: a part's children end with it.
        process = subprocess.Popen(
            line, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, env=_environment(),
            start_new_session=True,
        )  # fmt: skip
        try:
            status = "passed" if process.wait(limit_s) == 0 else "failed"
        except subprocess.TimeoutExpired:
            status = "stopped"
        finally:
            _end(process)
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return Result(
        part.name, status, round(time.monotonic() - started, 1), lines[-1][:300] if lines else ""
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):  # all of it has ended by itself
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _environment() -> dict[str, str]:
    own = {"MLFLOW_DISABLE_TELEMETRY": "true", "TOKENIZERS_PARALLELISM": "false"}
    paths = [str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, **own, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def machine(device: str) -> dict[str, object]:
    """What the figures are of."""
    import torch

    found: dict[str, object] = {"python": platform.python_version(), "cores": os.cpu_count()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    if device == "cuda":
        if not torch.cuda.is_available():
            raise SystemExit(
                "torch sees no GPU; `python -m r1omni doctor` says why, and --device cpu runs the "
                "same parts at tiny sizes"
            )
        own = torch.cuda.get_device_properties(0)
        found |= {"gpu": own.name, "memory_gib": round(own.total_memory / 2**30, 1)}
        found |= {"capability": f"{own.major}.{own.minor}", "cuda": torch.version.cuda}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    names = [part.name for part in PARTS]
    parser.add_argument("--only", default=",".join(names), help="names, separated by commas")
    parser.add_argument("--limit-s", type=float, default=540, help="of everything together")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks" / "gpu")
    given = parser.parse_args()
    wanted = given.only.split(",")
    unknown = sorted({*wanted} - {*names})
    if unknown:
        parser.error(f"--only: no part is named {', '.join(unknown)}; use {', '.join(names)}")
    on_gpu = given.device == "cuda"
    given.out.mkdir(parents=True, exist_ok=True)
    summary = {"machine": machine(given.device), "device": given.device, "parts": []}
    scratch = Path(tempfile.mkdtemp(prefix="gpu_check_"))
    small = {"tokens": 64, "vocabulary": 500, "hidden": 32, "dtype": "float32"}
    large = {"tokens": 4096, "vocabulary": 151_936, "hidden": 896, "dtype": "bfloat16"}
    words = {
        "device": given.device, "size": "0.5b" if on_gpu else "mini", "scratch": str(scratch),
        "kernel_sizes": json.dumps(large if on_gpu else small),
        "parallel": f"-n {min(8, os.cpu_count() or 1)}" if on_gpu else "--co",
    }  # fmt: skip
    deadline = time.monotonic() + given.limit_s
    results: list[Result] = []
    try:
        for part in (part for part in PARTS if part.name in wanted):
            left = deadline - time.monotonic()
            if left < 5:
                results.append(Result(part.name, "not started", 0.0, "no time was left"))
            else:
                results.append(run_part(part, words, given.out, min(part.limit_s, left)))
            last = results[-1]
            print(
                f"{last.status:12} {last.seconds:6.1f} s  {last.name}: {last.last_line}", flush=True
            )
            summary["parts"] = [asdict(result) for result in results]
            text = json.dumps(summary, indent=2) + "\n"
            (given.out / "summary.json").write_text(text, encoding="utf-8")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    bad = [result.name for result in results if result.status != "passed"]
    if bad:
        raise SystemExit(f"gpu_check: {', '.join(bad)} did not pass; see the logs in {given.out}")


if __name__ == "__main__":
    main()
