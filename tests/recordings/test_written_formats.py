"""What each format holds, read back by the libraries that people read it with."""

from __future__ import annotations

import csv
import html
import json
import weakref
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

import pandas
import parselmouth
import pympi
import pytest
from parselmouth.praat import call
from praatio import textgrid
from pyarrow import parquet
from some_records import random_records, record, recording
from webvtt import WebVTT

from r1omni.recordings import formats
from r1omni.recordings.formats import FORMATS, check_formats, write_formats
from r1omni.recordings.formats.files import FileNames
from r1omni.recordings.formats.words import plain
from r1omni.recordings.intervals import read_intervals
from r1omni.recordings.records import Record, Recording
from r1omni.text.emotions import CLASSES
from r1omni.types import Ablated, R1OmniError, UsageError

# Tabs, lines, quotes, arrows, markup, signs of right-to-left and beyond 16 bits.
ODD = '\tthe voice\n\n"rises" --> <b>&amp; it\'s ]]> {\\i1} \\N\r\n😀 نعم ‏\n7'
# What takes the apostrophe from a cell of CSV, as docs/formats.md says.
APOSTROPHE = r"^'(?='*[=+\-@\t])"
SPEAKER = 'An-->na <v "X"> & 😀'


def odd_recording() -> Recording:
    """Two speakers, windows that overlap, an answer that could not be read, and an error."""
    records = [
        record(0, 4, "happy", 0.9, speaker=SPEAKER, reasoning=ODD, text=f"<think>{ODD}"),
        record(2, 6, "happy", 0.7, speaker=SPEAKER, reasoning="=1+1", direct_label="sad",
               direct_scores={"sad": 1.0}, format_ok=True, media=("video", "audio"),
               ablation={"muted": Ablated("sad", {"happy": 0.25, "sad": 0.75}, "sad", {"sad": 1.0}),
                         "blanked": Ablated(None, {}, "happy", {"happy": 0.5})}),
        record(6, 8, None, speaker=SPEAKER, warnings=("a; b", "c")),
        record(1.0001, 3.25, "sad", 0.8, "angry", speaker="Ben", reasoning="low", model="m1"),
        Record("a/=clip.mp4", error="a/=clip.mp4: broke off\nhere"),
    ]  # fmt: skip
    return recording("a/=clip.mp4", records)


