"""Rollouts and their scores: what a GRPO step is made of, on the recorded tiny model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from r1omni.data.batch import Batch
from r1omni.models.answering import answer_prompts
from r1omni.models.pipeline import R1Omni
from r1omni.ops import GRPOLossConfig, grpo_loss
from r1omni.rewards import COLUMNS, RewardGate, RewardSchedule, RewardSpec
from r1omni.rewards.schedule import RewardWeights
from r1omni.streams import stream_seed
from r1omni.text.emotions import ANSWER_WORDS, LABEL_SETS
from r1omni.text.prompt import encode_prompt
from r1omni.training import GRPOConfig, GRPOModule
from r1omni.training.advantages import (
    direct_confidence,
    in_force,
    score_rollout,
    useful_prompts,
    with_advantages,
)
from r1omni.training.batch import RolloutBatch
from r1omni.training.grpo_log import RolloutFigures, rollout_metrics
from r1omni.training.policy import Policy
from r1omni.training.ranks import RankLayout
from r1omni.types import Clip, ClipMedia, PromptInputs, Rollout, Sample, UsageError

G = 4
ALONE = RankLayout(0, 1, G, across_ranks=False, gather=lambda values: values[None])
# Rewards that vary: the tiny model has random weights and never answers in tags.
REWARDS = [RewardSpec("rewards_of_tests:length"), RewardSpec("format", 0.5)]


@pytest.fixture(scope="module")
def omni(fixtures_dir: Path) -> R1Omni:
    return R1Omni.from_pretrained(fixtures_dir / "humanomni_tiny" / "R1-Omni-tiny")


@pytest.fixture(autouse=True)
def _rewards_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent))


def batch_of(omni: R1Omni, *names: str) -> tuple[Batch, PromptInputs]:
    """Prompts of different lengths, each with its own random frames."""
    instructions = {"a": "Which emotion?", "b": "Say which emotion it is, and say why.", "c": "?"}
    samples, media = [], []
    for name in names:
        generator = torch.Generator().manual_seed(ord(name))
        frames = torch.randint(0, 256, (8, 3, 64, 64), generator=generator, dtype=torch.uint8)
        media.append(ClipMedia(frames, None))
        clip = Clip(Path(f"{name}.mp4"))
        samples.append(Sample(name, clip, instructions[name], "video", label="happy"))
    prompts = PromptInputs(
        tuple(encode_prompt(omni.tokenizer, s.instruction, s.modality) for s in samples),
        tuple(omni.encode_instruction(s.instruction) for s in samples),
        tuple(media),
    )
    return Batch(tuple(samples), tuple(media)), prompts


def rollout_of(omni: R1Omni, *names: str, step: int = 3) -> tuple[Batch, Rollout, list[Tensor]]:
    batch, prompts = batch_of(omni, *names)
    embedded = omni.model.embed_prompts(prompts)
    seeds = [
        stream_seed(0, step, s.sample_id, member) for s in batch.samples for member in range(G)
    ]
    config = GRPOConfig(group_size=G, max_new_tokens=6, temperature=1.0)
    rollout = Policy(omni, config).sample(prompts, seeds)
    return batch, rollout, embedded


def loss_of(omni: R1Omni, *names: str) -> tuple[Tensor, Tensor]:
    """The loss of one step, and its gradient on the language model's last norm."""
    batch, rollout, embedded = rollout_of(omni, *names)
    config = GRPOConfig(group_size=G, rewards=REWARDS)
    rewards = score_rollout(rollout, batch.samples, config)
    group = with_advantages(
        RolloutBatch.scored(batch.samples, rollout, rewards, config), config, ALONE
    )
    logps, _ = omni.model.completion_logps(embedded, rollout.completion_ids, rollout.mask)
    loss = grpo_loss(
        logps,
        group.advantages,
        rollout.mask,
        ref_logps=logps.detach() - 0.1,
        config=GRPOLossConfig(),
    ).loss
    weight = omni.model.language_model.norm.weight
    return loss.detach(), torch.autograd.grad(loss, weight)[0]


def test_a_completion_does_not_depend_on_its_batch(omni: R1Omni) -> None:
    _, together, _ = rollout_of(omni, "a", "b", "c")
    for index, name in enumerate("abc"):
        _, alone, _ = rollout_of(omni, name)
        assert alone.texts == together.texts[index * G : (index + 1) * G]
    _, other_step, _ = rollout_of(omni, "a", "b", "c", step=4)
    assert other_step.texts != together.texts
    assert len(set(together.texts)) > G


