"""Whether the reasoning describes the media that were given, and only those."""

from __future__ import annotations

from typing import Any

from r1omni.rewards.registry import register
from r1omni.text.answers import Answer, read_answers
from r1omni.text.reasoning import described_media
from r1omni.types import MODALITIES, UsageError


@register("modality_use")
def modality_use(
    completions: list[str],
    labels: list[str | None],
    *,
    modality: list[str | None],
    ended: list[bool] | None = None,
    **columns: list[Any],
) -> list[float | None]:
    """The share of the given media that the reasoning describes; 0 if it describes another.

    A medium is described by a word that needs it: face, brows, smile, gesture, ... for the
    picture; voice, tone, pitch, loud, ... for the sound (`MEDIA_WORDS` in `text/reasoning.py`).
    So with video_audio 0, 1/2 or 1, with video or audio alone 0 or 1. To say that a medium is
    missing ("no voice can be heard") is not to describe it. 0 for a malformed completion, None
    where the modality is not known. English only: in another language the reward is always 0.

    One word is enough, and a word costs nothing: this catches what is made up, it does not
    measure how well the media were used. Give it a small weight.

    Args:
        completions: completions of the policy.
        labels: ignored.
        modality: for each completion "video_audio", "video", "audio" or None.
        ended: for each completion whether an end token closed it; None takes all as ended.
        columns: ignored.

    Raises:
        UsageError: an unknown modality.
    """
    answers = read_answers(completions, ended)
    return [_share(answer, given) for answer, given in zip(answers, modality, strict=True)]


def _share(answer: Answer, modality: str | None) -> float | None:
    if modality is None:
        return None
    if modality not in MODALITIES:
        raise UsageError(f"modality {modality!r} is unknown; use one of {', '.join(MODALITIES)}")
    if not answer.format_ok:
        return 0.0
    given = set(modality.split("_"))
    described = described_media(answer.reasoning)
    return len(described) / len(given) if described <= given else 0.0
