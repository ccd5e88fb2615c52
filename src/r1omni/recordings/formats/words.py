"""Words that formats share: text that every format can hold, and how a segment is put."""

from __future__ import annotations

import re

from r1omni.recordings.records import Segment

# What XML 1.0 (section 2.2) has no place for; halves of pairs of UTF-16, which UTF-8 lacks, too.
_UNFIT = re.compile("[^\t\n -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# In place of an emotion, where the answer could not be read.
UNREADABLE = "unreadable"


def plain(text: str) -> str:
    """A text as every format can hold it: lines end in a newline, what has no sign becomes U+FFFD.

    Control characters, and the bytes of a file's name that is no UTF-8, have no sign. JSON lines
    hold a text as it is.
    """
    return _UNFIT.sub("\ufffd", text.replace("\r\n", "\n").replace("\r", "\n"))


def name_of(speaker: str) -> str:
    """A speaker's name in one line."""
    return " ".join(plain(speaker).split())


def score_of(segment: Segment) -> float | None:
    """The score of a segment's own emotion."""
    return None if segment.label is None else segment.scores.get(segment.label)


def caption_of(segment: Segment) -> str:
    """A segment in a few words, such as "Anna: happy 83%"."""
    score = score_of(segment)
    words = segment.label or UNREADABLE
    words = words if score is None else f"{words} {score:.0%}"
    return words if segment.speaker is None else f"{name_of(segment.speaker)}: {words}"
