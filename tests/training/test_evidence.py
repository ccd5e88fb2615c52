"""Which tokens describe a medium, and what the policy says of them without it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_training import BASE, fit, logged
from step_cases import halves

from r1omni.media.audio import SILENCE_USED
from r1omni.models.pipeline import R1Omni
from r1omni.ops import GRPOLoss, MaskedModality, StepTotals
from r1omni.training import GRPOConfig, GRPOModule, evidence
from r1omni.training.batch import RolloutBatch
from r1omni.training.evidence import evidence_tokens
from r1omni.training.policy import Policy
from r1omni.types import Clip, ClipFeatures, PromptInputs, Rollout, Sample

REASONED = "<think> É😀. The {} are raised, and the voice is low.</think>\n<answer>sad</answer>"
PICTURE, SOUND = torch.zeros(4, 2, 3), torch.zeros(5, 3)
BOTH = ClipFeatures(PICTURE, SOUND)
SILENT = ClipFeatures(PICTURE, SOUND, *[("no sound" + SILENCE_USED,)] * 2)


@pytest.fixture(scope="module")
def omni(fixtures_dir: Path) -> R1Omni:
    return R1Omni.from_pretrained(fixtures_dir / "humanomni_tiny" / "R1-Omni-tiny")


def batch_of(
    omni: R1Omni, texts: list[str], clips: list[ClipFeatures], advantages: list[float]
) -> RolloutBatch:
    """Completions of these texts, an end token behind each, two of each clip."""
    end = omni.end_ids[0]
    rows = [[*omni.tokenizer.encode(text, add_special_tokens=False), end] for text in texts]
    lengths = torch.tensor([[len(row)] for row in rows])
    ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True)
    mask = torch.arange(ids.shape[1])[None] < lengths
    nothing = tuple(torch.zeros(0, dtype=torch.long) for _ in clips)
    rollout = Rollout(
        prompts=PromptInputs(nothing, nothing, tuple(clips)), completion_ids=ids, mask=mask,
        logps=torch.zeros(ids.shape), texts=tuple(texts), group_size=2, end_ids=(end,),
        prompt_lengths=(0,) * len(clips),
    )  # fmt: skip
    samples = [Sample(str(index), Clip(Path("x")), "?") for index in range(len(clips))]
    scored = RolloutBatch.scored(samples, rollout, torch.zeros(len(texts), 1), GRPOConfig())
    return replace(scored, advantages=torch.tensor(advantages))


def words_of(omni: R1Omni, batch: RolloutBatch, media: list[str]) -> list[list[str]]:
    """Of each completion, the text of its evidence for each medium."""
    marks = evidence_tokens(batch, omni.tokenizer, media)
    return [
        [omni.tokenizer.decode(ids[mark[:, column]]).strip() for column in range(len(media))]
        for ids, mark in zip(batch.rollout.completion_ids, marks, strict=True)
    ]


def test_tokens_of_good_completions_that_describe_what_is_there(omni: R1Omni) -> None:
    good = REASONED.format("brows")
    texts = [
        good, good, REASONED.format("hands"), good.replace("</think>", ""),
        good, good, good, "The brows are raised.",
    ]  # fmt: skip
    clips = [BOTH, BOTH, replace(BOTH, video=None), SILENT]
    # Better than its siblings, not so, and so by roundoff alone.
    batch = batch_of(omni, texts, clips, [1.0, -1.0, 0.5, 0.5, 0.5, 1e-5, 0.5, 0.5])
    assert words_of(omni, batch, ["video", "audio"]) == [
        ["raised", "low"], ["", ""],
        ["", "low"], ["", ""],  # nothing is said of a face; no reasoning in the answer format
        ["", "low"], ["", ""],  # the picture was not asked for
        ["raised", ""], ["", ""],  # silence stands in for the sound
    ]  # fmt: skip
    assert words_of(omni, batch, ["audio"])[0] == ["low"]
    masked = replace(batch, loss_mask=batch.loss_mask & False)
    assert not evidence_tokens(masked, omni.tokenizer, ["video", "audio"]).any()
    rollout = batch.rollout
    cut = replace(batch, rollout=replace(rollout, end_ids=(0,)))  # nothing has ended
    assert not evidence_tokens(cut, omni.tokenizer, ["video", "audio"]).any()


class _Seen(GRPOModule):
    """Keeps what each part of an update is computed from."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.parts: list[RolloutBatch] = []
        self.expected: list[torch.Tensor] = []

    def loss(self, part: RolloutBatch, totals: StepTotals) -> GRPOLoss:
        self.parts.append(part)
        store, asked = self.datamodule._settled(), Policy(self.omni, self.grpo)
        columns = []
        for condition in ("blanked", "muted"):  # as evaluation has them
            dataset = store.dataset(part.samples, condition)
            media = tuple(dataset[i][1] for i in range(len(dataset)))
            prompts = replace(part.rollout.prompts, media=media)
            columns.append(asked.logps(replace(part.rollout, prompts=prompts)))
        self.expected.append(torch.stack(columns, dim=-1))
        return super().loss(part, totals)


