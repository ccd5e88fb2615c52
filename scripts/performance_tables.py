"""Tables of docs/performance.md, kernels.md and grpo.md from the JSON files of what was measured.

python scripts/performance_tables.py
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from script_options import ScriptParser
from step_parts.picture import TITLES

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "benchmarks" / "gpu"
STEP = ROOT / "docs" / "benchmarks" / "step.json"
STEP_GOALS = ROOT / "docs" / "benchmarks" / "step_goals.json"
OVERLAP = ROOT / "docs" / "benchmarks" / "overlap.json"
BFLOAT16 = ROOT / "docs" / "benchmarks" / "bf16_cpu.json"
STARTUP = ROOT / "docs" / "benchmarks" / "startup.json"
STEPS = {
    "GRPO": "grpo",
    "GRPO, the update from log-probabilities": "grpo_gathered",
    "GRPO, sampling by the library (before)": "grpo_library_cache",
    "GRPO, LoRA of rank 16": "grpo_lora",
    "GRPO, FSDP2": "grpo_fsdp2",
    "SFT": "sft",
}
# Ways of attention of an update; the first two ran one after the other on one machine.
ATTENTIONS = {
    "`sdpa`": "grpo_shared_keys",
    "`sdpa`, keys copied (before)": "grpo_copied_keys",
    "`flex`, on another machine": "grpo_flex",
}
# Milliseconds that were set as goals before anything ran, for one H200.
GOALS_MS = {
    "log-probabilities": 0.34,
    "log-probabilities, gradient": 1.02,
    "GRPO on logits, gradient": 1.05,
    "log-probabilities from hidden states": 2.1,
    "GRPO from hidden states, gradient": 7.6,
}
IMPLEMENTATIONS = ("eager", "compile", "TRL", "Liger", "one kernel", "ours")


def read(name: str) -> dict[str, Any]:
    """The figures of one file of docs/benchmarks/gpu."""
    found: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return found


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Markdown of a table; nothing where there are no rows."""
    rows = list(rows)
    if not rows:
        return ""
    lines = [head, ["---"] * len(head), *rows]
    made = ("|".join(f" {cell} " if cell else " " for cell in cells) for cells in lines)
    return "".join(f"|{line}|\n" for line in made).replace(" --- ", "---")


def attention_steps() -> str:
    """The same of a step by each way of attention."""
    return steps(ATTENTIONS)


def attention() -> str:
    """Milliseconds of 24 layers of attention by way, and what they keep."""
    rows = []
    for row in read("attention")["rows"]:
        times = [f"{row[key]:.1f}" for key in ("forward_ms", "forward_host_ms", "backward_ms",
                                               "backward_host_ms")]  # fmt: skip
        same = "yes" if row["same_twice"] else "no"
        title = f"{row['completion_tokens']}, {row['way']}"
        rows.append([title, *times, f"{row['kept_mib']:,.0f}", same])
    head = ["tokens a completion, way", "forward, ms", "of it the host", "backward, ms",
            "of it the host", "kept, MiB", "twice the same gradients"]  # fmt: skip
    return table(head, rows)


def steps(files: dict[str, str] = STEPS) -> str:
    """Seconds and memory of a step, means over the steps after the first."""
    phases = ("seconds", "time/generate", "time/reference", "time/update")
    rows = []
    for title, name in files.items():
        first, *rest = read(name)["steps"]
        seconds = [
            f"{mean(step[phase] for step in rest):.2f}" if phase in first else ""
            for phase in phases
        ]
        peak = max(step["peak_gib"] for step in rest)
        rows.append([title, *seconds, f"{peak:.1f}", f"{first['seconds']:.1f}"])
    head = ["", "step, s", "sampling, s", "reference, s", "update, s", "peak, GiB", "first step, s"]
    return table(head, rows)


def kernel_rows() -> dict[str, dict[str, dict[str, Any]]]:
    """case -> implementation -> figures."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for row in read("kernels_nvidia_h100_80gb_hbm3")["rows"]:
        if "median_s" in row:
            found.setdefault(row["case"], {})[row["implementation"]] = row
    return found


def kernels() -> str:
    """Milliseconds and MiB of every implementation, and the share of the floor of ours."""
    rows = []
    for case, given in kernel_rows().items():
        cells = [
            f"{1e3 * given[name]['median_s']:.3g}; {given[name]['peak_mib']:,.0f}"
            if name in given
            else ""
            for name in IMPLEMENTATIONS
        ]
        share = given["ours"]["of_floor"]
        rows.append([case, *cells, "" if share is None else f"{share:.2f}"])
    return table(["ms; MiB", *IMPLEMENTATIONS, "ours, of the floor"], rows)


def goals() -> str:
    """What was hoped for on an H200 beside what an H100 did."""
    given = kernel_rows()
    rows = []
    for case, goal in GOALS_MS.items():
        own = given[case]["ours"]
        measured, share = 1e3 * own["median_s"], own["of_floor"]
        cells = [f"{goal:.2f}", f"{measured:.2f}", f"{measured * share:.2f}", f"{share:.2f}"]
        rows.append([case, *cells])
    return table(["", "goal, H200, ms", "H100, ms", "its floor, ms", "of its floor"], rows)


def sampling() -> str:
    """Tokens a second and milliseconds a step of decoding, ours beside transformers' own."""
    ways = {"ours": "ours", "ours_without_triton": "ours, torch alone", "transformers": "generate"}
    rows = []
    for size, measured in read("sampling")["0.5b bfloat16"]["rows"].items():
        for name, title in ways.items():
            found = measured["ways"][name]
            memory = f"{found['peak_memory_gib']:.1f}"
            cells = [found["ms_per_step"]["median"], found["all_s"]["median"]]
            speed = f"{found['tokens_per_s']['median']:,.0f}"
            times = f"{found['all_times_least']:.1f}"
            seconds = [f"{cell:.2f}" for cell in cells]
            rows.append([f"{size}, {title}", *seconds, speed, times, memory])
    head = ["rows", "a step, ms", "all, s", "tokens a second", "times the least", "peak, GiB"]
    return table(head, rows)


