"""Folds: which speakers a split has, so that nobody is both trained and tested on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from r1omni.types import SEXES, Sex, UsageError

# Splits that folds of speakers have.
FOLD_SPLITS = ("train", "val", "test")


def check_fold(dataset: str, fold: int, number: int) -> None:
    """Raise UsageError unless 1 <= fold <= number."""
    if not isinstance(fold, int) or not 1 <= fold <= number:
        raise UsageError(f"{dataset}: fold {fold!r} does not exist; use 1 to {number}")


def check_folds(
    dataset: str,
    split: str,
    folds: int | None,
    fold: int | None,
    hold_out_val: bool,
    published: int | None = None,
) -> None:
    """Refuse options of folds that contradict, or that would do nothing.

    Args:
        dataset: for messages.
        split: train, val, test or all.
        folds: how many, made of the speakers that are there; None for none or the published ones.
        fold: whose speakers are the test split, from 1.
        hold_out_val: whether the next fold's speakers are the split val, and no part of train.
        published: number of folds that `fold` alone means, or None where there are none.

    Raises:
        UsageError: naming the option and what to do.
    """
    if folds is not None and (folds < 2 or fold is None):
        raise UsageError(
            f"{dataset}: folds is {folds} and fold is {fold}; give folds from 2, and with fold, "
            "from 1, whose speakers are tested"
        )
    number = published if folds is None else folds
    if fold is None:
        if hold_out_val:
            raise UsageError(
                f"{dataset}: hold_out_val is {hold_out_val}, but has an effect only with fold; "
                "leave it out, or give fold"
            )
    elif number is None:
        raise UsageError(f"{dataset}: fold is {fold}, of how many? Give folds, too")
    else:
        check_fold(dataset, fold, number)
        if hold_out_val and number < 3:
            raise UsageError(
                f"{dataset}: hold_out_val leaves nobody to train on with folds {number}; give "
                "folds from 3"
            )
    if split == "val" and not hold_out_val:
        raise UsageError(
            f"{dataset}: split val is the fold after the tested one; give fold and "
            "hold_out_val: true, here and where the split train is named"
        )
    if split == "all" and fold is not None:
        raise UsageError(
            f"{dataset}: split all has every speaker; leave folds, fold and hold_out_val out, or "
            f"use split {', '.join(FOLD_SPLITS)}"
        )


@dataclass(frozen=True)
class Division:
    """Whose recordings are in a split of a set without published splits, by a loader's options.

    Attributes:
        dataset: for messages.
        split: train, val, test or all; train is what folds leave.
        folds, fold, hold_out_val: as in `check_folds`.

    Raises:
        UsageError: an unknown split, options of folds that contradict, or train without folds.
    """

    dataset: str
    split: str
    folds: int | None
    fold: int | None
    hold_out_val: bool

    def __post_init__(self) -> None:
        if self.split not in (known := (*FOLD_SPLITS, "all")):
            raise UsageError(
                f"{self.dataset} has no split {self.split!r}; use one of {', '.join(known)}"
            )
        check_folds(self.dataset, self.split, self.folds, self.fold, self.hold_out_val)
        if self.split == "train" and self.folds is None:
            raise UsageError(
                f"{self.dataset} has no published train split; give the options folds and fold, or "
                "use split test or all"
            )

    def chosen(self, told: Sequence[tuple[str, Sex | None]], root: Path) -> frozenset[str]:
        """The speakers of the split: those of its folds, or everybody where there are none.

        Args:
            told: name and sex, once for each recording.
            root: for messages.

        Raises:
            UsageError: fewer speakers than folds.
        """
        if self.folds is None or self.fold is None:
            return frozenset(name for name, _ in told)
        made = speaker_folds(told, self.folds, str(root))
        return speakers_of_split(made, self.split, self.fold, self.hold_out_val)


def speaker_folds(
    speakers: Iterable[tuple[str, Sex | None]], folds: int, place: str
) -> tuple[frozenset[str], ...]:
    """Speakers in disjoint folds, as like each other as this goes; the same ones every time.

    First the speakers of one sex, then those of the other, then those of whom that is not known:
    from the one with most recordings on, each joins the fold that has fewest recordings of that
    sex, and among equal ones the fold that has fewest at all (longest-processing-time rule of
    Graham 1969, within each sex).

    Args:
        speakers: name and sex, once for each recording, in any order.
        folds: how many, from 2.
        place: the folder or file, for messages.

    Raises:
        UsageError: fewer speakers than folds, or one speaker with both sexes.
    """
    told = list(speakers)
    counts = Counter(name for name, _ in told)
    sexes: dict[str, Sex] = {}
    for name, sex in told:
        if sex is not None and sexes.setdefault(name, sex) != sex:
            raise UsageError(
                f"{place}: the speaker {name} is {sexes[name]} in one place and {sex} in another; "
                "correct it"
            )
    if len(counts) < folds:
        raise UsageError(
            f"{place}: has {len(counts)} speakers ({', '.join(sorted(counts))}), too few for "
            f"folds {folds}; give fewer folds"
        )
    members: list[set[str]] = [set() for _ in range(folds)]
    totals = [0] * folds
    for sex in (*SEXES, None):
        alike = [0] * folds
        names = [name for name in counts if sexes.get(name) == sex]
        for name in sorted(names, key=lambda name: (-counts[name], name)):
            chosen = min(range(folds), key=lambda k: (alike[k], totals[k], k))
            members[chosen].add(name)
            alike[chosen] += counts[name]
            totals[chosen] += counts[name]
    return tuple(map(frozenset, members))


def speakers_of_split(
    folds: Sequence[frozenset[str]], split: str, fold: int, hold_out_val: bool
) -> frozenset[str]:
    """Who is in a split: the fold's speakers in test, those of the next one in val.

    Train has everybody else. The fold after the last is the first. Without `hold_out_val` the next
    fold is trained on, and there is no split val.

    Args:
        folds: speakers of each.
        split: train, val or test.
        fold: from 1.
        hold_out_val: whether val is left out of train.
    """
    test, val = folds[fold - 1], folds[fold % len(folds)]
    if split != "train":
        return test if split == "test" else val
    return frozenset().union(*folds) - test - (val if hold_out_val else frozenset())
