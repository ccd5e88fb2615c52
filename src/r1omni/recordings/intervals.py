"""Intervals that a user brings: who speaks when, from the files that people have.

Read are Praat TextGrid, ELAN .eaf, SubRip .srt, WebVTT .vtt, tables with a header (.csv, .tsv) and
the JSON of WhisperX. docs/formats.md says what is taken from each.
"""

from __future__ import annotations

import codecs
import html
import json
import logging
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from r1omni.options import SECONDS
from r1omni.recordings.interval_tables import Row, read_table
from r1omni.recordings.tiers import Mark, Tier, read_eaf, read_textgrid
from r1omni.types import UsageError, why_no_file

IntervalKind = Literal["textgrid", "eaf", "srt", "vtt", "table", "json"]
# Kinds by the names of their files; a file of another name is told by its content.
SUFFIXES: dict[str, IntervalKind] = {
    ".textgrid": "textgrid", ".eaf": "eaf", ".srt": "srt", ".vtt": "vtt", ".csv": "table",
    ".tsv": "table", ".json": "json",
}  # fmt: skip
# As a name of a tier: every tier with spans of its own.
ALL_TIERS = "all"
# Names of tiers in one message.
MOST_LISTED = 20
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Interval:
    """A span of a recording that shall have an answer of its own.

    Attributes:
        start_s, end_s: the span in seconds; 0 <= start_s < end_s.
        speaker: who speaks there, or None where the file does not say.
        text: what is said or noted there, or "".
        file: the recording that it is of, as the file names it; None where it names none.
        number: its place in the file, from 1, of the tiers that are taken; 0 where it is of no
            file.
    """

    start_s: float
    end_s: float
    speaker: str | None = None
    text: str = ""
    file: str | None = None
    number: int = field(default=0, compare=False)


def read_intervals(path: Path, tier: str | None = None) -> list[Interval]:
    """The intervals of a file, by recording and in order of time.

    Intervals of one speaker may overlap, except within a tier of Praat's or ELAN's, whose formats
    forbid it. Of a TextGrid, which has to fill its gaps, intervals without a text are left out, and
    a warning counts them.

    Args:
        path: the file.
        tier: of a TextGrid or an .eaf, the tier to take; "all" takes each tier with spans of its
            own. None takes the only one that there is.

    Raises:
        UsageError: the file cannot be read or is not what its name says, has no intervals or
            several tiers to choose from, or an interval without a sensible span.
    """
    data = _read(path)
    kind = SUFFIXES.get(path.suffix.lower()) or _kind_of(data)
    if kind in ("textgrid", "eaf"):
        tiers = read_eaf(path, data) if kind == "eaf" else read_textgrid(path, _text(path, data))
        found = [
            interval
            for chosen in _chosen(path, tiers, tier)
            for interval in _of_tier(path, chosen, gaps_are_filled=kind == "textgrid")
        ]
    elif tier is not None:
        raise UsageError(f"{path}: has no tiers; leave --tier {tier} out")
    elif kind == "table":
        found = [_of_row(row) for row in read_table(path, _text(path, data))]
    elif kind == "json":
        found = list(_whisperx(path, _text(path, data)))
    else:
        found = list(_captions(path, _text(path, data), kind == "vtt"))
    if not found:
        raise UsageError(f"{path}: holds no intervals; give a file that says who speaks when")
    found = [replace(interval, number=number) for number, interval in enumerate(found, start=1)]
    return sorted(found, key=lambda i: (i.file or "", i.start_s, i.end_s, i.speaker or ""))


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise UsageError(f"{path}: {why_no_file(path)}")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from error
    if data.startswith(b"ooBinaryFile"):
        raise UsageError(f"{path}: is a binary file of Praat's; save it there as a text file")
    return data


def _text(path: Path, data: bytes) -> str:
    """UTF-8, or UTF-16 with a byte order mark, which Praat writes; lines end in a newline."""
    is_wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = data.decode("utf-16" if is_wide else "utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise UsageError(
            f"{path}: is neither UTF-8 text nor UTF-16 with a byte order mark; save it as UTF-8"
        )
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _kind_of(data: bytes) -> IntervalKind:
    """What a file is by its first bytes; a table where nothing speaks against it."""
    begin = data[:4096].replace(b"\0", b"").lstrip(b"\xff\xfe\xef\xbb\xbf \t\r\n")
    if b"ooTextFile" in begin[:64]:
        return "textgrid"
    if begin.startswith(b"WEBVTT"):
        return "vtt"
    if begin.startswith(b"<"):
        return "eaf"
    if begin.startswith((b"{", b"[")):
        return "json"
    return "srt" if b"-->" in begin else "table"


