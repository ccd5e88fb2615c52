"""Answers in free words: precision, recall and F1 on wheels of emotions, hit rate, sizes of sets.

The formulas are those of OV-MER (arXiv 2410.01495) and of MER-UniBench (AffectGPT, arXiv
2501.16566), as their published code computes them; which words and wheels they are computed with is
another matter (docs/open_vocabulary.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from r1omni.metrics.resampling import Interval, groups_of, interval, resampled_ratios
from r1omni.text.answers import read_answer
from r1omni.text.wheel import list_words
from r1omni.text.wheels import SHIPPED, Wheel

_Column = NDArray[np.float64]


@dataclass(frozen=True)
class WheelScore:
    """Sets of clusters on one wheel.

    Attributes:
        n: samples whose reference has a word on this wheel; others are left out of it.
        precision, recall: means over them; 0 for an answer without a word on the wheel.
        f1: harmonic mean of the two means, 0 where both are 0.
        hit_rate: share of them with a cluster in common.
        num_answered, num_reference: clusters of an answer and of a reference, on average.
    """

    n: int
    precision: float
    recall: float
    f1: float
    hit_rate: float
    num_answered: float
    num_reference: float


@dataclass(frozen=True)
class OpenVocabularyResult:
    """Answers in free words on one set under one condition.

    Attributes:
        n: samples with reference words.
        source: where the wheels come from, "shipped" or a folder.
        precision, recall, f1, hit_rate: means over the wheels that a reference has a word on.
        intervals: 95% bootstrap interval of each, over samples or their groups; None for fewer
            than two.
        words_answered, words_reference: words of an answer and of a reference, on average; repeated
            ones count.
        unknown_answered, unknown_reference: share of these words that are on no wheel, which the
            scores do not see; None where there is no word.
        wheels: each by itself.
    """

    n: int
    source: str
    precision: float
    recall: float
    f1: float
    hit_rate: float
    intervals: dict[str, Interval | None]
    words_answered: float
    words_reference: float
    unknown_answered: float | None
    unknown_reference: float | None
    wheels: dict[str, WheelScore]

    def to_dict(self) -> dict[str, Any]:
        """The result as what JSON knows: dictionaries, lists, numbers, None."""
        plain = asdict(self)
        plain["intervals"] = {k: None if v is None else list(v) for k, v in self.intervals.items()}
        return plain


def evaluate_open_vocabulary(
    answered: Sequence[Sequence[str]],
    references: Sequence[Sequence[str]],
    wheels: Mapping[str, Wheel] = SHIPPED,
    source: str = "shipped",
    groups: Sequence[str] | None = None,
    num_bootstrap: int = 1000,
    seed: int = 0,
) -> OpenVocabularyResult | None:
    """Compare sets of free words on wheels of emotions.

    With G and P the clusters of a sample's reference and answer on a wheel, words that are on no
    wheel left out,

        precision = mean |G and P| / |P|, recall = mean |G and P| / |G|

    over the samples with a G that is not empty, where an empty P is 0 in both; F1 is the harmonic
    mean of the two means. These and the hit rate, the share of samples where G and P have a cluster
    in common, are averaged over the wheels. For a reference of one word the hit rate is that of
    MER-UniBench. A hit rate alone is best for an answer that lists everything.

    Args:
        answered: n lists of words.
        references: n lists of words.
        wheels: by name, what brings a word to its cluster.
        source: where they come from.
        groups: n units of resampling, or None for the sample itself.
        num_bootstrap: resamples; 0 for no intervals.
        seed: of the resampling.

    Returns:
        None where no reference has a word on any wheel.
    """
    columns = {
        name: found
        for name, wheel in wheels.items()
        if (found := _columns(answered, references, wheel))["known"].any()
    }
    if not columns:
        return None
    scores = {name: _score(found) for name, found in columns.items()}
    known = {name: [_is_known(words, wheels) for words in lists]
             for name, lists in (("answered", answered), ("reference", references))}  # fmt: skip
    counts = {name: np.array([len(row) for row in rows]) for name, rows in known.items()}
    unknown = {
        name: 1 - sum(map(sum, rows)) / counts[name].sum() if counts[name].sum() else None
        for name, rows in known.items()
    }
    return OpenVocabularyResult(
        n=len(references),
        source=source,
        **{
            name: float(np.mean([getattr(score, name) for score in scores.values()]))
            for name in ("precision", "recall", "f1", "hit_rate")
        },
        intervals=_intervals(list(columns.values()), groups, num_bootstrap, seed),
        words_answered=float(counts["answered"].mean()),
        words_reference=float(counts["reference"].mean()),
        unknown_answered=unknown["answered"],
        unknown_reference=unknown["reference"],
        wheels=scores,
    )


def open_vocabulary_of(
    records: Sequence[Mapping[str, Any]],
    wheels: Mapping[str, Wheel] = SHIPPED,
    source: str = "shipped",
    closed: bool = False,
) -> OpenVocabularyResult | None:
    """The scores of records of predictions that have `open_labels`.

    The words of an answer are those that stand where its answer does, with commas between them; the
    published protocol has a language model find them in a description instead.

    Args:
        records: as `predictions/*.jsonl` holds them.
        wheels, source: as for `evaluate_open_vocabulary`.
        closed: take the label of a record without `open_labels` as its one word.

    Returns:
        None where no record has words to compare with.
    """
    words = [_reference(record, closed) for record in records]
    kept = [(record, found) for record, found in zip(records, words, strict=True) if found]
    if not kept:
        return None
    return evaluate_open_vocabulary(
        [list_words(answered_word(r)) for r, _ in kept],
        [found for _, found in kept],
        wheels,
        source,
        groups_of([r for r, _ in kept]),
    )


def open_vocabulary(
    by_set: Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]],
    wheels: Mapping[str, Wheel] = SHIPPED,
    source: str = "shipped",
) -> dict[str, Any]:
    """What `results.json` holds of answers in free words: set -> condition -> figures.

    Args:
        by_set: records by set name, then by condition.
        wheels, source: as for `evaluate_open_vocabulary`.

    Returns:
        `{"open_vocabulary": ...}`, or nothing where no record has free words.
    """
    found = {
        name: {
            condition: result.to_dict()
            for condition, records in conditions.items()
            if (result := open_vocabulary_of(records, wheels, source)) is not None
        }
        for name, conditions in by_set.items()
    }
    kept = {name: conditions for name, conditions in found.items() if conditions}
    return {"open_vocabulary": kept} if kept else {}


def answered_word(record: Mapping[str, Any]) -> str:
    """What stands as the answer; "" for none. A system without completions has it in `answer`."""
    if record["text"] is None:
        return str(record["answer"] or "")
    return read_answer(record["text"], record["ended"]).word


def _reference(record: Mapping[str, Any], closed: bool) -> list[str]:
    words = record.get("open_labels")
    if words is None and closed and record["label"] is not None:
        words = [record["label"]]
    return list(words or ())


def _is_known(words: Sequence[str], wheels: Mapping[str, Wheel]) -> list[bool]:
    return [any(wheel(word) is not None for wheel in wheels.values()) for word in words]


def _columns(
    answered: Sequence[Sequence[str]], references: Sequence[Sequence[str]], wheel: Wheel
) -> dict[str, _Column]:
    """What each sample adds to the sums of one wheel, float64 [n] each."""
    rows = []
    for given, wanted in zip(answered, references, strict=True):
        shown, there = ({c for word in ws if (c := wheel(word))} for ws in (given, wanted))
        known, common = float(bool(there)), len(shown & there)
        rows.append((
            known,
            known * common / max(1, len(shown)),
            known * common / max(1, len(there)),
            known * bool(common),
            known * len(shown),
            known * len(there),
        ))  # fmt: skip
    names = ("known", "precision", "recall", "hit_rate", "num_answered", "num_reference")
    return dict(zip(names, np.array(rows, dtype=np.float64).T, strict=True))


def _score(columns: Mapping[str, _Column]) -> WheelScore:
    n = columns["known"].sum()
    means = {name: float(column.sum() / n) for name, column in columns.items() if name != "known"}
    f1 = float(_harmonic(np.array(means["precision"]), np.array(means["recall"])))
    return WheelScore(n=int(n), f1=f1, **means)


def _harmonic(one: _Column, other: _Column) -> _Column:
    total = one + other
    return np.divide(2 * one * other, total, out=np.zeros_like(total), where=total > 0)


def _intervals(
    wheels: Sequence[Mapping[str, _Column]],
    groups: Sequence[str] | None,
    num_bootstrap: int,
    seed: int,
) -> dict[str, Interval | None]:
    names = ("precision", "recall", "hit_rate")
    above = np.stack([wheel[name] for wheel in wheels for name in names])
    below = np.stack([wheel["known"] for wheel in wheels for _ in names])
    drawn = resampled_ratios(above, below, groups, num_bootstrap, seed)
    if drawn is None:
        return dict.fromkeys((*names, "f1"))
    parts = drawn.reshape(len(wheels), len(names), -1)
    by_name = {name: parts[:, index].mean(axis=0) for index, name in enumerate(names)}
    by_name["f1"] = _harmonic(parts[:, 0], parts[:, 1]).mean(axis=0)
    # A resample may miss every sample that a wheel knows.
    known = {name: values[~np.isnan(values)] for name, values in by_name.items()}
    return {name: interval(values) if len(values) else None for name, values in known.items()}