def tuning() -> str:
    """Milliseconds of the table's configurations before and after it was tuned."""
    rows = []
    for kernel in ("forward", "backward", "grpo"):
        found = read("tuning")[kernel]
        before = next(row for row in found if row["is_own"])
        words = [f"{r['depth']} x {r['warps']} warps, {r['ms']:.3f}" for r in (before, found[0])]
        rows.append([kernel, *words])
    return table(["depth, warps; ms", "before", "fastest, now"], rows)


def parity() -> str:
    """Differences from the CPU in float32, over the largest value."""
    found = read("parity")
    names = ("video features", "sound features", "prompt embeddings", "logits", "log-probabilities")
    kinds = ("float32", "bfloat16")
    rows = [[name, *(f"{found[kind][name]:.1e}" for kind in kinds)] for name in names]
    return table(["", *kinds], rows)


def _cases(file: Path) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))["cases"]
    return found


def whole_steps() -> str:
    """Seconds, memory and distances of a whole step, by arm, where it was timed."""
    return _whole_steps(STEP)


def goal_steps() -> str:
    """The same of the run that goals are measured by."""
    return _whole_steps(STEP_GOALS)


def _whole_steps(file: Path) -> str:
    rows = []
    for case, found in _cases(file).items():
        size, prompts = case.split(", ")
        for arm, own in found["arms"].items():
            if "whole_s" not in own:
                continue
            seconds = [
                f"{own['seconds'][phase]['median']:.3g}" if phase in own["seconds"] else ""
                for phase in ("towers", "sampling", "reference", "update")
            ]
            whole, ratio = own["whole_s"], own["relative_to_ours"]["whole"]
            spread = f"{whole['median']:.3g} [{whole['min']:.3g}, {whole['max']:.3g}]"
            far = f"{own['times_least']:.1f}"
            rows.append([f"{size}, {prompts}: {TITLES[arm]}", spread, *seconds, _spread(ratio), far,
                         f"{own['counted']['peak_bytes'] / 2**30:.2f}"])  # fmt: skip
    head = ["prompts; arm", "step, s", "towers", "sampling", "reference", "update", "times ours",
            "times the least", "tensors, GiB"]  # fmt: skip
    return table(head, rows)


def step_counts() -> str:
    """Positions and clips of a step by arm; of 0.5B, which no CPU runs, by formula too."""
    rows = []
    for case, found in _cases(STEP).items():
        size, prompts = case.split(", ")
        if size == "mini":  # tells nothing that the larger ones do not
            continue
        least = found["least"]
        needed = sum(least["operations"].values())
        cells = [f"{least['trunk']:,}", f"{least['head']:,}", "0", f"{needed / 1e9:,.1f}"]
        rows.append([f"{size}, {prompts}: the least", *cells])
        for arm, own in found["arms"].items():
            wanted = own["expected"]
            work = sum(wanted["operations"].values())
            cells = [f"{wanted['trunk']:,}", f"{wanted['head']:,}", str(wanted["clips"])]
            rows.append([f"{size}, {prompts}: {TITLES[arm]}", *cells, f"{work / 1e9:,.1f}"])
    head = ["prompts; arm", "positions, trunk", "positions, head", "clips encoded", "GFLOP"]
    return table(head, rows)


def step_growth() -> str:
    """Seconds of a step where one of its sizes is changed, ours and the release's."""
    found = json.loads(STEP.read_text(encoding="utf-8"))["growth"]
    keys = ("group_size", "prompt_tokens", "completion")
    points: dict[tuple[int, ...], dict[str, dict[str, Any]]] = {}
    for row in found:
        if "whole_s" in row:
            points.setdefault(tuple(row[key] for key in keys), {})[row["arm"]] = row
    rows = []
    for sizes, arms in points.items():
        seconds = [f"{arms[arm]['whole_s']['median']:.3g}" if arm in arms else ""
                   for arm in ("ours", "release")]  # fmt: skip
        positions = [f"{arms[arm]['trunk']:,}" if arm in arms else ""
                     for arm in ("ours", "release")]  # fmt: skip
        rows.append([*map(str, sizes), *seconds, *positions])
    head = ["G", "P", "C", "ours, s", "the release, s", "positions, ours", "the release"]
    return table(head, rows)


