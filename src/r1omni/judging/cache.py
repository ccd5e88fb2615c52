"""Grades that were given, and what was spent on them: one SQLite file for all processes.

What a judge said of a question is kept as soon as it is said, so a run that is stopped loses
nothing, and one that is resumed gets the same grades. Where two processes ask the same question at
once, the first reply counts for both.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from r1omni.types import R1OmniError, UsageError

# Seconds that a process waits while others write.
_PATIENCE_S = 60.0
# Tells the file from other people's, and this form of it from later ones.
_FORM = 0x71A6E001
_TABLES = """
CREATE TABLE IF NOT EXISTS grades (key TEXT PRIMARY KEY, score REAL NOT NULL, reply TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS spent (
    one INTEGER PRIMARY KEY CHECK (one = 1), requests INTEGER NOT NULL, tokens INTEGER NOT NULL
);
INSERT OR IGNORE INTO spent VALUES (1, 0, 0);
"""
# Questions of one look-up; SQLite bounds the number of parameters.
_AT_ONCE = 500


def content_key(content: Mapping[str, Any]) -> str:
    """The hash of a question with all that a grade depends on."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Spent:
    """What was spent with a cache since it was made.

    Attributes:
        requests: requests that were begun.
        tokens: tokens that endpoints reported.
    """

    requests: int
    tokens: int


class GradeCache:
    """An open cache, for the thread that opens it; a context manager that closes it.

    Args:
        path: its file, which is made where there is none.

    Raises:
        UsageError: the path cannot be written, or is a file of something else.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Transactions are said where they begin.
            self._connection = sqlite3.connect(path, timeout=_PATIENCE_S, isolation_level=None)
        except (OSError, sqlite3.Error) as error:
            raise UsageError(f"cache {path}: cannot be opened ({error})") from error
        with self._errors():
            self._open()

    def _open(self) -> None:
        # In this order: another process that makes the file gives it tables and form at once.
        (tables,) = self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        (form,) = self._connection.execute("PRAGMA application_id").fetchone()
        if form != _FORM and tables:
            raise UsageError(f"cache {self.path}: is a file of something else; name another")
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = NORMAL")
        if form != _FORM:
            # One at a time: another process may be making the same file.
            self._connection.executescript(
                f"BEGIN IMMEDIATE; PRAGMA application_id = {_FORM}; {_TABLES} COMMIT;"
            )

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            kind = R1OmniError if isinstance(error, sqlite3.OperationalError) else UsageError
            raise kind(
                f"cache {self.path}: {error}; name another file, or remove this one with the "
                "grades that it holds"
            ) from error

    def __enter__(self) -> GradeCache:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._connection.close()

    def find(self, keys: Sequence[str]) -> dict[str, float]:
        """The grades that are kept, by their keys."""
        found: dict[str, float] = {}
        with self._errors():
            for start in range(0, len(keys), _AT_ONCE):
                part = keys[start : start + _AT_ONCE]
                marks = ", ".join("?" * len(part))
                rows = self._connection.execute(
                    f"SELECT key, score FROM grades WHERE key IN ({marks})", part
                )
                found.update(rows)
        return found

    def keep(self, key: str, score: float, reply: str) -> float:
        """Keep a grade; returns the one that counts, which another process may have kept before."""
        with self._errors():
            self._connection.execute(
                "INSERT OR IGNORE INTO grades VALUES (?, ?, ?)", (key, score, reply)
            )
        return self.find([key])[key]

    def begin_request(self, max_requests: int | None, max_tokens: int | None) -> bool:
        """Count one more request, unless the budget of either kind is spent; says whether."""
        with self._errors():
            changed = self._connection.execute(
                "UPDATE spent SET requests = requests + 1 WHERE (?1 IS NULL OR requests < ?1) "
                "AND (?2 IS NULL OR tokens < ?2)",
                (max_requests, max_tokens),
            )
        return changed.rowcount == 1

    def add_tokens(self, tokens: int) -> None:
        """Count what a request took."""
        with self._errors():
            self._connection.execute("UPDATE spent SET tokens = tokens + ?", (tokens,))

    def spent(self) -> Spent:
        """What was spent so far, by all processes."""
        with self._errors():
            return Spent(*self._connection.execute("SELECT requests, tokens FROM spent").fetchone())
