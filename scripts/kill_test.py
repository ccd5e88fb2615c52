"""Kill a training at random moments, resume it each time, and compare with an unbroken one.

    python scripts/kill_test.py --kills 200

The training is `python -m r1omni fit` on a small mini-world, a checkpoint every step, with all that
a resume has to carry: several updates a rollout, refilled groups, a reference that moves, more
than one epoch. SIGKILL gives a process no chance to tidy up; every fourth signal is SIGTERM, which
lets it save and leave. After every kill the newest checkpoint must be readable; every run that came
to its end must have the unbroken run's weights.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Imported once: every attempt is a fork of this process, which saves the seconds of the imports.
# No tensor is touched before the forks, so there are no threads to lose.
import torch  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from script_options import ScriptParser  # noqa: E402
from tqdm import tqdm  # noqa: E402

from r1omni.cli import main as r1omni_main  # noqa: E402
from r1omni.training import lightning_cli  # noqa: E402, F401
from r1omni.training.checkpoints import newest_checkpoint  # noqa: E402

GRPO = [
    "--config", "configs/mini/r1omni.yaml",
    "--model.init_args.grpo.max_new_tokens", "8",
    "--model.init_args.grpo.group_size", "4",
    # Fresh weights never answer in tags; these rewards differ all the same.
    "--model.init_args.grpo.rewards", "[{name: repetition, options: {ngram_size: 1}}]",
    "--model.init_args.grpo.num_iterations", "2",
    "--model.init_args.grpo.steps_per_generation", "2",
    "--model.init_args.grpo.max_refills", "2",
    "--model.init_args.grpo.ref_sync_steps", "3",
    "--data.train", "[{name: mafw, root: MAFW, sampling: 'first:4', options: {fold: 1}}]",
]  # fmt: skip
SFT = [
    "--config", "configs/mini/emer_sft.yaml",
    "--trainer.accumulate_grad_batches", "2",
    "--data.train", "[{name: mafw, root: MAFW, sampling: 'first:12', options: {fold: 1}}]",
]  # fmt: skip


@dataclass
class Tally:
    """What came of the kills.

    Attributes:
        kills: processes that were killed.
        kills_while_writing: of them, those that left a half-written checkpoint behind.
        terminations: of them, those by SIGTERM.
        slowest_exit_s: longest that a process took to leave after SIGTERM, in seconds.
        wrong_status: processes that left with another status than 143, or than by the signal
            itself while training had not begun.
        unreadable: checkpoints that could not be opened afterwards.
        finished: broken runs that came to their end.
        different: of them, those with other weights than the unbroken run.
    """

    kills: int = 0
    kills_while_writing: int = 0
    terminations: int = 0
    slowest_exit_s: float = 0.0
    wrong_status: int = 0
    unreadable: int = 0
    finished: int = 0
    different: int = 0


class Trial:
    """One training that is broken again and again.

    Args:
        out: folder of everything that is written.
        kind: "grpo" or "sft".
        steps: optimizer steps of a whole run.
        device: "cpu", or "cuda" for one GPU in bfloat16 mixed precision.
        overlays: configurations laid over the training's own; with one for several GPUs,
            precision is the overlay's.
    """

    def __init__(
        self, out: Path, kind: str, steps: int, device: str = "cpu", overlays: tuple[str, ...] = ()
    ) -> None:
        self.overlays = overlays
        self.out, self.kind, self.steps, self.device = out, kind, steps, device
        self.broken = out / f"{kind}_broken"

    def prepare(self) -> dict[str, torch.Tensor]:
        """The world, a fresh model, and the unbroken run; returns its weights."""
        world, init = self.out / "world", self.out / "init"
        if not init.exists():
            texts = [world / "HumanOmni" / f"{name}.json" for name in ("captions", "reasoning")]
            sizes = "configs/mini/model.yaml"
            self.finish("synthesize", "--out", world, "--clips", 60, "--num-workers", 1)
            self.finish("create", "--sizes", sizes, "--texts", *texts, "--out", init)
        whole = self.out / f"{self.kind}_whole"
        shutil.rmtree(whole, ignore_errors=True)
        self.finish(*self.fit(whole))
        return load_file(whole / "model" / "model.safetensors")

    def fit(self, run_dir: Path) -> list[object]:
        """The command line of a start or of a resume."""
        on_gpu = self.device == "cuda"
        precision = "bf16-mixed" if on_gpu and not self.overlays else "32-true"
        return [
            "fit", *(GRPO if self.kind == "grpo" else SFT),
            *(word for file in self.overlays for word in ("--config", file)),
            "--trainer.default_root_dir", run_dir,
            "--trainer.max_steps", self.steps,
            "--trainer.accelerator", "gpu" if on_gpu else "cpu", "--trainer.devices", 1,
            "--trainer.precision", precision,
            "--trainer.enable_progress_bar", "false",
            "--trainer.log_every_n_steps", 1,
            "--model.init_args.init_from", self.out / "init",
            "--data.root", self.out / "world",
            "--data.loader.cache_dir", self.out / "cache",
            "--data.loader.batch_size", 2, "--data.loader.decode_workers", 0,
            "--run.tracking_uri", f"sqlite:///{self.out / 'mlflow.db'}",
            "--run.checkpoint_every", 1,
            *(["--ckpt_path", "last"] if newest_checkpoint(run_dir) else []),
        ]  # fmt: skip

    def start(self, *words: object) -> int:
        """Fork a process that runs a command, its output in a log; returns its id."""
        process = os.fork()
        if process:
            return process
        log = os.open(self.out / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        status = 1
        try:
            status = r1omni_main([str(word) for word in words])
        finally:
            os._exit(status)

    def finish(self, *words: object) -> float:
        """Run a command to its end; returns the seconds it took."""
        started = time.monotonic()
        _, status = os.waitpid(self.start(*words), 0)
        if status:
            raise SystemExit(f"`r1omni {words[0]}` failed; see {self.out / 'log.txt'}")
        return time.monotonic() - started

    def attempt(self, seconds: float, signum: int, while_writing: bool, tally: Tally) -> bool:
        """Start or resume the broken run and signal it after a while; whether it ended before."""
        process = self.start(*self.fit(self.broken))
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline or (while_writing and not self.writes()):
            done, status = os.waitpid(process, os.WNOHANG)
            if done:
                if status:
                    raise SystemExit(f"a resumed run failed; see {self.out / 'log.txt'}")
                return True
            time.sleep(0.0005)
        os.kill(process, signum)
        signalled = time.monotonic()
        status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        if status == 0:  # it was through before the signal came
            return True
        tally.kills += 1
        if signum == signal.SIGTERM:
            tally.terminations += 1
            tally.wrong_status += status not in (128 + signum, -signum)
            taken = round(time.monotonic() - signalled, 2)
            tally.slowest_exit_s = max(tally.slowest_exit_s, taken)
        return False

    def writes(self) -> bool:
        """Whether a checkpoint is half-written."""
        return any(self.broken.glob("checkpoints/*.partial"))

    def readable(self) -> bool:
        """Whether the newest checkpoint can be opened, if there is one."""
        newest = newest_checkpoint(self.broken)
        if newest is None:
            return True
        try:
            torch.load(newest, weights_only=True, map_location="cpu")
        except Exception as error:  # whatever torch raises, the checkpoint is lost
            print(f"{newest}: {error}", file=sys.stderr)
            return False
        return True


def run_trial(trial: Trial, kills: int, seed: int) -> Tally:
    """Kill until `kills` is reached, then let the last run come to its end."""
    wanted = trial.prepare()
    chance = random.Random(seed)
    shutil.rmtree(trial.broken, ignore_errors=True)
    longest = trial.finish(*trial.fit(trial.broken)) * 1.1
    shutil.rmtree(trial.broken)
    tally = Tally()
    with tqdm(total=kills, desc=f"killing {trial.kind}", unit="kill") as bar:
        while tally.kills < kills or trial.broken.exists():
            patience = chance.uniform(0.3, longest) if tally.kills < kills else 3600.0
            signum = signal.SIGTERM if tally.kills % 4 == 3 else signal.SIGKILL
            while_writing = tally.kills % 4 == 1 and tally.kills < kills
            if while_writing:
                patience = 0.0  # the first checkpoint that is written
            if trial.attempt(patience, signum, while_writing, tally):
                found = load_file(trial.broken / "model" / "model.safetensors")
                equal = all(torch.equal(found[name], wanted[name]) for name in wanted)
                tally.finished += 1
                tally.different += found.keys() != wanted.keys() or not equal
                shutil.rmtree(trial.broken)
                continue
            tally.kills_while_writing += trial.writes()
            tally.unreadable += not trial.readable()
            bar.update()
    return tally


def main() -> int:
    parser = ScriptParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "outputs" / "kill_test")
    parser.add_argument("--kills", type=int, default=200, help="shared by GRPO and SFT")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=16, help="optimizer steps of a run")
    parser.add_argument("--json", type=Path, default=None, help="file for the figures")
    options = parser.parse_args()
    os.chdir(ROOT)
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    of_sft = options.kills // 4
    tallies = {
        kind: run_trial(Trial(out, kind, options.steps), kills, options.seed)
        for kind, kills in (("grpo", options.kills - of_sft), ("sft", of_sft))
    }
    report = {kind: asdict(tally) for kind, tally in tallies.items()}
    text = json.dumps({"seed": options.seed, "steps": options.steps, **report}, indent=2)
    print(text)
    if options.json:
        options.json.write_text(text + "\n", encoding="utf-8")
    return int(any(t.unreadable or t.different or t.wrong_status for t in tallies.values()))


if __name__ == "__main__":
    sys.exit(main())
