"""Direct answers beside reasoned ones: scores, what is read how often, and the Python API."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from short_prompts import embed, prompts_of
from torch import Tensor

from r1omni.cli import main
from r1omni.data.registry import DatasetSpec
from r1omni.models import R1Omni
from r1omni.models.answering import Question, answer_prompts
from r1omni.models.packed import pad_embeds
from r1omni.models.sampler import Sampling, generate, read_prompts
from r1omni.models.scoring import emotion_scores
from r1omni.text.emotions import LABEL_SETS
from r1omni.text.tags import EMPTY_REASONING
from r1omni.types import UsageError

WORDS = LABEL_SETS["mafw"].words
BEFORES = [
    ["<think>A smile.</think>\n<answer>", EMPTY_REASONING],
    ["<think>The voice trembles, the eyes are wide.</think>\n<answer>", EMPTY_REASONING],
    ["", EMPTY_REASONING],
]


@pytest.fixture(scope="module")
def prompts(tiny: R1Omni) -> list[Tensor]:
    """Three prompts of different lengths."""
    found = embed(tiny, prompts_of(tiny))[:3]
    assert len({len(prompt) for prompt in found}) > 1
    return found


@torch.no_grad()
def naive(omni: R1Omni, prompt: Tensor, before: str) -> dict[str, float]:
    """Every whole text by itself through the whole model, prompt included, in float64 sums."""
    end, rows = omni.tokenizer.eos_token, []
    close = "</answer>" if before else ""
    texts = [omni.tokenizer.encode(f"{before}{word}{close}{end}") for word in WORDS.values()]
    for ids in map(torch.tensor, texts):
        row = pad_embeds([torch.cat([prompt, omni.model.embed_tokens(ids)])])
        logps = omni.model.lm_head(omni.model.hidden_states(row))[0].double().log_softmax(dim=-1)
        rows.append(logps[len(prompt) - 1 : -1].gather(1, ids[:, None]).sum())
    # What all texts begin with counts alike and goes out in the softmax.
    return dict(zip(WORDS, torch.stack(rows).softmax(dim=0).tolist(), strict=True))


def logs(scores: dict[str, float]) -> dict[str, float]:
    return {emotion: math.log(score) for emotion, score in scores.items()}


def test_scores_are_those_of_whole_texts(tiny: R1Omni, prompts: list[Tensor]) -> None:
    read = read_prompts(tiny.model, prompts)
    found = emotion_scores(tiny.model, tiny.tokenizer, read, BEFORES, WORDS)
    for prompt, befores, scores in zip(prompts, BEFORES, found, strict=True):
        for before, one in zip(befores, scores, strict=True):
            assert one == pytest.approx(naive(tiny, prompt, before), abs=1e-5)
    # What is as good as impossible is compared too.
    assert logs(found[0][0]) == pytest.approx(
        logs(naive(tiny, prompts[0], BEFORES[0][0])), abs=1e-3
    )
    assert logs(found[0][0]) != pytest.approx(logs(found[0][1]), abs=0.1)
    # A second asking finds the same prompts, and so does sampling.
    assert emotion_scores(tiny.model, tiny.tokenizer, read, BEFORES, WORDS) == found
    sampling = Sampling(6, 0.0, tiny.end_ids, int(tiny.tokenizer.pad_token_id))
    again, plain = (generate(tiny.model, given, sampling) for given in (read, prompts))
    assert torch.equal(again.ids, plain.ids) and torch.equal(again.logps, plain.logps)


@pytest.mark.parametrize("mode", ["think", "direct", "both"])
def test_a_prompt_is_read_once_in_every_mode(
    tiny: R1Omni, prompts: list[Tensor], mode: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, inner = [], tiny.model._hidden
    monkeypatch.setattr(tiny.model, "_hidden", lambda e, *a: read.append(e.mask) or inner(e, *a))
    found = answer_prompts(tiny, prompts, 4, mode, WORDS)
    first, *later = read
    assert first.sum(dim=1).tolist() == [len(prompt) for prompt in prompts]
    [branches] = later  # all texts and words of all prompts in one pass
    words = max(len(tiny.tokenizer.encode(w)) + 8 for w in WORDS.values()) * len(WORDS)
    assert branches.shape[1] < 2 * words + 40
    assert (found.reasoned is None, found.direct is None) == (mode == "direct", mode == "think")
    assert found.ended == [True] * 3 if mode == "direct" else len(found.texts) == 3


def test_modes_agree_whatever_stands_beside(tiny: R1Omni, prompts: list[Tensor]) -> None:
    think, direct, both = (
        answer_prompts(tiny, prompts, 6, m, WORDS) for m in ("think", "direct", "both")
    )  # type: ignore[arg-type]
    assert both.texts == think.texts and both.ended == think.ended
    for one, other in ((both.reasoned, think.reasoned), (both.direct, direct.direct)):
        assert one is not None and other is not None
        for mine, theirs in zip(one, other, strict=True):
            assert mine == pytest.approx(theirs, abs=1e-6)
    assert direct.direct is not None
    for text, scores in zip(direct.texts, direct.direct, strict=True):
        best = max(scores, key=lambda emotion: scores[emotion])
        assert text == f"<think></think>\n<answer>{WORDS[best]}</answer>"
    for index, prompt in enumerate(prompts):  # nor does the batch matter
        alone = answer_prompts(tiny, [prompt], 6, "both", WORDS)
        assert alone.texts[0] == both.texts[index]
        assert alone.direct is not None and both.direct is not None
        assert alone.direct[0] == pytest.approx(both.direct[index], abs=1e-5)


def test_an_empty_question_is_refused_by_every_way_to_ask(tiny: R1Omni, tiny_dir: Path) -> None:
    clip = tiny_dir / "clip.mp4"
    for empty in ("", " \n"):
        for ask in (
            lambda empty: Question(instruction=empty),
            lambda empty: tiny.analyze(clip, instruction=empty, max_new_tokens=1),
            lambda empty: tiny.prepare(clip, instruction=empty),
            lambda empty: DatasetSpec("dfew", "root", instruction=empty),
        ):
            with pytest.raises(UsageError, match="instruction is empty; write a question, or"):
                ask(empty)
    with pytest.raises(UsageError, match="instruction is 3; it must be: str"):
        Question(instruction=3)  # type: ignore[arg-type]


def test_analyze_in_every_mode(tiny: R1Omni, tiny_dir: Path, tmp_path: Path) -> None:
    clip = tiny_dir / "clip.mp4"
    found = {
        mode: tiny.analyze(clip, max_new_tokens=4, label_set="dfew", answer_mode=mode)[0]
        for mode in ("think", "direct", "both")
    }
    assert found["think"].direct_label is None and found["think"].direct_scores is None
    assert found["both"].direct_scores == pytest.approx(found["direct"].direct_scores, abs=1e-6)
    assert found["both"].scores == pytest.approx(found["think"].scores, abs=1e-6)
    direct = found["direct"]
    assert direct.label == direct.direct_label and direct.scores == direct.direct_scores
    assert not direct.format_ok and direct.reasoning == ""
    with pytest.raises(UsageError, match="answer_mode 'slow' is unknown; use one of think, direct"):
        tiny.analyze(clip, answer_mode="slow")  # type: ignore[arg-type]
    rows = []
    for mode in ("think", "both"):
        out = tmp_path / f"{mode}.jsonl"
        words = ["analyze", clip, "--model", tiny_dir / "R1-Omni-tiny", "--out", out]
        words += ["--answer-mode", mode, "--max-new-tokens", 4]
        assert main([str(word) for word in words]) == 0
        rows.append(json.loads(out.read_text(encoding="utf-8")))
    think, both = rows
    assert think["direct_label"] is None and think["direct_scores"] is None
    assert both["direct_label"] in both["direct_scores"]
