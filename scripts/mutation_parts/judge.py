"""Runs tests against mutants: each in a fork of a process that has imported the libraries.

Everything happens in a copy of the repository. A mutant is written into the copy, so that
processes which a test starts have it too.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import math
import os
import resource
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from .mutants import Mutant, WrongUse
from .recording import IMPORT, Order, Recorder, statement

Verdict = Literal["killed", "survived", "timed_out"]

# What the tests read. The rest of the repository is large and theirs never.
_COPIED = ("src", "tests", "scripts", "configs", "docs", "examples")
# A mutant that computes a shift may ask for all the memory there is.
_MEMORY_BYTES = 12 * 2**30


@dataclass(frozen=True)
class Baseline:
    """What the tests do with the module as it is.

    Attributes:
        lines: tests for each file and line.
        seconds: for each test.
        cpu_s: CPU time of the run, traced.
        wall_s: its time by the clock.
    """

    lines: dict[tuple[str, int], set[str]]
    seconds: dict[str, float]
    cpu_s: float
    wall_s: float


class Judge:
    """A copy of a repository, and the tests that judge modules of it.

    Args:
        root: of the repository. Nothing is written there.
        copy: folder that does not exist; for the copy.
        tests: files or folders of tests, from the root.
        modules: files of modules, from the root, to record the lines of.
        grace_s: CPU time that a mutant has beyond three times that of the unchanged module.

    Raises:
        WrongUse: the tests fail on the modules as they are.
    """

    def __init__(
        self,
        root: Path,
        copy: Path,
        tests: Sequence[str],
        modules: Sequence[str],
        grace_s: float = 20,
    ) -> None:
        self._grace_s = grace_s
        self._copy = copy.resolve()
        self._tests = tuple(tests)
        _copy_repository(root, self._copy)
        os.environ["PYTHONPATH"] = os.pathsep.join([str(self._copy / "src"), *_python_path()])
        self._baseline = self._record(modules)

    def verdict(self, module: str, mutant: Mutant) -> tuple[Verdict, int]:
        """What the tests say of a mutant, and how many of them run its lines."""
        file = self._copy / module
        source = file.read_text(encoding="utf-8")
        touching: set[str] = set()
        for line in statement(source, mutant.line):
            touching |= self._baseline.lines.get((str(file), line), set())
        if not touching:
            return "survived", 0
        tests = self._tests
        if IMPORT not in touching:
            # Whole files: a fixture or a cache may have run the line for the tests after the first.
            tests = tuple(sorted({test.partition("::")[0] for test in touching}))
        order = Order(touching, self._baseline.seconds)
        file.write_text(mutant.source, encoding="utf-8")
        try:
            return self._forked(lambda: self._judge(tests, order)), len(touching - {IMPORT})
        finally:
            file.write_text(source, encoding="utf-8")

    def _record(self, modules: Sequence[str]) -> Baseline:
        report, log = self._copy / "recorded.json", self._copy / "recorded.log"

        def record() -> int:
            _write_bytecode(True)
            recorder = Recorder([str(self._copy / module) for module in modules])
            started = time.perf_counter()
            status = self._pytest(self._tests, recorder)
            used = resource.getrusage(resource.RUSAGE_SELF)
            recorded = {
                "lines": [[*place, sorted(tests)] for place, tests in recorder.lines.items()],
                "seconds": recorder.seconds,
                "cpu_s": used.ru_utime + used.ru_stime,
                "wall_s": time.perf_counter() - started,
                "imported": _libraries(self._copy),
                "environment": {
                    key: value for key, value in os.environ.items() if not key.startswith("PYTEST")
                },
            }
            report.write_text(json.dumps(recorded), encoding="utf-8")
            return status

        if self._forked(record, log, cpu_s=3600, wall_s=7200) != "survived":
            said = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            raise WrongUse(
                "the tests have to pass before a mutant can fail them: "
                f"pytest {' '.join(self._tests)} says: {' '.join(said[-2:])}"
            )
        recorded = json.loads(report.read_text(encoding="utf-8"))
        # As the tests' own conftest has it, before the libraries that read it.
        os.environ.update(recorded["environment"])
        for name in recorded["imported"]:
            with contextlib.suppress(ImportError):  # each child imports what is missing here
                importlib.import_module(name)
        for module in modules:  # a stale one would hide a mutant of the same size
            for cached in (self._copy / module).parent.glob(f"__pycache__/{Path(module).stem}.*"):
                cached.unlink()
        lines = {(file, line): set(tests) for file, line, tests in recorded["lines"]}
        seconds = recorded["seconds"]
        return Baseline(lines, seconds, recorded["cpu_s"], recorded["wall_s"])

    def _judge(self, tests: Sequence[str], order: Order) -> int:
        # That of one mutant would hide the next, if both are of one size and written in one second.
        _write_bytecode(False)
        return self._pytest(tests, order)

    def _pytest(self, tests: Sequence[str], plugin: object) -> int:
        os.chdir(self._copy)
        sys.path.insert(0, str(self._copy / "src"))
        base = self._copy / "tmp"
        words = [*tests, "-x", "-q", "--rootdir", str(self._copy), "--basetemp", str(base)]
        # Failures need no picture: only the exit status is read.
        words += ["-p", "no:cacheprovider", "--tb", "no", "--no-header"]
        return int(pytest.main(words, plugins=[plugin]))

    def _forked(
        self,
        run: Callable[[], int],
        log: Path | None = None,
        cpu_s: float | None = None,
        wall_s: float | None = None,
    ) -> Verdict:
        """Whether `run` returns 0 (survived), something else (killed), or not in time.

        The limits are several times what the unchanged module needs. CPU time is what counts, since
        a busy machine does not spend it; the clock ends what sleeps.
        """
        cpu_s = cpu_s or self._grace_s + 3 * self._baseline.cpu_s
        deadline = time.monotonic() + (wall_s or 120 + 10 * self._baseline.wall_s)
        sys.stdout.flush()
        sys.stderr.flush()
        child = os.fork()
        if child == 0:
            _become_child(run, log, math.ceil(cpu_s))
        while True:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                break
            if time.monotonic() > deadline:
                os.killpg(child, signal.SIGKILL)
                os.waitpid(child, 0)
                return "timed_out"
            time.sleep(0.02)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)  # what the tests may have left running
        if os.WIFSIGNALED(status):
            return "timed_out" if os.WTERMSIG(status) == signal.SIGXCPU else "killed"
        code = os.WEXITSTATUS(status)
        if code == pytest.ExitCode.NO_TESTS_COLLECTED:
            raise WrongUse(f"no tests in {' '.join(self._tests)}")
        return "killed" if code else "survived"


def _write_bytecode(is_wanted: bool) -> None:
    """Whether this process, and those that its tests start, keep what they have compiled."""
    sys.dont_write_bytecode = not is_wanted
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    if not is_wanted:
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"


def _become_child(run: Callable[[], int], log: Path | None, cpu_s: int) -> None:
    """Run and exit, with nothing of the parent's clean-up."""
    code = 70
    try:
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        output = os.open(log or os.devnull, os.O_WRONLY | os.O_CREAT)
        os.dup2(output, 1)
        os.dup2(output, 2)
        resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 5))
        resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY_BYTES, _MEMORY_BYTES))
        code = run()
    finally:
        os._exit(code)


def _copy_repository(root: Path, copy: Path) -> None:
    copy.mkdir(parents=True)
    left_out = shutil.ignore_patterns("__pycache__", ".*_cache")
    for name in _COPIED:
        if (root / name).is_dir():
            shutil.copytree(root / name, copy / name, ignore=left_out)
    for file in root.iterdir():
        if file.is_file():
            shutil.copy2(file, copy / file.name)


def _python_path() -> list[str]:
    """PYTHONPATH without the repository's own source, which the copy replaces."""
    words = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return [word for word in words if word and not (Path(word) / "r1omni").is_dir()]


def _libraries(copy: Path) -> list[str]:
    """Modules that are loaded from files outside the copy, in the order of their import."""
    names = []
    for name, module in list(sys.modules.items()):
        spec = getattr(module, "__spec__", None)
        origin = getattr(spec, "origin", None)
        if origin and Path(origin).is_file() and not Path(origin).is_relative_to(copy):
            names.append(name)
    return names
