"""What a model answers about spans of recordings, and again about them without a medium."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from r1omni.media.processor import given_media
from r1omni.media.taken_away import without
from r1omni.media.windows import Window
from r1omni.models.answering import Answered, Question, answer_prompts, most_probable, scored
from r1omni.models.sampler import Ended, generate_each
from r1omni.text.answers import read_answer
from r1omni.text.cues import read_cues
from r1omni.text.emotions import LABEL_SETS, LabelSet
from r1omni.text.prompt import decode_completion
from r1omni.text.reasoning import told_media
from r1omni.types import (
    TAKEN_AWAY,
    Ablated,
    Analysis,
    AnswerMode,
    ClipFeatures,
    ClipMedia,
    Medium,
    Modality,
    PromptInputs,
)

if TYPE_CHECKING:
    from r1omni.models.pipeline import R1Omni

NOT_ANSWERED = "not answered"
# What is said of a reasoning that tells of a medium which the model was not given.
INVENTED: Mapping[str, str] = {
    "video": "the reasoning describes a picture, and the model was given none",
    "audio": "the reasoning describes a sound, and the model was given none",
}
# Takes spans that are being answered, without their media, and the next tokens of each answer; no
# spans while answers without a medium are written, which are nobody's to hear, but may be ended.
HearWindows = Callable[[Sequence[Window], Sequence[Sequence[int]]], None]


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
    that has nothing of what is asked for is not answered (label None); its warnings say so. They
    also say where a reasoning tells of a medium that was not given (`told_media`).

    Args:
        omni: the model.
        windows: the spans.
        question: to the model.
        num_rows: spans that are answered at once, at most.
        hear: called while answers are written; what it raises ends the answers.
    """
    spans = _Spans(omni, iter(windows), question, hear)
    if question.answer_mode == "direct":
        goes_on = True
        while goes_on:
            prompts, goes_on = spans.more(num_rows)
            if prompts:
                words = LABEL_SETS[question.label_set].words
                answered = answer_prompts(omni, prompts, question.max_new_tokens, "direct", words)
                spans.take([*spans.asked], answered)
            yield from spans.known()
        return

    def told(places: Sequence[int], parts: Sequence[Sequence[int]]) -> None:
        if hear is not None:
            hear([spans.asked[place].window for place in places], parts)

    sampling = omni.sampling(question.max_new_tokens, temperature=0.0)
    words = LABEL_SETS[question.label_set].words
    for ended in generate_each(omni.model, spans.more, sampling, num_rows, hear=told):
        if ended is not None:
            spans.take(ended.places, _read(omni, ended, question.answer_mode, words))
        yield from spans.known()


def _read(omni: R1Omni, ended: Ended, mode: AnswerMode, words: Mapping[str, str]) -> Answered:
    """Completions that have ended, and their scores."""
    read = [decode_completion(omni.tokenizer, ids, omni.end_ids) for ids in ended.ids]
    return scored(
        omni, ended.read, [text for text, _ in read], [end for _, end in read], mode, words
    )


@dataclass(frozen=True)
class _Asked:
    """A span that is being asked about.

    Attributes:
        index: its place among all spans.
        window: the span without its media.
        given: media that the model was given.
        ablation: what is said without one of them, where that is asked for.
    """

    index: int
    window: Window
    given: tuple[Medium, ...]
    ablation: dict[str, Ablated] | None


