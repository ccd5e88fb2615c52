"""Training recipes for explanations compared: one cold start, every recipe, several seeds.

    python scripts/ablation.py --dry-run                # what it would run, and what it costs
    python scripts/ablation.py --seeds 11 12 13 14      # on validation people; a table
    python scripts/ablation.py --final paper gated      # afterwards, these on the test sets
    python scripts/ablation.py --out outputs/b --world-seed 1 --seeds 12 \\
        --beside outputs/a/results.jsonl                # from a second cold start; one table

Recipes are the overlays of configs/mini/recipes/ on configs/mini/r1omni.yaml; an overlay that is
added there takes part. The cold start is made by the steps of scripts/run_table.py, unless --start
names a folder that holds one. Recipes are compared on a validation world: other clips of other
people, drawn with another seed, which nothing was trained on. Its RAVDESS is left alone, so that
RAVDESS stays what no choice has seen. The rule was written before any run: the highest share of
answers that are right for the right reason, among recipes whose WAR is not more than one standard
error below the paper's (`choose` in scripts/ablation_table.py). Test sets are read only with
--final, after the choice.

Run it again to go on: what is complete is not repeated, and a training that was stopped or killed
goes on from its checkpoint. What was made with other settings is refused. OUT/results.jsonl has a
line for every run that is complete, OUT/table.md the tables.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain, product
from pathlib import Path

import yaml
from ablation_runs import (
    CONFIG,
    ORDER,
    RECIPES,
    VALIDATION,
    ColdStart,
    Run,
    Settings,
    World,
    known_arms,
    made_runs,
    overlay_of,
)
from ablation_table import COLD_START, PAPER, choose, read_lines, table
from run_folders import held, status_of, write_whole
from script_options import ScriptParser
from side_by_side import ROOT, Job, SideBySide, duration

# Seconds on one core that no file records: assumed until runs tell.
WORLDS = "worlds and cold start"
ASSUMED_S = {WORLDS: 900.0, "validation": 120.0, "final": 150.0}


def seconds_of(kind: str, runs: Sequence[Run]) -> float:
    """What a kind of command is expected to take: the mean of those that are complete, if any."""
    taken = [r.costs()[kind]["wall_s"] for r in runs if kind in r.costs() and r.has(kind)]
    if taken:
        return sum(taken) / len(taken)
    if kind == "fit":
        return runs[0].settings.steps * recorded_step_s()
    return ASSUMED_S.get(kind, ASSUMED_S[WORLDS] / 6)  # of the six commands that make them


def recorded_step_s() -> float:
    """Seconds of a step of the paper's recipe on one core, as docs/grpo.md has measured them."""
    file = ROOT / "docs" / "benchmarks" / "grpo_presets.json"
    runs = json.loads(file.read_text(encoding="utf-8"))["runs"]
    steps = [s for run in runs if run["preset"] == "r1omni" for s in run["seconds"]]
    return sum(steps) / len(steps)


def main(words: Sequence[str] | None = None, program: Sequence[str] | None = None) -> int:
    """Run the ablation; `program` is what runs the words of a command."""
    options, parser = _parse(words)
    settings = Settings(
        options.out.resolve(), (options.start or options.out / "start").resolve(), options.steps,
        options.clips, options.validation_clips, options.world_seed,
    )  # fmt: skip
    runs = [
        Run(settings, arm, seed)
        for seed, arm in product(options.seeds, options.arms or known_arms())
    ]
    cold = Run(settings, COLD_START, None)
    finals = [replace(run, final=True) for run in (cold, *runs) if run.arm in options.final]
    cold_start = ColdStart(settings)
    if options.start and cold_start.left():
        parser.error(f"--start {options.start} holds no cold start; leave it out to make one")
    preparing: list[Job] = [cold_start, World(settings)]
    if options.dry_run:
        print(plan(preparing, [cold, *runs], finals, options.jobs))
        return 0
    runner = SideBySide(
        program or (sys.executable, "-m", "r1omni"),
        options.jobs,
        lambda kind: seconds_of(kind, runs),
    )

    def work() -> list[str]:
        with held(settings.out / "ablation.lock", "ablation"):
            failures = runner.run(preparing, [cold, *runs, *finals])
            if not failures:
                for run in made_runs(settings):
                    run.check()
                # Alone: it decodes the validation clips, and makes the tracking store.
                failures = runner.run([cold], [*runs, *finals])
            failures = failures or runner.run(runs, finals) or runner.run(finals)
            report(settings, options.beside)
            return failures

    return status_of(work, parser)