def test_tables_of_csv_and_parquet_hold_the_records(tmp_path: Path) -> None:
    names = {f"{table}.{kind}" for table in ("records", "scores", "segments", "summary")
             for kind in ("csv", "parquet")}  # fmt: skip
    other = recording("b.wav", [record(0, 1, "angry", 0.75)])
    given = [odd_recording(), other]
    written = write_formats(["csv", "parquet"], given, tmp_path)
    assert {path.name for path in written} == {path.name for path in tmp_path.iterdir()} == names
    for table in ("records", "scores", "segments", "summary"):
        read = pandas.read_csv(tmp_path / f"{table}.csv", dtype=str, keep_default_na=False)
        typed = parquet.read_table(tmp_path / f"{table}.parquet")
        assert list(read.columns) == typed.column_names
        for column in typed.column_names:
            texts = read[column].str.replace(APOSTROPHE, "", regex=True)
            for text, value in zip(texts, typed[column].to_pylist(), strict=True):
                if isinstance(value, bool):
                    assert text == str(value).lower()
                elif isinstance(value, float):
                    assert float(text) == value
                else:
                    assert text == ("" if value is None else str(value))
    frame = pandas.read_parquet(tmp_path / "records.parquet")
    assert frame["reasoning"][0] == plain(ODD) and frame["p_happy"].dtype == "float64"
    rows = parquet.read_table(tmp_path / "records.parquet").to_pylist()
    assert [row["reasoning"] for row in rows[:2]] == [plain(ODD), "=1+1"]
    assert plain(ODD) == ODD.replace("\r\n", "\n")
    assert rows[0]["speaker"] == SPEAKER and rows[0]["p_happy"] == rows[0]["score"] == 0.9
    assert rows[1]["direct_p_sad"] == 1 and rows[1]["media"] == "video;audio"
    names = [f"{c}_{kind}label" for c in ("muted", "blanked") for kind in ("", "direct_")]
    assert [rows[1][name] for name in names] == ["sad", "sad", None, "happy"]
    assert [rows[0][name] for name in names] == [None] * 4
    assert rows[2]["label"] is None and rows[2]["p_happy"] is None and rows[2]["score"] is None
    assert rows[4]["error"] and rows[4]["start_s"] is None and rows[4]["format_ok"] is None
    scores = parquet.read_table(tmp_path / "scores.parquet").to_pylist()
    long = {(row["start_s"], row["emotion"]): row["score"] for row in scores[:6]}
    assert long == {(0, "happy"): 0.9, (0, "sad"): pytest.approx(0.1), (2, "happy"): 0.7,
                    (2, "sad"): pytest.approx(0.3), (1.0001, "sad"): 0.8,
                    (1.0001, "angry"): pytest.approx(0.2)}  # fmt: skip
    names = [f"{c}_{kind}score" for c in ("muted", "blanked") for kind in ("", "direct_")]
    taken = {row["emotion"]: [row[name] for name in names] for row in scores[2:4]}
    assert taken == {"happy": [0.25, None, None, 0.5], "sad": [0.75, 1.0, None, None]}
    assert [scores[0][name] for name in names] == [None] * 4
    [row, _] = parquet.read_table(tmp_path / "summary.parquet").to_pylist()
    shares = {emotion: row[f"share_{emotion}"] for emotion in CLASSES}
    assert shares == dict.fromkeys(CLASSES, 0.0) | dict(given[0].summary.shares)
    assert row["error"] == "a/=clip.mp4: broke off\nhere" and row["dominant"] == "happy"


def test_cells_are_no_formulas(tmp_path: Path) -> None:
    texts = ["=1", "+1", "-1", "@a", "\t=1", "'=1", "''@", "'quoted'", "a=1", "-"]
    given = recording("x", [record(i, i + 1, reasoning=text) for i, text in enumerate(texts)])
    write_formats(["csv"], [given], tmp_path)
    read = pandas.read_csv(tmp_path / "records.csv")["reasoning"]
    assert list(read.str.replace(APOSTROPHE, "", regex=True)) == texts
    assert not read.str.match(r"[=+\-@\t\r]").any()
    assert read[7] == "'quoted'" and read[8] == "a=1"


def test_the_segments_table_can_be_analyzed_again(tmp_path: Path) -> None:
    given = odd_recording()
    write_formats(["csv"], [given], tmp_path)
    back = read_intervals(tmp_path / "segments.csv")
    spans = sorted((s.start_s, s.end_s, s.speaker) for s in given.segments)
    assert [(i.start_s, i.end_s, i.speaker) for i in back] == spans


