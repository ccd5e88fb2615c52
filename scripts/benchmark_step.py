"""What a whole GRPO step costs: ours, the release's, TRL's, and ours with parts switched off.

    python scripts/benchmark_step.py                            # everything, on a CPU
    python scripts/benchmark_step.py --size middle --arms ours release --growth none
    python scripts/benchmark_step.py --size middle 0.5b --device cuda

All arms have the same weights, prompts, completions and rewards (scripts/step_parts/work.py),
so they have the same loss and gradient, which are written down. Each arm of each round is a process
of its own, and rounds go through all arms, so that what else the machine does meets them alike. The
first round also counts: positions through trunk and head, clips through the towers, operations.
Arms that --arms leaves out are counted by formula alone.
TRL's arms need TRL (`pip install trl`); without it they say so. On a CPU the size 0.5b is counted
by formula and not run.

Writes JSON after every process, and a plot beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from script_options import ScriptParser, file_to_write
from step_parts import expected, results, trl_step
from step_parts.work import ROOT, SIZES, Case, noise, prompt_length
from tqdm import tqdm

from r1omni.models.sizes import config_from_sizes

PARTS_OFF = ("towers_each_step", "library_cache", "prompt_per_completion", "plain_rows",
             "full_logits")  # fmt: skip
ARMS = {
    "cpu": ("ours", "fused_always", "sampled_ahead", *PARTS_OFF, "memory_given_back", "release",
            "trl", "trl_rows"),
    "cuda": ("ours", "fused_never", "flex", "sampled_ahead", *PARTS_OFF, "without_triton",
             "without_graphs", "release", "trl", "trl_rows"),
}  # fmt: skip
PROMPTS: dict[str, tuple[int, ...]] = {"mini": (1, 16), "middle": (1,), "0.5b": (1,)}
# Along each axis the others stay as they are; words lengthen the prompt.
GROWTH: dict[str, tuple[int, ...]] = {
    "group_size": (2, 4, 16), "more_words": (75, 150), "completion": (16, 128),
}  # fmt: skip
GROWTH_ARMS = ("ours", "release")


@dataclass(frozen=True)
class Job:
    """One arm in one process."""

    case: Case
    arm: str
    kinds: tuple[str, ...]
    folder: str


def main() -> None:
    """Run every arm of every case in rounds, and write what was found."""
    options = _options()
    if options.one is not None:
        print(json.dumps(run_one(options.one)))
        return
    out = options.out
    with tempfile.TemporaryDirectory(prefix="benchmark_step_") as scratch:
        Benchmark(options, out, Path(scratch)).run()
    if options.plot and not options.count_only:
        from step_parts.picture import draw

        draw(json.loads(out.read_text(encoding="utf-8")), out.with_suffix(".png"))
    print(f"written: {out}")


def _options() -> argparse.Namespace:
    parser = ScriptParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--device", choices=[*ARMS], default="cpu")
    parser.add_argument("--arms", nargs="+", default=None, help="default: all of the device")
    parser.add_argument("--prompts", type=int, nargs="+", default=None,
                        help="of a step; mini 1 and 16, otherwise 1")  # fmt: skip
    parser.add_argument("--group-size", type=int, default=8)
    parser.add_argument("--completion", type=int, default=64, help="tokens")
    parser.add_argument("--growth", choices=["none", *SIZES], default=None,
                        help="size at which G, P and C vary; middle, if it is run")  # fmt: skip
    parser.add_argument("--count-only", action="store_true", help="by formula; nothing is run")
    parser.add_argument("--repeats", type=int, default=3, help="rounds through all arms")
    parser.add_argument("--steps", type=int, default=1, help="timed in each process")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--note", default="", help="written beside the figures")
    parser.add_argument("--no-plot", dest="plot", action="store_false")
    parser.add_argument("--one", type=_job, default=None, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=file_to_write, default=ROOT / "outputs" / "step.json",
                        help="JSON file")  # fmt: skip
    options = parser.parse_args()
    options.arms = options.arms or list(ARMS[options.device])
    if unknown := [arm for arm in options.arms if arm not in ARMS[options.device]]:
        known = ", ".join(ARMS[options.device])
        parser.error(f"--arms: {', '.join(unknown)} is none of {known}")
    for name, least in (("group_size", 2), ("completion", 2), ("repeats", 1), ("steps", 1),
                        ("threads", 1)):  # fmt: skip
        if getattr(options, name) < least:
            parser.error(f"--{name.replace('_', '-')} must be at least {least}")
    if options.prompts and min(options.prompts) < 1:
        parser.error("--prompts must be at least 1")
    if options.growth is None:
        options.growth = "middle" if "middle" in options.size else "none"
    elif options.growth != "none" and (options.count_only or options.growth not in options.size):
        why = "with --count-only nothing is run" if options.count_only else "it is no --size"
        parser.error(f"--growth {options.growth}: {why}")
    if options.device == "cuda" and options.one is None:
        import torch

        if not torch.cuda.is_available():
            parser.error("--device cuda: torch sees no GPU; `python -m r1omni doctor` says why")
    return options


def _job(text: str) -> Job:
    found = json.loads(text)
    return Job(Case(**found["case"]), found["arm"], tuple(found["kinds"]), found["folder"])


# One arm, in its own process --------------------------------------------------------------------


def run_one(job: Job) -> dict[str, Any]:
    """Run the steps of an arm; what each was looked at for."""
    from step_parts.watch import Watch

    if job.arm == "limits":
        return _limits(job.case.device)
    watch = Watch(job.case.device, job.kinds)  # type: ignore[arg-type]
    folder = Path(job.folder)
    if job.arm.startswith("trl"):
        about = trl_step.run(job.case, folder, job.arm, watch)
    elif job.arm == "release":
        from step_parts import release

        about = release.run(job.case, folder, watch)
    else:
        from step_parts import ours

        about = ours.run(job.case, folder, "" if job.arm == "ours" else job.arm, watch)
    language = watch.models[0].config.language
    for found in watch.found:
        if "counts" in found:
            found["counts"] = _summary(found["counts"], language)
    return {**about, "steps": watch.found}


def _summary(counts: Any, language: Any) -> dict[str, Any]:
    found = asdict(counts)
    del found["products"]
    through = counts.rows_through(language.intermediate_size, language.hidden_size)
    found["trunk"] = through / language.num_hidden_layers
    found["head"] = counts.rows_through(language.hidden_size, language.vocab_size)
    return found


def _limits(device: str) -> dict[str, float]:
    import torch
    from benchmark_sampling import machine_limits

    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    return machine_limits(torch.device(device), dtype)


# All of them ------------------------------------------------------------------------------------


class Benchmark:
    """All cases, and what was found of them.

    Args:
        options: of the command line.
        out: JSON file, written after every process.
        scratch: for model folders.
    """

    def __init__(self, options: argparse.Namespace, out: Path, scratch: Path) -> None:
        self.options, self.out, self.scratch = options, out, scratch
        self.report: dict[str, Any] = {"machine": self._machine(), "cases": {}, "growth": []}

    def run(self) -> None:
        """Cases one after the other, then how a step grows."""
        for size in self.options.size:
            for prompts in self.options.prompts or PROMPTS[size]:
                case = Case(size, prompts, self.options.group_size, self.options.completion,
                            device=self.options.device)  # fmt: skip
                self.case(case)
        if self.options.growth != "none" and not self.options.count_only:
            self.growth()
        self.report["machine"]["load_average_at_the_end"] = _load()
        self._write()

    def case(self, case: Case) -> None:
        """Rounds through all arms of a case."""
        tokenizers = noise.model_folder("mini", self.scratch / "mini", case.device)
        config = config_from_sizes(noise.SIZES[case.size])
        length = prompt_length(case, config, tokenizers)
        needed = expected.least(case, length)
        report: dict[str, Any] = {
            **asdict(case), "prompt_tokens": length, "peak_operations_per_s": None,
            "least": {"trunk": needed.trunk, "head": needed.head,
                      "operations": needed.operations(config)},
            "arms": {},
        }  # fmt: skip
        self.report["cases"][f"{case.size}, {case.prompts}"] = report
        for arm in ARMS[case.device]:  # those that are not run, too: it takes no time
            own = expected.expected(arm, case, length)
            report["arms"][arm] = {
                "expected": {"trunk": own.trunk, "head": own.head, "clips": own.clips,
                             "operations": own.operations(config)},
            }  # fmt: skip
        too_large = case.size == "0.5b" and case.device == "cpu"
        if too_large or self.options.count_only:
            why = "takes minutes and 17 GiB on a CPU" if too_large else "was not asked for"
            report["not_run"] = f"counted by formula alone: a run {why}"
            self._write()
            return
        for number in tqdm(range(self.options.repeats), desc=f"{case.size}, {case.prompts}"):
            self._round(case, report, number)

    def _round(self, case: Case, report: dict[str, Any], number: int) -> None:
        found = self._start(case, "limits", ())
        if "failed" in found:
            raise SystemExit(f"benchmark_step: the machine's peak: {found['failed']}")
        peak = max(report["peak_operations_per_s"] or 0.0, found["operations_per_s"])
        report["peak_operations_per_s"] = float(f"{peak:.4g}")
        first = ("counts", "operations") if number == 0 else ("warm",)
        for arm, entry in report["arms"].items():
            if arm not in self.options.arms or "failed" in entry or "not_installed" in entry:
                continue
            if arm.startswith("trl") and not trl_step.is_installed():
                entry["not_installed"] = "TRL: pip install trl"
                continue
            found = self._start(case, arm, (*first, *["timed"] * self.options.steps))
            if "failed" in found:
                entry["failed"] = found["failed"]
                print(f"{arm} failed: {found['failed']}", flush=True)
            else:
                results.take(entry, found)
            self._write()

    def growth(self) -> None:
        """How a step grows along each axis, ours and the release's."""
        options = self.options
        base = Case(options.growth, 1, options.group_size, options.completion,
                    device=options.device)  # fmt: skip
        if base.size == "0.5b" and base.device == "cpu":
            return
        points = [(axis, value) for axis, values in GROWTH.items() for value in values]
        for axis, value in tqdm([("base", 0), *points], desc="growth"):
            case = base if axis == "base" else replace(base, **{axis: value})
            for arm in [arm for arm in GROWTH_ARMS if arm in options.arms]:
                found = self._start(case, arm, ("warm", *["timed"] * max(2, options.steps)))
                row: dict[str, Any] = {"axis": axis, "arm": arm, **asdict(case)}
                if "failed" in found:
                    row["failed"] = found["failed"]
                else:
                    row["prompt_tokens"] = found["prompt_tokens"]
                    row["trunk"] = expected.expected(arm, case, found["prompt_tokens"]).trunk
                    row |= results.timed(found["steps"])
                self.report["growth"].append(row)
                self._write()

    def _start(self, case: Case, arm: str, kinds: tuple[str, ...]) -> dict[str, Any]:
        """Run an arm in a process of its own; its last line is what it found."""
        job = Job(case, arm, kinds, str(self._folder(case)))
        words = [sys.executable, __file__, "--device", case.device, "--one"]
        paths = os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]))
        own = {"OMP_NUM_THREADS": str(self.options.threads), "PYTHONPATH": paths,
               "MLFLOW_DISABLE_TELEMETRY": "true", "TOKENIZERS_PARALLELISM": "false"}  # fmt: skip
        done = subprocess.run([*words, json.dumps(asdict(job))], capture_output=True, text=True,
                              env={**os.environ, **own})  # fmt: skip
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
            return {"failed": lines[-1][:300]}
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found

    def _folder(self, case: Case) -> Path:
        return noise.model_folder(case.size, self.scratch / case.size, case.device)

    def _machine(self) -> dict[str, Any]:
        import torch

        on_gpu = self.options.device == "cuda"
        return {
            "device": torch.cuda.get_device_name() if on_gpu else _cpu_name(),
            "cores": len(os.sched_getaffinity(0)), "threads": self.options.threads,
            "torch": torch.__version__, "python": platform.python_version(),
            "dtype": "bfloat16 autocast" if on_gpu else "float32",
            "load_average_at_the_start": _load(), "note": self.options.note,
        }  # fmt: skip

    def _write(self) -> None:
        cases = {
            name: results.conclude(case) if case["peak_operations_per_s"] else case
            for name, case in self.report["cases"].items()
        }
        text = json.dumps({**self.report, "cases": cases}, indent=1) + "\n"
        self.out.write_text(text, encoding="utf-8")


def _cpu_name() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _load() -> list[float]:
    return [round(load, 1) for load in os.getloadavg()]


if __name__ == "__main__":
    main()
