"""How well emotions are recognised: WAR, UAR, their intervals, and reading of answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from r1omni.metrics.resampling import Interval, interval, resampled_war_uar
from r1omni.text.answers import read_answer
from r1omni.text.emotions import LabelSet
from r1omni.types import UsageError

OTHER = "other"


@dataclass(frozen=True)
class Prediction:
    """What a completion says.

    Attributes:
        label: class of the label set, or None when the answer is unreadable or outside it.
        answered: whether the answer is an emotion word of the taxonomy.
        format_ok: whether the completion has exactly the answer format and has ended.
        reasoning: text inside `<think>` of a well-formed completion, else "".
    """

    label: str | None
    answered: bool
    format_ok: bool
    reasoning: str


def read_prediction(text: str, label_set: LabelSet, ended: bool = True) -> Prediction:
    """The class of a label set that a completion answers, read as `read_answer` reads.

    Args:
        text: a completion without its end token.
        label_set: the classes.
        ended: whether an end token closed the completion.
    """
    answer = read_answer(text, ended)
    return Prediction(
        label=label_set.parse(answer.word),
        answered=label_set.counted(answer.word) is not None,
        format_ok=answer.format_ok,
        reasoning=answer.reasoning,
    )


@dataclass(frozen=True)
class RecognitionResult:
    """Recognition on one test set. Shares lie between 0 and 1.

    Attributes:
        n: clips.
        war: weighted average recall, the share of clips that are right.
        uar: unweighted average recall, the mean over the classes present in the references.
        weighted_f1: F1 of the classes, weighted by their clips in the references.
        macro_f1: mean F1 over the classes; one that is neither a reference nor answered has 0.
        war_interval: 95% bootstrap interval (low, high), or None for fewer than two units.
        uar_interval: the same for `uar`.
        per_class_recall: by class; None for a class absent from the references.
        confusion: counts; rows are the references, columns the predictions and, last, "other"
            for answers that are unreadable or out of the set.
        predicted_labels: number of predictions by class, and "other".
        parse_rate: share of answers that are an emotion word of the taxonomy.
        out_of_set_rate: share of answers that are an emotion word but no class of the set.
        format_ok: format accuracy, the share of completions in the answer format; None where no
            completions are known.
        labels: the classes, in the order of `confusion`.
    """

    n: int
    war: float
    uar: float
    weighted_f1: float
    macro_f1: float
    war_interval: Interval | None
    uar_interval: Interval | None
    per_class_recall: dict[str, float | None]
    confusion: tuple[tuple[int, ...], ...]
    predicted_labels: dict[str, int]
    parse_rate: float
    out_of_set_rate: float
    format_ok: float | None
    labels: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The result as what JSON knows: dictionaries, lists, numbers, None."""
        plain = asdict(self)
        for key in ("labels", "war_interval", "uar_interval"):
            plain[key] = None if plain[key] is None else list(plain[key])
        plain["confusion"] = [list(row) for row in self.confusion]
        return plain


def evaluate_recognition(
    predictions: Sequence[str | None],
    references: Sequence[str],
    labels: tuple[str, ...],
    format_ok: Sequence[bool] | None,
    answered: Sequence[bool],
    groups: Sequence[str] | None = None,
    num_bootstrap: int = 1000,
    seed: int = 0,
) -> RecognitionResult:
    """Compare predictions with references; nothing is dropped, None is wrong.

    Args:
        predictions: n classes; None for an answer that is unreadable or out of the set.
        references: n classes.
        labels: the classes.
        format_ok: n, whether a completion has the answer format; None where none is known.
        answered: n, whether the answer is an emotion word of the taxonomy.
        groups: n units of resampling (actors, speakers), or None for the clip itself.
        num_bootstrap: resamples; 0 for no intervals.
        seed: of the resampling.

    Raises:
        UsageError: no clip, lists of different lengths, or a class that is not in `labels`.
    """
    columns = {"predictions": predictions, "format_ok": format_ok, "answered": answered}
    _check_lengths(len(references), {**columns, "groups": groups})
    target = encode_labels(references, labels, "reference")
    predicted = encode_labels(predictions, labels, "prediction")
    silent = [p is not None and not a for p, a in zip(predictions, answered, strict=True)]
    if any(silent):
        raise UsageError(f"prediction {silent.index(True)} has a class but counts as unanswered")
    num_columns = len(labels) + 1
    # Shares are quotients of counts: as tensors of float32 they would be written with their noise.
    # Rows are the references. By torch alone: torchmetrics takes seconds to import.
    cells = torch.bincount(target * num_columns + predicted, minlength=num_columns**2)
    confusion = cells.view(num_columns, num_columns)[:-1].tolist()
    recalls = {
        label: Fraction(row[i], sum(row))
        for i, (label, row) in enumerate(zip(labels, confusion, strict=True))
        if any(row)
    }
    resamples = resampled_war_uar(
        (predicted == target).numpy(), target.numpy(), len(labels), groups, num_bootstrap, seed
    )
    n = len(references)
    f1 = _f1(confusion)
    return RecognitionResult(
        n=n,
        war=sum(row[i] for i, row in enumerate(confusion)) / n,
        uar=float(sum(recalls.values()) / len(recalls)),
        weighted_f1=float(sum(f * sum(row) for f, row in zip(f1, confusion, strict=True)) / n),
        macro_f1=float(sum(f1) / len(f1)),
        war_interval=None if resamples is None else interval(resamples[0]),
        uar_interval=None if resamples is None else interval(resamples[1]),
        per_class_recall={
            label: float(recalls[label]) if label in recalls else None for label in labels
        },
        confusion=tuple(tuple(row) for row in confusion),
        predicted_labels=dict(
            zip((*labels, OTHER), map(sum, zip(*confusion, strict=True)), strict=True)
        ),
        parse_rate=sum(answered) / n,
        out_of_set_rate=sum(a and p is None for p, a in zip(predictions, answered, strict=True))
        / n,
        format_ok=None if format_ok is None else sum(format_ok) / n,
        labels=tuple(labels),
    )


def _f1(confusion: Sequence[Sequence[int]]) -> list[Fraction]:
    """F1 of each class: 2 hits / (references + answers)."""
    answered = list(map(sum, zip(*confusion, strict=True)))
    sums = [sum(row) + answered[i] for i, row in enumerate(confusion)]
    return [Fraction(2 * confusion[i][i], total or 1) for i, total in enumerate(sums)]


def encode_labels(values: Sequence[str | None], labels: Sequence[str], what: str) -> Tensor:
    """long [n]: the index of each class, `len(labels)` for the None of a prediction.

    Raises:
        UsageError: a class that is not in `labels`.
    """
    index: dict[str | None, int] = {label: i for i, label in enumerate(labels)}
    if what == "prediction":
        index[None] = len(labels)
    for value in values:
        if value not in index:
            raise UsageError(f"{what} {value!r} is no class; expected one of {', '.join(labels)}")
    return torch.tensor([index[value] for value in values], dtype=torch.long)


def _check_lengths(n: int, columns: dict[str, Any]) -> None:
    if n == 0:
        raise UsageError("there is no reference label; recognition needs at least one clip")
    for name, values in columns.items():
        if values is not None and len(values) != n:
            raise UsageError(f"{name} has {len(values)} entries for {n} references")