def _chosen(path: Path, tiers: Sequence[Tier], asked: str | None) -> list[Tier]:
    """The tiers to read."""
    holding = [tier for tier in tiers if tier.kind == "spans" and tier.marks]
    names = _listed(tiers)
    named = [tier for tier in tiers if tier.name == asked]
    if named:
        if any(tier.kind == "points" for tier in named):
            raise UsageError(f"{path}: tier {asked!r} holds points, not intervals; tiers: {names}")
        return named
    if asked == ALL_TIERS or (asked is None and len(holding) == 1):
        return holding
    if asked is not None:
        raise UsageError(f"{path}: has no tier {asked!r}; --tier has to be one of {names}")
    if not holding:
        raise UsageError(f"{path}: no tier holds intervals of its own; tiers: {names}")
    raise UsageError(
        f"{path}: holds intervals in several tiers; give --tier NAME, one of {_listed(holding)}, "
        f"or --tier {ALL_TIERS} for all of them"
    )


def _listed(tiers: Iterable[Tier]) -> str:
    names = list(dict.fromkeys(repr(tier.name) for tier in tiers))
    more = f" and {len(names) - MOST_LISTED} more" if len(names) > MOST_LISTED else ""
    return (", ".join(names[:MOST_LISTED]) or "none") + more


def _of_tier(path: Path, tier: Tier, gaps_are_filled: bool) -> list[Interval]:
    marks = [mark for mark in tier.marks if mark.text.strip() or not gaps_are_filled]
    if len(marks) < len(tier.marks):
        _logger.warning(
            "%s: tier %r: %d intervals without a text are left out",
            path, tier.name, len(tier.marks) - len(marks),
        )  # fmt: skip
    found: list[tuple[Interval, Mark]] = []
    for mark in marks:
        place = f"{path}, line {mark.line}"
        if mark.start_s is None or mark.end_s is None:
            raise UsageError(
                f"{place}: an annotation of tier {tier.name!r} has no time; give it one in ELAN, "
                "or choose another --tier"
            )
        start_s, end_s = checked_span(place, mark.start_s, mark.end_s)
        found.append((Interval(start_s, end_s, tier.speaker or None, mark.text.strip()), mark))
    found.sort(key=lambda entry: entry[0].start_s)
    for (one, _), (other, mark) in pairwise(found):
        if other.start_s < one.end_s:
            raise UsageError(
                f"{path}, line {mark.line}: {other.start_s} s lies within another interval of "
                f"tier {tier.name!r}, which ends at {one.end_s} s; a tier cannot hold both"
            )
    return [interval for interval, _ in found]


def checked_span(place: str, start_s: float, end_s: float) -> tuple[float, float]:
    """A span that a recording may have.

    Args:
        place: file and line, for the message.
        start_s, end_s: in seconds; whole numbers may have any size.

    Raises:
        UsageError: a time is negative, not finite or beyond 11 days, or the end is not after the
            start.
    """
    for name, time_s in (("start", start_s), ("end", end_s)):
        # Compared before it becomes a float: a whole number of JSON may be too large for one.
        if not 0 <= time_s <= SECONDS.high or not math.isfinite(time_s):
            raise UsageError(
                f"{place}: the {name} {time_s!r:.80} is no time in seconds, which is at least 0 "
                f"and at most {SECONDS.high:.0f}; correct it"
            )
    if end_s <= start_s:
        raise UsageError(
            f"{place}: the end {end_s} is not after the start {start_s}; correct or remove it"
        )
    return float(start_s), float(end_s)


def _of_row(row: Row) -> Interval:
    start_s, end_s = checked_span(row.place, row.start_s, row.end_s)
    return Interval(start_s, end_s, row.speaker, row.text, row.file)