def step_goals() -> str:
    """What was aimed at before anything ran, as ratios within one run."""
    cases = _cases(STEP_GOALS)
    ours = cases["middle, 1"]["arms"]["ours"]

    def slower(case: str, arm: str, phase: str = "whole") -> str:
        return _spread(cases[case]["arms"][arm]["relative_to_ours"][phase])

    rows = [
        ("middle: the release's time over ours", "12", slower("middle, 1", "release")),
        ("middle: TRL's, as it comes", "11", slower("middle, 1", "trl")),
        ("middle: TRL's, features given, head at completions", "4.5",
         slower("middle, 1", "trl_rows")),
        ("mini, 1 prompt: TRL's, as it comes", "2", slower("mini, 1", "trl")),
        ("mini, 16 prompts: TRL's, as it comes", "3", slower("mini, 16", "trl")),
        ("middle: generate's time over our sampling", "4",
         slower("middle, 1", "release", "sampling")),
        ("middle: our sampling over the least", "at most 3.5",
         f"{ours['phases_times_least']['sampling']:.1f}"),
        ("middle: our step over the least", "at most 2.2", f"{ours['times_least']:.1f}"),
    ]  # fmt: skip
    return table(["goal, same run", "wanted", "measured"], rows)


def _spread(ratio: dict[str, float]) -> str:
    return f"{ratio['median']:.1f} [{ratio['min']:.1f}, {ratio['max']:.1f}]"


def startup() -> str:
    """Seconds that a command takes before it begins, and those of its largest imports."""
    found = json.loads(STARTUP.read_text(encoding="utf-8"))
    slowest = max(found["help"], key=lambda name: float(found["help"][name]["s"]))
    fit = found["fit of one step"]
    rows = [[f"`--help`, the slowest ({slowest})", *_times(found["help"][slowest], "s", "core_s")]]
    for name, times in found["import"].items():
        rows.append([f"imports: {name}", *_times(times, "s", "core_s")])
    rows.append(["`fit`, to its first step", *_times(fit, "first_step_s", "first_step_core_s")])
    rows.append(["`fit` of one step, to its end", *_times(fit, "s", "core_s")])
    return table(["", "by the clock, s", "of a core, s"], rows)


def clip() -> str:
    """Milliseconds of a core that one large clip takes, by part."""
    found = json.loads(STARTUP.read_text(encoding="utf-8"))["clip of 1280 x 720"]
    return table(
        ["", "by the clock, ms", "of a core, ms"],
        [[name.replace("_", " "), *_times(own, "ms", "core_ms", 0)] for name, own in found.items()],
    )


def _times(found: dict[str, float], clock: str, core: str, digits: int = 1) -> list[str]:
    return [f"{found[name]:.{digits}f}" for name in (clock, core)]


def overlap() -> str:
    """What was learned with completions sampled in place and one batch ahead."""
    return _learned(OVERLAP)


def bfloat16() -> str:
    """What was learned in float32 and with the overlay of bfloat16 on a CPU."""
    return _learned(BFLOAT16)


def _learned(file: Path) -> str:
    """Trainings of scripts/compare_learning.py, way by way."""
    found = json.loads(file.read_text(encoding="utf-8"))
    rows = []
    for way in dict.fromkeys(run["way"] for run in found["runs"]):
        for run in (run for run in found["runs"] if run["way"] == way):
            curves, sixth = run["curves"], max(1, found["steps"] // 6)
            ends = [
                f"{mean(curves[name][:sixth]):.3f}, {mean(curves[name][-sixth:]):.3f}"
                for name in ("reward", "rewards/format/mean")
            ]
            clipped = f"{100 * mean(curves['clip_ratio/region_mean'][1:]):.2f}"
            lag = f"{mean(lags):.1e}" if (lags := curves["overlap/kl"][1:]) else ""
            wars = ", ".join(f"{100 * war:.1f}" for war in run["val_war"])
            spent = "" if run["cpu_s"] is None else f"{run['cpu_s']:.0f}"
            rows.append([f"{way}, seed {run['seed']}", wars, *ends, clipped, lag, spent])
    head = ["", "validation WAR, half way and at the end", "reward, first and last sixth",
            "format", "tokens clipped, %", "lag, nats", "CPU, s"]  # fmt: skip
    return table(head, rows)


PAGES = {
    "grpo.md": (overlap,),
    "memory.md": (bfloat16,),
    "performance.md": (
        goal_steps, step_goals, whole_steps, step_counts, step_growth, steps, sampling,
        attention_steps, attention, kernels, parity, startup, clip,
    ),
    "kernels.md": (goals, tuning),
}  # fmt: skip


if __name__ == "__main__":
    ScriptParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    for page, tables in PAGES.items():
        print(f"docs/{page}\n")
        print("\n".join(made() for made in tables))
