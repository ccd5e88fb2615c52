"""Scores of emotions beside an answer, and a recording in windows."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from r1omni.models import R1Omni
from r1omni.models.packed import Embedded
from r1omni.models.sampler import read_prompts
from r1omni.models.scoring import emotion_scores
from r1omni.text.answers import read_answer
from r1omni.text.emotions import ANSWER_WORDS, LABEL_SETS
from r1omni.types import UsageError

Recorded = dict[str, Tensor]
WORDS = {label: ANSWER_WORDS[label] for label in LABEL_SETS["dfew"].labels}


def scores_after(omni: R1Omni, prompt: Tensor, text: str) -> dict[str, float]:
    """Scores of the answer in a completion, as `analyze` has them."""
    read = read_prompts(omni.model, [prompt])
    before = read_answer(text).before
    return emotion_scores(omni.model, omni.tokenizer, read, [[before]], WORDS)[0][0]


def by_hand(omni: R1Omni, prompt: Tensor, texts: dict[str, str], skip: str) -> dict[str, float]:
    """One text at a time through the whole model, the part before `skip` given."""
    scores = {}
    for label, text in texts.items():
        ids = torch.tensor(omni.tokenizer.encode(text))
        rows = torch.cat([prompt, omni.model.embed_tokens(ids)])[None]
        steps = torch.arange(rows.shape[1])[None]
        hidden = omni.model.hidden_states(Embedded(rows, torch.ones_like(steps).bool(), steps))
        logps = omni.model.lm_head(hidden).log_softmax(dim=-1)[0, len(prompt) - 1 : -1]
        chosen = logps.gather(1, ids[:, None])[:, 0]
        scores[label] = float(chosen[len(omni.tokenizer.encode(skip)) :].sum())
    total = torch.tensor(list(scores.values())).logsumexp(0)
    return {label: float((torch.tensor(score) - total).exp()) for label, score in scores.items()}


@pytest.mark.parametrize("text", ["<think>A smile.</think>\n<answer>sad</answer>", "man man man"])
@torch.no_grad()
def test_scores_are_shares_of_probability(tiny: R1Omni, expected: Recorded, text: str) -> None:
    inputs = tiny.prepare(video=expected["pixel_values_squash"], modality="video")
    prompt = tiny.model.embed_prompts(inputs)[0]
    scores = scores_after(tiny, prompt, text)
    if "<answer>" in text:
        skip = "<think>A smile.</think>\n<answer"
        texts = {k: f"{skip}>{w}</answer><|im_end|>" for k, w in WORDS.items()}
    else:
        skip = ""
        texts = {k: f"{w}<|im_end|>" for k, w in WORDS.items()}
    wanted = by_hand(tiny, prompt, texts, skip)
    assert list(scores) == list(WORDS)
    assert sum(scores.values()) == pytest.approx(1)
    assert scores == pytest.approx(wanted, rel=1e-3)


@torch.no_grad()
def test_scores_follow_the_reasoning(tiny: R1Omni, expected: Recorded) -> None:
    inputs = tiny.prepare(video=expected["pixel_values_squash"], modality="video")
    prompt = tiny.model.embed_prompts(inputs)[0]
    both = [
        scores_after(tiny, prompt, text)
        for text in (
            "<think>A smile.</think>\n<answer>sad</answer>",
            "<think>Tears and a shaking voice.</think>\n<answer>sad</answer>",
        )
    ]
    assert both[0] != both[1]


def test_a_recording_in_windows(tiny: R1Omni, tiny_dir: Path) -> None:
    clip = tiny_dir / "clip.mp4"
    found = tiny.analyze(clip, window_s=2.0, hop_s=1.5, max_new_tokens=4)
    assert [(a.start_s, a.end_s) for a in found] == [(0, 2), (1.5, 3.5), (3.0, 4.2)]
    for analysis in found:
        assert sum(analysis.scores.values()) == pytest.approx(1)
        assert set(analysis.scores) == set(LABEL_SETS["all"].labels)
    # Each window was looked at by itself.
    assert len({tuple(a.scores.values()) for a in found}) == 3
    [whole] = tiny.analyze(clip, max_new_tokens=4, label_set="dfew")
    assert set(whole.scores) == set(WORDS)


def test_label_sets_are_checked(tiny: R1Omni, tiny_dir: Path) -> None:
    with pytest.raises(UsageError, match="label_set 'emotions' is unknown"):
        tiny.analyze(tiny_dir / "clip.mp4", label_set="emotions")


@pytest.mark.parametrize("device", ["cuda:99", "gpu", "meta:x"])
def test_devices_are_checked(tiny_dir: Path, device: str) -> None:
    with pytest.raises(UsageError, match=f"device '{device}' cannot be used"):
        R1Omni.from_pretrained(tiny_dir / "R1-Omni-tiny", device=device)
