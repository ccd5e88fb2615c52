"""Intervals are read from the files that people have, as those files say them."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import parselmouth
import pympi
import pytest
from parselmouth.praat import call
from praatio import textgrid

from r1omni.recordings.intervals import Interval, read_intervals
from r1omni.types import UsageError

LONG = '''File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 4.5
tiers? <exists>
size = 2
item []:
    item [1]:
        class = "IntervalTier"
        name = "words of ""Anna"""
        xmin = 0
        xmax = 4.5
        intervals: size = 3
        intervals [1]:
            xmin = 0
            xmax = 1.25
            text = "  " ! a comment with 7 and "quotes"
        intervals [2]:
            xmin = 1.25
            xmax = 3e0
            text = "she said ""no""
and \t📣 نعم"
        intervals [3]:
            xmin = 3
            xmax = 4.5
            text = "5 -1 <exists>"
    item [2]:
        class = "TextTier"
        name = "clicks"
        xmin = 0
        xmax = 4.5
        points: size = 1
        points [1]:
            number = 2
            mark = "!"
'''
SHORT = '''File type = "ooTextFile"
Object class = "TextGrid"

0
4.5
<exists>
2
"IntervalTier"
"words of ""Anna"""
0
4.5
3
0
1.25
"  "
1.25
3e0
"she said ""no""
and \t📣 نعم"
3
4.5
"5 -1 <exists>"
"TextTier"
"clicks"
0
4.5
1
2
"!"
'''
WORDS = [
    Interval(1.25, 3, 'words of "Anna"', 'she said "no"\nand \t📣 نعم'),
    Interval(3, 4.5, 'words of "Anna"', "5 -1 <exists>"),
]


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be"])
@pytest.mark.parametrize("text", [LONG, SHORT, LONG.replace("\n", "\r\n")])
def test_textgrids_of_praat(
    tmp_path: Path, text: str, encoding: str, caplog: pytest.LogCaptureFixture
) -> None:
    data = (text if encoding != "utf-16-be" else "\ufeff" + text).encode(encoding)
    with caplog.at_level(logging.WARNING):
        assert read_intervals(written(tmp_path / "a.TextGrid", data)) == WORDS
    assert caplog.messages == [
        f"{tmp_path / 'a.TextGrid'}: tier 'words of \"Anna\"': 1 intervals without a text are left "
        "out"
    ]
    assert read_intervals(written(tmp_path / "a.txt", data)) == WORDS


@pytest.mark.parametrize("form", ["long_textgrid", "short_textgrid"])
def test_textgrids_that_praatio_writes(tmp_path: Path, form: str) -> None:
    grid = textgrid.Textgrid()
    grid.addTier(textgrid.IntervalTier("Anna", [(0.1, 1 / 3, 'a "b"'), (2, 3, "c")], 0, 9))
    grid.addTier(textgrid.IntervalTier("Ben", [(0.00001, 1, "d")], 0, 9))
    grid.addTier(textgrid.IntervalTier("nobody", [], 0, 9))
    grid.save(str(tmp_path / "a.TextGrid"), form, includeBlankSpaces=True)
    anna = [Interval(0.1, 1 / 3, "Anna", 'a "b"'), Interval(2, 3, "Anna", "c")]
    assert read_intervals(tmp_path / "a.TextGrid", tier="Anna") == anna
    both = sorted([*anna, Interval(0.00001, 1, "Ben", "d")], key=lambda i: i.start_s)
    assert read_intervals(tmp_path / "a.TextGrid", tier="all") == both
    with pytest.raises(UsageError, match="--tier NAME, one of 'Anna', 'Ben'"):
        read_intervals(tmp_path / "a.TextGrid")
    with pytest.raises(UsageError, match="holds no intervals"):
        read_intervals(tmp_path / "a.TextGrid", tier="nobody")
    with pytest.raises(UsageError, match="no tier 'Eve'; --tier has to be one of 'Anna', 'Ben', "):
        read_intervals(tmp_path / "a.TextGrid", tier="Eve")


def test_praat_itself_reads_and_writes_the_same(tmp_path: Path) -> None:
    grid = parselmouth.read(str(written(tmp_path / "a.TextGrid", LONG)))
    labels = [call(grid, "Get label of interval", 1, number) for number in (2, 3)]
    assert labels == [interval.text for interval in WORDS]
    call(grid, "Save as text file", str(tmp_path / "long"))
    call(grid, "Save as short text file", str(tmp_path / "short"))
    call(grid, "Save as binary file", str(tmp_path / "binary"))
    assert (tmp_path / "long").read_bytes().startswith(b"\xfe\xff")  # for the sake of the emoji
    assert read_intervals(tmp_path / "long") == read_intervals(tmp_path / "short") == WORDS
    with pytest.raises(UsageError, match="is a binary file of Praat's"):
        read_intervals(tmp_path / "binary")


def test_tiers_of_elan(tmp_path: Path) -> None:
    eaf = pympi.Eaf()
    eaf.remove_tier("default")
    eaf.add_linguistic_type("of-parent", "Symbolic_Association")
    eaf.add_linguistic_type("parts", "Symbolic_Subdivision")
    eaf.add_tier("A-utterance", part="Anna")
    eaf.add_annotation("A-utterance", 500, 1500, 'x < y & "z" é')
    eaf.add_annotation("A-utterance", 2000, 2600, "")
    eaf.add_tier("A-gloss", ling="of-parent", parent="A-utterance", part="Anna")
    eaf.add_ref_annotation("A-gloss", "A-utterance", 1000, "gloss")
    eaf.add_tier("A-words", ling="parts", parent="A-utterance")
    eaf.add_ref_annotation("A-words", "A-utterance", 1000, "x")
    eaf.add_ref_annotation("A-words", "A-utterance", 1000, "y", "a2")
    eaf.to_file(tmp_path / "a.eaf")
    utterances = [Interval(0.5, 1.5, "Anna", 'x < y & "z" é'), Interval(2, 2.6, "Anna", "")]
    # One tier has spans of its own; those that refer to it would say the same spans again.
    for tier in (None, "all", "A-utterance"):
        assert read_intervals(tmp_path / "a.eaf", tier) == utterances
    assert read_intervals(tmp_path / "a.eaf", "A-gloss") == [Interval(0.5, 1.5, "Anna", "gloss")]
    assert read_intervals(tmp_path / "a.eaf", "A-words") == [
        Interval(0.5, 1, "A-words", "x"), Interval(1, 1.5, "A-words", "y"),
    ]  # fmt: skip


def test_captions(tmp_path: Path) -> None:
    srt = "1\n00:00:01,000 --> 00:00:02,500\n<i>Oh</i> <3\n\nno\n\n2\n01:00:03,5 --> 01:00:04,75\n"
    expected = [Interval(1, 2.5, None, "Oh <3\nno"), Interval(3603.5, 3604.75, None, "")]
    assert read_intervals(written(tmp_path / "a.srt", srt)) == expected
    assert read_intervals(written(tmp_path / "a.sub", srt)) == expected
    vtt = """WEBVTT - a title
Kind: captions

STYLE
::cue { color: red }

NOTE 00:01.000 is early

intro
00:01.000 --> 00:02.500 align:start
<v.loud Anna &amp; Co>Fine</v> <b>&lt;you&gt;</b> <00:01.500>&amp; me

00:02.000 --> 00:03.000
<v Ben>No <v Anna>Yes
"""
    expected = [
        Interval(1, 2.5, "Anna & Co", "Fine <you> & me"), Interval(2, 3, "Ben, Anna", "No Yes"),
    ]  # fmt: skip
    assert read_intervals(written(tmp_path / "a.vtt", vtt)) == expected
    assert read_intervals(written(tmp_path / "a.txt", vtt)) == expected


@pytest.mark.parametrize(
    "table",
    [
        'path,start_s,end_s,speaker,text\nb.mp4,0.5,2,Anna,"a, ""b""\nc"\n\na.mp4,1,62.5,,\n',
        'File;Onset;Offset;Who;Utterance\nb.mp4;0,5;2;Anna;"a, ""b""\nc"\na.mp4;1;1:02,5;;\n',
        'XMAX\txmin\tspeaker\ttext\tRecording\tnote\n2\t.5\tAnna\t"a, ""b""\nc"\tb.mp4\t\n'
        "00:01:02.500\t1\t\t\ta.mp4\t=\n",
        'file,begin time,duration,speaker,text\nb.mp4,"0,5","1,5",Anna,"a, ""b""\nc"\n'
        "a.mp4,1,61.5,,\n",
    ],
)
def test_tables(tmp_path: Path, table: str) -> None:
    expected = [
        Interval(1, 62.5, None, "", "a.mp4"), Interval(0.5, 2, "Anna", 'a, "b"\nc', "b.mp4"),
    ]  # fmt: skip
    assert read_intervals(written(tmp_path / "a.csv", table)) == expected
    assert read_intervals(written(tmp_path / "a.tsv", table.encode("utf-16"))) == expected


def test_segments_of_whisperx(tmp_path: Path) -> None:
    segments = [
        {"start": 1, "end": 2.5, "text": " Hello", "speaker": "SPEAKER_00", "words": [{"word": 1}]},
        {"start": 2.0, "end": 3, "text": "Oh"},
    ]
    expected = [Interval(1, 2.5, "SPEAKER_00", "Hello"), Interval(2, 3, None, "Oh")]
    whole = json.dumps({"segments": segments, "language": "en"})
    assert read_intervals(written(tmp_path / "a.json", whole)) == expected
    assert read_intervals(written(tmp_path / "a", json.dumps(segments))) == expected


EAF = """<?xml version="1.0" encoding="UTF-8"?>
<ANNOTATION_DOCUMENT><HEADER TIME_UNITS="milliseconds"/><TIME_ORDER>
<TIME_SLOT TIME_SLOT_ID="ts1" TIME_VALUE="0"/><TIME_SLOT TIME_SLOT_ID="ts2" TIME_VALUE="900"/>
<TIME_SLOT TIME_SLOT_ID="ts3"/></TIME_ORDER>
<TIER TIER_ID="A"><ANNOTATION>
<ALIGNABLE_ANNOTATION ANNOTATION_ID="a1" TIME_SLOT_REF1="ts1" TIME_SLOT_REF2="ts2">
<ANNOTATION_VALUE>x</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION></TIER>
</ANNOTATION_DOCUMENT>"""
BOMB = '<!DOCTYPE b [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]>'


CASES: list[tuple[str, str | bytes, str]] = [
    ("a.TextGrid", LONG.replace("3e0", "1.0"), "line 20: the end 1.0 is not after the start"),
    ("a.TextGrid", LONG.replace("xmin = 1.25", "xmin = -1"), "line 20: the start -1.0 is no"),
    ("a.TextGrid", LONG.replace("xmin = 3\n", "xmin = 2\n"), "line 25: 2.0 s lies within"),
    ("a.TextGrid", LONG.replace('"5 -1', '5 "-1'), "line 27: expected a text, a text, found"),
    ("a.TextGrid", LONG[: LONG.index('no""')], "line 22: a quotation mark"),
    ("a.TextGrid", SHORT[: SHORT.index("4.5\n3")], "line 10: the file ends here, expected the end"),
    ("a.TextGrid", LONG.replace("xmax = 3e0", "xmax = nan"), "line 22: expected an end"),
    ("a.TextGrid", LONG.replace("size = 3", "size = 3.5"), "line 14: expected the number of"),
    ("a.TextGrid", LONG.replace('"TextGrid"', '"Sound 1"'), "holds 'Sound 1' of Praat's"),
    ("a.TextGrid", '"ooBinary"', "is no text file of Praat's"),
    ("a.TextGrid", "start,end\n1,2\n", "the file ends here, expected the type of file"),
    ("a.TextGrid", 'File type = "ooTextFile"\n"TextGrid" 0 4 <absent>', "no tier holds"),
    ("a.eaf", EAF.replace('"900"', '"-9"'), "line 3: TIME_VALUE is '-9'"),
    ("a.eaf", EAF.replace('REF2="ts2"', 'REF2="ts1"'), "line 6: the end 0.0 is not after"),
    ("a.eaf", EAF.replace('REF2="ts2"', 'REF2="ts3"'), "line 6: an annotation of tier 'A' has"),
    ("a.eaf", EAF.replace('REF2="ts2"', 'REF2="ts9"'), "line 6: there is no time slot ts1 or"),
    ("a.eaf", EAF.replace(' TIER_ID="A"', ""), "line 5: TIER lacks TIER_ID"),
    ("a.eaf", EAF.replace("milliseconds", "PAL-frames"), "line 2: times are in PAL-frames"),
    ("a.eaf", EAF[:-30], "is no whole XML file (no element found: line 7"),
    ("a.eaf", EAF.replace("UTF-8", "klingon"), "is no whole XML file (unknown encoding"),
    ("a.eaf", "<html></html>", "is no file of ELAN's, but of 'html'"),
    ("a.eaf", EAF.replace("<ANN", BOMB + "<ANN", 1), "line 2: a document type is declared"),
    ("a.eaf", EAF.replace("ALIGNABLE", "REF").replace("TIME_SLOT_REF1", "ANNOTATION_REF"),
     "line 6: refers to an annotation that is not there"),
    ("a.srt", "1\n00:00:01,000 -> 00:00:02,000\na\n", "line 1: '1' begins no caption"),
    ("a.srt", "1\n00:00:01,000 --> 2 s\na\n", "line 2: '00:00:01,000 --> 2 s' begins no"),
    ("a.srt", "1\n00:00:02,000 --> 00:00:01,000\na\n", "line 2: the end 1.0 is not after"),
    ("a.srt", "1\n0:0:1,0 --> 0:0:2,0\na\n2\n0:0:3,0 --> 0:0:4,0\nb\n", "line 5: put an empty"),
    ("a.vtt", "00:01.000 --> 00:02.000\na\n", "does not begin with WEBVTT"),
    ("a.vtt", "WEBVTT\n\n00:01 --> 00:02\na\n", "line 3: '00:01 --> 00:02' begins no caption"),
    ("a.vtt", "WEBVTT\n\nhello\n", "line 3: 'hello' begins no caption"),
    ("a.vtt", "WEBVTT\n", "holds no intervals"),
    ("a.csv", "start,end\n1,nan\n", "line 2: the end is 'nan', expected seconds"),
    ("a.csv", "start,end\n1,2\n\n1e999,2\n", "line 4: the start inf is no time in seconds"),
    ("a.csv", "start,end\n5000,1000001\n", "line 2: the end 1000001.0 is no time in seconds"),
    ("a.csv", "start,end\n1,1.234,5\n", "line 2: 3 columns, expected 2"),
    ("a.csv", 'start,end\n1,"1.234,5"\n', "line 2: the end is '1.234,5'"),
    ("a.csv", 'start,end\n1,"2\n', "malformed table (unexpected end of data)"),
    ("a.csv", "start,start_s,end\n1,2,3\n", "line 1: the columns 'start' and 'start_s' both"),
    ("a.csv", "from,to\n1,2\n", "line 1: no columns for start and end, found 'from', 'to'"),
    ("a.csv", "", "no columns for start and end, found nothing"),
    ("a.csv", "start,end\n", "holds no intervals"),
    ("a.csv", "start,end\n1,2".encode("utf-16-le"), "is neither UTF-8 text nor UTF-16"),
    ("a.csv", "start,end,text\n1,2,é".encode("latin-1"), "is neither UTF-8 text nor UTF-16"),
    ("a.json", "{", "line 1: malformed JSON"),
    ("a.json", "[" * 100_000, "malformed JSON"),
    ("a.json", f'[{{"start": 1, "end": {"9" * 5000}}}]', "malformed JSON"),
    ("a.json", f'[{{"start": 1, "end": {"9" * 400}}}]', "segments[0]: the end 9999"),
    ("a.json", '[{"start": 1, "end": NaN}]', "segments[0]: the end nan is no time"),
    ("a.json", '{"segments": [{"start": "1", "end": 2}]}', "segments[0]: start and end have"),
    ("a.json", '{"segments": [7]}', "segments[0]: start and end have to be seconds"),
    ("a.json", '{"text": "a"}', "has no list of segments"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "content", "told"), CASES, ids=[f"{case[0]}-{i}" for i, case in enumerate(CASES)]
)
def test_what_is_broken_is_named(
    tmp_path: Path, name: str, content: str | bytes, told: str
) -> None:
    path = written(tmp_path / name, content)
    with pytest.raises(UsageError) as refused:
        read_intervals(path)
    message = str(refused.value)
    assert message.startswith(str(path)) and told in message and "\n" not in message
    assert len(message) < 400 + len(str(path))


def test_wrong_use_of_a_file(tmp_path: Path) -> None:
    table = written(tmp_path / "a.csv", "start,end\n1,2\n")
    with pytest.raises(UsageError, match="has no tiers; leave --tier A out"):
        read_intervals(table, tier="A")
    with pytest.raises(UsageError, match="holds points, not intervals"):
        read_intervals(written(tmp_path / "a.TextGrid", LONG), tier="clicks")
    with pytest.raises(UsageError, match="there is no such file"):
        read_intervals(tmp_path / "b.csv")
    with pytest.raises(UsageError, match="is a folder"):
        read_intervals(tmp_path)
