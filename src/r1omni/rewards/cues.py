"""Whether a reasoning names what is there: against the reference reasoning of the clip."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

from r1omni.options import check_choice
from r1omni.rewards.registry import register
from r1omni.text.answers import Answer, read_answers
from r1omni.text.cues import MEDIA, Cue, CueTruth, NamedCues, cue_truth, read_cues
from r1omni.types import MODALITIES, UsageError

Against = Literal["reference", "known_cues"]
# Cues of a clip as a sample has them: medium, attribute, value.
KnownCues = Sequence[tuple[str, str, str]]


def _check(options: Mapping[str, Any], columns: Collection[str]) -> None:
    check_choice("against", options.get("against", "reference"), Against)


@register("cue_precision", check=_check)
def cue_precision(
    completions: list[str],
    labels: list[str | None],
    *,
    references: list[str | None],
    cues: list[KnownCues | None] | None = None,
    modality: list[str | None] | None = None,
    ended: list[bool] | None = None,
    against: Against = "reference",
    **columns: list[Any],
) -> list[float | None]:
    """The share of the cues named by the reasoning that its reference names too, 0 to 1.

    A cue is a state of a part of the face or of the voice: brows raised, pitch low. With the cues
    N that the reasoning names and M of its reference,

        |N and M| / |N|

    over both media together, counted as evaluation does (`cue_truth` in `text/cues.py`): states
    of rest need not be named. A cue of a medium that the prompt does not have is in no M, so it
    counts as invented; one of a medium that is given and of which the reference tells no cue is in
    no N, since nothing is known of it. 0 for a malformed completion and for a reasoning that names
    no cue: saying nothing is not being precise. None where there is no reference, or where it names
    no cue of the prompt's media, which is so for all completions of a sample. English only.

    Naming one safe cue earns everything, so it belongs beside `cue_recall`. What the reference
    leaves out of a medium that it tells of counts as not there, also where it is.

    Args:
        completions: completions of the policy.
        labels: ignored.
        references: for each completion the text of somebody who saw the clip, or None.
        cues: for each completion the known cues of the clip, or None; read for "known_cues" alone.
        modality: for each completion "video_audio", "video" or "audio"; None takes all as the
            first.
        ended: for each completion whether an end token closed it; None takes all as ended.
        against: option; what M is: the cues that the "reference" reasoning names, or "known_cues",
            what the clip is known to show (`cues.jsonl`), for experiments that say so: evaluation
            measures explanations by them.
        columns: ignored.

    Raises:
        UsageError: an unknown modality.
    """
    there = _there(references, cues, against)
    found = _truths(completions, there, modality, ended)
    return [None if t is None else (t.hits / t.named if t.named else 0.0) for t in found]


@register("cue_recall", check=_check)
def cue_recall(
    completions: list[str],
    labels: list[str | None],
    *,
    references: list[str | None],
    cues: list[KnownCues | None] | None = None,
    modality: list[str | None] | None = None,
    ended: list[bool] | None = None,
    against: Against = "reference",
    **columns: list[Any],
) -> list[float | None]:
    """The share of the cues of the reference that the reasoning names too, 0 to 1.

    With N and M as for `cue_precision`,

        |N and M| / |M|

    0 for a malformed completion; None where `cue_precision` says nothing, too. Naming every cue
    earns everything, and naming both of two that exclude each other is not punished here:
    `cue_precision` does that.

    Args:
        completions, labels, references, cues, modality, ended, columns: as for `cue_precision`.
        against: option; what M is, as for `cue_precision`.

    Raises:
        UsageError: an unknown modality.
    """
    there = _there(references, cues, against)
    found = _truths(completions, there, modality, ended)
    return [None if t is None else t.hits / t.there for t in found]


def _there(
    references: list[str | None], cues: list[KnownCues | None] | None, against: Against
) -> list[NamedCues | None]:
    """What each clip shows; None where nothing is known of it."""
    if against == "reference":
        return [None if text is None else read_cues(text) for text in references]
    known = [None] * len(references) if cues is None else cues
    return [
        None if entry is None else NamedCues.collect(Cue(*cue) for cue in entry) for entry in known
    ]


def _truths(
    completions: list[str],
    there: list[NamedCues | None],
    modality: list[str | None] | None,
    ended: list[bool] | None,
) -> list[CueTruth | None]:
    """How each reasoning compares with its clip over both media; None where nothing is known."""
    given = ["video_audio"] * len(completions) if modality is None else modality
    return [
        _truth(answer, known, medium or "video_audio")
        for answer, known, medium in zip(
            read_answers(completions, ended), there, given, strict=True
        )
    ]


def _truth(answer: Answer, there: NamedCues | None, modality: str) -> CueTruth | None:
    if modality not in MODALITIES:
        raise UsageError(f"modality {modality!r} is unknown; use one of {', '.join(MODALITIES)}")
    if there is None:
        return None
    # A malformed completion has no reasoning, so it names nothing.
    named = read_cues(answer.reasoning)
    parts = [
        cue_truth(named.of(medium), there.of(medium) if medium in modality else frozenset())
        for medium in MEDIA
        if medium not in modality or there.of(medium)
    ]
    hits, all_named, all_there = (
        sum(getattr(part, count) for part in parts) for count in ("hits", "named", "there")
    )
    return CueTruth(hits, all_named, all_there) if all_there else None
