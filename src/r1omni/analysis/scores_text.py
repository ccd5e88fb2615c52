"""What `score` prints: tables of its figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from r1omni.analysis.calibrated import calibration_text
from r1omni.analysis.unibench import unibench_text
from r1omni.metrics.breakdown import SPEAKER
from r1omni.metrics.protocol import protocol_line

_COLUMNS = ("n", "WAR", "UAR", "format", "supported", "right & supported", "contradicted of right")
_OPEN_COLUMNS = ("n", "EW precision", "EW recall", "EW F1", "hit rate", "words", "of reference")
_JUDGE_COLUMNS = ("n", "judged", "malformed", "failed", "not asked", "mean grade")
_VOTE_COLUMNS = ("votes", "voted WAR", "voted UAR", "gain", "95% interval", "tokens")
_NOT_MEASURED = "-"


def scores_text(results: Mapping[str, Any]) -> str:
    """One line a set and condition, shares in percent, in a table for each kind of figure.

    Protocols, parts of sets and calibration follow; what was not measured is left out.
    """
    tables = []
    if results["sets"]:
        told = results["explanations"]
        tables.append(
            _table(_COLUMNS, results["sets"], lambda n, c, own: _cells(own, told.get(n, {}).get(c)))
        )
    if "open_vocabulary" in results:
        found = results["open_vocabulary"]
        tables.append(_table(_OPEN_COLUMNS, found, lambda n, c, own: _open_vocabulary(own)))
    if "voting" in results:
        tables.append(_table(_VOTE_COLUMNS, results["voting"], lambda n, c, own: _voted(own)))
    if "judge" in results:
        tables.append(_table(_JUDGE_COLUMNS, results["judge"], lambda n, c, own: _judged(own)))
    if "unibench" in results:
        tables.append([unibench_text(results["unibench"])])
    tables.append([f"{name}: {protocol_line(p)}" for name, p in results["protocols"].items()])
    if results["scored"]["num_missing"]:
        tables[-1].append(
            f"{results['scored']['num_missing']} clips without an answer count as wrong"
        )
    for name, conditions in results.get("breakdown", {}).items():
        if "full" in conditions:
            tables.append(_parts(name, conditions["full"], results["smallest_part"][name]["full"]))
    tables.append(calibration_text(results))
    return "\n\n".join("\n".join(lines) for lines in tables if lines)


def _table(
    columns: Sequence[str],
    sets: Mapping[str, Mapping[str, Any]],
    cells_of: Callable[[str, str, Any], Sequence[str]],
) -> list[str]:
    widths = [max(8, len(column) + 2) for column in columns]
    lines = [f"{'':20s}" + _line(columns, widths)]
    for name, conditions in sets.items():
        for condition, found in conditions.items():
            title = name if condition == "full" else f"{name}, {condition}"
            lines.append(f"{title:20s}" + _line(cells_of(name, condition, found), widths))
    return lines


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "".join(f"{cell:>{width}s}" for cell, width in zip(cells, widths, strict=True))


def _cells(result: Mapping[str, Any], told: Mapping[str, Any] | None) -> list[str]:
    shares = [result[key] for key in ("war", "uar", "format_ok")]
    if told is None:
        shares += [None] * 3
    else:
        shares += [told["supported"], told["right_and_supported"]]
        shares.append(told["among_right"]["contradicted"])
    return [str(result["n"]), *(_NOT_MEASURED if s is None else f"{s:.1%}" for s in shares)]


def _open_vocabulary(found: dict[str, Any]) -> list[str]:
    return [
        str(found["n"]),
        *(f"{found[key]:.1%}" for key in ("precision", "recall", "f1", "hit_rate")),
        *(f"{found[key]:.1f}" for key in ("words_answered", "words_reference")),
    ]


def _judged(found: dict[str, Any]) -> list[str]:
    counts = [str(found[k]) for k in ("n", "judged", "malformed", "failed", "not_applicable")]
    return [*counts, "-" if found["mean"] is None else f"{found['mean']:.3f}"]


def _voted(found: dict[str, Any]) -> list[str]:
    gain, tokens = found["votes_minus_greedy"], found["tokens"]
    ends = gain["war_interval"]
    return [
        str(found["samples"]),
        *(f"{found[key]:.1%}" for key in ("war", "uar")),
        f"{100 * gain['war_difference']:+.1f}",
        _NOT_MEASURED if ends is None else f"{100 * ends[0]:+.1f} to {100 * ends[1]:+.1f}",
        _NOT_MEASURED if tokens is None else f"{tokens['ratio']:.1f} x",
    ]


def _parts(
    name: str, fields: Mapping[str, Mapping[str, Any]], smallest: Mapping[str, Any]
) -> list[str]:
    """Recognition by part of a set, a line each; of speakers the ends."""
    lines = [f"{f'{name}, by part':36s}{'n':>8s}{'WAR':>8s}{'95% interval':>20s}{'UAR':>8s}"]
    for field, parts in fields.items():
        if field == SPEAKER:
            ends = sorted(parts, key=lambda value: parts[value]["war"])
            low, high = (f"{value} {parts[value]['war']:.1%}" for value in (ends[0], ends[-1]))
            lines.append(f"  {len(parts)} speakers: WAR from {low} to {high}")
            continue
        for value, part in parts.items():
            ends = part["war_interval"]
            between = _NOT_MEASURED if ends is None else f"{ends[0]:.1%} to {ends[1]:.1%}"
            care = f"  too small to say ({part['too_small']})" if part["too_small"] else ""
            title = f"  {field}: {value}"
            figures = f"{part['n']:>8d}{part['war']:>8.1%}{between:>20s}{part['uar']:>8.1%}"
            lines.append(f"{title:36s}{figures}{care}")
    plural = "s" * (smallest["n"] != 1)
    where = f"{smallest['field']} {smallest['value']}"
    lines.append(f"  smallest part: {where}, {smallest['n']} clip{plural}")
    return lines
