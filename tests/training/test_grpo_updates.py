"""GRPO's updates with real trainers on a small world: how a rollout is divided and reused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from small_training import BASE, Weights, fit, logged, moments, weights

from r1omni.ops import GRPOLossConfig, StepTotals, grpo_loss
from r1omni.rewards import RewardSchedule, RewardSpec
from r1omni.training import GRPOConfig, GRPOModule
from r1omni.types import R1OmniError

Train = Callable[..., GRPOModule]


@pytest.fixture
def train(mini_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Train:
    """`fit` on the world of the tests."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))
    return partial(fit, mini_world, tmp_path)


def test_a_rollout_is_learned_from_as_often_as_asked(train: Train) -> None:
    module = train(replace(BASE, num_iterations=2, steps_per_generation=2), steps=8)
    assert module.global_step == 8
    assert module.trainer.fit_loop.total_batch_idx + 1 == 2  # two rollouts of 2 x 2 updates
    # Once the policy has moved, ratios leave 1.
    assert logged(module)["clip_ratio/region_mean"] > 0
    assert logged(module)["sampling_logp_difference"] < 1e-4  # taken before the first update


def test_steps_end_in_the_middle_of_a_rollout(train: Train) -> None:
    assert train(replace(BASE, num_iterations=3, steps_per_generation=2), steps=5).global_step == 5