@pytest.mark.parametrize("table", ["records", "scores"])
@pytest.mark.parametrize("delimiter", [",", ";"])
def test_other_tables_can_be_analyzed_again(
    table: str, delimiter: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Their spans, each once, with the texts that were guarded against spreadsheets."""
    given = odd_recording()
    other = recording("=b.wav", [record(0, 1, "angry", 0.75, path="=b.wav", speaker="-x")])
    write_formats(["csv"], [given, other], tmp_path)
    file = tmp_path / f"{table}.csv"
    with file.open(encoding="utf-8", newline="") as read:
        rows = list(csv.reader(read))
    with file.open("w", encoding="utf-8", newline="") as written:
        csv.writer(written, delimiter=delimiter).writerows(rows)  # as a spreadsheet saves it
    back = read_intervals(file)
    # An answer without scores has no row among the scores.
    spans = sorted(
        (r.path, r.start_s, r.end_s, r.speaker)
        for r in (*given.records, *other.records)
        if r.error is None and (r.scores or table == "records")
    )
    assert [(i.file, i.start_s, i.end_s, i.speaker) for i in back] == spans
    assert ("=b.wav", 0, 1, "-x") in spans and len(spans) == (5 if table == "records" else 4)
    failed = [f"{file}: 1 recordings that failed have no intervals"]
    assert caplog.messages == (failed if table == "records" else [])


def test_a_row_of_records_without_a_span_is_refused(tmp_path: Path) -> None:
    write_formats(["csv"], [odd_recording()], tmp_path)
    file = tmp_path / "records.csv"
    head = file.read_text(encoding="utf-8").splitlines()[0]
    file.write_text(f"{head}\na.mp4{',' * head.count(',')}\n")
    with pytest.raises(UsageError, match="line 2: the start is '', expected seconds"):
        read_intervals(file)


@pytest.mark.parametrize("form", ["srt", "vtt"])
def test_captions_hold_the_segments(tmp_path: Path, form: str) -> None:
    [path] = write_formats([form], [odd_recording()], tmp_path)
    assert path == tmp_path / f"=clip.{form}"
    read = WebVTT.from_srt(str(path)) if form == "srt" else WebVTT.read(str(path), strict=True)
    shown = SPEAKER if form == "vtt" else SPEAKER.replace("<", "‹").replace(">", "›")
    assert [(c.start, c.end, html.unescape(c.text)) for c in read.captions] == [
        ("00:00:00.000", "00:00:06.000", f"{shown}: happy 80%"),
        ("00:00:01.000", "00:00:03.250", "Ben: sad 80%"),
        ("00:00:06.000", "00:00:08.000", f"{shown}: unreadable"),
    ]
    voices = [html.unescape(caption.voice or "") for caption in read.captions]
    assert voices == ([SPEAKER, "Ben", SPEAKER] if form == "vtt" else [""] * 3)
    back = read_intervals(path)
    assert [i.text for i in back][1] == "Ben: sad 80%"
    assert [i.speaker for i in back] == [voice or None for voice in voices]


def test_a_textgrid_holds_segments_and_reasonings(tmp_path: Path) -> None:
    [path] = write_formats(["textgrid"], [odd_recording()], tmp_path)
    grid = textgrid.openTextgrid(str(path), includeEmptyIntervals=False)
    anna = SPEAKER
    assert grid.maxTimestamp == 8
    assert {name: [tuple(e) for e in grid.getTier(name).entries] for name in grid.tierNames} == {
        f"emotion@{anna}": [(0, 6, "happy"), (6, 8, "unreadable")],
        f"score@{anna}": [(0, 6, "0.800")],
        f"reasoning@{anna}": [(0, 3, plain(ODD).strip()), (3, 6, "=1+1")],
        "emotion@Ben": [(1.0001, 3.25, "sad")],
        "score@Ben": [(1.0001, 3.25, "0.800")],
        "reasoning@Ben": [(1.0001, 3.25, "low")],
    }
    praat = parselmouth.read(str(path))
    assert [call(praat, "Get tier name", number) for number in (1, 4)] == [
        f"emotion@{anna}", "emotion@Ben",
    ]  # fmt: skip
    assert call(praat, "Get label of interval", 3, 1) == plain(ODD).strip()
    assert [(i.start_s, i.end_s) for i in read_intervals(path, f"emotion@{anna}")] == [
        (0, 6), (6, 8),
    ]  # fmt: skip


def test_an_eaf_holds_the_same_and_names_the_recording(tmp_path: Path) -> None:
    [path] = write_formats(["eaf"], [odd_recording()], tmp_path)
    file = pympi.Eaf(path)
    tiers = {name: [tuple(a[:3]) for a in sorted(file.get_annotation_data_for_tier(name))]
             for name in file.get_tier_names()}  # fmt: skip
    assert tiers == {
        f"emotion@{SPEAKER}": [(0, 6000, "happy"), (6000, 8000, "unreadable")],
        f"score@{SPEAKER}": [(0, 6000, "0.800")],
        f"reasoning@{SPEAKER}": [(0, 3000, plain(ODD).strip()), (3000, 6000, "=1+1")],
        "emotion@Ben": [(1000, 3250, "sad")],
        "score@Ben": [(1000, 3250, "0.800")],
        "reasoning@Ben": [(1000, 3250, "low")],
    }
    assert file.get_parameters_for_tier("score@Ben")["PARTICIPANT"] == "Ben"
    [media] = file.get_linked_files()
    assert media["MEDIA_URL"] == f"file://{Path('a/=clip.mp4').absolute()}"
    found = (tmp_path / media["RELATIVE_MEDIA_URL"]).resolve()
    assert found == Path("a/=clip.mp4").resolve() and media["MIME_TYPE"] == "video/mp4"
    assert read_intervals(path, "emotion@Ben")[0].speaker == "Ben"


def test_tasks_of_label_studio(tmp_path: Path) -> None:
    failed = recording("c.wav", [Record("c.wav", error="c.wav: no sound")])
    given = [odd_recording(), failed, recording("ü b.wav", [record(0, 1, model="m2")])]
    xml, path = write_formats(["labelstudio"], given, tmp_path)
    assert (path.name, xml.name) == ("labelstudio.json", "labelstudio.xml")
    tasks = json.loads(path.read_text(encoding="utf-8"))
    assert [task["data"]["path"] for task in tasks] == ["a/=clip.mp4", "ü b.wav"]
    assert tasks[1]["data"]["media"] == "/data/local-files/?d=%C3%BC%20b.wav"
    assert unquote(tasks[0]["data"]["media"]).endswith("?d=a/=clip.mp4")
    interface = ElementTree.parse(xml).getroot()
    tags = {tag.get("name"): tag for tag in interface}
    assert [label.get("value") for label in tags["emotion"]] == list(CLASSES)
    [prediction] = tasks[0]["predictions"]
    by_type = {"labels": "Labels", "textarea": "TextArea"}
    for region in prediction["result"]:
        assert tags[region["from_name"]].tag == by_type[region["type"]]
        assert tags[region["from_name"]].get("toName") == region["to_name"] == "media"
        assert tags["media"].tag == "Audio"
    labels = [r for r in prediction["result"] if r["type"] == "labels"]
    assert [r["value"] for r in labels] == [
        {"start": 0, "end": 6, "channel": 0, "labels": ["happy"]},
        {"start": 1.0001, "end": 3.25, "channel": 0, "labels": ["sad"]},
    ]
    assert prediction["score"] == min(r["score"] for r in labels) == pytest.approx(0.8)
    texts = {r["id"]: r["value"]["text"] for r in prediction["result"] if r["type"] == "textarea"}
    assert texts[labels[0]["id"]] == [
        f"{SPEAKER}, 0.0-4.0 s: {plain(ODD).strip()}", f"{SPEAKER}, 2.0-6.0 s: =1+1",
    ]  # fmt: skip
    assert tasks[1]["predictions"][0]["model_version"] == "m2"


def test_names_of_files_are_unique_and_fit() -> None:
    names = FileNames()
    paths = ["a/clip.mp4", "b/clip.wav", "c/CLIP.mov", "d/a:b?.mp4", "e/.mp4", "f/con.wav",
             "g/-rf.mp4", f"h/{'ü' * 300}.mp4", "i/\udcff\n.mp4", "j/...",
             "a/clip.mp4"]  # fmt: skip
    found = [names.of(path) for path in paths]
    assert found[:1] + found[3:7] == ["clip", "a_b_", "mp4", "con_", "_rf"]
    assert found[1].startswith("clip-") and found[2].startswith("CLIP-")
    assert found[8:10] == ["__", "recording"]
    assert len({name.casefold() for name in found}) == len(found)
    assert all(0 < len(name.encode()) <= 200 and "/" not in name for name in found)
    again = FileNames()
    assert [again.of(path) for path in paths] == found


def test_odd_paths_and_empty_recordings_go_through_every_format(tmp_path: Path) -> None:
    given = [
        recording("x/\udcff\x01\n<b>.mp4",
                  [record(0, 1, speaker="A\x00"), record(2, 3, speaker="A\x01")]),
        recording("y/b.wav", []),
        recording("z/b.wav", [record(1, 1.0001)]),
    ]  # fmt: skip
    names = [name for name, form in FORMATS.items() if form.shape != "pages"]
    written = write_formats(names, given, tmp_path)
    assert all(path.is_file() for path in written)
    assert not [path for path in tmp_path.iterdir() if path not in written]
    grid = textgrid.openTextgrid(str(tmp_path / "____b_.TextGrid"), includeEmptyIntervals=False)
    assert grid.tierNames == ("emotion@A\ufffd", "score@A\ufffd", "emotion@A\ufffd (2)",
                              "score@A\ufffd (2)")  # fmt: skip


def test_recordings_are_gone_through_once_and_let_go(tmp_path: Path) -> None:
    alive: list[weakref.ref[Recording]] = []

    def given() -> Iterator[Recording]:
        for seed in range(40):
            made = recording(f"{seed}.mp4", random_records(seed))
            alive.append(weakref.ref(made))
            yield made
            del made
            assert sum(one() is not None for one in alive) <= 1

    names = [name for name, form in FORMATS.items() if form.shape != "pages"]
    written = write_formats(names, given(), tmp_path)
    assert len(written) == len(set(written)) > 4 * 35
    assert len(pandas.read_csv(tmp_path / "summary.csv")) == 40
    before = {path: path.read_bytes() for path in written if path.suffix != ".eaf"}  # has a date
    assert write_formats(names, given(), tmp_path) == written
    assert {path: path.read_bytes() for path in before} == before


def test_pages_take_what_the_others_were_given(tmp_path: Path) -> None:
    given = (recording(path, [record(0, 1)]) for path in ("a.mp4", "b.mp4"))
    written = write_formats(["srt", "html"], given, tmp_path)
    assert {path.name for path in written} == {"a.srt", "b.srt", "index.html"}
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert page.count('class="content"') == 2 and page.index("a.mp4") < page.index("b.mp4")


def test_what_fails_leaves_no_torn_files(tmp_path: Path) -> None:
    def given() -> Iterator[Recording]:
        yield recording("a.mp4", [record(0, 1)])
        raise R1OmniError("log, line 2: broken")

    (tmp_path / "summary.csv").write_text("old")
    with pytest.raises(R1OmniError, match="line 2"):
        write_formats(["csv", "parquet", "labelstudio", "srt"], given(), tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"summary.csv", "a.srt", "labelstudio.xml"}
    assert (tmp_path / "summary.csv").read_text() == "old"
    (tmp_path / "scores.csv").mkdir()
    with pytest.raises(R1OmniError, match=r"/scores.csv: cannot be written \(Is a directory\)"):
        write_formats(["csv"], [odd_recording()], tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(R1OmniError, match="file: cannot be written"):
        write_formats(["csv"], [], tmp_path / "file")
    foreign = recording("a.mp4", [Record("a.mp4", 0, 1, scores={"hungry": 1.0})])
    with pytest.raises(R1OmniError, match="tables have no column for hungry"):
        write_formats(["csv"], [foreign], tmp_path / "new")


def test_formats_are_checked_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    check_formats(list(FORMATS))
    with pytest.raises(UsageError, match="--format xls: is none of jsonl, csv, parquet"):
        check_formats(["csv", "xls"])
    with pytest.raises(UsageError, match="--format csv: is there twice"):
        check_formats(["csv", "csv"])
    monkeypatch.setattr(formats.importlib.util, "find_spec", lambda _: None)
    check_formats(["jsonl", "csv", "labelstudio"])
    with pytest.raises(UsageError, match=r"needs pympi, .* pip install 'r1omni\[formats\]'"):
        check_formats(["eaf"])
    assert write_formats(["jsonl"], [odd_recording()], tmp_path) == []
