"""What each model takes from the picture and from the sound."""

from __future__ import annotations

from r1omni.analysis.differences import CONDITION_NAMES
from r1omni.analysis.page import (
    NOT_MEASURED,
    Cell,
    Row,
    Section,
    Table,
    Text,
    cell,
    percent,
    share_cell,
)
from r1omni.analysis.runs import EvaluatedRun, TestSet, find_subject, set_names, set_title
from r1omni.analysis.table import Ceiling


def conditions_section(runs: list[EvaluatedRun], ceiling: Ceiling) -> Section:
    """WAR and UAR with both media, the picture alone and the sound alone."""
    anchor, title = "media", "Picture alone, sound alone"
    names = set_names(runs)
    conditions = ("full", *CONDITION_NAMES)
    if not any(
        c in s.conditions for run in runs for s in run.sets.values() for c in CONDITION_NAMES
    ):
        gap = "No run was tested under the conditions muted and blanked."
        return Section(anchor, title, [Text(gap, "gap")])
    rows = [
        Row(
            run.model,
            tuple(_condition_cell(run.sets.get(name), c) for name in names for c in conditions),
            "subject" if run is find_subject(runs) else "",
        )
        for run in runs
    ]
    if ceiling:
        keys = ("video_audio", "video", "audio")
        values = [ceiling.get(name, {}).get(key) for name in names for key in keys]
        rows.append(Row("Ceiling of the mini-world", tuple(map(share_cell, values)), "quiet"))
    table = Table(
        "WAR with both media, the picture alone and the sound alone",
        ["both", "picture", "sound"],
        rows,
        groups=[(set_title(name), "") for name in names],
    )
    note = (
        "WAR in percent, UAR in small print. Picture: the sound is replaced by silence (muted). "
        "Sound: the picture is replaced by black frames (blanked). The model and the question stay "
        "the same."
    )
    return Section(anchor, title, [table, Text(note, "note")])


def _condition_cell(test_set: TestSet | None, condition: str) -> Cell:
    result = None if test_set is None else test_set.conditions.get(condition)
    if result is None:
        return NOT_MEASURED
    return cell(percent(result["war"]), f"UAR {percent(result['uar'])}")
