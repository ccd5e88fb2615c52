"""The page and the plot of `compare_presets.py`, from its figures.

Run by itself it writes docs/grpo.md again from the figures recorded beside it:

    python scripts/presets_page.py
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from script_options import ScriptParser

ROOT = Path(__file__).resolve().parent.parent
PLOT = Path("benchmarks") / "grpo_presets.png"
SOURCES = {
    "r1omni": "the paper's: GRPO with k3 KL (arXiv 2503.05379, 2402.03300), one step a rollout",
    "dapo": "DAPO (arXiv 2503.14476): token mean, wider clip, groups of equal rewards replaced",
    "dr_grpo": "Dr. GRPO (arXiv 2503.20783): no division by standard deviation or length",
    "gspo": "GSPO (arXiv 2507.18071): one ratio a completion, closely clipped",
    "cispo": "CISPO (arXiv 2506.13585): the ratio is capped, no token loses its gradient",
}
# What the page has from here on is written by hand, and stays.
BY_HAND = "## Variants by name\n"
# Rollouts whose mean smooths a curve, and stands for its beginning and its end.
WINDOW = 10

Runs = dict[str, list[dict[str, Any]]]


def write_page(result: dict[str, Any], page: Path) -> None:
    """Write the Markdown page, but for what is written by hand, and, beside it, the plot."""
    runs: Runs = {}
    for run in result["runs"]:
        runs.setdefault(run["preset"], []).append(run)
    (page.parent / PLOT).parent.mkdir(parents=True, exist_ok=True)
    draw(runs, result["cold_start_war"], result["val_every"], page.parent / PLOT)
    before = page.read_text(encoding="utf-8") if page.exists() else ""
    by_hand = "\n" + "".join(before.partition(BY_HAND)[1:]) if BY_HAND in before else ""
    page.write_text(text(runs, result) + by_hand, encoding="utf-8")


def text(runs: Runs, result: dict[str, Any]) -> str:
    """The page."""
    seeds = ", ".join(str(run["seed"]) for run in next(iter(runs.values())))
    best = recommended(runs)
    rates = ", ".join(f"`{name}` {rate:.0e}" for name, rate in result["rates"].items())
    rates = rates.replace("e-0", "e-")
    return "\n".join(
        [
            "# GRPO: the presets compared",
            "",
            "Written by `python scripts/compare_presets.py`, from the figures in "
            "[benchmarks/grpo_presets.json](benchmarks/grpo_presets.json). Every choice of a run "
            "is a field of `GRPOConfig` and of its `loss` (`src/r1omni/training/grpo_config.py`, "
            "`src/r1omni/ops/loss_config.py`); how a step goes is told in "
            "[architecture.md](architecture.md). A preset is a file of a few lines laid over a "
            "configuration:",
            "",
            "    python -m r1omni fit --config configs/mini/r1omni.yaml "
            "--config configs/overlay/dapo.yaml",
            "",
            *[f"- `{name}`: {SOURCES[name]}." for name in runs],
            "",
            "## What was measured",
            "",
            f"Each preset was trained from the same cold start (EMER-SFT of the mini-world) for "
            f"{result['rollouts']} rollouts of 16 prompts x 8 completions, with seeds {seeds} and "
            "the schedule of `configs/mini/r1omni.yaml`, stretched over the preset's optimizer "
            f"steps (one a rollout, or four where the preset says so). Peak rates: {rates}. "
            "Without KL and with four steps a rollout the higher rate drifts far from the cold "
            "start; of 3e-4 and 1e-4 the one with the higher reward after 50 rollouts of another "
            "seed was taken (for `gspo` and `cispo` that of `dapo`). Presets are "
            "compared by WAR on a validation world: clips of other people, drawn with another "
            "seed, which nothing was trained on. The test sets were read once, when all was "
            "trained. Little was tuned, so a preset may be worth more than it shows here; and the "
            "clips are drawn, so the order may differ on real ones.",
            "",
            f"The cold start has a validation WAR of {result['cold_start_war']:.1%}. Mean ± "
            "standard deviation over seeds, in percent:",
            "",
            *_results(runs),
            "",
            "The same runs inside. Useful groups are those whose completions did not all earn the "
            "same, as a share of all that were sampled; KL is k3 to the cold start, in nats a "
            f"token; beginning and end are the first and last {WINDOW} rollouts. The reward of "
            "`dapo` is not that of the others: groups that all earned the same, in the end mostly "
            "right ones, have been replaced in it:",
            "",
            *_insides(runs),
            "",
            f"![Reward, validation WAR, useful groups and KL of each preset]({PLOT})",
            "",
            "Lines are means over seeds, bands reach from the lowest to the highest. Seconds are "
            "those of sampling, rewards and updates, "
            f"{result['jobs']} trainings side by side with one thread each, as the median of a "
            "run's rollouts: validation, and the reference where only the KL curve needs it, are "
            "left out. " + result["note"],
            "",
            "## Which one",
            "",
            *_advice(runs, best),
            "",
        ]
    )


def recommended(runs: Runs) -> str:
    """The preset with the highest mean validation WAR at the end."""
    return max(runs, key=lambda name: statistics.mean(_final_war(runs[name])))


def _final_war(runs: Sequence[dict[str, Any]]) -> list[float]:
    return [run["val_war"][-1] for run in runs]


def _results(runs: Runs) -> list[str]:
    lines = [
        "| preset | validation WAR | reached half way | test WAR DFEW | MAFW | RAVDESS "
        "| seconds a rollout |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, group in runs.items():
        tests = [[run["test_war"][key] for run in group] for key in ("dfew", "mafw", "ravdess")]
        cells = [_final_war(group), _half_way(group), *tests]
        lines.append(f"| {name} | {' | '.join(map(_percent, cells))} | {_pace(group):.2f} |")
    return lines


def _insides(runs: Runs) -> list[str]:
    lines = [
        "| preset | reward, beginning | end | useful groups, beginning | end | KL at the end "
        "| entropy at the end | length at the end |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, group in runs.items():
        useful = [useful_share(run) for run in group]
        cells = [
            _plain([_edge(run["curves"]["reward"], first=True) for run in group]),
            _plain([_edge(run["curves"]["reward"]) for run in group]),
            _percent([_edge(values, first=True) for values in useful]),
            _percent([_edge(values) for values in useful]),
            _plain([_edge(run["curves"]["kl"]) for run in group], 3),
            _plain([_edge(run["curves"]["entropy"]) for run in group], 3),
            _plain([_edge(run["curves"]["completions/mean_length"]) for run in group], 1),
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def useful_share(run: dict[str, Any]) -> list[float]:
    """Of all groups that were sampled, those with an advantage, one value a rollout."""
    curves = run["curves"]
    if "frac_dropped" in curves:  # groups whose rewards are all equal were replaced
        return [1 - dropped for dropped in curves["frac_dropped"]]
    return [1 - flat for flat in curves["frac_reward_zero_std"]]


def _advice(runs: Runs, best: str) -> list[str]:
    war = {name: _percent(_final_war(group)) for name, group in runs.items()}
    if best == "r1omni":
        return [
            f"On the mini-world the paper's own setting is the best of these by validation WAR "
            f"({war['r1omni']}). It is the recommendation: `configs/mini/r1omni.yaml` without an "
            "overlay."
        ]
    return [
        f"The recommendation is `{best}`: it ends with the highest mean validation WAR "
        f"({war[best]}, the paper's setting {war['r1omni']}). Lay `configs/overlay/{best}.yaml` "
        "over your configuration. The configurations called `r1omni` stay the paper's.",
        "",
        "At the end the two are "
        + ("within" if _overlap(runs[best], runs["r1omni"]) else "further apart than")
        + " one standard deviation of each other. "
        + f"`{best}` takes {_pace(runs[best]) / _pace(runs['r1omni']):.1f} times as long for a "
        f"rollout, and after half of them has a validation WAR of "
        f"{_percent(_half_way(runs[best]))}, the paper's setting "
        f"{_percent(_half_way(runs['r1omni']))}.",
    ]


def _overlap(one: Sequence[dict[str, Any]], two: Sequence[dict[str, Any]]) -> bool:
    first, second = _final_war(one), _final_war(two)
    if min(len(first), len(second)) < 2:
        return True
    apart = abs(statistics.mean(first) - statistics.mean(second))
    return apart <= max(statistics.stdev(first), statistics.stdev(second))


def _half_way(runs: Sequence[dict[str, Any]]) -> list[float]:
    return [run["val_war"][len(run["val_war"]) // 2 - 1] for run in runs]


def _pace(runs: Sequence[dict[str, Any]]) -> float:
    """Seconds of a rollout: the mean over runs of their medians."""
    return statistics.mean(statistics.median(run["seconds"]) for run in runs)


def _edge(values: Sequence[float], first: bool = False) -> float:
    return statistics.mean(values[:WINDOW] if first else values[-WINDOW:])


def _percent(values: Sequence[float]) -> str:
    return _plain([100 * value for value in values], 1)


def _plain(values: Sequence[float], digits: int = 2) -> str:
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.{digits}f} ± {deviation:.{digits}f}"


# The plot ---------------------------------------------------------------------------------------


def draw(runs: Runs, cold_start_war: float, val_every: int, path: Path) -> None:
    """Six panels: reward and validation WAR against rollouts and seconds, useful groups, KL."""
    figure, panels = plt.subplots(2, 3, figsize=(13, 7.2), layout="constrained")
    for color, (name, group) in zip(plt.cm.tab10.colors, runs.items(), strict=False):
        rewards = [_smooth(run["curves"]["reward"]) for run in group]
        rollouts = [float(step + 1) for step in range(len(rewards[0]))]
        pace = _pace(group)
        wars = [[cold_start_war, *run["val_war"]] for run in group]
        tested = [float(val_every * index) for index in range(len(wars[0]))]
        useful = [_smooth(useful_share(run)) for run in group]
        kls = [_smooth(run["curves"]["kl"]) for run in group]
        for panel, x, lines in (
            (panels[0, 0], rollouts, rewards),
            (panels[0, 1], tested, wars),
            (panels[0, 2], rollouts, useful),
            (panels[1, 0], [pace * step for step in rollouts], rewards),
            (panels[1, 1], [pace * step for step in tested], wars),
            (panels[1, 2], rollouts, kls),
        ):
            columns = list(zip(*lines, strict=True))
            panel.plot(x, [statistics.mean(c) for c in columns], color=color, label=name)
            panel.fill_between(
                x, [min(c) for c in columns], [max(c) for c in columns], color=color, alpha=0.12
            )
    titles = ("reward", "validation WAR", "share of useful groups", "reward", "validation WAR")
    for panel, title in zip(panels.flat, (*titles, "KL to the cold start, nats a token"),
                            strict=True):  # fmt: skip
        panel.set_title(title)
        panel.set_xlabel("rollouts")
        panel.grid(alpha=0.3)
    for panel in panels[1, :2]:
        panel.set_xlabel("seconds of training")
    panels[0, 0].legend()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _smooth(values: Sequence[float]) -> list[float]:
    """The mean of the last `WINDOW` values, or of as many as there are."""
    sums = [0.0, *accumulate(values)]
    return [
        (sums[i + 1] - sums[max(0, i + 1 - WINDOW)]) / (i + 1 - max(0, i + 1 - WINDOW))
        for i in range(len(values))
    ]


if __name__ == "__main__":
    ScriptParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    recorded = json.loads((ROOT / "docs" / "benchmarks" / "grpo_presets.json").read_text())
    write_page(recorded, ROOT / "docs" / "grpo.md")
