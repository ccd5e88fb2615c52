"""What a line of a file of predictions holds of an answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from r1omni.data.conditions import EvaluationSet
from r1omni.metrics.answer_modes import score_fields
from r1omni.metrics.explanation import cues_as_json, explanation_fields
from r1omni.metrics.recognition import Prediction
from r1omni.metrics.voting import tally
from r1omni.text.cues import Cue, NamedCues, read_cues
from r1omni.text.emotions import LABEL_SETS
from r1omni.training.advantages import reference_of
from r1omni.types import AnswerMode, Sample


@dataclass(frozen=True)
class Votes:
    """Completions that vote on a sample, beside its answer.

    Attributes:
        labels: the class that each names, in their order, or None.
        answer_tokens, votes_tokens: written for the answer and for all votes, end tokens included.
        answer_s, votes_s: this sample's share of the seconds that its batch took for either, each
            with the reading of the prompts.
    """

    labels: tuple[str | None, ...]
    answer_tokens: int
    votes_tokens: int
    answer_s: float
    votes_s: float


@dataclass(frozen=True)
class Answered:
    """A sample and its answer.

    Attributes:
        sample: what was asked about.
        text: the completion.
        ended: whether an end token closed it.
        prediction: what is read in it.
        warnings: what to know about the clip.
        scores, direct_scores: of the emotions after the completion's own reasoning and after an
            empty one; None where not asked for.
        votes: None where none were sampled.
        unreadable: why there is no answer: the clip could not be decoded; None where it could.
    """

    sample: Sample
    text: str
    ended: bool
    prediction: Prediction
    warnings: tuple[str, ...]
    scores: dict[str, float] | None = None
    direct_scores: dict[str, float] | None = None
    votes: Votes | None = None
    unreadable: str | None = None


def record_of(answer: Answered, entry: EvaluationSet, mode: AnswerMode) -> dict[str, Any]:
    """The line, as JSON knows it.

    Args:
        answer: to a sample.
        entry: of which set and condition.
        mode: how it was answered.
    """
    sample = answer.sample
    return {
        "sample_id": sample.sample_id,
        "path": str(sample.clip.path),
        "modality": sample.modality,
        "label": sample.label,
        "prediction": answer.prediction.label,
        "format_ok": answer.prediction.format_ok,
        "reasoning": answer.prediction.reasoning,
        "text": answer.text,
        "ended": answer.ended,
        "group": sample.group,
        "sex": sample.sex,
        "intensity": sample.intensity,
        "language": sample.language,
        "warnings": list(answer.warnings),
        "label_set": entry.label_set,
        **_explanation(answer, entry),
        **_references(sample),
        **_mode_fields(answer, mode),
        **_vote_fields(answer.votes, entry),
    }


def _mode_fields(answer: Answered, mode: AnswerMode) -> dict[str, Any]:
    if answer.unreadable is not None:
        return {"unreadable": answer.unreadable}
    if mode == "think":
        return {}
    fields = score_fields(answer.prediction.label, answer.scores, answer.direct_scores)
    return {"answer_mode": mode, **fields}


def _vote_fields(votes: Votes | None, entry: EvaluationSet) -> dict[str, Any]:
    if votes is None:
        return {}
    return {
        "votes": list(votes.labels),
        "voted": tally(votes.labels, LABEL_SETS[entry.label_set].labels),
        "num_tokens": votes.answer_tokens,
        "votes_num_tokens": votes.votes_tokens,
    }


def _explanation(answer: Answered, entry: EvaluationSet) -> dict[str, Any]:
    """What a record holds of an answer's explanation, and of the cues that it is judged by."""
    known = _known_cues(answer.sample)
    fields = explanation_fields(
        answer.text, LABEL_SETS[entry.label_set], answer.ended, known, entry.condition
    )
    return {"known_cues": None if known is None else cues_as_json(known), **fields}


def _references(sample: Sample) -> dict[str, Any]:
    """What a sample is known by beside its label, of those that are."""
    words, told = sample.open_labels, reference_of(sample)
    return {
        **({} if words is None else {"open_labels": list(words)}),
        **({} if told is None else {"reference": told}),
    }


def _known_cues(sample: Sample) -> NamedCues | None:
    """The cues of a prompt's media: those told of the clip, or by a reference reasoning."""
    if sample.cues is not None:
        known = NamedCues.collect(Cue(*cue) for cue in sample.cues)
    else:
        reference = reference_of(sample)
        if reference is None:
            return None
        known = read_cues(reference)
    media = sample.modality.split("_")
    return NamedCues(**{medium: known.of(medium) for medium in media})
