"""What each model takes from the picture and from the sound."""

from __future__ import annotations

from html import escape

from r1omni.analysis.differences import CONDITION_NAMES
from r1omni.analysis.markup import paragraph, percent, row, scrollable, section, small
from r1omni.analysis.runs import EvaluatedRun, TestSet, find_subject, set_names, set_title
from r1omni.analysis.table import NOT_MEASURED, Ceiling


def conditions_section(runs: list[EvaluatedRun], ceiling: Ceiling) -> str:
    """WAR and UAR with both media, the picture alone and the sound alone."""
    names = set_names(runs)
    conditions = ("full", *CONDITION_NAMES)
    if not any(
        c in s.conditions for run in runs for s in run.sets.values() for c in CONDITION_NAMES
    ):
        return section(
            "media",
            "Picture alone, sound alone",
            paragraph("No run was tested under the conditions muted and blanked.", "gap"),
        )
    heads = "".join(
        f'<th scope="colgroup" colspan="3">{escape(set_title(name))}</th>' for name in names
    )
    columns = "".join(
        f'<th scope="col">{title}</th>' for title in ("both", "picture", "sound")
    ) * len(names)
    rows = [
        row(
            run.model,
            [_condition_cell(run.sets.get(name), c) for name in names for c in conditions],
            "subject" if run is find_subject(runs) else "",
        )
        for run in runs
    ]
    if ceiling:
        keys = ("video_audio", "video", "audio")
        values = [ceiling.get(name, {}).get(key) for name in names for key in keys]
        cells = [NOT_MEASURED if value is None else percent(value) for value in values]
        rows.append(row("Ceiling of the mini-world", cells, "quiet"))
    return section(
        "media",
        "Picture alone, sound alone",
        scrollable(
            '<table class="figures"><caption class="hidden">WAR by medium</caption><thead><tr>'
            f'<th scope="col" rowspan="2">Model</th>{heads}</tr><tr>{columns}</tr></thead>'
            f"<tbody>{''.join(rows)}</tbody></table>",
            "WAR with both media, the picture alone and the sound alone",
        ),
        paragraph(
            "WAR in percent, UAR in small print. Picture: the sound is replaced by silence "
            "(muted). Sound: the picture is replaced by black frames (blanked). The model and the "
            "question stay the same.",
            "note",
        ),
    )


def _condition_cell(test_set: TestSet | None, condition: str) -> str:
    result = None if test_set is None else test_set.conditions.get(condition)
    if result is None:
        return NOT_MEASURED
    return percent(result["war"]) + small(f"UAR {percent(result['uar'])}")
