"""Whether explanations support their answers, and whether what they describe is there.

Everything is computed from records, plain dictionaries as `predictions/*.jsonl` holds them, so it
can be computed again without a model. `explanation_fields` makes what one answer adds to its
record, `evaluate_explanations` the figures of many. Formulas and limits: docs/explanations.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from r1omni.metrics.resampling import Interval, groups_of, interval, resampled_ratios
from r1omni.text.answers import read_answer
from r1omni.text.cues import MEDIA, Cue, CueTruth, NamedCues, cue_truth, read_cues
from r1omni.text.emotions import LabelSet
from r1omni.text.reasoning import told_media, verdict
from r1omni.types import TAKEN_AWAY, UsageError

VERDICTS = ("supported", "contradicted", "silent")
# By condition, the medium whose cues the clip no longer shows.
_ALTERED: Mapping[str, str] = {**TAKEN_AWAY, "swapped": "audio"}


def explanation_fields(
    text: str,
    label_set: LabelSet,
    ended: bool = True,
    known: NamedCues | None = None,
    condition: str = "full",
) -> dict[str, Any]:
    """What the explanation of one completion says, as JSON knows it.

    Args:
        text: a completion without its end token. Only a well-formed one has a reasoning.
        label_set: the classes; emotions that it merges count as one.
        ended: whether an end token closed the completion.
        known: the cues of the clip, states of rest included, where they are known.
        condition: under which the clip was shown; a medium that it replaces has no cue truth.

    Returns:
        verdict: "supported", "contradicted" or "silent";
        described_media: which of "video" and "audio" the reasoning describes;
        named_cues: medium -> [attribute, value] pairs that it names;
        cue_truth: medium -> {hits, named, there}, or None where the cues are not known.
    """
    answer = read_answer(text, ended)
    return reasoning_fields(
        answer.reasoning, label_set.counted(answer.word), label_set, known, condition
    )


def reasoning_fields(
    reasoning: str,
    emotion: str | None,
    label_set: LabelSet,
    known: NamedCues | None = None,
    condition: str = "full",
) -> dict[str, Any]:
    """`explanation_fields` of a reasoning ("" for none) and the emotion that was answered."""
    named = read_cues(reasoning)
    truth = None
    if known is not None:
        shown = [m for m in MEDIA if m != _ALTERED.get(condition) and known.of(m)]
        truth = {m: asdict(cue_truth(named.of(m), known.of(m))) for m in shown}
    return {
        "verdict": verdict(reasoning, emotion, label_set),
        "described_media": sorted(told_media(reasoning, named)),
        "named_cues": cues_as_json(named),
        "cue_truth": truth,
    }


def cues_as_json(cues: NamedCues) -> dict[str, list[list[str]]]:
    """Cues as medium -> sorted [attribute, value] pairs."""
    return {m: sorted([c.attribute, c.value] for c in cues.of(m)) for m in MEDIA}


def cues_from_json(cues: Mapping[str, Iterable[Sequence[str]]]) -> NamedCues:
    """What `cues_as_json` wrote."""
    return NamedCues.collect(Cue(m, *pair) for m, pairs in cues.items() for pair in pairs)


@dataclass(frozen=True)
class CueScore:
    """Cue truth of one medium over the answers to clips whose cues are known, summed over them.

    Attributes:
        n: answers to such clips.
        hits, named, there: sums of `CueTruth`.
        precision, recall, f1: of the sums; None where nothing is named, or nothing is there.
        intervals: 95% bootstrap interval of each, or None.
    """

    n: int
    hits: int
    named: int
    there: int
    precision: float | None
    recall: float | None
    f1: float | None
    intervals: dict[str, Interval | None]


@dataclass(frozen=True)
class Invented:
    """What answers say about a medium that was taken away.

    Attributes:
        medium: "audio" or "video".
        share: of the answers, those that describe it.
        num_cues: cues of it that an answer names, on average over all answers.
        intervals: 95% bootstrap interval of each, or None.
    """

    medium: str
    share: float
    num_cues: float
    intervals: dict[str, Interval | None]


@dataclass(frozen=True)
class ExplanationResult:
    """Explanations on one test set under one condition. Shares lie between 0 and 1.

    Attributes:
        n: clips.
        num_right: clips that are answered right.
        supported, contradicted, silent: shares of all answers by verdict; they sum to 1.
        right_and_supported: share of all answers that are right for the right reason.
        among_right: the three shares among the right answers; None where there is none.
        intervals: 95% bootstrap interval of each figure, those among right answers with the suffix
            "_among_right"; None for fewer than two units.
        per_class: class -> n, the three shares and `right_and_supported`, of its clips.
        cues: medium -> truth of its cues; without the media whose cues are nowhere known.
        invented: of the medium that the condition took away, or None.
    """

    n: int
    num_right: int
    supported: float
    contradicted: float
    silent: float
    right_and_supported: float
    among_right: dict[str, float | None]
    intervals: dict[str, Interval | None]
    per_class: dict[str, dict[str, Any] | None]
    cues: dict[str, CueScore]
    invented: Invented | None

    def to_dict(self) -> dict[str, Any]:
        """The result as what JSON knows: dictionaries, lists, numbers, None."""
        plain: dict[str, Any] = _plain(asdict(self))
        return plain

    def figures(self) -> dict[str, float]:
        """The main figures under flat names; those that cannot be computed are left out."""
        found: dict[str, float | None] = {
            name: getattr(self, name) for name in (*VERDICTS, "right_and_supported")
        }
        found["contradicted_among_right"] = self.among_right["contradicted"]
        for medium, score in self.cues.items():
            for name in ("precision", "recall", "f1"):
                found[f"cue_{name}_{medium}"] = getattr(score, name)
        if self.invented is not None:
            found["invented"] = self.invented.share
            found["invented_cues"] = self.invented.num_cues
        return {name: value for name, value in found.items() if value is not None}


def evaluate_explanations(
    records: Sequence[Mapping[str, Any]],
    labels: Sequence[str],
    condition: str = "full",
    num_bootstrap: int = 1000,
    seed: int = 0,
) -> ExplanationResult:
    """The figures of a test set under one condition.

    Args:
        records: labelled records with `label`, `prediction`, `group` and what
            `explanation_fields` adds. Where every one has a group, groups are resampled.
        labels: the classes.
        condition: "muted" and "blanked" take a medium away.
        num_bootstrap: resamples; 0 for no intervals.
        seed: of the resampling.

    Raises:
        UsageError: no record.
    """
    if not records:
        raise UsageError("there is no labelled answer; explanations need at least one")
    n = len(records)
    groups = groups_of(records)
    ratios = _Ratios(groups, num_bootstrap, seed)
    everyone = np.ones(n)
    right = _column(r["prediction"] == r["label"] for r in records)
    verdicts = {name: _column(r["verdict"] == name for r in records) for name in VERDICTS}
    for name, column in verdicts.items():
        ratios.add(name, column, everyone)
        ratios.add(f"{name}_among_right", column * right, right)
    ratios.add("right_and_supported", verdicts["supported"] * right, everyone)
    shares, intervals = ratios.values(), ratios.intervals()
    of_class = {label: _column(r["label"] == label for r in records) for label in labels}
    return ExplanationResult(
        n=n,
        num_right=int(right.sum()),
        **{name: float(shares[name] or 0.0) for name in (*VERDICTS, "right_and_supported")},
        among_right={name: shares[f"{name}_among_right"] for name in VERDICTS},
        intervals=intervals,
        per_class={
            label: _class_shares(members, verdicts, right) for label, members in of_class.items()
        },
        cues=_cue_scores(records, groups, num_bootstrap, seed),
        invented=_invented(records, condition, groups, num_bootstrap, seed),
    )


class _Ratios:
    """Named quotients of sums, with their intervals from the same resamples."""

    def __init__(self, groups: Sequence[str] | None, num_bootstrap: int, seed: int) -> None:
        self._resampling = (groups, num_bootstrap, seed)
        self._terms: dict[str, tuple[Any, Any]] = {}

    def add(self, name: str, numerator: Any, denominator: Any) -> None:
        """A quotient, by what each of n answers adds to its two sums."""
        self._terms[name] = (numerator, denominator)

    def values(self) -> dict[str, float | None]:
        """The quotients; None where the lower sum is 0."""
        return {
            name: float(above.sum() / below.sum()) if below.sum() else None
            for name, (above, below) in self._terms.items()
        }

    def intervals(self) -> dict[str, Interval | None]:
        """The central 95% of each, over the resamples that have one."""
        above, below = (np.stack(list(side)) for side in zip(*self._terms.values(), strict=True))
        drawn = resampled_ratios(above, below, *self._resampling)
        if drawn is None:
            return dict.fromkeys(self._terms)
        return {
            name: interval(row[~np.isnan(row)]) if (~np.isnan(row)).any() else None
            for name, row in zip(self._terms, drawn, strict=True)
        }


def _column(values: Iterable[float]) -> Any:
    """float64 [n]."""
    return np.fromiter(values, dtype=np.float64)


def _class_shares(members: Any, verdicts: Mapping[str, Any], right: Any) -> dict[str, Any] | None:
    n = members.sum()
    if not n:
        return None
    shares = {name: float((column * members).sum() / n) for name, column in verdicts.items()}
    both = float((verdicts["supported"] * right * members).sum() / n)
    return {"n": int(n), **shares, "right_and_supported": both}


def _cue_scores(
    records: Sequence[Mapping[str, Any]],
    groups: Sequence[str] | None,
    num_bootstrap: int,
    seed: int,
) -> dict[str, CueScore]:
    scores = {}
    for medium in MEDIA:
        truths = [(record.get("cue_truth") or {}).get(medium) for record in records]
        num_known = sum(truth is not None for truth in truths)
        if not num_known:
            continue
        counts = [CueTruth(**truth) if truth else CueTruth(0, 0, 0) for truth in truths]
        hits, named, there = (
            _column(getattr(count, name) for count in counts) for name in ("hits", "named", "there")
        )
        ratios = _Ratios(groups, num_bootstrap, seed)
        ratios.add("precision", hits, named)
        ratios.add("recall", hits, there)
        ratios.add("f1", 2 * hits, named + there)
        total = CueTruth(int(hits.sum()), int(named.sum()), int(there.sum()))
        values = ratios.values()
        scores[medium] = CueScore(
            n=num_known,
            **asdict(total),
            precision=values["precision"],
            recall=values["recall"],
            f1=values["f1"],
            intervals=ratios.intervals(),
        )
    return scores


def _invented(
    records: Sequence[Mapping[str, Any]],
    condition: str,
    groups: Sequence[str] | None,
    num_bootstrap: int,
    seed: int,
) -> Invented | None:
    medium = TAKEN_AWAY.get(condition)
    if medium is None:
        return None
    ratios = _Ratios(groups, num_bootstrap, seed)
    everyone = np.ones(len(records))
    ratios.add("share", _column(medium in r["described_media"] for r in records), everyone)
    ratios.add("num_cues", _column(len(r["named_cues"][medium]) for r in records), everyone)
    values = ratios.values()
    return Invented(
        medium, float(values["share"] or 0), float(values["num_cues"] or 0), ratios.intervals()
    )


def _plain(value: Any) -> Any:
    """The value with lists for tuples."""
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, tuple) else value
