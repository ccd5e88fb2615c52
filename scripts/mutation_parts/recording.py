"""Which tests run which lines of a module, and how long they take."""

from __future__ import annotations

import ast
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Generator
from types import FrameType
from typing import Any

import pytest

# Stands for a test where a line runs while modules are imported.
IMPORT = ""


class Recorder:
    """Plugin of pytest that traces files.

    Attributes:
        lines: for each file and line, the tests that run it (`IMPORT` where none does yet).
        seconds: for each test.
    """

    def __init__(self, files: list[str]) -> None:
        self.lines: dict[tuple[str, int], set[str]] = defaultdict(set)
        self.seconds: dict[str, float] = {}
        self._files = frozenset(files)
        self._test = IMPORT
        self._trace_on()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, Any, Any]:
        self._test = item.nodeid
        self._trace_on()  # a test may have set a tracer of its own
        started = time.perf_counter()
        result = yield
        self.seconds[item.nodeid] = time.perf_counter() - started
        self._test = IMPORT
        return result

    def _trace_on(self) -> None:
        threading.settrace(self._enter)
        sys.settrace(self._enter)

    def _enter(self, frame: FrameType, event: str, arg: object) -> Any:
        if frame.f_code.co_filename not in self._files:
            return None
        return self._line(frame, event, arg)

    def _line(self, frame: FrameType, event: str, arg: object) -> Any:
        self.lines[frame.f_code.co_filename, frame.f_lineno].add(self._test)
        return self._line


class Order:
    """Plugin of pytest that lets the tests likeliest to fail run first: those named, fast ones."""

    def __init__(self, first: set[str], seconds: dict[str, float]) -> None:
        self._first = first
        self._seconds = seconds

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items.sort(
            key=lambda item: (item.nodeid not in self._first, self._seconds.get(item.nodeid, 0.0))
        )


def statement(source: str, line: int) -> range:
    """Lines of the innermost statement at a line; of one with a body, its head alone."""
    found = range(line, line + 1)
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.stmt | ast.excepthandler):
            continue
        decorators = getattr(node, "decorator_list", [])
        start = min([node.lineno, *(each.lineno for each in decorators)])
        body = getattr(node, "body", None)
        end = max(start, body[0].lineno - 1) if body else node.end_lineno or start
        if start <= line <= end:
            found = range(start, end + 1)  # the walk meets outer statements first
    return found
