"""The table of real voices: RAVDESS speech by folds of speakers, Emo-DB beside it, in one command.

    python scripts/run_real_voices.py --data RAVDESS --tower WHISPER --emodb EMODB
    python scripts/run_real_voices.py --data RAVDESS --tower WHISPER --only-folds 1 --dry-run

RAVDESS is a folder with Actor_XX/03-01-*.wav, WHISPER one with config.json and model.safetensors of
a Whisper, of which the encoder is used and never trained. For every fold and seed, with the recipe
of configs/ravdess_speech/: a base from descriptions without labels, a cold start from a few
explained clips, label SFT once and twice as long, and GRPO with the paper's rewards, with the
faithful ones, and paid for measured cues as well; the cold start and GRPO once more from label SFT,
with the paper's rewards and with all that helped (combined). Each is tested on the fold's test
speakers and on Emo-DB, as recorded and each at the level of the other. A linear probe on the same
tower and folds stands beside them. Training speakers, the validation speakers that choose a
checkpoint, and test speakers are three groups;
`speaker_folds` of the loaders says who is where.

Voices are described once, and clips decoded and encoded once, for all folds. Every step is a
command that a person could type; --dry-run prints them. Run it again to go on: what is complete is
not repeated, and a training that was stopped or killed goes on from its checkpoint. What was made
with other settings is refused. At the end scripts/real_voices_page.py writes tables and plots of
all that is complete; --docs docs/real_voices.md makes that page. OUT/costs.json has what each
command took.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from real_voices_jobs import Voices, jobs_of
from real_voices_study import Job, Settings
from real_voices_trainings import EXPERIMENT, tracking_uri
from run_folders import held, read_costs, status_of
from script_options import ScriptParser
from side_by_side import ROOT, SideBySide

# Seconds on one core, until commands of the kind are done and tell.
ASSUMED_S = {
    "describe": 150.0, "levels": 30.0, "probe": 120.0, "tables": 10.0, "create": 15.0,
    "test": 120.0, "test_levels": 60.0,
}  # fmt: skip
ASSUMED_FIT_S = {
    "base": 600.0, "emer_sft": 300.0, "label_sft": 600.0, "label_sft_longer": 1200.0,
}  # fmt: skip
ASSUMED_GRPO_S = 2000.0


def seconds_of(kind: str, settings: Settings) -> float:
    """What a kind of command is expected to take: the mean of those of other folds, if any."""
    costs = read_costs(settings.costs)
    taken = [spent["wall_s"] for name, spent in costs.items() if name.endswith(f": {kind}")]
    if taken:
        return sum(taken) / len(taken)
    command, *of = kind.split()
    return ASSUMED_S.get(command) or ASSUMED_FIT_S.get(of[0], ASSUMED_GRPO_S)


def main(
    words: Sequence[str] | None = None,
    program: Sequence[str] | None = None,
    scripts: Path = ROOT / "scripts",
) -> int:
    """Make the table; `program` runs a command's words, `scripts` has what stands beside it."""
    options, parser = _parse(words)
    settings = Settings(  # commands run elsewhere than here
        options.out.resolve(), options.data.absolute(), options.tower.absolute(),
        options.emodb and options.emodb.absolute(), options.folds, options.explained, scripts,
    )  # fmt: skip
    folds = tuple(options.only_folds or range(1, options.folds + 1))
    jobs = jobs_of(settings, folds, options.seeds)
    if options.dry_run:
        print(plan(jobs, lambda kind: seconds_of(kind, settings), options.jobs))
        return 0
    runner = SideBySide(
        program or (sys.executable, "-m", "r1omni"),
        options.jobs,
        lambda kind: seconds_of(kind, settings),
    )

    def work() -> list[str]:
        with held(settings.out / "real_voices.lock", "table of real voices"):
            settings.begin()
            for job in jobs:
                job.check()
            Voices(settings).write_cues()  # a run may have been killed just before that
            open_store(settings.out)
            failures = runner.run(jobs, may_begin=lambda job: job.may_begin())
            return failures + write_page(settings, options.docs or settings.out / "page.md")

    return status_of(work, parser)


def open_store(out: Path) -> None:
    """Make the tracking store before trainings that begin at once would each make it."""
    if (out / "mlflow.db").exists():
        return
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri(out))
    if client.get_experiment_by_name(EXPERIMENT) is None:
        client.create_experiment(EXPERIMENT)


def write_page(settings: Settings, docs: Path) -> list[str]:
    """Tables and plots of all that is complete; a line if that fails."""
    script = settings.scripts / "real_voices_page.py"
    words = [str(settings.out), "--docs", str(docs.absolute())]
    environment = dict(os.environ, PYTHONPATH=str(ROOT / "src"))
    done = subprocess.run([sys.executable, str(script), *words], cwd=ROOT, env=environment)
    return [f"{script.name} ended with status {done.returncode}"] if done.returncode else []


def plan(jobs: Sequence[Job], expected_s: Callable[[str], float], num_jobs: int) -> str:
    """The commands that are left, in order, and about how long they take."""
    lines, seconds = [], 0.0
    for job in jobs:
        for kind in job.left():
            command = job.words(kind)
            program = f"python {command.script}" if command.script else "python -m r1omni"
            lines += [f"{job.name}: {kind}", f"    {program} {shlex.join(command.words)}"]
            seconds += expected_s(kind)
    whole = f"about {seconds / 60:.0f} minutes of one core, {seconds / num_jobs / 60:.0f} with"
    return "\n".join(
        [
            *lines,
            f"{len(lines) // 2} commands, {whole} {num_jobs} side by side (assumed, until commands "
            "of a kind are done and tell)",
        ]
    )


def _parse(words: Sequence[str] | None) -> tuple[argparse.Namespace, argparse.ArgumentParser]:
    parser = ScriptParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of RAVDESS, speech")
    parser.add_argument("--tower", type=Path, required=True, help="folder of a Whisper")
    parser.add_argument("--emodb", type=Path, help="folder of Emo-DB, a second test set")
    parser.add_argument("--out", type=Path, default=Path("outputs/real_voices"))
    parser.add_argument("--folds", type=int, default=5, help="of speakers, from 3 (5)")
    parser.add_argument("--only-folds", type=int, nargs="+", help="run these alone (all)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of every training (0)")
    parser.add_argument(
        "--explained", type=int, default=150, help="explained clips of the cold start (150)"
    )
    parser.add_argument("--jobs", type=int, default=2, help="processes, of one thread each (2)")
    parser.add_argument("--docs", type=Path, help="page to write, plots beside it (OUT/page.md)")
    parser.add_argument("--dry-run", action="store_true", help="only print what is left to run")
    options = parser.parse_args(words)
    for name in ("data", "tower", "emodb"):
        folder = getattr(options, name)
        if folder is not None and not folder.is_dir():
            parser.error(f"--{name} {folder}: there is no such folder")
    if options.folds < 3 or min(options.jobs, options.explained) < 1:
        parser.error("--folds begins at 3 (train, validation, test), --jobs and --explained at 1")
    unknown = {*(options.only_folds or ())} - {*range(1, options.folds + 1)}
    if unknown:
        parser.error(f"--only-folds {min(unknown)}: there are folds 1 to {options.folds}")
    for name in ("only_folds", "seeds"):
        given = getattr(options, name) or []
        if len(set(given)) < len(given) or min(given, default=0) < 0:
            parser.error(f"--{name.replace('_', '-')}: give each once, from 0 on")
    return options, parser


if __name__ == "__main__":
    sys.exit(main())
