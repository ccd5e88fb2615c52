"""What is done to the media of a test set: one is taken away, exchanged or put out of order."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from r1omni.streams import permutation, stream_seed
from r1omni.types import Clip, Sample, UsageError


@dataclass(frozen=True)
class EvaluationSet:
    """One row of a results table: samples of one test set under one condition.

    Attributes:
        name: the set's name in results.
        label_set: name of the label set in force.
        condition: a `Condition`.
    """

    name: str
    label_set: str
    condition: str


def frame_order(num_frames: int, seed: int, sample_id: str) -> list[int]:
    """An order of frames that is not their own, fixed by seed and sample; a single frame stays."""
    order = permutation(num_frames, "shuffled", seed, sample_id)
    return order if order != list(range(num_frames)) else [*order[1:], *order[:1]]


def sound_donors(
    samples: Sequence[Sample], seed: int, silent: Collection[Clip] = ()
) -> list[Sample | None]:
    """For each sample the one whose sound takes the place of its own.

    It is drawn among the samples of the set that have another label, another clip and a sound. The
    draw depends on the seed, the sample's id and the set as a whole, not on the set's order.

    Args:
        samples: all of a test set.
        seed: of the draws.
        silent: clips without a sound of their own.

    Returns:
        as many; None for a sample that is given no sound, and keeps what it has.

    Raises:
        UsageError: a sample has no label, or no other sample can lend it a sound.
    """
    lenders = sorted(
        (s for s in samples if "audio" in s.modality and s.label and s.clip not in silent),
        key=lambda s: s.sample_id,
    )
    by_label: dict[str, list[Sample]] = {}
    donors: list[Sample | None] = []
    for sample in samples:
        if "audio" not in sample.modality:
            donors.append(None)
            continue
        if sample.label is None:
            raise UsageError(
                f"data.conditions: {sample.sample_id} has no label, so there is no sound of "
                "another label to swap in; leave swapped out, or test on labelled samples only"
            )
        if sample.label not in by_label:
            by_label[sample.label] = [s for s in lenders if s.label != sample.label]
        others = by_label[sample.label]
        start = stream_seed("swapped", seed, sample.sample_id) % max(len(others), 1)
        donor = next((s for s in (*others[start:], *others[:start]) if s.clip != sample.clip), None)
        if donor is None:
            raise UsageError(
                f"data.conditions: no clip of the test set of {sample.sample_id} has a sound and "
                f"another label than {sample.label!r} to swap in; leave swapped out, or test on "
                "samples of several labels"
            )
        donors.append(donor)
    return donors
