"""What a check finds, how a failing check is caught, and the table of findings."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from itertools import zip_longest
from typing import Literal, ParamSpec, TypeVar

from r1omni.types import R1OmniError

Status = Literal["ok", "note", "fails"]
Arguments = ParamSpec("Arguments")
Value = TypeVar("Value")

_REPAIR = "repair the packages first: `scripts/setup.sh` installs them all"
_REPORT = "this check does not know the error; report it with the whole table"
_STATUS_WIDTH = 6
_SUBJECT_WIDTH = 22


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes:
        subject: what was looked at, in a few words.
        status: "ok"; "note" for what a person should know; "fails" for what would stop a run.
        found: what is there, or what is wrong.
        remedy: what to do about it; "" where there is nothing to do, or `found` says it.
    """

    subject: str
    status: Status
    found: str
    remedy: str = ""


def failure(subject: str, error: R1OmniError) -> Finding:
    """An error of ours as a finding; its line ends with what to do, after the last semicolon."""
    line = str(error)
    found, separator, remedy = line.rpartition("; ")
    if not separator or remedy.count("(") != remedy.count(")"):
        found, remedy = line, ""
    return Finding(subject, "fails", found, remedy)


def unexpected(subject: str, error: Exception) -> Finding:
    """An error of somebody else's as a finding."""
    reason = " ".join(str(error).split())
    remedy = _REPAIR if isinstance(error, ImportError) else _REPORT
    return Finding(subject, "fails", f"{type(error).__name__}: {reason}", remedy)


def attempt(
    subject: str,
    function: Callable[Arguments, Value],
    *args: Arguments.args,
    **kwargs: Arguments.kwargs,
) -> Generator[Finding, None, Value | None]:
    """Call a function whose result later checks need; its failure becomes a finding, and None."""
    try:
        return function(*args, **kwargs)
    except R1OmniError as error:
        yield failure(subject, error)
    except Exception as error:  # a broken machine fails in its own ways; the other checks go on
        yield unexpected(subject, error)
    return None


def guarded(
    subject: str,
    check: Callable[Arguments, Iterable[Finding]],
    *args: Arguments.args,
    **kwargs: Arguments.kwargs,
) -> Iterator[Finding]:
    """The findings of a check; if it fails itself, that is its last finding."""
    try:
        yield from check(*args, **kwargs)
    except R1OmniError as error:
        yield failure(subject, error)
    except Exception as error:  # as in `attempt`
        yield unexpected(subject, error)


class Table:
    """Prints findings as they come: should a check crash the interpreter, the table says where.

    Args:
        width: columns; None for the terminal's, between 80 and 120.
    """

    def __init__(self, width: int | None = None) -> None:
        columns = shutil.get_terminal_size((100, 24)).columns
        self._width = min(max(columns, 80), 120) if width is None else width
        self.findings: list[Finding] = []

    def show(self, title: str, findings: Iterable[Finding]) -> None:
        """Print a section."""
        print(title, flush=True)
        for finding in findings:
            self.findings.append(finding)
            print("\n".join(self._row(finding)), flush=True)
        print()

    def close(self) -> None:
        """Print what to do about each problem.

        Raises:
            R1OmniError: a finding fails; the line names all that do.
        """
        problems = [finding for finding in self.findings if finding.status != "ok"]
        advice: dict[tuple[Status, str], list[str]] = {}
        # What would stop a run comes first; what helps several subjects is said once.
        for finding in sorted(problems, key=lambda problem: problem.status != "fails"):
            if finding.remedy:
                advice.setdefault((finding.status, finding.remedy), []).append(finding.subject)
        if advice:
            print("what to do")
            for (status, remedy), subjects in advice.items():
                row = self._columns((status,), f"{', '.join(subjects)}: {remedy}")
                print("\n".join(row), flush=True)
            print()
        failed = [finding.subject for finding in self.findings if finding.status == "fails"]
        if failed:
            verb = "check fails" if len(failed) == 1 else "checks fail"
            raise R1OmniError(f"doctor: {len(failed)} {verb}: {', '.join(failed)}")
        print(f"doctor: nothing fails (checks: {len(self.findings)}, notes: {len(problems)})")

    def _row(self, finding: Finding) -> list[str]:
        return self._columns((finding.status, finding.subject), finding.found)

    def _columns(self, narrow: tuple[str, ...], text: str) -> list[str]:
        """Lines of a row: narrow columns, then a text that wraps beside them."""
        widths = (_STATUS_WIDTH, _SUBJECT_WIDTH)[: len(narrow)]
        left = [_wrapped(cell, width) for cell, width in zip(narrow, widths, strict=True)]
        rest = self._width - 2 - sum(width + 2 for width in widths)
        lines = []
        for *cells, last in zip_longest(*left, _wrapped(text, rest), fillvalue=""):
            padded = (f"{cell:{width}s}" for cell, width in zip(cells, widths, strict=True))
            lines.append("  " + "  ".join((*padded, last)).rstrip())
        return lines


def _wrapped(text: str, width: int) -> list[str]:
    # Paths and commands stay whole, to be copied.
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False) or [""]