def test_one_batch_of_prompts_is_the_mean_of_its_prompts(omni: R1Omni) -> None:
    losses, gradients = zip(*(loss_of(omni, name) for name in "abc"), strict=True)
    loss, gradient = loss_of(omni, "a", "b", "c")
    assert gradient.abs().max() > 1e-4
    torch.testing.assert_close(loss, torch.stack(losses).mean(), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(gradient, torch.stack(gradients).mean(0), atol=1e-6, rtol=1e-4)


def test_metrics_by_hand() -> None:
    rollout = Rollout(
        prompts=PromptInputs((), (), ()),
        completion_ids=torch.tensor([[5, 9, 0], [5, 6, 7]]),
        mask=torch.tensor([[True, True, False], [True, True, True]]),
        logps=torch.zeros(2, 3),
        texts=("", ""),
        group_size=2,
        end_ids=(9,),
        prompt_lengths=(3,),
    )
    rewards = torch.tensor([[1.0, 0.0], [0.0, float("nan")]])
    config = GRPOConfig(group_size=2, rewards=[RewardSpec("accuracy", 2.0), RewardSpec("format")])
    group = RolloutBatch.scored([], rollout, rewards, config)
    metrics = rollout_metrics(RolloutFigures.of(group), group.reward_names, config)
    assert metrics["completions/mean_length"] == 2.5
    assert metrics["completions/clipped_ratio"] == 0.5
    assert metrics["completions/mean_terminated_length"] == 2
    assert metrics["reward"] == 1.0
    assert metrics["rewards/accuracy/mean"] == 0.5
    assert metrics["rewards/format/mean"] == 0.0


NAN = float("nan")
TWO = GRPOConfig(group_size=2, rewards=[RewardSpec("accuracy"), RewardSpec("format")])


@pytest.mark.parametrize("aggregation", ["sum_then_normalize", "normalize_then_sum"])
@pytest.mark.parametrize(
    ("rewards", "useful"),
    [
        ([[1.0, 0.0], [0.0, 0.0]], True),
        ([[1.0, 1.0], [1.0, 1.0]], False),
        ([[NAN, NAN], [1.0, 1.0]], True),  # what says nothing at all is worth nothing
        ([[NAN, 1.0], [NAN, 1.0]], False),  # what does not apply to a sample counts nowhere
        ([[NAN, NAN], [NAN, NAN]], False),
        ([[NAN, 1.0], [0.0, 1.0]], False),  # silence is worth as little as a 0 ...
        ([[NAN, 1.0], [1.0, 1.0]], True),  # ... and less than a 1
    ],
)
def test_a_group_is_useful_where_it_has_advantages(
    rewards: list[list[float]], useful: bool, aggregation: str
) -> None:
    config = replace(TWO, aggregation=aggregation)
    other = [[1.0, 1.0], [0.0, 1.0]]  # one group more, so that a batch is not its own mean
    found = useful_prompts(torch.tensor([*rewards, *other]), config)
    assert found == ([0, 1] if useful else [1])
    assert useful_prompts(torch.tensor(rewards), config) == ([0] if useful else [])


def test_a_group_is_judged_by_the_total_that_its_advantages_are_made_of() -> None:
    """Weighed 2 and 1 the sums are alike, 2 x 0 + 2 = 2 x 1 + 0; the normalised ones are not."""
    rewards = torch.tensor([[0.0, 2.0], [1.0, 0.0]])
    summed = replace(TWO, rewards=[RewardSpec("accuracy", 2.0), RewardSpec("format")])
    assert useful_prompts(rewards, summed) == []
    assert not group_of(summed, rewards.tolist(), replace(ALONE, group_size=2)).advantages.any()
    normalised = replace(summed, aggregation="normalize_then_sum")
    assert useful_prompts(rewards, normalised) == [0]
    assert group_of(normalised, rewards.tolist(), replace(ALONE, group_size=2)).advantages.all()


def group_of(config: GRPOConfig, rewards: list[list[float]], layout: RankLayout) -> RolloutBatch:
    return with_advantages(scored(config, rewards), config, layout)


def scored(config: GRPOConfig, rewards: list[list[float]]) -> RolloutBatch:
    rows = len(rewards)
    ones = torch.ones(rows, 1)
    rollout = Rollout(
        PromptInputs((), (), ()), ones.long(), ones.bool(), ones, ("",) * rows, 2, (), ()
    )
    return RolloutBatch.scored([], rollout, torch.tensor(rewards), config)


def test_silence_pays_no_more_than_a_wrong_answer() -> None:
    """Normalised by itself, a None would be worth its group's mean."""
    config = replace(TWO, group_size=4, aggregation="normalize_then_sum")
    rewards = [[NAN, 1.0], [0.0, 1.0], [1.0, 1.0], [1.0, 1.0]]
    silent, wrong, right, _ = group_of(config, rewards, ALONE).advantages.tolist()
    assert silent == wrong < 0 < right


def test_each_reward_normalised_is_compared_over_all_ranks() -> None:
    config = replace(TWO, aggregation="normalize_then_sum")
    rewards = [[[1.0, 0.0], [0.0, 0.0]], [[1.0, 1.0], [0.0, 0.5]]]
    whole = group_of(config, rewards[0] + rewards[1], replace(ALONE, group_size=2))
    everyone = torch.tensor(rewards)
    parts = [
        group_of(config, own, RankLayout(rank, 2, 2, False, lambda _: everyone))
        for rank, own in enumerate(rewards)
    ]
    joined = torch.cat([part.advantages for part in parts])
    torch.testing.assert_close(joined, whole.advantages)
    alone = group_of(config, rewards[0], replace(ALONE, group_size=2)).advantages
    assert not torch.allclose(alone, parts[0].advantages)


def test_ranks_weigh_alike_by_what_all_of_them_earn() -> None:
    gate = RewardGate("accuracy", 0.4, rate=1.0)
    late = RewardSpec("format", schedule=RewardSchedule(gate=gate))
    config = replace(TWO, rewards=[RewardSpec("accuracy"), late])
    # The second member of the first group says nothing where its sibling does: that counts as 0.
    rewards = [[[1.0, 1.0], [NAN, 0.0]], [[1.0, 0.0], [0.0, 1.0]], [[NAN, 1.0], [NAN, 1.0]]]
    everyone = torch.tensor(rewards)
    weights = [RewardWeights(config.rewards) for _ in rewards]
    for rank, own in enumerate(rewards):
        layout = RankLayout(rank, 3, 2, False, lambda _: everyone)
        first = in_force(config, weights[rank], scored(config, own), layout, step=0)
        assert [spec.weight for spec in first.rewards] == [1, 0]
        weights[rank].end_rollout()
        then = in_force(config, weights[rank], scored(config, own), layout, step=1)
        assert then == replace(config, rewards=[config.rewards[0], RewardSpec("format")])
        assert weights[rank].figures() == {
            "rewards/format/weight": 1.0, "rewards/format/gate_mean": 0.5
        }  # fmt: skip


def test_rewards_get_every_column(omni: R1Omni, monkeypatch: pytest.MonkeyPatch) -> None:
    batch, rollout, _ = rollout_of(omni, "a", "b")
    samples = [
        replace(
            batch.samples[0], label_set="dfew", open_labels=("glad", "excited"),
            target="<think>He smiles.</think>\n<answer>happy</answer>",
            cues=(("video", "brows", "raised"),),
        ),
        replace(batch.samples[1], target="happy"),
    ]  # fmt: skip
    import rewards_of_tests

    given: dict[str, Any] = {}

    def look(completions: list[str], labels: list[str], **columns: Any) -> list[float]:
        given.update(columns, labels=labels)
        return [0.0] * len(completions)

    monkeypatch.setattr(rewards_of_tests, "length", look)
    rewards = [RewardSpec("rewards_of_tests:length")]
    config = GRPOConfig(group_size=G, rewards=rewards, max_new_tokens=6)
    score_rollout(rollout, samples, config)
    assert set(given) == {"labels", *COLUMNS}
    assert given["labels"] == ["happy"] * 2 * G
    assert given["sample_ids"] == ["a"] * G + ["b"] * G
    assert given["modality"] == ["video"] * 2 * G
    assert given["label_set"] == ["dfew"] * G + [None] * G
    assert given["completion_lengths"] == rollout.mask.sum(1).tolist()
    assert given["max_new_tokens"] == [6] * 2 * G
    assert given["open_labels"] == [["glad", "excited"]] * G + [None] * G
    assert given["references"] == ["He smiles."] * G + [None] * G
    assert given["direct_confidence"] == [None] * 2 * G  # no reward asks for it
    assert given["cues"] == [[("video", "brows", "raised")]] * G + [None] * G


def test_how_sure_the_policy_is_without_a_reasoning(omni: R1Omni) -> None:
    """All prompts at once, or in parts: as one prompt by itself, scored word by word."""
    batch, rollout, embedded = rollout_of(omni, "a", "b")
    samples = [replace(batch.samples[0], label_set="dfew"), batch.samples[1]]
    config = GRPOConfig(
        group_size=G, temperature=1.0, micro_batch_size=1,
        rewards=[RewardSpec("direct_calibration"), RewardSpec("format")],
    )  # fmt: skip
    policy = Policy(omni, config)
    found = direct_confidence(policy, rollout, samples)
    for shares, sample, prompt in zip(found, samples, embedded, strict=True):
        labels = LABEL_SETS[sample.label_set or "all"].labels
        words = {label: ANSWER_WORDS[label] for label in labels}
        [answer] = [answer_prompts(omni, [prompt], 1, "direct", words).direct]
        assert answer is not None and shares == pytest.approx(answer[0], abs=1e-5)
    whole = Policy(omni, replace(config, micro_batch_size=None))
    for one, other in zip(found, direct_confidence(whole, rollout, samples), strict=True):
        assert one == pytest.approx(other, abs=1e-5)
    # Nothing the model writes is an answer, so it earns nothing; and it is asked once a prompt.
    assert not score_rollout(rollout, samples, config, policy).any()
    with pytest.raises(UsageError, match="direct_confidence is None"):
        score_rollout(rollout, samples, config)


def test_grpo_refuses_to_train_towers(fixtures_dir: Path) -> None:
    folder = fixtures_dir / "humanomni_tiny" / "R1-Omni-tiny"
    with pytest.raises(UsageError, match="vision_tower"):
        GRPOModule(str(folder), trainable=["vision_tower", "language_model"])
