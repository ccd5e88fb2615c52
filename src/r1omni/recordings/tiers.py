"""Files of annotations in tiers: Praat's TextGrid and ELAN's .eaf, read into what they say.

Both are read here and not by the libraries that write them (`formats/`). praatio's reader takes a
minus sign away and ends without a word where a file breaks off; pympi's refuses files without an
attribute that only validators use, and neither knows the line of what it reads.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Literal
from xml.parsers import expat

from r1omni.types import UsageError

# What a tier holds: spans of its own, spans taken from another tier, or moments.
TierKind = Literal["spans", "references", "points"]


@dataclass(frozen=True)
class Mark:
    """One annotation.

    Attributes:
        start_s, end_s: its span in seconds, as the file states it; None without a time.
        text: what it says.
        line: of the file, from 1.
    """

    start_s: float | None
    end_s: float | None
    text: str
    line: int


@dataclass
class Tier:
    """Annotations under one name.

    Attributes:
        name: of the tier.
        speaker: who speaks in it, where the file says so; otherwise the name.
        kind: what it holds.
        marks: its annotations, in the order of the file; none of a tier of points.
    """

    name: str
    speaker: str
    kind: TierKind
    marks: list[Mark] = field(default_factory=list)


# A quoted text with its quotes doubled inside, a comment, or any other word.
_TOKEN = re.compile(r'"((?:[^"]|"")*)"(?=\s|\Z)|(![^\n]*)|(\S+)')
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")


def read_textgrid(path: Path, text: str) -> list[Tier]:
    """Tiers of a TextGrid, long or short.

    As Praat reads it ("TextGrid file formats" in its manual): numbers, quoted texts and <flags>
    that stand free count, everything else is for the human eye. The two forms are so read alike.

    Raises:
        UsageError: it is none, or is broken.
    """
    reader = _Tokens(path, text)
    if not reader.text("the type of file").startswith("ooTextFile"):
        raise UsageError(f"{path}: is no text file of Praat's; save it there as a text file")
    if (kind := reader.text("the class of object")) != "TextGrid":
        raise UsageError(f"{path}: holds {kind[:80]!r} of Praat's, expected 'TextGrid'")
    for edge in ("the start", "the end"):
        reader.number(edge)
    if not reader.flag():
        return []
    return [_textgrid_tier(reader) for _ in range(reader.count("the number of tiers"))]


def _textgrid_tier(reader: _Tokens) -> Tier:
    kind = reader.text("the class of a tier")
    if kind not in ("IntervalTier", "TextTier"):
        raise reader.problem(f"{kind!r} is no class of tiers")
    name = reader.text("the name of a tier")
    tier = Tier(name, name, "spans" if kind == "IntervalTier" else "points")
    for edge in ("the start of the tier", "the end of the tier"):
        reader.number(edge)
    for _ in range(reader.count("the number of annotations")):
        start_s = reader.number("a start" if tier.kind == "spans" else "a time")
        line = reader.line
        end_s = reader.number("an end") if tier.kind == "spans" else start_s
        text = reader.text("a text")
        if tier.kind == "spans":
            tier.marks.append(Mark(start_s, end_s, text, line))
    return tier


class _Tokens:
    """The free-standing words of a text file of Praat's, one after the other."""

    def __init__(self, path: Path, text: str) -> None:
        self.path, self.line = path, 1
        self._found = self._tokens(text)

    def _tokens(self, text: str) -> Iterator[tuple[int, str, str]]:
        line, at = 1, 0
        for token in _TOKEN.finditer(text):
            line += text.count("\n", at, token.start())
            at = token.start()
            if token[1] is not None:
                yield line, "text", token[1].replace('""', '"')
            elif token[3] is not None and token[3].startswith('"'):
                self.line = line
                raise self.problem("a quotation mark is not closed")
            elif token[3] in ("<exists>", "<absent>"):
                yield line, "flag", token[3]
            elif token[3] is not None and _NUMBER.fullmatch(token[3]):
                yield line, "number", token[3]

    def problem(self, what: str) -> UsageError:
        remedy = "save it again as a text file in Praat, or leave that tier out"
        return UsageError(f"{self.path}, line {self.line}: {what}; {remedy}")

    def _next(self, kind: str, what: str) -> str:
        found = next(self._found, None)
        if found is None:
            raise self.problem(f"the file ends here, expected {what}")
        self.line, has, value = found
        if has != kind:
            raise self.problem(f"expected {what}, a {kind}, found {value[:80]!r}")
        return value

    def text(self, what: str) -> str:
        return self._next("text", what)

    def number(self, what: str) -> float:
        return float(self._next("number", what))

    def count(self, what: str) -> int:
        value = self._next("number", what)
        if not value.isdecimal():
            raise self.problem(f"expected {what}, found {value!r}")
        return int(value[:9])  # more than any file can hold, should it be longer

    def flag(self) -> bool:
        return self._next("flag", "whether there are tiers") == "<exists>"


@dataclass
class _Annotation:
    """An annotation of ELAN's: between two slots of time, or beneath another annotation."""

    tier: str
    line: int
    slots: tuple[str, str] | None
    parent: str | None
    text: str = ""


