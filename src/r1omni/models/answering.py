"""What a model answers: after reasoning that it writes, at once, or both from one reading."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from r1omni.media.processor import check_modality, given_media
from r1omni.media.windows import Window
from r1omni.models.sampler import Hear, generate, read_prompts
from r1omni.models.scoring import emotion_scores
from r1omni.options import check_choice
from r1omni.text.answers import read_answer
from r1omni.text.cues import read_cues
from r1omni.text.emotions import LABEL_SETS
from r1omni.text.reasoning import told_media
from r1omni.text.tags import EMPTY_REASONING
from r1omni.types import Analysis, AnswerMode, Modality, PromptInputs, UsageError

if TYPE_CHECKING:
    from r1omni.models.pipeline import R1Omni

Scores = dict[str, float]
NOT_ANSWERED = "not answered"
# What is said of a reasoning that tells of a medium which the model was not given.
INVENTED: Mapping[str, str] = {
    "video": "the reasoning describes a picture, and the model was given none",
    "audio": "the reasoning describes a sound, and the model was given none",
}
# Takes spans that are answered, and the next tokens of their answers, long [N, k].
HearWindows = Callable[[Sequence[Window], Tensor], None]


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
    hear: Hear | None = None,
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
        hear: as for `generate`; mode "direct" writes nothing that could be heard.
    """
    read = read_prompts(omni.model, prompts)
    texts: list[str] = []
    ended = [True] * len(prompts)
    if mode != "direct":
        sampling = omni.sampling(max_new_tokens, temperature=0.0)
        found = generate(omni.model, read, sampling, hear=hear)
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

    Raises:
        UsageError: an unknown modality, label set or mode.
    """

    modality: Modality = "video_audio"
    instruction: str | None = None
    max_new_tokens: int = 512
    label_set: str = "all"
    answer_mode: AnswerMode = "think"

    def __post_init__(self) -> None:
        check_modality(self.modality)
        check_choice("answer_mode", self.answer_mode, AnswerMode)
        if self.label_set not in LABEL_SETS:
            known = sorted(LABEL_SETS)
            raise UsageError(f"label_set {self.label_set!r} is unknown; use one of {known}")


@torch.no_grad()
def analyze_windows(
    omni: R1Omni,
    windows: Sequence[Window],
    question: Question,
    hear: HearWindows | None = None,
) -> list[Analysis]:
    """What a model says about spans of recordings, all at once; otherwise as `answer_prompts`.

    A span that has nothing of what is asked for is not answered (label None); its warnings say so.
    They also say where a reasoning tells of a medium that was not given (`told_media`).

    Args:
        omni: the model.
        windows: the spans.
        question: to the model.
        hear: called while answers are written, with the N spans that are answered and the next
            tokens of each; what it raises ends the answers.
    """
    asked = [w for w in windows if w.media.frames is not None or w.media.mel is not None]
    answers: Iterator[Analysis] = iter(())
    if asked:
        # A recording of sound alone is asked about as such, whatever the others have.
        modalities: list[Modality] = [
            "audio" if w.media.frames is None else question.modality for w in asked
        ]
        prompts = [
            omni.prompt(window.media, question.instruction, modality)
            for window, modality in zip(asked, modalities, strict=True)
        ]
        inputs = PromptInputs(
            tuple(ids for prompt in prompts for ids in prompt.token_ids),
            tuple(ids for prompt in prompts for ids in prompt.instruction_ids),
            tuple(w.media for w in asked),
        )
        answered = answer_prompts(
            omni, omni.model.embed_prompts(inputs), question.max_new_tokens,
            question.answer_mode, LABEL_SETS[question.label_set].words,
            None if hear is None else partial(hear, asked),
        )  # fmt: skip
        answers = (_analysis(window, answered, row) for row, window in enumerate(asked))
    return [
        next(answers)
        if window.media.frames is not None or window.media.mel is not None
        else Analysis(
            window.start_s, window.end_s, None, warnings=(*window.media.warnings, NOT_ANSWERED)
        )
        for window in windows
    ]


def _analysis(window: Window, answered: Answered, row: int) -> Analysis:
    answer = read_answer(answered.texts[row], answered.ended[row])
    told = told_media(answer.reasoning, read_cues(answer.reasoning))
    given = given_media(window.media)
    direct = None if answered.direct is None else answered.direct[row]
    scores = direct if answered.reasoned is None else answered.reasoned[row]
    return Analysis(
        start_s=window.start_s,
        end_s=window.end_s,
        label=answer.emotion,
        scores=scores or {},
        reasoning=answer.reasoning,
        text=answered.texts[row],
        format_ok=answer.format_ok,
        warnings=(*window.media.warnings, *(INVENTED[m] for m in told if m not in given)),
        direct_label=None if direct is None else most_probable(direct),
        direct_scores=direct,
    )


def most_probable(scores: Mapping[str, float]) -> str:
    """The emotion of the highest score; of equal ones the first."""
    return max(scores, key=lambda emotion: scores[emotion])
