"""Whether everything that needs a GPU works on this machine, and how fast: one part at a time.

    scripts/gpu_check.sh                        # docs/benchmarks/gpu/<part>.json and .log
    scripts/gpu_check.sh --only kernels,grpo    # some of the parts
    scripts/gpu_check.sh --device cpu           # tiny sizes, to outputs/gpu_check_cpu

Each part is a process of its own with its own limit; one that fails, takes too long or lacks a
package is written down, and the rest goes on. Parts come in the order of their worth, and all of
them stop after nine minutes. Needs torch, Triton and what `Part.needs` names. Nothing is
downloaded: models have random weights and clips are noise or drawn.

Exit status: 0 when every part passed or lacks a package, 1 when one did not pass or there is no
GPU, 2 on wrong use.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from script_options import ScriptParser

ROOT = Path(__file__).resolve().parent.parent
PARTS_DIR = ROOT / "scripts" / "gpu_parts"
PACKAGES = ("torch", "triton", "lightning", "transformers", "peft", "av", "mlflow-skinny", "mlflow",
            "liger-kernel")  # fmt: skip
TOTAL_S = 540.0


@dataclass(frozen=True)
class Part:
    """One check.

    Attributes:
        name: also of its files.
        command: words after the interpreter; {size}, {device}, {scratch}, {out} and {folder} are
            filled in, `out` being the JSON file to write and `folder` the folder it lies in.
        limit_s: seconds after which it is stopped.
        needs: modules it imports that a machine with torch may lack.
        on_cpu: the command for --device cpu, where it is another.
        not_run: what a pass on a CPU does not mean, if anything.
    """

    name: str
    command: tuple[str, ...]
    limit_s: float
    needs: tuple[str, ...] = ()
    on_cpu: tuple[str, ...] | None = None
    not_run: str = ""


def _own(name: str, file: str, *words: str, limit_s: float, needs: Sequence[str]) -> Part:
    rest = ("--device", "{device}", "--scratch", "{scratch}", "--out", "{out}")
    return Part(name, (str(PARTS_DIR / file), *words, *rest), limit_s, tuple(needs))


# r1omni.data imports av, and r1omni.training imports mlflow, also where nothing is decoded or
# tracked.
_MODEL = ("transformers", "timm", "torchvision", "torchaudio", "tqdm")
_NOISE = (*_MODEL, "lightning", "torchmetrics", "av")
_TRAINING = (*_NOISE, "mlflow")
_COMMANDS = (*_TRAINING, "omegaconf", "jsonargparse", "scipy", "threadpoolctl", "openpyxl")
_SIZED = ("--size", "{size}")
_FLEX = "tests/models/test_flex.py"
_TESTS = (
    "tests/kernels", "tests/models/test_sampler_gpu.py", _FLEX, "tests/training/test_fused_loss.py",
    "tests/doctor",
)  # fmt: skip
_KERNEL_SIZES = {"tokens": 64, "vocabulary": 500, "hidden": 32, "dtype": "float32"}
_SAMPLING = ("scripts/benchmark_sampling.py", "--device", "{device}", "--out", "{out}")
_STEP = ("scripts/benchmark_step.py", "--device", "{device}", "--out", "{out}", "--no-plot",
         "--growth", "none", "--repeats", "1")  # fmt: skip
# Limits are half as much again as one H100 took, where that is known (docs/benchmarks/gpu/
# runs.json): half of it is imports, compiling, and making a model.
PARTS = (
    Part("kernels", ("-m", "pytest", "-q", "{parallel}", "-m", "gpu", *_TESTS, "--junitxml",
                     "{folder}/kernels.xml"), 135, ("pytest", *_NOISE),
         on_cpu=("-m", "pytest", "-q", "--co", "-m", "gpu", *_TESTS),
         not_run="tests are collected, not run; they need a GPU"),
    _own("parity", "parity.py", *_SIZED, limit_s=140, needs=_NOISE),
    _own("grpo", "steps.py", "grpo", *_SIZED, limit_s=75, needs=_TRAINING),
    _own("grpo_gathered", "steps.py", "grpo_gathered", *_SIZED, limit_s=60, needs=_TRAINING),
    _own("resume", "resume.py", limit_s=165, needs=_COMMANDS),
    _own("resume_sharded", "resume.py", "--sharded", limit_s=165, needs=_COMMANDS),
    _own("recordings", "recordings.py", limit_s=195, needs=(*_COMMANDS, "jinja2")),
    Part("kernel_benchmark", ("scripts/benchmark_kernels.py", "--device", "cuda", "--out",
                              "{folder}"), 85, ("matplotlib", "tqdm"),
         on_cpu=("scripts/benchmark_kernels.py", "--repeats", "1", "--implementations", "ours",
                 "--sizes", json.dumps(_KERNEL_SIZES), "--out", "{folder}")),
    Part("attention", ("scripts/benchmark_attention.py", "--device", "{device}", "--out", "{out}"),
         75, _NOISE),
    Part("sampling", (*_SAMPLING, "--size", "0.5b", "--rows", "8", "128", "--repeats", "2",
                      "--ways", "ours", "ours_without_triton", "loop", "transformers"), 90, _MODEL,
         on_cpu=(*_SAMPLING, "--size", "mini", "--rows", "8", "--repeats", "1", "--tokens", "8")),
    _own("grpo_fsdp2", "steps.py", "grpo_fsdp2", *_SIZED, limit_s=95, needs=_TRAINING),
    _own("memory", "memory.py", *_SIZED, limit_s=135, needs=_TRAINING),
    _own("sft", "steps.py", "sft", *_SIZED, limit_s=50, needs=_TRAINING),
    _own("grpo_lora", "steps.py", "grpo_lora", *_SIZED, limit_s=90, needs=(*_TRAINING, "peft")),
    # Beside `grpo`, which has the other attention.
    replace(
        _own("grpo_flex", "steps.py", "grpo_flex", *_SIZED, limit_s=100, needs=_TRAINING),
        on_cpu=("-m", "pytest", "-q", "--co", "-m", "gpu", _FLEX),
        not_run="FlexAttention trains on a GPU alone, its tests are collected",
    ),
    # Not timed on a GPU yet: each arm of each size is a process of half a minute or less.
    Part("benchmark_step", (*_STEP, "--size", "middle", "0.5b", "--steps", "2", "--arms", "ours",
                            "sampled_ahead", "without_graphs", "release", "trl_rows"), 300,
         _TRAINING,
         on_cpu=(*_STEP, "--size", "mini", "--prompts", "1", "--group-size", "2", "--completion",
                 "3", "--threads", "1", "--arms", "ours", "release")),
    _own("profile", "steps.py", "profile", *_SIZED, limit_s=90, needs=_TRAINING),
)  # fmt: skip


@dataclass(frozen=True)
class Result:
    """What became of a part: passed, failed, stopped at its limit, not started, or lacks ...."""

    name: str
    status: str
    seconds: float
    last_line: str

    @property
    def is_good(self) -> bool:
        """A part that lacks a package has found nothing wrong."""
        return self.status == "passed" or self.status.startswith("lacks ")


def run_part(part: Part, words: dict[str, str], folder: Path, limit_s: float) -> Result:
    """Run a part to its end or to its limit, its output in a log."""
    missing = [name for name in part.needs if importlib.util.find_spec(name) is None]
    if missing:
        text = ", ".join(missing)
        return Result(part.name, f"lacks {text}", 0.0, f"the part needs {text}: install it")
    out = folder / f"{part.name}.json"
    out.unlink(missing_ok=True)  # figures of an earlier run are not those of this one
    on_cpu = words["device"] == "cpu"
    command = part.on_cpu if on_cpu and part.on_cpu else part.command
    line = [sys.executable]
    for word in command:
        # The sizes of kernels are JSON, braces and all.
        filled = word if word.startswith('{"') else word.format(**words, out=out, folder=folder)
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
    said = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    last = said[-1][:300] if said else ""
    if on_cpu and part.not_run:
        last = f"{part.not_run} ({last})"
    return Result(part.name, status, round(time.monotonic() - started, 1), last)


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):  # all of it has ended by itself
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _environment() -> dict[str, str]:
    # The last line of a log is what a part said last: standard output must not come later.
    own = {"MLFLOW_DISABLE_TELEMETRY": "true", "TOKENIZERS_PARALLELISM": "false",
           "PYTHONUNBUFFERED": "1"}  # fmt: skip
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
                "gpu_check: torch sees no GPU; `python -m r1omni doctor` says why, and --device "
                "cpu runs the same parts at tiny sizes"
            )
        own = torch.cuda.get_device_properties(0)
        found |= {"gpu": own.name, "memory_gib": round(own.total_memory / 2**30, 1)}
        found |= {"capability": f"{own.major}.{own.minor}", "cuda": torch.version.cuda}
    return found


def run_all(
    parts: Sequence[Part], words: dict[str, str], out: Path, limit_s: float
) -> list[Result]:
    """Run parts one after another, a summary written after each; none stops the others."""
    summary = {"machine": machine(words["device"]), "device": words["device"], "parts": []}
    out.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + limit_s
    results: list[Result] = []
    for part in parts:
        left = deadline - time.monotonic()
        if left < 5:
            results.append(Result(part.name, "not started", 0.0, "no time was left"))
        else:
            results.append(run_part(part, words, out, min(part.limit_s, left)))
        last = results[-1]
        print(f"{last.status:12} {last.seconds:6.1f} s  {last.name}: {last.last_line}", flush=True)
        summary["parts"] = [asdict(result) for result in results]
        text = json.dumps(summary, indent=2) + "\n"
        (out / "summary.json").write_text(text, encoding="utf-8")
    return results


def main(args: Sequence[str] | None = None) -> None:
    parser = ScriptParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    names = [part.name for part in PARTS]
    parser.add_argument("--only", default=",".join(names), help="names, separated by commas")
    parser.add_argument("--limit-s", type=float, default=TOTAL_S, help="of everything together")
    parser.add_argument("--out", type=Path, default=None,
                        help="folder; docs/benchmarks/gpu, or outputs/gpu_check_cpu")  # fmt: skip
    given = parser.parse_args(args)
    wanted = [name.strip() for name in given.only.split(",")]
    unknown = sorted({*wanted} - {*names})
    if unknown:
        parser.error(f"--only: no part is named {', '.join(unknown)!r}; use {', '.join(names)}")
    if not given.limit_s > 0:
        parser.error(f"--limit-s is {given.limit_s:g}; it must be above 0")
    on_gpu = given.device == "cuda"
    usual = Path("docs", "benchmarks", "gpu") if on_gpu else Path("outputs", "gpu_check_cpu")
    out = (given.out or ROOT / usual).resolve()
    parallel = on_gpu and importlib.util.find_spec("xdist") is not None
    with tempfile.TemporaryDirectory(prefix="gpu_check_", ignore_cleanup_errors=True) as scratch:
        words = {
            "device": given.device, "size": "0.5b" if on_gpu else "mini", "scratch": scratch,
            "parallel": f"-n {min(8, os.cpu_count() or 1)}" if parallel else "",
        }  # fmt: skip
        parts = [part for part in PARTS if part.name in wanted]
        # Told to end, it ends the part that runs, which is in a group of its own.
        before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        try:
            results = run_all(parts, words, out, given.limit_s)
        finally:
            signal.signal(signal.SIGTERM, before)
    bad = [result.name for result in results if not result.is_good]
    if bad:
        raise SystemExit(f"gpu_check: {', '.join(bad)} did not pass; see the logs in {out}")


if __name__ == "__main__":
    main()
