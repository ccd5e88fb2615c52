"""What a model answers: after reasoning that it writes, at once, or both from one reading."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from r1omni.media.processor import check_modality
from r1omni.models.sampler import ReadPrompts, generate, read_prompts
from r1omni.models.scoring import emotion_scores
from r1omni.options import check_choice, check_type
from r1omni.text.answers import read_answer
from r1omni.text.emotions import LABEL_SETS
from r1omni.text.prompt import check_instruction
from r1omni.text.tags import EMPTY_REASONING
from r1omni.types import AnswerMode, MediaAblation, Modality, UsageError

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
    if mode == "direct":
        return scored(omni, read, [], [True] * len(prompts), mode, words)
    sampling = omni.sampling(max_new_tokens, temperature=0.0)
    texts, ended = omni.completions(generate(omni.model, read, sampling))
    return scored(omni, read, texts, ended, mode, words)


def scored(
    omni: R1Omni,
    read: ReadPrompts,
    texts: list[str],
    ended: list[bool],
    mode: AnswerMode,
    words: Mapping[str, str],
) -> Answered:
    """The answers to B prompts with the scores of their mode.

    Args:
        omni, mode, words: as for `answer_prompts`.
        read: the prompts.
        texts: what was written; of mode "direct" nothing yet.
        ended: B, whether each has ended.
    """
    befores = [[read_answer(text).before] for text in texts] or [[] for _ in ended]
    if mode != "think":
        befores = [[*own, EMPTY_REASONING] for own in befores]
    scores = emotion_scores(omni.model, omni.tokenizer, read, befores, words)
    direct = None if mode == "think" else [rows[-1] for rows in scores]
    if mode == "direct":
        best = [words[most_probable(row[-1])] for row in scores]
        texts = [f"{EMPTY_REASONING}{word}</answer>" for word in best]
    reasoned = None if mode == "direct" else [rows[0] for rows in scores]
    return Answered(texts, ended, reasoned, direct)


@dataclass(frozen=True)
class Question:
    """What is asked about a recording, and how it is answered.

    Attributes:
        modality: which of its media the model is given.
        instruction: the question; None asks R1-Omni's.
        max_new_tokens: longest answer in tokens.
        label_set: the emotions that are scored, a key of `LABEL_SETS`.
        answer_mode: "think" has the model write reasoning and answer, "direct" takes the most
            probable emotion after an empty reasoning, "both" gives the second beside the first.
        media_ablation: which of these are asked for again without the sound and without the
            picture, as evaluation does under "muted" and "blanked": "direct" the direct answers,
            which takes one reading each and writes nothing; "answer" all of them, with a reasoning
            of their own.

    Raises:
        UsageError: an unknown modality, label set, mode or ablation, an empty instruction, or
            direct answers that are to be asked for again and are not asked for.
    """

    modality: Modality = "video_audio"
    instruction: str | None = None
    max_new_tokens: int = 512
    label_set: str = "all"
    answer_mode: AnswerMode = "think"
    media_ablation: MediaAblation = "none"

    def __post_init__(self) -> None:
        check_modality(self.modality)
        check_type("instruction", self.instruction, str | None)
        check_instruction(self.instruction)
        check_choice("answer_mode", self.answer_mode, AnswerMode)
        check_choice("media_ablation", self.media_ablation, MediaAblation)
        if self.media_ablation == "direct" and self.answer_mode == "think":
            raise UsageError(
                "media_ablation 'direct' compares direct answers, and answer_mode 'think' has "
                "none; use answer_mode 'both', or media_ablation 'answer'"
            )
        if self.label_set not in LABEL_SETS:
            known = sorted(LABEL_SETS)
            raise UsageError(f"label_set {self.label_set!r} is unknown; use one of {known}")


def most_probable(scores: Mapping[str, float]) -> str:
    """The emotion of the highest score; of equal ones the first."""
    return max(scores, key=lambda emotion: scores[emotion])
