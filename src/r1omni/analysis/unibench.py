"""A table in the manner of MER-UniBench, over those of its sets that predictions have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from r1omni.metrics.open_vocabulary import open_vocabulary_of
from r1omni.metrics.predictions import Answers
from r1omni.text.wheels import Wheel

# The nine sets of MER-UniBench (AffectGPT, arXiv 2501.16566), by what it measures on each.
_HIT_RATE = ("mer2023", "mer2024", "meld", "iemocap")
_SENTIMENT = ("cmu-mosi", "cmu-mosei", "ch-sims", "ch-sims v2")
_OPEN = "ov-merd+"


def unibench(
    answers: Sequence[Answers], wheels: Mapping[str, Wheel], source: str
) -> dict[str, Any]:
    """What MER-UniBench measures on each set, of answers to the clips as they are.

    The hit rate where a clip has one of a few classes, F1 on wheels of emotions where it has free
    words. Sets of sentiment, which it measures by a weighted accuracy, have no loader here.

    Returns:
        `unibench`: `figures`, set -> what is measured with its value and n; their `mean`; the sets
        of the benchmark that are `missing`; `source` of the wheels.
    """
    figures: dict[str, Any] = {}
    for one in answers:
        if one.condition != "full":
            continue
        has_words = any(record.get("open_labels") for record in one.records)
        result = open_vocabulary_of(one.records, wheels, source, closed=not has_words)
        if result is not None:
            what = "f1" if has_words else "hit_rate"
            figures[one.name] = {"n": result.n, "measure": what, "value": getattr(result, what)}
    values = [entry["value"] for entry in figures.values()]
    missing = [name for name in _HIT_RATE if name not in figures]
    if not any(entry["measure"] == "f1" for entry in figures.values()):
        missing.append(_OPEN)
    return {
        "unibench": {
            "figures": figures,
            "mean": sum(values) / len(values) if values else None,
            "missing": [*missing, *_SENTIMENT],
            "source": source,
        }
    }


def unibench_text(found: Mapping[str, Any]) -> str:
    """The table as lines, in percent."""
    lines = [f"in the manner of MER-UniBench, wheels: {found['source']}"]
    for name, entry in found["figures"].items():
        measure = "EW F1" if entry["measure"] == "f1" else "hit rate"
        lines.append(f"{name:20s}{entry['n']:>8d}{measure:>12s}{entry['value']:>8.1%}")
    if found["mean"] is not None:
        lines.append(f"{'mean of these':20s}{'':20s}{found['mean']:>8.1%}")
    lines.append(f"of its sets these are not here: {', '.join(found['missing'])}")
    return "\n".join(lines)