class _Spans:
    """Spans on their way: which are being asked about, and what is known of those before them.

    Attributes:
        asked: by the place of its prompt.
    """

    def __init__(
        self,
        omni: R1Omni,
        windows: Iterator[Window],
        question: Question,
        hear: HearWindows | None,
    ) -> None:
        self._omni = omni
        self._windows = windows
        self._question = question
        self._hear = hear
        self._num_taken = self._num_told = self._num_asked = 0
        self._known: dict[int, Analysis] = {}
        self.asked: dict[int, _Asked] = {}

    def more(self, count: int) -> tuple[list[Tensor], bool]:
        """Prompts about the next spans, at most so many, [P_i, D]; and whether more may come."""
        taken = list(islice(self._windows, count))
        asked: list[tuple[int, Window]] = []
        for index, window in enumerate(taken, start=self._num_taken):
            if window.media.frames is None and window.media.mel is None:
                told = (*window.media.warnings, NOT_ANSWERED)
                self._known[index] = Analysis(window.start_s, window.end_s, None, warnings=told)
            else:
                asked.append((index, window))
        self._num_taken += len(taken)
        return self._prompts(asked) if asked else [], len(taken) == count

    def _prompts(self, asked: Sequence[tuple[int, Window]]) -> list[Tensor]:
        omni, question = self._omni, self._question
        windows = [window for _, window in asked]
        # A recording of sound alone is asked about as such, whatever the others have.
        modalities: list[Modality] = [
            "audio" if w.media.frames is None else question.modality for w in windows
        ]
        prompts = [
            omni.prompt(window.media, question.instruction, modality)
            for window, modality in zip(windows, modalities, strict=True)
        ]
        features = omni.model.encode_media([window.media for window in windows])
        inputs = PromptInputs(
            tuple(ids for prompt in prompts for ids in prompt.token_ids),
            tuple(ids for prompt in prompts for ids in prompt.instruction_ids),
            tuple(features),
        )
        ablations: Sequence[dict[str, Ablated] | None] = [None] * len(windows)
        if question.media_ablation != "none":
            ablations = _ablations(omni, windows, inputs, features, question, self._hear)
        for (index, window), ablation in zip(asked, ablations, strict=True):
            light = window._replace(media=ClipMedia(None, None, window.media.warnings))
            given = given_media(window.media)
            self.asked[self._num_asked] = _Asked(index, light, given, ablation)
            self._num_asked += 1
        return omni.model.embed_prompts(inputs)

    def take(self, places: Iterable[int], answered: Answered) -> None:
        """Keep answers to the prompts of some places until they can be told."""
        labels = LABEL_SETS[self._question.label_set]
        for row, place in enumerate(places):
            asked = self.asked.pop(place)
            self._known[asked.index] = _analysis(asked, answered, row, labels)

    def known(self) -> Iterator[Analysis]:
        """What can be told, in the order of the spans."""
        while self._num_told in self._known:
            yield self._known.pop(self._num_told)
            self._num_told += 1


def _ablations(
    omni: R1Omni,
    windows: Sequence[Window],
    inputs: PromptInputs,
    features: Sequence[ClipFeatures],
    question: Question,
    hear: HearWindows | None,
) -> list[dict[str, Ablated]]:
    """For each span, by condition, what is said without a medium that it has itself.

    Args:
        omni: the model.
        windows: the spans.
        inputs: their prompts.
        features: of their clips.
        question: to the model.
        hear: as for `analyze_windows`.
    """
    [neutral] = omni.model.encode_media(
        [ClipMedia(omni.processor.blank(), omni.processor.silence())]
    )
    is_whole = question.media_ablation == "answer" or question.answer_mode == "direct"
    mode = question.answer_mode if is_whole else "direct"
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
        prompts = omni.model.embed_prompts(changed)
        for row, said in zip(rows, _said_of_all(omni, prompts, question, mode, hear), strict=True):
            found[row][condition] = said if is_whole else replace(said, label=None, scores={})
    return found


def _said_of_all(
    omni: R1Omni,
    prompts: Sequence[Tensor],
    question: Question,
    mode: AnswerMode,
    hear: HearWindows | None,
) -> list[Ablated]:
    """What is said to prompts [P_i, D], in their order."""
    labels, length = LABEL_SETS[question.label_set], question.max_new_tokens
    if mode == "direct":
        answered = answer_prompts(omni, prompts, length, mode, labels.words)
        return [_said(answered, row, labels) for row in range(len(prompts))]
    waiting, found = iter(prompts), dict[int, Ablated]()

    def more(count: int) -> tuple[list[Tensor], bool]:
        taken = list(islice(waiting, count))
        return taken, len(taken) == count

    told = None if hear is None else lambda places, parts: hear((), ())
    sampling = omni.sampling(length, temperature=0.0)
    for ended in generate_each(omni.model, more, sampling, len(prompts), hear=told):
        if ended is not None:
            answered = _read(omni, ended, mode, labels.words)
            found |= {place: _said(answered, row, labels) for row, place in enumerate(ended.places)}
    return [found[place] for place in range(len(prompts))]


def _said(answered: Answered, row: int, labels: LabelSet) -> Ablated:
    direct = None if answered.direct is None else answered.direct[row]
    scores = direct if answered.reasoned is None else answered.reasoned[row]
    return Ablated(
        label=labels.named(read_answer(answered.texts[row], answered.ended[row]).word),
        scores=scores or {},
        direct_label=None if direct is None else most_probable(direct),
        direct_scores=direct,
    )


def _analysis(asked: _Asked, answered: Answered, row: int, labels: LabelSet) -> Analysis:
    answer = read_answer(answered.texts[row], answered.ended[row])
    said = _said(answered, row, labels)
    told = told_media(answer.reasoning, read_cues(answer.reasoning))
    invented = (INVENTED[medium] for medium in told if medium not in asked.given)
    return Analysis(
        start_s=asked.window.start_s,
        end_s=asked.window.end_s,
        label=said.label,
        scores=said.scores,
        reasoning=answer.reasoning,
        text=answered.texts[row],
        format_ok=answer.format_ok,
        warnings=(*asked.window.media.warnings, *invented),
        direct_label=said.direct_label,
        direct_scores=said.direct_scores,
        ablation=asked.ablation,
    )
