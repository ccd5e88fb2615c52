"""A medium of a clip taken away or exchanged: evaluation, training and `analyze` share it."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from r1omni.media.audio import SILENCE_USED
from r1omni.media.processor import BLACK_USED
from r1omni.types import ClipFeatures, ClipMedia

Media = TypeVar("Media", ClipMedia, ClipFeatures)


def with_picture(media: Media, picture: str, other: ClipMedia | ClipFeatures) -> Media:
    """Media with the picture of other media; the field's name is `picture`."""
    # What the file's own picture is like says nothing any more.
    told = media.sound_warnings
    return replace(media, **{picture: getattr(other, picture)}, warnings=told)


def with_sound(media: Media, sound: str, other: ClipMedia | ClipFeatures) -> Media:
    """Media with the sound of other media and what is to be known about it."""
    about_picture = media.warnings[: len(media.warnings) - len(media.sound_warnings)]
    return replace(
        media,
        **{sound: getattr(other, sound)},
        warnings=about_picture + other.sound_warnings,
        sound_warnings=other.sound_warnings,
    )


def without(features: ClipFeatures, medium: str, neutral: ClipFeatures) -> ClipFeatures:
    """Features as "muted" ("audio") and "blanked" ("video") show them to the model.

    Args:
        features: of a clip.
        medium: which is taken away; one that is not there is not added.
        neutral: the features of silence and of black frames.
    """
    if getattr(features, medium) is None:
        return features
    return {"video": with_picture, "audio": with_sound}[medium](features, medium, neutral)


def is_given(features: ClipFeatures, medium: str) -> bool:
    """Whether the clip has a medium of its own: asked for, and nothing stands in for it."""
    about_picture = features.warnings[: len(features.warnings) - len(features.sound_warnings)]
    told = features.sound_warnings if medium == "audio" else about_picture
    stands_in = {"video": BLACK_USED, "audio": SILENCE_USED}[medium]
    return getattr(features, medium) is not None and not any(t.endswith(stands_in) for t in told)