def report(settings: Settings, beside: Sequence[Path]) -> None:
    """Write `results.jsonl` and `table.md` of all that is complete, and print the tables.

    Args:
        settings: of these runs.
        beside: `results.jsonl` of ablations from other cold starts, for the tables.
    """
    made = made_runs(settings)
    lines = [run.line() for run in made if not run.left()]
    tested = [run.line() for r in made if not (run := replace(r, final=True)).left()]
    whole = "".join(json.dumps(line) + "\n" for line in [*lines, *tested])
    write_whole(settings.out / "results.jsonl", whole)
    for line in chain.from_iterable(map(read_lines, beside)):
        (tested if line["split"] == "final" else lines).append(line)
    order = [COLD_START, *known_arms()]
    choice = choose(lines, order, VALIDATION)
    text = [
        f"Validation people, mean over {', '.join(VALIDATION)}; mean ± standard error over seeds, "
        "in percent where not said otherwise.",
        "",
        *table(lines, order, VALIDATION),
        "",
        f"By the rule: {choice.arm or 'no choice yet'} ({choice.reason}).",
    ]
    for name in tested[0]["sets"] if tested else ():
        text += ["", f"Test set {name}:", "", *table(tested, order, [name])]
    write_whole(settings.out / "table.md", "\n".join(text) + "\n")
    print("\n".join(["", *text]), flush=True)


def plan(preparing: Sequence[Job], runs: Sequence[Run], finals: Sequence[Run], jobs: int) -> str:
    """What is left to run, and what it would cost."""
    kinds = [kind for run in runs for kind in run.left()]
    kinds += [kind for run in finals for kind in run.left()]
    counts = {kind: kinds.count(kind) for kind in ("fit", "validation", "final")}
    costs = {kind: count * seconds_of(kind, runs) for kind, count in counts.items()}
    if any(job.left() for job in preparing):
        costs[WORLDS] = ASSUMED_S[WORLDS]
    whole = sum(costs.values())
    missing = [arm for arm in ORDER if arm not in known_arms()]
    return "\n".join(
        [
            f"recipes: {', '.join(dict.fromkeys(run.arm for run in runs))}",
            *(f"{arm}: no {overlay_of(arm)} yet; left out" for arm in missing),
            *(f"{name}: {counts.get(name, 1)} to run, about {cost / 60:.0f} CPU minutes"
              for name, cost in costs.items() if cost),
            f"in all about {whole / 60:.0f} CPU minutes, {duration(whole / jobs)} with {jobs} "
            "processes side by side",
            f"A training is taken for {runs[0].settings.steps} steps of {recorded_step_s():.2f} s "
            "(docs/benchmarks/grpo_presets.json, the paper's recipe beside another training), the "
            "rest is assumed, until runs are complete and tell.",
        ]
    )  # fmt: skip


def _parse(words: Sequence[str] | None) -> tuple[argparse.Namespace, argparse.ArgumentParser]:
    parser = ScriptParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    steps = yaml.safe_load((ROOT / CONFIG).read_text(encoding="utf-8"))["trainer"]["max_steps"]
    parser.add_argument("--out", type=Path, default=Path("outputs/ablation"))
    parser.add_argument("--start", type=Path, help="folder with a cold start (OUT/start)")
    parser.add_argument("--arms", nargs="+", help="recipes (all, and the paper's)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[11, 12, 13, 14])
    parser.add_argument("--jobs", type=int, default=2, help="processes, of one thread each")
    parser.add_argument(
        "--final", nargs="+", default=[], metavar="ARM", help="judge these on the test sets, too"
    )
    parser.add_argument(
        "--beside", type=Path, nargs="+", default=[], metavar="FILE",
        help="results.jsonl of ablations from other cold starts, with other seeds",
    )  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="only say what it would cost")
    parser.add_argument("--steps", type=int, default=steps, help=f"of a training ({steps})")
    parser.add_argument("--clips", type=int, default=2000, help="of the cold start's world")
    parser.add_argument("--validation-clips", type=int, default=1500)
    parser.add_argument("--world-seed", type=int, default=10, help="of the cold start")
    options = parser.parse_args(words)
    known = known_arms()
    for arm in [*(options.arms or []), *options.final]:
        if arm not in known and not (arm == COLD_START and arm in options.final):
            parser.error(
                f"recipe {arm} is unknown; {RECIPES} has {', '.join(known)} (of these "
                f"{PAPER} is the configuration without an overlay)"
            )
    untrained = [a for a in options.final if a not in [*(options.arms or known), COLD_START]]
    if untrained:
        parser.error(f"--final {' '.join(untrained)}: not among --arms")
    if min(options.jobs, options.steps) < 1 or len(set(options.seeds)) < len(options.seeds):
        parser.error("--jobs and --steps begin at 1, and each of --seeds is given once")
    for file in options.beside:
        if not file.exists():
            parser.error(f"--beside {file}: there is no such file")
        shared = {line["seed"] for line in read_lines(file)} & {*options.seeds}
        if shared:
            parser.error(f"--beside {file}: has seed {min(shared)}, too; give others to --seeds")
    return options, parser


if __name__ == "__main__":
    sys.exit(main())
