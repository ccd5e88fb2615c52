"""`grpo.overlap_sampling`: what is sampled when, whatever a thread's timing, and after any stop."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import lightning as L
import pytest
import torch
from small_training import BASE, Weights, fit, logged, moments, weights
from torch import Tensor

from r1omni.models.adapters import LoRAConfig
from r1omni.models.sampler import beside
from r1omni.models.sampler.graphs import StepGraphs
from r1omni.models.sampler.writer import Writer
from r1omni.rewards import RewardSpec
from r1omni.streams import stream_seed
from r1omni.training import FSDP2Strategy, GRPOConfig, GRPOModule
from r1omni.training.ahead import SamplesAhead
from r1omni.training.callbacks import RunCheckpoint
from r1omni.training.grpo_checks import check_fit, idle_loss_options
from r1omni.training.resume import changed_settings
from r1omni.types import R1OmniError, Terminated, UsageError

AHEAD = replace(BASE, overlap_sampling=True)
# Refilled groups are of the policy as it is, the others of the one before.
REFILLED = replace(
    AHEAD, max_refills=1, importance_correction="token_truncate", importance_cap=2.0,
    rewards=[RewardSpec("rewards_of_tests:coarse")], max_new_tokens=4,
)  # fmt: skip
Train = Callable[..., GRPOModule]


@pytest.fixture
def train(mini_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Train:
    """`fit` on the world of the tests: two batches an epoch."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))
    return partial(fit, mini_world, tmp_path)


class _Recorder(GRPOModule):
    """Keeps what each update learned from, and the weights before it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.updates: list[tuple[Any, Weights]] = []

    def update(self, rollouts: Any, step: Any) -> None:
        self.updates.append((rollouts, weights(self)))
        super().update(rollouts, step)


def test_a_batch_is_sampled_by_the_policy_before_the_last_update(train: Train) -> None:
    plain, module = (train(grpo, steps=3, seen=_Recorder) for grpo in (BASE, AHEAD))
    assert isinstance(plain, _Recorder) and isinstance(module, _Recorder)
    names = [[s.sample_id for s in found.samples] for found, _ in plain.updates]
    assert [[s.sample_id for s in found.samples] for found, _ in module.updates] == names
    assert names[0] != names[1]
    before = [state for _, state in module.updates]
    for step, (rollouts, _) in enumerate(module.updates):
        rollout = rollouts.rollout
        assert rollouts.old_logps is rollout.logps and rollouts.importance_weights is None
        module.model.load_state_dict(before[max(step - 1, 0)], strict=False)
        seeds = [stream_seed(0, step, name, member) for name in names[step] for member in range(4)]
        again = module.policy.sample(rollout.prompts, seeds)
        assert torch.equal(again.completion_ids, rollout.completion_ids)
        assert torch.equal(again.logps, rollout.logps)
        module.model.load_state_dict(before[step], strict=False)
        gap = (module.policy.logps(rollout) - rollout.logps).abs().max()
        assert (float(gap) > 1e-3) is (step > 0)
    figures = logged(module)
    assert figures["overlap/kl"] > 1e-6
    assert figures["sampling_logp_difference"] == pytest.approx(float(gap), rel=1e-3)
    assert "overlap/kl" not in logged(plain)
    # The first batch is sampled in place: one update is the same either way.
    assert torch.equal(module.updates[0][0].rollout.logps, plain.updates[0][0].rollout.logps)


class _Thread:
    """Stands for a pool of one thread: it runs at once, or only when its result is asked for."""

    waits: bool

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def submit(self, work: Callable[..., Any], *given: Any) -> Any:
        future: Future[Any] = Future()
        if not self.waits:
            future.set_result(work(*given))
            return future
        return type("Late", (), {"result": lambda _: work(*given)})()

    def shutdown(self) -> None:
        pass


class _Early(_Thread):
    waits = False


class _Late(_Thread):
    waits = True


@pytest.mark.parametrize("lora", [None, LoRAConfig(rank=4, alpha=16)], ids=["whole", "lora"])
def test_it_does_not_matter_when_the_thread_runs(
    train: Train, monkeypatch: pytest.MonkeyPatch, lora: LoRAConfig | None
) -> None:
    """A thread that read what the update writes would sample otherwise after it."""
    found = []
    for pool in (_Early, _Late):
        monkeypatch.setattr(beside, "ThreadPoolExecutor", pool)
        found.append(weights(train(replace(AHEAD, num_iterations=2), steps=4, lora=lora)))
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


class _Signal(L.Callback):
    """SIGTERM in an update, while the next batch is sampled."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_before_backward(self, trainer: L.Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            os.kill(os.getpid(), signal.SIGTERM)