class _Recorder(GRPOModule):
    """Keeps the rollout batch and the weights before each update."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.updates: list[tuple[Any, Any, Weights]] = []

    def update(self, rollouts: Any, step: Any) -> None:
        self.updates.append((rollouts, step, weights(self)))
        super().update(rollouts, step)


def test_a_late_reward_weighs_from_its_step_on(train: Train) -> None:
    late = RewardSpec("rewards_of_tests:coarse", 4.0, schedule=RewardSchedule(start_step=1))
    module = train(replace(BASE, rewards=[*BASE.rewards, late]), steps=2, seen=_Recorder)
    assert isinstance(module, _Recorder)
    for rollouts, _, _ in module.updates:
        weighed = late.weight * (rollouts is module.updates[1][0])
        totals = rollouts.rewards @ torch.tensor([1.0, 1.0, weighed])
        away = totals.view(-1, 4) - totals.view(-1, 4).mean(dim=1, keepdim=True)
        expected = away / (totals.view(-1, 4).std(dim=1, keepdim=True) + 1e-4)
        torch.testing.assert_close(rollouts.advantages, expected.flatten())
    assert module.updates[0][0].rewards[:, 2].any()
    assert logged(module)["rewards/rewards_of_tests:coarse/weight"] == 4
    # The total that is logged is made of the weights in force, too.
    assert logged(module)["reward"] == pytest.approx(float(totals.mean()))


def test_the_second_update_compares_with_the_policy_that_sampled(train: Train) -> None:
    grpo = replace(BASE, num_iterations=2, max_grad_norm=None)
    module = train(grpo, steps=2, seen=_Recorder)
    assert isinstance(module, _Recorder)
    (_, first, before), (_, second, between) = module.updates
    assert first.rollout is not second.rollout
    assert torch.equal(first.old_logps, second.old_logps)
    assert not torch.equal(
        before["language_model.norm.weight"], between["language_model.norm.weight"]
    )

    # By hand: the loss of the second update, from the weights that the first one left.
    module.model.load_state_dict(between, strict=False)
    rollout = second.rollout
    with torch.no_grad():
        logps, _ = module.model.completion_logps(
            module.model.embed_prompts(rollout.prompts),
            rollout.completion_ids,
            rollout.mask,
        )
    ratio = (logps - second.old_logps).exp()
    assert float((ratio - 1).abs().max()) > 1e-3
    advantages = second.advantages[:, None]
    terms = -torch.minimum(ratio * advantages, ratio.clamp(0.8, 1.2) * advantages)
    away = second.ref_logps - logps
    terms = terms + 0.04 * (away.exp() - away - 1)
    mask = rollout.mask.float()
    by_hand = ((terms * mask).sum(1) / mask.sum(1)).mean()
    ours = grpo_loss(
        logps, second.advantages, rollout.mask, old_logps=second.old_logps,
        ref_logps=second.ref_logps, config=grpo.loss,
    ).loss  # fmt: skip
    assert float(ours) == pytest.approx(float(by_hand), abs=1e-6)


def test_truncated_completions_teach_nothing(train: Train) -> None:
    # Fresh weights hardly ever end within 2 tokens, so every completion is cut off.
    grpo = replace(
        BASE,
        max_new_tokens=2,
        mask_truncated_completions=True,
        loss=GRPOLossConfig(beta=0.0),
    )
    module = train(grpo, seen=_Recorder)
    assert isinstance(module, _Recorder)
    ((rollouts, _, before),) = module.updates
    cut = ~rollouts.loss_mask.any(dim=1)
    assert cut.float().mean() > 0.8
    assert logged(module)["completions/clipped_ratio"] == pytest.approx(float(cut.float().mean()))
    if bool(cut.all()):
        assert all(torch.equal(before[name], now) for name, now in weights(module).items())


def test_divergence_as_a_reward(train: Train) -> None:
    grpo = replace(BASE, kl_in_reward=0.5, loss=GRPOLossConfig(beta=0.0), num_iterations=2)
    module = train(grpo, steps=4, seen=_Recorder)
    assert isinstance(module, _Recorder)
    group = module.updates[-1][0]
    assert group.reward_names[-1] == "kl_penalty"
    # The second rollout's policy has left the reference: the penalty is not 0.
    assert float(group.rewards[:, -1].abs().max()) > 1e-4
    total = group.rewards[:, 0] + group.rewards[:, 1] + group.rewards[:, 2]
    rows = total.view(-1, 4)
    by_hand = (rows - rows.mean(1, keepdim=True)) / (rows.std(1, keepdim=True) + 1e-4)
    torch.testing.assert_close(group.advantages, by_hand.flatten(), atol=1e-4, rtol=1e-4)


def test_the_entropy_bonus_is_learned_from(train: Train) -> None:
    plain = moments(train(replace(BASE, loss=GRPOLossConfig(beta=0.0))))
    bonus = moments(train(replace(BASE, loss=GRPOLossConfig(beta=0.0, entropy_coef=1.0))))
    assert (plain - bonus).norm() > 1e-3 * plain.norm()


def test_the_divergence_is_logged_where_nothing_uses_it(train: Train) -> None:
    free = replace(BASE, loss=GRPOLossConfig(beta=0.0))
    silent, spoken = train(free, steps=2), train(replace(free, log_kl=True), steps=2)
    assert "kl" not in logged(silent)
    assert logged(spoken)["kl"] > 0
    now, same = weights(spoken), weights(silent)
    assert all(torch.equal(now[name], same[name]) for name in now)


def test_groups_without_advantages_are_replaced(train: Train, monkeypatch: Any) -> None:
    import rewards_of_tests

    dull: set[str] = set()

    def sometimes(completions: list[str], labels: Any, **columns: Any) -> list[float]:
        return [
            0.0 if name in dull else len(text) / 100
            for text, name in zip(completions, columns["sample_ids"], strict=True)
        ]

    monkeypatch.setattr(rewards_of_tests, "length", sometimes)
    plain = train(BASE, seen=_Recorder)
    assert isinstance(plain, _Recorder)
    names = [sample.sample_id for sample in plain.updates[0][0].samples]
    dull.update(names[:2])

    def recorded(refills: int) -> tuple[list[str], dict[str, float]]:
        module = train(replace(BASE, max_refills=refills), seen=_Recorder)
        assert isinstance(module, _Recorder)
        rollouts = module.updates[0][0]
        spread = rollouts.advantages.view(-1, 4).std(dim=1)
        if refills:
            assert bool((spread > 0.1).all())
        return [sample.sample_id for sample in rollouts.samples], logged(module)

    kept, metrics = recorded(0)
    assert kept == names
    assert metrics["frac_reward_zero_std"] == 0.5
    filled, metrics = recorded(6)
    assert filled[:2] == names[2:]
    assert len(filled) == 4 and not dull & set(filled)
    assert metrics["frac_reward_zero_std"] == 0
    assert 0 < metrics["frac_dropped"] < 1
    assert recorded(6)[0] == filled  # the same draw again
    dull.update(f"mafw/{index:05d}.mp4" for index in range(1000))
    dull.update(filled)
    all_dull, metrics = recorded_all_dull(train)
    assert len(all_dull) == 4  # nothing to prefer: the first groups stay
    assert metrics["frac_dropped"] == 1


def recorded_all_dull(train: Train) -> tuple[list[str], dict[str, float]]:
    module = train(replace(BASE, max_refills=1, rewards=[RewardSpec("format")]), seen=_Recorder)
    assert isinstance(module, _Recorder)
    return [s.sample_id for s in module.updates[0][0].samples], logged(module)


def test_the_reference_follows_the_policy(train: Train) -> None:
    module = train(replace(BASE, ref_sync_steps=2, ref_mixup_alpha=1.0), steps=2)
    reference = dict(module.reference.model.named_parameters())
    now = weights(module)
    assert all(torch.equal(reference[name], now[name]) for name in module.trained_names())
    still = train(replace(BASE, ref_sync_steps=3), steps=2)
    reference = dict(still.reference.model.named_parameters())
    start = weights(GRPOModule(still.init_from, grpo=BASE))
    assert all(torch.equal(reference[name], start[name]) for name in reference)


class _Broken(GRPOModule):
    """Its second update sees a loss that is not finite."""

    def loss(self, part: Any, totals: StepTotals) -> Any:
        result = super().loss(part, totals)
        if self.global_step == 1:
            self.before = weights(self)
            return replace(result, loss=result.loss * float("nan"))
        return result


def test_a_loss_that_is_not_finite_stops_before_the_weights_change(train: Train) -> None:
    seen: list[_Broken] = []

    class Kept(_Broken):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            seen.append(self)

    with pytest.raises(R1OmniError, match=r"step 1, rank 0: the loss is nan on mafw/") as caught:
        train(BASE, steps=3, seen=Kept)
    assert "\n" not in str(caught.value)
    [module] = seen
    assert module.global_step == 1
    assert all(torch.equal(module.before[name], now) for name, now in weights(module).items())


EVERYTHING = replace(
    BASE,
    num_iterations=2,
    steps_per_generation=2,
    micro_batch_size=1,
    ref_sync_steps=3,
    max_refills=2,
    importance_correction="sequence_truncate",
)


@pytest.mark.parametrize("grpo", [BASE, EVERYTHING], ids=["plain", "everything"])
def test_a_resumed_run_ends_like_an_uninterrupted_one(
    train: Train, tmp_path: Path, grpo: GRPOConfig
) -> None:
    whole = weights(train(grpo, steps=8, batch_size=2))
    part = train(grpo, steps=4, batch_size=2)
    part.trainer.save_checkpoint(tmp_path / "half.ckpt")
    resumed = train(grpo, steps=8, batch_size=2, ckpt_path=tmp_path / "half.ckpt")
    assert resumed.global_step == 8
    now = weights(resumed)
    assert all(torch.equal(whole[name], now[name]) for name in whole)
