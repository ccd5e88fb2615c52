"""Records, their lines, and the schema that is shipped for other software."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import jsonschema
import pytest

import r1omni.recordings
from r1omni.recordings.log import LogState, as_line, cut_torn_line, read_log
from r1omni.recordings.records import Record
from r1omni.types import R1OmniError, UsageError

SCHEMA = json.loads(
    (Path(r1omni.recordings.__file__).parent / "record.schema.json").read_text(encoding="utf-8")
)
FULL = Record(
    "two\nlines \udcff \u202e'\".mp4", 1.0, 2.5, "Ann", "happy", {"happy": 0.75, "sad": 0.25},
    "sad", {"happy": 0.5, "sad": 0.5}, "The face laughs.", "silent", "<think>", True,
    ("video", "audio"), ("dark",), None, True, "m", "s",
)  # fmt: skip
RECORDS = [FULL, Record("a.mp4"), Record("b.mp4", error="is none", is_last=True)]


def test_records_are_what_the_schema_says(tmp_path: Path) -> None:
    assert SCHEMA["required"] == [*SCHEMA["properties"]] == [field.name for field in fields(Record)]
    for record in RECORDS:
        jsonschema.validate(json.loads(as_line(record)), SCHEMA)
    for change in ({"label": 3}, {"scores": {"happy": "x"}}, {"schema": 2}, {"more": 1}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**json.loads(as_line(FULL)), **change}, SCHEMA)
    log = tmp_path / "log"
    log.write_bytes(b"".join(map(as_line, RECORDS)))
    assert [*read_log(log)] == RECORDS
    state = LogState.read(log)
    assert state.is_complete(Path(FULL.path)) and state.num_records(Path("a.mp4")) == 1
    assert state.errors == {"b.mp4": "is none"}
    state.check(log, "", "")
    with pytest.raises(UsageError, match="other model"):
        state.check(log, "another", "")


@pytest.mark.parametrize("size", [0, 1, 70_000])
def test_a_torn_line_is_cut_off(size: int, tmp_path: Path) -> None:
    log = tmp_path / "log"
    for whole in (b"", as_line(FULL), as_line(FULL) + as_line(Record("x" * 70_000))):
        log.write_bytes(whole + b"{" * size)
        cut_torn_line(log)
        assert log.read_bytes() == whole


@pytest.mark.parametrize("line", ["", "[]", "{}", "{", '{"schema": 1}', '{"schema": 9}', "\xff"])
def test_a_line_that_is_no_record_is_named(line: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(as_line(FULL) + line.encode("latin-1") + b"\n")
    with pytest.raises(R1OmniError, match=f"^{log}, line 2: "):
        [*read_log(log)]
