"""Answers that sampled completions vote on, beside those of the most probable tokens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from r1omni.metrics.comparison import compare
from r1omni.metrics.recognition import evaluate_recognition
from r1omni.metrics.resampling import Record, groups_of
from r1omni.text.emotions import LABEL_SETS
from r1omni.types import UsageError


def tally(votes: Sequence[str | None], labels: Collection[str]) -> str | None:
    """The class that most votes name; of several, the one that was named first.

    Args:
        votes: in their order; what is no class of the set, or None, is no vote.
        labels: classes of the label set.

    Returns:
        None where no vote names a class.
    """
    counts = Counter(vote for vote in votes if vote in labels)
    return max(counts, key=lambda name: counts[name]) if counts else None


def voted(
    records: Mapping[str, Mapping[str, Sequence[Record]]], label_sets: Mapping[str, str]
) -> dict[str, dict[str, dict[str, Any]]]:
    """`vote_figures` of every set and condition that was voted on.

    Args:
        records: by test set, then by condition.
        label_sets: name of the label set of each test set.

    Raises:
        UsageError: naming set and condition, as `vote_figures`.
    """
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for name, conditions in records.items():
        for condition, rows in conditions.items():
            try:
                figures = vote_figures(rows, LABEL_SETS[label_sets[name]].labels)
            except UsageError as error:
                raise UsageError(f"{name}, {condition}: {error}") from error
            if figures is not None:
                found.setdefault(name, {})[condition] = figures
    return found


def vote_figures(records: Sequence[Record], labels: tuple[str, ...]) -> dict[str, Any] | None:
    """What voting gains over the answer of the most probable tokens, and how much more is written.

    Args:
        records: of `predictions/<set>.<condition>.jsonl`; those without a label are left out.
        labels: classes of the label set.

    Returns:
        None where none was voted on; else, as JSON knows it,
        samples: votes a clip;
        war, uar, war_interval, uar_interval: of the voted answers;
        votes_minus_greedy: the paired difference (`Comparison`) on the same clips;
        by_samples: WAR and UAR of the first 1, 2, ... votes alone;
        agreement: mean share of a clip's votes that name the voted class;
        unreadable: share of votes that name no class of the set;
        ties: share of clips where several classes had most votes;
        tokens: written for the answers and for the votes, end tokens included, and their ratio.

    Raises:
        UsageError: clips with votes and without, or of different numbers.
    """
    known = [r for r in records if r["label"] is not None]
    if not any(r.get("votes") for r in known):
        return None
    numbers = {len(r.get("votes", ())) for r in known}
    if len(numbers) != 1:
        raise UsageError(
            f"votes: clips of one set have {', '.join(map(str, sorted(numbers)))} of them; score "
            "answers with as many votes each"
        )
    [samples] = numbers
    votes = [r["votes"] for r in known]
    references, groups = [r["label"] for r in known], groups_of(known)
    by_samples = []
    for number in range(1, samples + 1):
        first = [tally(own[:number], labels) for own in votes]
        result = evaluate_recognition(
            first, references, labels, None, [True] * len(known), groups,
            num_bootstrap=1000 if number == samples else 0,
        )  # fmt: skip
        by_samples.append({"samples": number, "war": result.war, "uar": result.uar})
    counts = [Counter(vote for vote in own if vote in labels) for own in votes]
    most = [max(own.values(), default=0) for own in counts]
    greedy = [r["prediction"] for r in known]
    keys = ("war", "uar", "war_interval", "uar_interval")
    return {
        "samples": samples,
        **{key: getattr(result, key) for key in keys},
        "votes_minus_greedy": asdict(compare(greedy, first, references, groups)),
        "by_samples": by_samples,
        "agreement": sum(most) / (samples * len(known)),
        "unreadable": 1 - sum(map(Counter.total, counts)) / (samples * len(known)),
        "ties": sum(
            top > 0 and list(own.values()).count(top) > 1
            for own, top in zip(counts, most, strict=True)
        )
        / len(known),
        "tokens": _cost(known, "num_tokens", "votes_num_tokens"),
    }


def _cost(records: Sequence[Record], answer: str, votes: str) -> dict[str, Any] | None:
    """Sums of two columns and their ratio; None where a record lacks one."""
    if any(answer not in r or votes not in r for r in records):
        return None
    return cost_of(sum(r[answer] for r in records), sum(r[votes] for r in records))


def cost_of(greedy: float, votes: float) -> dict[str, Any]:
    """What answers and votes took, and the ratio; None where the answers took nothing."""
    return {"greedy": greedy, "votes": votes, "ratio": votes / greedy if greedy else None}


def voting_figures(figures: Mapping[str, Any]) -> dict[str, float]:
    """The main ones of `vote_figures`, by flat names."""
    return {
        "voted_war": figures["war"],
        "voted_uar": figures["uar"],
        "votes_minus_greedy": figures["votes_minus_greedy"]["war_difference"],
    }
