"""What a model answers: after reasoning that it writes, at once, or both from one reading."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from r1omni.media.processor import check_modality, given_media
from r1omni.media.taken_away import without
from r1omni.media.windows import Window
from r1omni.models.sampler import Hear, generate, read_prompts
from r1omni.models.scoring import emotion_scores
from r1omni.options import check_choice
from r1omni.text.answers import read_answer
from r1omni.text.emotions import LABEL_SETS
from r1omni.text.tags import EMPTY_REASONING
from r1omni.types import (
    TAKEN_AWAY,
    Ablated,
    Analysis,
    AnswerMode,
    ClipFeatures,
    ClipMedia,
    MediaAblation,
    Modality,
    PromptInputs,
    UsageError,
)

if TYPE_CHECKING:
    from r1omni.models.pipeline import R1Omni

Scores = dict[str, float]
NOT_ANSWERED = "not answered"
# Takes spans that are answered, and the next tokens of their answers, long [N, k]; no spans while
# answers without a medium are written, which are nobody's to hear, but may be ended.
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
        media_ablation: which of these are asked for again without the sound and without the
            picture, as evaluation does under "muted" and "blanked": "direct" the direct answers,
            which takes one reading each and writes nothing; "answer" all of them, with a reasoning
            of their own.

    Raises:
        UsageError: an unknown modality, label set, mode or ablation, or direct answers that are to
            be asked for again and are not asked for.
    """

    modality: Modality = "video_audio"
    instruction: str | None = None
    max_new_tokens: int = 512
    label_set: str = "all"
    answer_mode: AnswerMode = "think"
    media_ablation: MediaAblation = "none"

    def __post_init__(self) -> None:
        check_modality(self.modality)
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


@torch.no_grad()
def analyze_windows(
    omni: R1Omni,
    windows: Sequence[Window],
    question: Question,
    hear: HearWindows | None = None,
) -> list[Analysis]:
    """What a model says about spans of recordings, all at once; otherwise as `answer_prompts`.

    A span that has nothing of what is asked for is not answered (label None); its warnings say so.

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
        features = omni.model.encode_media([window.media for window in asked])
        inputs = PromptInputs(
            tuple(ids for prompt in prompts for ids in prompt.token_ids),
            tuple(ids for prompt in prompts for ids in prompt.instruction_ids),
            tuple(features),
        )
        heard = None if hear is None else partial(hear, asked)
        answered = _answered(omni, inputs, question, question.answer_mode, heard)
        answers = (_analysis(window, answered, row) for row, window in enumerate(asked))
        if question.media_ablation != "none":
            unheard = None if hear is None else lambda part: hear((), part[:0])
            again = _ablations(omni, asked, inputs, features, question, unheard)
            answers = (replace(one, ablation=own) for one, own in zip(answers, again, strict=True))
    return [
        next(answers)
        if window.media.frames is not None or window.media.mel is not None
        else Analysis(
            window.start_s, window.end_s, None, warnings=(*window.media.warnings, NOT_ANSWERED)
        )
        for window in windows
    ]


def _answered(
    omni: R1Omni, inputs: PromptInputs, question: Question, mode: AnswerMode, hear: Hear | None
) -> Answered:
    words = LABEL_SETS[question.label_set].words
    prompts = omni.model.embed_prompts(inputs)
    return answer_prompts(omni, prompts, question.max_new_tokens, mode, words, hear)


def _ablations(
    omni: R1Omni,
    windows: Sequence[Window],
    inputs: PromptInputs,
    features: Sequence[ClipFeatures],
    question: Question,
    hear: Hear | None,
) -> list[dict[str, Ablated]]:
    """For each span, by condition, what is said without a medium that it has itself.

    Args:
        omni: the model.
        windows: the spans.
        inputs: their prompts.
        features: of their clips.
        question: to the model.
        hear: as for `answer_prompts`.
    """
    [neutral] = omni.model.encode_media(
        [ClipMedia(omni.processor.blank(), omni.processor.silence())]
    )
    is_whole = question.media_ablation == "answer" or question.answer_mode == "direct"
    found: list[dict[str, Ablated]] = [{} for _ in windows]
    for condition, medium in TAKEN_AWAY.items():
        rows = [row for row, w in enumerate(windows) if medium in given_media(w.media)]
        if not rows:
            continue
        changed = PromptInputs(
            tuple(inputs.token_ids[row] for row in rows),
            tuple(inputs.instruction_ids[row] for row in rows),
            tuple(without(features[row], medium, neutral) for row in rows),
        )
        mode = question.answer_mode if is_whole else "direct"
        answered = _answered(omni, changed, question, mode, hear)
        for place, row in enumerate(rows):
            said = _said(answered, place)
            found[row][condition] = said if is_whole else replace(said, label=None, scores={})
    return found


def _said(answered: Answered, row: int) -> Ablated:
    direct = None if answered.direct is None else answered.direct[row]
    scores = direct if answered.reasoned is None else answered.reasoned[row]
    return Ablated(
        label=read_answer(answered.texts[row], answered.ended[row]).emotion,
        scores=scores or {},
        direct_label=None if direct is None else most_probable(direct),
        direct_scores=direct,
    )


def _analysis(window: Window, answered: Answered, row: int) -> Analysis:
    answer = read_answer(answered.texts[row], answered.ended[row])
    said = _said(answered, row)
    return Analysis(
        start_s=window.start_s,
        end_s=window.end_s,
        label=said.label,
        scores=said.scores,
        reasoning=answer.reasoning,
        text=answered.texts[row],
        format_ok=answer.format_ok,
        warnings=window.media.warnings,
        direct_label=said.direct_label,
        direct_scores=said.direct_scores,
    )


def most_probable(scores: Mapping[str, float]) -> str:
    """The emotion of the highest score; of equal ones the first."""
    return max(scores, key=lambda emotion: scores[emotion])
