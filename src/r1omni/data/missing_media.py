"""Training samples that explain, served once more with a medium missing."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import get_args

from r1omni.streams import stream_seed
from r1omni.text.cues import cue_spans
from r1omni.text.tags import parse_completion, render_completion
from r1omni.types import Medium, Sample, UsageError

# What ends a sentence, and the space to the next.
_SENTENCE_BREAK = re.compile(r"(?<=[.!?])\s+")


def with_missing_media(
    lists: Sequence[Sequence[Sample]], share: float, seed: int
) -> list[list[Sample]]:
    """Samples, and a share of those that explain once more with sound or picture missing.

    The copy has no `missing` medium, and its target leaves out the sentences that describe it; the
    answer stays. It teaches a model to describe what it is given, and not what it expects. Which
    samples and which medium depend on the seed and on the sample's name alone. A sample whose
    reasoning cannot be told apart (`said_without`) has no copy.

    Args:
        lists: the samples of each training set.
        share: of the samples with both media and a reasoning, 0 to 1.
        seed: of the draw.

    Raises:
        UsageError: no sample can be served so.
    """
    copies = [[_copy(sample, share, seed) for sample in samples] for samples in lists]
    found = [[copy for copy in own if copy is not None] for own in copies]
    if not any(found):
        possible = [_copy(sample, 1.0, seed) for samples in lists for sample in samples]
        if num_possible := sum(copy is not None for copy in possible):
            raise UsageError(
                f"data.missing_media {share:g}: none of {num_possible} training samples was drawn; "
                "raise it"
            )
        raise UsageError(
            f"data.missing_media {share:g}: no training sample has picture, sound and a reasoning "
            "whose sentences describe one of them each; leave it out"
        )
    return [[*samples, *own] for samples, own in zip(lists, found, strict=True)]


def _copy(sample: Sample, share: float, seed: int) -> Sample | None:
    draw = random.Random(stream_seed(seed, "missing media", sample.sample_id))
    medium = draw.choice(get_args(Medium))
    return _without(sample, medium) if draw.random() < share else None


def _without(sample: Sample, medium: Medium) -> Sample | None:
    if sample.target is None or sample.modality != "video_audio":
        return None
    parsed = parse_completion(sample.target)
    said = said_without(parsed.reasoning, medium) if parsed.format_ok else None
    if said is None:
        return None
    target = render_completion(said, parsed.answer)
    name = f"{sample.sample_id} without {medium}"
    return replace(sample, sample_id=name, target=target, missing=medium)


def said_without(text: str, medium: str) -> str | None:
    """A text without the sentences that describe one medium, or None where they cannot be told.

    A sentence that names cues of that medium and of none other is left out. One that names both
    cannot be taken apart, and a text that never describes the medium, or nothing else, is not
    told apart either.

    Args:
        text: a reasoning.
        medium: "video" or "audio".
    """
    kept, left_out = [], False
    for sentence in _SENTENCE_BREAK.split(text.strip()):
        described = {name for name, _, _ in cue_spans(sentence)}
        if medium not in described:
            kept.append(sentence)
        elif described == {medium}:
            left_out = True
        else:
            return None
    return " ".join(kept) if left_out and kept else None
