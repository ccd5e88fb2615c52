"""What a completion earns by saying nothing: never more than by being wrong."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, get_args

import pytest
import torch
from adversarial_cases import CASES, LABEL, PURE, tagged
from test_adversarial import REWARDS
from torch import Tensor

from r1omni.kernels.advantages import Aggregation, Baseline, Scale
from r1omni.rewards import RewardSpec, get_reward
from r1omni.training import GRPOConfig
from r1omni.training.advantages import compared, useful_prompts, with_advantages
from r1omni.training.batch import RolloutBatch
from r1omni.training.ranks import RankLayout
from r1omni.types import PromptInputs, Rollout

G = 4
NAN = float("nan")
ALONE = RankLayout(0, 1, G, across_ranks=False, gather=lambda values: values[None])
# Well-formed, and saying as little as a completion can.
EVASIVE = {
    "a full stop": tagged("happy", "."),
    "no cue and no emotion": tagged("happy", "Let me think about it."),
    "everything denied": tagged("happy", "Not angry, not sad, no voice, no face."),
    "another language": tagged("happy", "他很高兴。"),
}
# A few of each kind; reading thousands of words takes time and shows no more.
SHORT = {n: case.text for n, case in CASES.items() if case.format and len(case.text) < 1_000}
OPEN = {
    "supported": tagged("happy", "The mouth corners are up, the voice is bright. He is happy."),
    "contradicted": tagged("happy", "The mouth corners are down. He is sad."),
}
TEXTS = SHORT | EVASIVE | OPEN


@dataclass(frozen=True)
class Comparison:
    """One way from rewards to advantages that the configuration allows."""

    aggregation: str
    scale: str
    baseline: str

    def config(self, rewards: list[RewardSpec]) -> GRPOConfig:
        return GRPOConfig(
            group_size=G, max_new_tokens=100,  # the limit that REWARDS gives to overlong
            rewards=rewards, aggregation=self.aggregation,  # type: ignore[arg-type]
            scale_rewards=self.scale, baseline=self.baseline,  # type: ignore[arg-type]
        )  # fmt: skip


COMPARISONS = [
    Comparison(aggregation, scale, baseline)
    for aggregation in get_args(Aggregation)
    for scale in get_args(Scale)
    for baseline in get_args(Baseline)
    # "normalize_then_sum" divides and compares in its own way.
    if aggregation == "sum_then_normalize" or (scale, baseline) == ("group", "mean")
]


def advantages(config: GRPOConfig, rewards: Tensor) -> Tensor:
    ones = torch.ones(len(rewards), 1)
    prompts = PromptInputs((), (), ())
    rollout = Rollout(prompts, ones.long(), ones.bool(), ones, ("",) * len(rewards), G, (), ())
    scored = RolloutBatch.scored([], rollout, rewards, config)
    return with_advantages(scored, config, ALONE).advantages


def earned(name: str) -> dict[str, float | None]:
    """What a reward gives well-formed completions of one sample."""
    columns: dict[str, Any] = {key: value for key, value in REWARDS[name][0].items()}
    columns = {
        key: value * len(TEXTS) if isinstance(value, list) else value
        for key, value in columns.items()
    }
    values = get_reward(name)(list(TEXTS.values()), [LABEL] * len(TEXTS), **columns)
    assert isinstance(values, list)
    return dict(zip(TEXTS, values, strict=True))


# What may be silent about one completion of a sample and speak of another, found by trying.
SILENT = [name for name in PURE if None in earned(name).values()]


def test_the_walk_finds_who_is_silent() -> None:
    assert "consistency" in SILENT
    for name in PURE:  # where nothing is said of anything, nothing is shown
        assert {earned(name)[text] for text in OPEN} != {None}, name


@pytest.mark.parametrize("comparison", COMPARISONS, ids=str)
@pytest.mark.parametrize("name", PURE)
def test_silence_never_pays(name: str, comparison: Comparison) -> None:
    """For each reward: a 0 of one completion that becomes a None never raises its advantage."""
    torch.manual_seed(0)
    for others in ([], ["accuracy", "format"]):
        specs = [RewardSpec(other) for other in others]
        options = {k: v for k, v in REWARDS[name][0].items() if not isinstance(v, list)}
        specs = [spec for spec in specs if spec.name != name]
        config = comparison.config([*specs, RewardSpec(name, 0.5, options)])
        for column in (
            [0.0, 1.0, 1.0, 1.0], [0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 0.0, 1.0], [0.0] * 4,
            [0.0, NAN, 1.0, 1.0], [0.0, NAN, NAN, 1.0], [0.0, NAN, 0.0, 0.0], [0.0, NAN, NAN, NAN],
        ):  # fmt: skip
            rewards = torch.randint(0, 2, (2 * G, len(config.rewards))).float()
            rewards[:G, -1] = torch.tensor(column)
            silent = rewards.clone()
            silent[0, -1] = NAN
            assert advantages(config, silent)[0] <= advantages(config, rewards)[0] + 1e-6


@pytest.mark.parametrize("comparison", COMPARISONS, ids=str)
@pytest.mark.parametrize("name", SILENT)
def test_a_silent_completion_is_no_better_than_a_wrong_one(
    name: str, comparison: Comparison
) -> None:
    """With the reward's own values, beside a sibling that earns something."""
    values = earned(name)
    wrong, best = min(v for v in values.values() if v is not None), 1.0
    assert wrong == 0 and best in values.values()
    for others in ([], [RewardSpec("accuracy"), RewardSpec("format")]):
        config = comparison.config([*others, RewardSpec(name)])
        group = torch.ones(G, len(config.rewards))
        group[:, -1] = torch.tensor([NAN, wrong, best, best])
        silent, inconsistent, right, _ = advantages(config, group).tolist()
        assert silent == inconsistent < 0 < right


@pytest.mark.parametrize("comparison", COMPARISONS, ids=str)
def test_a_reward_that_does_not_apply_to_a_sample_counts_nowhere(comparison: Comparison) -> None:
    config = comparison.config([RewardSpec("accuracy"), RewardSpec("consistency", 2.0)])
    rewards = torch.tensor([[1.0, NAN], [0.0, NAN], [1.0, NAN], [0.0, NAN]])
    alone = replace(config, rewards=config.rewards[:1])
    assert advantages(config, rewards).tolist() == advantages(alone, rewards[:, :1]).tolist()
    both = torch.cat([rewards, torch.tensor([[1.0, 1.0], [0.0, 0.0]] * 2)])
    assert torch.equal(compared(both, config)[:G].nan_to_num(9), rewards.nan_to_num(9))
    assert not advantages(config, torch.full((G, 2), NAN)).any()


@pytest.mark.parametrize("comparison", COMPARISONS, ids=str)
def test_a_reward_of_weight_0_changes_nothing(comparison: Comparison) -> None:
    """Also where it is all that a completion earns: it is there for the log."""
    specs = [RewardSpec("consistency"), RewardSpec("format", 0.0)]
    config = comparison.config(specs)
    alone = replace(config, rewards=specs[:1])
    for column in ([NAN, 0.0, 1.0, 1.0], [NAN, NAN, NAN, NAN]):
        rewards = torch.tensor([column, [1.0, 0.0, 1.0, 0.0]]).T
        found = advantages(config, rewards)
        assert found.tolist() == advantages(alone, rewards[:, :1]).tolist()
        assert useful_prompts(rewards, config) == useful_prompts(rewards[:, :1], alone)