_TIME = r"(?:(\d+):)?([0-5]?\d):([0-5]?\d[.,]\d{1,3})"
_TIMES = re.compile(rf"\s*{_TIME}\s*-->\s*{_TIME}(?:\s.*)?")
# What WebVTT has between its captions.
_OTHER_BLOCKS = ("WEBVTT", "NOTE", "STYLE", "REGION")
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>|<[\d:.]+>")
_VOICE = re.compile(r"<v(?:\.[^\s<>]*)?[ \t]+([^<>]*)>")


def _captions(path: Path, text: str, is_vtt: bool) -> Iterator[Interval]:
    """Captions of SubRip or WebVTT; voices of the latter are the speakers."""
    if is_vtt and not text.startswith("WEBVTT"):
        raise UsageError(f"{path}: does not begin with WEBVTT; is it another format's?")
    pending: tuple[float, float, list[str]] | None = None
    for line, block in _blocks(text):
        at = next((i for i, words in enumerate(block[:2]) if "-->" in words), None)
        if at is None:
            if is_vtt and block[0].startswith(_OTHER_BLOCKS):
                continue
            if is_vtt or pending is None:
                raise _no_caption(path, line, block[0])
            pending[2].extend(block)  # an empty line within a caption
            continue
        times = _TIMES.fullmatch(block[at])
        if times is None:
            raise _no_caption(path, line + at, block[at])
        for later, words in enumerate(block[at + 1 :], start=line + at + 1):
            if _TIMES.fullmatch(words):
                raise UsageError(f"{path}, line {later}: put an empty line before this caption")
        if pending is not None:
            yield _caption(*pending, is_vtt)
        parts = [float((part or "0").replace(",", ".")) for part in times.groups()]
        start_s, end_s = (h * 3600 + m * 60 + s for h, m, s in (parts[:3], parts[3:]))
        start_s, end_s = checked_span(f"{path}, line {line + at}", start_s, end_s)
        pending = (start_s, end_s, block[at + 1 :])
    if pending is not None:
        yield _caption(*pending, is_vtt)


def _no_caption(path: Path, line: int, words: str) -> UsageError:
    return UsageError(
        f"{path}, line {line}: {words[:80]!r} begins no caption; expected times such as "
        "00:00:01,000 --> 00:00:02,500"
    )


def _blocks(text: str) -> Iterator[tuple[int, list[str]]]:
    """Lines between empty lines, with the number of their first."""
    block: list[str] = []
    for number, line in enumerate([*text.split("\n"), ""], start=1):
        if line.strip():
            block.append(line)
        elif block:
            yield number - len(block), block
            block = []


def _caption(start_s: float, end_s: float, lines: Iterable[str], is_vtt: bool) -> Interval:
    text = "\n".join(lines)
    voices = _VOICE.findall(text) if is_vtt else []
    text = _TAG.sub("", text)
    speaker = ", ".join(dict.fromkeys(html.unescape(voice).strip() for voice in voices))
    return Interval(
        start_s, end_s, speaker or None, (html.unescape(text) if is_vtt else text).strip()
    )


def _whisperx(path: Path, text: str) -> Iterator[Interval]:
    """Segments of WhisperX's JSON, and of Whisper's own; words are not read."""
    try:
        whole = json.loads(text)
    except json.JSONDecodeError as error:
        raise UsageError(f"{path}, line {error.lineno}: malformed JSON ({error.msg})") from error
    except (RecursionError, ValueError) as error:  # nested without end, digits without end
        raise UsageError(f"{path}: malformed JSON ({error})") from error
    entries = whole.get("segments") if isinstance(whole, dict) else whole
    if not isinstance(entries, list):
        raise UsageError(f"{path}: has no list of segments; expected the JSON of WhisperX")
    for number, entry in enumerate(entries):
        place = f"{path}, segments[{number}]"
        values: dict[str, Any] = entry if isinstance(entry, dict) else {}
        start: Any = values.get("start")
        end: Any = values.get("end")
        if type(start) not in (int, float) or type(end) not in (int, float):
            raise UsageError(f"{place}: start and end have to be seconds; correct or remove it")
        start_s, end_s = checked_span(place, start, end)
        speaker, said = values.get("speaker"), values.get("text")
        yield Interval(
            start_s,
            end_s,
            str(speaker).strip() or None if speaker is not None else None,
            str(said).strip() if said is not None else "",
        )