@pytest.fixture
def _described(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fresh weights never describe anything in the answer format."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))
    monkeypatch.setattr(evidence, "described", halves)


@pytest.mark.usefixtures("_described")
def test_the_masked_pass_is_that_of_evaluation(mini_world: Path, tmp_path: Path) -> None:
    grpo = replace(
        BASE, masked_modality=MaskedModality(2.0), num_iterations=2, micro_batch_size=1
    )  # fmt: skip
    module = fit(mini_world, tmp_path, grpo, steps=1, seen=_Seen)
    good = torch.cat([part.advantages > 0 for part in module.parts])
    marks = torch.cat([part.evidence for part in module.parts])
    assert marks[good].any(dim=(1, 2)).all() and not marks[~good].any()
    logps = torch.cat([part.rollout.logps for part in module.parts])
    gaps = (logps[..., None] - torch.cat(module.expected))[marks]
    assert float(gaps.abs().max()) > 1e-3
    # What is logged of four micro-batches is of the step.
    found = logged(module)
    assert found["masked_modality/gap"] == pytest.approx(float(gaps.mean()), abs=1e-5)
    missing = (1 - gaps).clamp(min=0)
    assert found["masked_modality/loss"] == pytest.approx(2 * float(missing.mean()), rel=1e-4)
    assert found["masked_modality/tokens"] == len(gaps)
    assert found["masked_modality/below_margin"] == pytest.approx(
        float((missing > 0).float().mean())
    )


@pytest.mark.usefixtures("_described")
def test_what_is_not_needed_is_not_computed(
    mini_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = replace(BASE, masked_modality=MaskedModality(1.0, modalities=["audio"]))
    module = fit(mini_world, tmp_path, one, seen=_Seen)
    assert module.parts[0].evidence.shape[2] == len(module.parts[0].masked_media) == 1
    # At every second step alone.
    half = replace(one, masked_modality=MaskedModality(1.0, every=2))
    parts = fit(mini_world, tmp_path, half, steps=3, seen=_Seen).parts
    assert [part.evidence is not None for part in parts] == [True, False, True]
    # Nothing is described: no pass, and a term of 0.
    monkeypatch.setattr(evidence, "described", lambda text, ended: [])
    module = fit(mini_world, tmp_path, one, seen=_Seen)
    assert not module.parts[0].masked_media and logged(module)["masked_modality/loss"] == 0
    # Without a weight nobody reads, masks or counts.
    monkeypatch.setattr(evidence, "described", None)
    monkeypatch.setattr(_Seen, "neutral", None)
    module = fit(mini_world, tmp_path, BASE, seen=_Seen)
    assert module.parts[0].evidence is None and not module.parts[0].masked_media
    assert not [name for name in logged(module) if "masked" in name]
