"""Accuracy in which every class of the training data weighs the same."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from r1omni.rewards.accuracy import accuracy
from r1omni.rewards.registry import register
from r1omni.text.emotions import EVERY_CLASS
from r1omni.types import UsageError


def _check(options: Mapping[str, Any], columns: Collection[str]) -> None:
    if "class_counts" in options:
        class_weights(options["class_counts"])


@register("balanced_accuracy", check=_check, needs_labels=True)
def balanced_accuracy(
    completions: list[str],
    labels: list[str | None],
    *,
    class_counts: dict[str, int],
    label_set: list[str | None] | None = None,
    ended: list[bool] | None = None,
    **columns: list[Any],
) -> list[float | None]:
    """`accuracy` times the weight of the label's class; None without a label.

    The weight of class c among K classes with n_c clips each is

        sum(n) / (K n_c)

    ("balanced" class weights, King & Zeng, Political Analysis 9, 2001): its mean over the data
    set is 1, and each class adds the same to the sum over the data set. The range is 0 to the
    weight of the rarest class.

    All completions of a group have the same label, so their weight cancels wherever a group's
    rewards are divided by their own standard deviation: with `scale_rewards: group` or
    `aggregation: normalize_then_sum` this reward alone acts like `accuracy`, and beside others it
    only shifts their shares. Use it with `scale_rewards: none` or `batch`.

    Args:
        completions: completions of the policy.
        labels: class names; None for a clip without one.
        class_counts: option; number of training clips by class, in any of its names.
        label_set, ended: as for `accuracy`.
        columns: ignored.

    Raises:
        UsageError: counts that are none, a label that is not among them, and as `accuracy`.
    """
    weights = class_weights(class_counts)
    earned = accuracy(completions, labels, label_set=label_set, ended=ended)
    return [
        None if value is None or label is None else value * _weight(label, weights)
        for value, label in zip(earned, labels, strict=True)
    ]


def class_weights(class_counts: Mapping[str, int]) -> dict[str, float]:
    """Canonical emotion -> sum(n) / (K n_c).

    Raises:
        UsageError: a name outside the taxonomy, one class under two names, or a count that is
            no positive whole number.
    """
    if not isinstance(class_counts, Mapping) or not class_counts:
        raise UsageError(f"class_counts is {class_counts!r}; expected the number of each class")
    counts: dict[str, int] = {}
    for name, count in class_counts.items():
        emotion = EVERY_CLASS.counted(str(name))
        if emotion is None or emotion in counts:
            reason = "names no emotion" if emotion is None else f"names {emotion!r} a second time"
            raise UsageError(f"class_counts: {name!r} {reason}")
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            raise UsageError(f"class_counts: {name!r} has {count!r} clips; expected 1 or more")
        counts[emotion] = count
    total = sum(counts.values())
    return {emotion: total / (len(counts) * count) for emotion, count in counts.items()}


def _weight(label: str, weights: Mapping[str, float]) -> float:
    emotion = EVERY_CLASS.counted(label)
    if emotion is None or emotion not in weights:
        raise UsageError(f"label {label!r} is not in class_counts; add how many clips it has")
    return weights[emotion]