def read_eaf(path: Path, data: bytes) -> list[Tier]:
    """Tiers of a file of ELAN's, with the participants as speakers.

    An annotation that refers to another has its span; several of one tier that refer to the same
    one divide it evenly, as ELAN shows them. A document type is refused: ELAN writes none, and with
    it go external entities and those that grow without end.

    Args:
        path: for messages.
        data: the file; the parser knows its encoding.

    Raises:
        UsageError: it is none, or is broken.
    """
    file = _Eaf(path)
    try:
        file.parser.Parse(data, True)
    except (expat.ExpatError, ValueError, LookupError) as error:
        raise UsageError(f"{path}: is no whole XML file ({error}); save it again in ELAN") from None
    return file.finished()


class _Eaf:
    """What a parser meets in a file of ELAN's."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.slots: dict[str, float | None] = {}
        self.tiers: dict[str, Tier] = {}
        self.annotations: dict[str, _Annotation] = {}
        self._tier: Tier | None = None
        self._open: _Annotation | None = None
        self._in_value = False
        self.parser = expat.ParserCreate()
        self.parser.buffer_text = True
        self.parser.StartDoctypeDeclHandler = self._doctype
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._text
        self._root_is_checked = False

    def _problem(self, what: str) -> UsageError:
        line = self.parser.CurrentLineNumber
        return UsageError(f"{self.path}, line {line}: {what}; save it again in ELAN")

    def _doctype(self, *_: object) -> None:
        raise self._problem("a document type is declared, which no file of ELAN's has")

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        def value(name: str) -> str:
            if name not in attributes:
                raise self._problem(f"{tag} lacks {name}")
            return attributes[name]

        if not self._root_is_checked and tag != "ANNOTATION_DOCUMENT":
            raise UsageError(f"{self.path}: is no file of ELAN's, but of {tag!r}")
        self._root_is_checked = True
        if tag == "HEADER":
            units = attributes.get("TIME_UNITS", "milliseconds")
            if units != "milliseconds":
                raise self._problem(f"times are in {units}, expected milliseconds")
        elif tag == "TIME_SLOT":
            given = attributes.get("TIME_VALUE")
            if given is not None and not re.fullmatch(r"\d{1,15}", given):
                raise self._problem(f"TIME_VALUE is {given[:80]!r}, expected milliseconds")
            self.slots[value("TIME_SLOT_ID")] = None if given is None else int(given) / 1000
        elif tag == "TIER":
            name = value("TIER_ID")
            if name in self.tiers:
                raise self._problem(f"the tier {name!r} is there twice")
            self._tier = Tier(name, attributes.get("PARTICIPANT") or name, "spans")
            self.tiers[name] = self._tier
        elif tag in ("ALIGNABLE_ANNOTATION", "REF_ANNOTATION") and self._tier is not None:
            slots, parent = None, None
            if tag == "REF_ANNOTATION":
                self._tier.kind = "references"
                parent = value("ANNOTATION_REF")
            else:
                slots = (value("TIME_SLOT_REF1"), value("TIME_SLOT_REF2"))
                if not all(slot in self.slots for slot in slots):
                    raise self._problem(f"there is no time slot {slots[0]} or {slots[1]}")
            line = self.parser.CurrentLineNumber
            self._open = _Annotation(self._tier.name, line, slots, parent)
            self.annotations[value("ANNOTATION_ID")] = self._open
        elif tag == "ANNOTATION_VALUE":
            self._in_value = True

    def _text(self, text: str) -> None:
        if self._in_value and self._open is not None:
            self._open.text += text

    def _end(self, tag: str) -> None:
        self._in_value = self._in_value and tag != "ANNOTATION_VALUE"

    def finished(self) -> list[Tier]:
        """The tiers, with their annotations and their spans."""
        spans: dict[str, tuple[float | None, float | None]] = {}
        waiting: dict[tuple[str, str], list[str]] = defaultdict(list)
        for name, annotation in self.annotations.items():
            if annotation.slots is not None:
                first, last = (self.slots[slot] for slot in annotation.slots)
                spans[name] = (first, last)
            elif annotation.parent is not None:
                waiting[annotation.parent, annotation.tier].append(name)
        while waiting:
            known = [group for group in waiting if group[0] in spans]
            if not known:
                line = self.annotations[next(iter(waiting.values()))[0]].line
                raise UsageError(
                    f"{self.path}, line {line}: refers to an annotation that is not there; save "
                    "it again in ELAN"
                )
            for group in known:
                names = waiting.pop(group)
                spans |= zip(names, _divided(*spans[group[0]], len(names)), strict=True)
        for name, annotation in self.annotations.items():
            mark = Mark(*spans[name], annotation.text, annotation.line)
            self.tiers[annotation.tier].marks.append(mark)
        return list(self.tiers.values())


def _divided(
    start_s: float | None, end_s: float | None, parts: int
) -> list[tuple[float | None, float | None]]:
    if start_s is None or end_s is None:
        return [(None, None)] * parts
    edges = [start_s + (end_s - start_s) * part / parts for part in range(parts)] + [end_s]
    return list(pairwise(edges))
