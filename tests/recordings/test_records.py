"""Records, their lines, and the schema that is shipped for other software."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, fields
from pathlib import Path

import jsonschema
import pytest

import r1omni.recordings
from r1omni.models.answering import Question
from r1omni.recordings.analyzing import Asked
from r1omni.recordings.log import (
    LogState,
    as_line,
    cut_torn_line,
    drop_failed,
    read_log,
    settings_file,
)
from r1omni.recordings.records import Record
from r1omni.types import TAKEN_AWAY, Ablated, R1OmniError, UsageError

SCHEMA = json.loads(
    (Path(r1omni.recordings.__file__).parent / "record.schema.json").read_text(encoding="utf-8")
)
SAID = Ablated("sad", {"sad": 1.0}, None, None)
FULL = Record(
    "two\nlines \udcff \u202e'\".mp4", 1.0, 2.5, "Ann", "happy", {"happy": 0.75, "sad": 0.25},
    "sad", {"happy": 0.5, "sad": 0.5},
    {"muted": SAID, "blanked": Ablated(None, {}, "sad", {"sad": 1.0})},
    "The face laughs.", "silent", "<think>", True, ("video", "audio"), ("dark",),
    None, 4, True, "m", "s",
)  # fmt: skip
RECORDS = [FULL, Record("b.mp4", error="is none", is_last=True), Record("a.mp4")]


def test_records_are_what_the_schema_says(tmp_path: Path) -> None:
    assert SCHEMA["required"] == [*SCHEMA["properties"]] == [field.name for field in fields(Record)]
    for record in RECORDS:
        jsonschema.validate(json.loads(as_line(record)), SCHEMA)
    ablation = SCHEMA["properties"]["ablation"]
    assert ablation["propertyNames"]["enum"] == [*TAKEN_AWAY]
    said = [field.name for field in fields(Ablated)]
    assert [*ablation["additionalProperties"]["properties"]] == said
    for change in (
        {"label": 3}, {"scores": {"happy": "x"}}, {"schema": 2}, {"more": 1},
        {"ablation": {"muted": {}}}, {"ablation": {"swapped": asdict(SAID)}},
    ):  # fmt: skip
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**json.loads(as_line(FULL)), **change}, SCHEMA)
    log = tmp_path / "log"
    log.write_bytes(b"".join(map(as_line, RECORDS)))
    assert [*read_log(log)] == RECORDS
    state = LogState.read(log)
    assert state.is_complete(Path(FULL.path)) and state.num_records(Path("a.mp4")) == 1
    assert state.errors == {"b.mp4": "is none"}
    row = {"window_s": 1.0, "has_intervals": False}
    state.check(log, "", row, {"a.mp4": "", "new.mp4": "x"})
    with pytest.raises(UsageError, match="another model"):
        state.check(log, "another", row, {})
    settings_file(log).write_text(json.dumps({"window_s": 2.0}))
    with pytest.raises(UsageError, match=r"other settings \(window_s 2.0, now 1.0\)"):
        state.check(log, "", row, {"a.mp4": "x"})
    with pytest.raises(UsageError, match=r"other settings \(or other intervals of 'a.mp4'\)"):
        state.check(log, "", row | {"window_s": 2.0, "has_intervals": True}, {"a.mp4": "x"})


def test_lines_of_a_recording_stand_together(tmp_path: Path) -> None:
    one, last, other = Record("a"), Record("a", 1.0, is_last=True), Record("b", is_last=True)
    log = tmp_path / "log"
    for records in ((one, other), (one, last, other, last), (last, other, one)):
        log.write_bytes(b"".join(map(as_line, records)))
        with pytest.raises(R1OmniError, match="not all lines of 'a' are there, or"):
            LogState.read(log)
    failed = Record("c", error="is none", is_last=True)
    log.write_bytes(b"".join(map(as_line, (one, last, Record("c"), failed, other))))
    drop_failed(log)
    assert [*read_log(log)] == [one, last, other]


@pytest.mark.parametrize("size", [0, 1, 70_000])
def test_a_torn_line_is_cut_off(size: int, tmp_path: Path) -> None:
    log = tmp_path / "log"
    for whole in (b"", as_line(FULL), as_line(FULL) + as_line(Record("x" * 70_000))):
        log.write_bytes(whole + b"{" * size)
        cut_torn_line(log)
        assert log.read_bytes() == whole


def test_a_record_of_before_ablations_goes_on(tmp_path: Path) -> None:
    """It is read without the field, and its settings are those of a question without any."""
    row = json.loads(as_line(Record("a.mp4", label="sad")))
    del row["ablation"], row["interval"]
    log = tmp_path / "log"
    log.write_text(json.dumps(row) + "\n")
    assert [*read_log(log)] == [Record("a.mp4", label="sad")]
    plain, asked = (
        Asked(Question(answer_mode="both", media_ablation=ablation))  # type: ignore[arg-type]
        for ablation in ("none", "direct")
    )
    known = {name: value for name, value in plain.row().items() if name != "media_ablation"}
    whole = json.dumps([known, []], sort_keys=True)
    assert plain.hash(Path("a.mp4")) == hashlib.sha256(whole.encode()).hexdigest()[:16]
    assert asked.hash(Path("a.mp4")) != plain.hash(Path("a.mp4"))


@pytest.mark.parametrize("line", ["", "[]", "{}", "{", '{"schema": 1}', '{"schema": 9}', "\xff"])
def test_a_line_that_is_no_record_is_named(line: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(as_line(FULL) + line.encode("latin-1") + b"\n")
    with pytest.raises(R1OmniError, match=f"^{log}, line 2: "):
        [*read_log(log)]
