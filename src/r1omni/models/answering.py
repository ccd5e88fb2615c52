"""What a model answers: after reasoning that it writes, at once, or both from one reading."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from r1omni.models.sampler import generate, read_prompts
from r1omni.models.scoring import emotion_scores
from r1omni.text.answers import read_answer
from r1omni.text.tags import EMPTY_REASONING
from r1omni.types import Analysis, AnswerMode, ClipMedia, PromptInputs

if TYPE_CHECKING:
    from r1omni.models.pipeline import R1Omni

Scores = dict[str, float]


@dataclass(frozen=True)
class Answered:
    """Answers to B prompts.

    Attributes:
        texts: completions with their special tokens; of mode "direct" the scored text with the
            most probable word, which the model did not write.
        ended: whether each has ended.
        reasoned: scores of the emotions after the model's own reasoning; None where not asked for.
        direct: scores of the emotions after an empty reasoning; None where not asked for.
    """

    texts: list[str]
    ended: list[bool]
    reasoned: list[Scores] | None
    direct: list[Scores] | None


@torch.no_grad()
def answer_prompts(
    omni: R1Omni,
    prompts: Sequence[Tensor],
    max_new_tokens: int,
    mode: AnswerMode,
    words: Mapping[str, str],
) -> Answered:
    """Have a model answer, and score the emotions; each prompt is read once, whatever the mode.

    Completions take the most probable token each time. Scores are those of `emotion_scores`, from
    the keys and values that the prompts' one pass kept.

    Args:
        omni: model and tokenizer; a sharded model is gathered.
        prompts: B embedded prompts [P_i, D].
        max_new_tokens: longest completion in tokens.
        mode: "think" writes completions and scores after their reasoning, "direct" writes none
            and scores after `EMPTY_REASONING`, "both" does both.
        words: by emotion, the word it is written as.
    """
    read = read_prompts(omni.model, prompts)
    texts: list[str] = []
    ended = [True] * len(prompts)
    if mode != "direct":
        found = generate(omni.model, read, omni.sampling(max_new_tokens, temperature=0.0))
        texts, ended = omni.completions(found)
    befores = [[read_answer(text).before] for text in texts] or [[] for _ in prompts]
    if mode != "think":
        befores = [[*own, EMPTY_REASONING] for own in befores]
    scores = emotion_scores(omni.model, omni.tokenizer, read, befores, words)
    direct = None if mode == "think" else [rows[-1] for rows in scores]
    if mode == "direct":
        best = [words[most_probable(row[-1])] for row in scores]
        texts = [f"{EMPTY_REASONING}{word}</answer>" for word in best]
    reasoned = None if mode == "direct" else [rows[0] for rows in scores]
    return Answered(texts, ended, reasoned, direct)


def analyze_prompt(
    omni: R1Omni,
    inputs: PromptInputs,
    span: tuple[float, float],
    max_new_tokens: int,
    mode: AnswerMode,
    words: Mapping[str, str],
) -> Analysis:
    """What a model says about one span of a recording; otherwise as `answer_prompts`.

    Args:
        inputs: one prompt.
        span: start and end in seconds.
    """
    with torch.no_grad():
        prompts = omni.model.embed_prompts(inputs)
    answered = answer_prompts(omni, prompts, max_new_tokens, mode, words)
    answer, media = read_answer(answered.texts[0], answered.ended[0]), inputs.media[0]
    direct = None if answered.direct is None else answered.direct[0]
    scores = direct if answered.reasoned is None else answered.reasoned[0]
    return Analysis(
        start_s=span[0],
        end_s=span[1],
        label=answer.emotion,
        scores=scores or {},
        reasoning=answer.reasoning,
        text=answered.texts[0],
        format_ok=answer.format_ok,
        warnings=media.warnings if isinstance(media, ClipMedia) else (),
        direct_label=None if direct is None else most_probable(direct),
        direct_scores=direct,
    )


def most_probable(scores: Mapping[str, float]) -> str:
    """The emotion of the highest score; of equal ones the first."""
    return max(scores, key=lambda emotion: scores[emotion])