def test_a_stopped_run_goes_on_as_one_that_was_not(
    train: Train, mini_world: Path, tmp_path: Path
) -> None:
    def run(name: str, *more: L.Callback, **options: Any) -> tuple[Weights, Tensor]:
        options |= {"callbacks": [RunCheckpoint(every=1, keep=9), *more]}
        options |= {"enable_checkpointing": True}
        module = fit(mini_world, tmp_path / name, REFILLED, steps=4, **options)
        return weights(module), moments(module)

    wanted = run("whole")
    with pytest.raises(Terminated, match="at step 2"):
        run("cut", _Signal(2))
    assert [t for t in threading.enumerate() if t.name.startswith("sampling")] == []
    for name, step in (("cut", 2), ("whole", 1)):  # stopped, or killed later
        file = tmp_path / name / "checkpoints" / f"step_{step:06d}.ckpt"
        kept = torch.load(file, weights_only=True)["r1omni"]["sampled_ahead"]
        assert len(kept[0]["rows"]) == 16
        found = run(f"{name} from {step}", ckpt_path=file)
        assert all(torch.equal(wanted[0][part], found[0][part]) for part in wanted[0])
        assert torch.equal(wanted[1], found[1])
    last = tmp_path / "whole" / "checkpoints" / "step_000004.ckpt"
    assert torch.load(last, weights_only=True)["r1omni"]["sampled_ahead"] is None
    with pytest.raises(R1OmniError, match=r"resume with grpo\.overlap_sampling"):
        train(BASE, steps=4, ckpt_path=file)


def test_what_ends_the_thread_ends_the_run(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Writer) -> Any:
        if threading.current_thread() is not threading.main_thread():
            raise R1OmniError("the thread is out of memory")
        return parts(self)

    parts = Writer.parts
    monkeypatch.setattr(Writer, "parts", broken)
    with pytest.raises(R1OmniError, match="the thread is out of memory"):
        train(AHEAD, steps=3)


def test_what_is_refused() -> None:
    class trainer:
        strategy, world_size, max_steps = FSDP2Strategy(), 2, 9

    with pytest.raises(UsageError, match=r"grpo\.overlap_sampling .* FSDP2Strategy") as caught:
        check_fit(AHEAD, trainer, None, None)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    name, file = "model.init_args.grpo.overlap_sampling", Path("step_000002.ckpt")
    assert changed_settings({}, {name: False}, file) == []  # of a version without it
    with pytest.raises(UsageError, match="overlap_sampling: True -> False"):
        changed_settings({name: True}, {name: False}, file)


def test_graphs_are_recorded_when_nothing_else_uses_the_gpu() -> None:
    """What a thread meets for the first time it computes; the caller records it afterwards."""

    class Recording(StepGraphs):
        recorded: ClassVar[list[Any]] = []

        def _record(self, step: Any) -> Any:
            self.recorded.append(step)
            return type("Graph", (), {"replay": lambda _: done.append("replayed")})()

    done: list[str] = []
    graphs = Recording()
    graphs.records = False
    for place in ((1,), (2,), (2,)):  # what was recorded over other memory goes
        graphs.run("shape", place, lambda place=place: done.append(f"computed at {place}"))  # type: ignore[misc]
    assert done == ["computed at (1,)", "computed at (2,)", "computed at (2,)"]
    graphs.record_missing()
    graphs.run("shape", (2,), lambda: done.append("computed"))
    assert len(Recording.recorded) == 1 and done[3:] == ["replayed"]


class _Policy:
    config = AHEAD

    class sampling:
        pad_id = 0


class _Module:
    device = torch.device("cpu")

    class layout:
        @staticmethod
        def rows(samples: Any) -> list[tuple[str, int]]:
            return [(sample.sample_id, member) for sample in samples for member in (1, 0)]

    @staticmethod
    def encoded_prompts(batch: Any) -> str:
        return "prompts"


def test_ranks_find_their_completions_in_a_checkpoint_of_others() -> None:
    """Two ranks have sampled for a sample each; one rank goes on, in another order."""
    parts = [
        {"rows": [[name, 0], [name, 1]], "prompt_lengths": {name: length},
         "ids": [torch.tensor([length]), torch.tensor([length, 7])],
         "logps": [torch.tensor([-1.0]), torch.tensor([-2.0, -3.0])]}
        for name, length in (("a", 5), ("b", 6))
    ]  # fmt: skip
    policy: Any = _Policy()
    policy.rollout = lambda *given: given
    ahead = SamplesAhead(policy)
    module: Any = _Module()

    def batch(*names: str) -> Any:
        samples = [type("Sample", (), {"sample_id": name}) for name in names]
        return type("Batch", (), {"samples": samples})

    assert ahead.rollout_of(module, batch("b")) is None
    ahead.load(parts)
    found: Any = ahead.rollout_of(module, batch("b", "a"))
    prompts, lengths, sampled = found
    assert (prompts, lengths) == ("prompts", (6, 5))
    assert sampled.ids.tolist() == [[6, 7], [6, 0], [5, 7], [5, 0]]
    assert sampled.logps.tolist() == [[-2, -3], [-1, 0], [-2, -3], [-1, 0]]
    assert sampled.mask.tolist() == [[True, True], [True, False]] * 2
    with pytest.raises(R1OmniError, match="c is not in it"):
        ahead.rollout_of(module, batch("a", "c"))


def test_ratios_and_what_they_compare_with() -> None:
    """Without a correction ratios leave 1 at the first update; with one, factors carry the lag."""
    clipped = replace(AHEAD.loss, epsilon=0.1)
    corrected = replace(AHEAD, importance_correction="token_truncate")
    assert AHEAD.needs_old_logps and corrected.needs_old_logps
    assert idle_loss_options(replace(AHEAD, loss=clipped)) == []
    assert idle_loss_options(replace(corrected, loss=clipped)) == ["epsilon"]
    assert not GRPOConfig().overlap_sampling
