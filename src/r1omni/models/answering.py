"""What a model answers: after reasoning that it writes, at once, or both from one reading."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from r1omni.media.processor import check_modality
from r1omni.media.windows import Window
from r1omni.models.sampler import ReadPrompts, generate, generate_each, read_prompts
from r1omni.models.scoring import emotion_scores
from r1omni.options import check_choice
from r1omni.text.answers import read_answer
from r1omni.text.emotions import LABEL_SETS
from r1omni.text.prompt import decode_completion
from r1omni.text.tags import EMPTY_REASONING
from r1omni.types import Analysis, AnswerMode, ClipMedia, Modality, PromptInputs, UsageError

if TYPE_CHECKING:
    from r1omni.models.pipeline import R1Omni

Scores = dict[str, float]
NOT_ANSWERED = "not answered"
# Takes spans that are being answered, without their media, and the next tokens of each answer.
HearWindows = Callable[[Sequence[Window], Sequence[Sequence[int]]], None]


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
        return _scored(omni, read, [], [True] * len(prompts), mode, words)
    sampling = omni.sampling(max_new_tokens, temperature=0.0)
    texts, ended = omni.completions(generate(omni.model, read, sampling))
    return _scored(omni, read, texts, ended, mode, words)


def _scored(
    omni: R1Omni,
    read: ReadPrompts,
    texts: list[str],
    ended: list[bool],
    mode: AnswerMode,
    words: Mapping[str, str],
) -> Answered:
    """The answers to prompts with the scores of their mode; "direct" has no texts yet."""
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
    windows: Iterable[Window],
    question: Question,
    num_rows: int,
    hear: HearWindows | None = None,
) -> Generator[Analysis, None, None]:
    """What a model says about spans of recordings, in their order; otherwise as `answer_prompts`.

    Where an answer has ended, the next span begins, and one that is known waits for those before
    it. Spans are taken when there is room, and their media let go of when they were read. A span
    that has nothing of what is asked for is not answered (label None); its warnings say so.

    Args:
        omni: the model.
        windows: the spans.
        question: to the model.
        num_rows: spans that are answered at once, at most.
        hear: called while answers are written; what it raises ends the answers.
    """
    spans = _Spans(omni, iter(windows), question)
    mode, words = question.answer_mode, LABEL_SETS[question.label_set].words
    if mode == "direct":
        goes_on = True
        while goes_on:
            prompts, goes_on = spans.more(num_rows)
            if prompts:
                answered = answer_prompts(omni, prompts, question.max_new_tokens, mode, words)
                spans.take([*spans.asked], answered)
            yield from spans.known()
        return

    def told(places: Sequence[int], parts: Sequence[Sequence[int]]) -> None:
        if hear is not None:
            hear([spans.asked[place][1] for place in places], parts)

    sampling = omni.sampling(question.max_new_tokens, temperature=0.0)
    for found in generate_each(omni.model, spans.more, sampling, num_rows, hear=told):
        if found is not None:
            read = [decode_completion(omni.tokenizer, ids, omni.end_ids) for ids in found.ids]
            texts, ended = [text for text, _ in read], [end for _, end in read]
            answered = _scored(omni, found.read, texts, ended, mode, words)
            spans.take(found.places, answered)
        yield from spans.known()


class _Spans:
    """Spans on their way: which are being asked about, and what is known of those before them.

    Attributes:
        asked: by the place of its prompt, a span's place among all and the span without its media.
    """

    def __init__(self, omni: R1Omni, windows: Iterator[Window], question: Question) -> None:
        self._omni = omni
        self._windows = windows
        self._question = question
        self._num_taken = self._num_told = 0
        self._known: dict[int, Analysis] = {}
        self.asked: dict[int, tuple[int, Window]] = {}
        self._num_asked = 0

    def more(self, count: int) -> tuple[list[Tensor], bool]:
        """Prompts about the next spans, at most so many, [P_i, D]; and whether more may come."""
        taken = list(islice(self._windows, count))
        asked = []
        for window in taken:
            media = window.media
            light = window._replace(media=ClipMedia(None, None, media.warnings))
            if media.frames is None and media.mel is None:
                told = (*media.warnings, NOT_ANSWERED)
                span = window.start_s, window.end_s
                self._known[self._num_taken] = Analysis(*span, None, warnings=told)
            else:
                asked.append(window)
                self.asked[self._num_asked] = self._num_taken, light
                self._num_asked += 1
            self._num_taken += 1
        return self._prompts(asked) if asked else [], len(taken) == count

    def _prompts(self, windows: Sequence[Window]) -> list[Tensor]:
        omni, question = self._omni, self._question
        # A recording of sound alone is asked about as such, whatever the others have.
        modalities: list[Modality] = [
            "audio" if w.media.frames is None else question.modality for w in windows
        ]
        prompts = [
            omni.prompt(window.media, question.instruction, modality)
            for window, modality in zip(windows, modalities, strict=True)
        ]
        inputs = PromptInputs(
            tuple(ids for prompt in prompts for ids in prompt.token_ids),
            tuple(ids for prompt in prompts for ids in prompt.instruction_ids),
            tuple(w.media for w in windows),
        )
        return omni.model.embed_prompts(inputs)

    def take(self, places: Iterable[int], answered: Answered) -> None:
        """Keep answers to the prompts of some places until they can be told."""
        for row, place in enumerate(places):
            index, window = self.asked.pop(place)
            self._known[index] = _analysis(window, answered, row)

    def known(self) -> Iterator[Analysis]:
        """What can be told, in the order of the spans."""
        while self._num_told in self._known:
            yield self._known.pop(self._num_told)
            self._num_told += 1


def _analysis(window: Window, answered: Answered, row: int) -> Analysis:
    answer = read_answer(answered.texts[row], answered.ended[row])
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
        warnings=window.media.warnings,
        direct_label=None if direct is None else most_probable(direct),
        direct_scores=direct,
    )


def most_probable(scores: Mapping[str, float]) -> str:
    """The emotion of the highest score; of equal ones the first."""
    return max(scores, key=lambda emotion: scores[emotion])
