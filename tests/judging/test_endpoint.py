"""A judge over real HTTP, with a server that answers, fails, hangs and lies."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import multiprocessing
import sqlite3
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from fake_server import FakeServer, Handler, drip, grade_by_length, hang, serving

from r1omni.judging import Case, Judge, JudgeConfig, Judgement
from r1omni.judging.cache import GradeCache
from r1omni.types import RunStopped, UsageError

SECRET = "sk-very-secret-0123"
CASES = [Case("x" * length, "happy") for length in range(1, 13)]


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with serving() as found:
        yield found


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def judge(server: FakeServer, folder: Path, **options: Any) -> Judge:
    settings: dict[str, Any] = {
        "template": "Grade: {reasoning}", "model": "m", "endpoint": server.endpoint,
        "cache": str(folder / "cache.sqlite"), "backoff_s": 0.01, "max_failed_ratio": 1.0,
    }  # fmt: skip
    return Judge(JudgeConfig(**(settings | options)))


def ask(judge: Judge, cases: list[Case] = CASES) -> list[Judgement]:
    return asyncio.run(judge.judge(cases))


def scores(judge: Judge, cases: list[Case] = CASES) -> list[float | None]:
    return [found.score for found in ask(judge, cases)]


EXPECTED = [(len("Grade: ") + len(case.reasoning)) % 11 / 10 for case in CASES]


def test_grades_come_back_in_order_and_are_kept(server: FakeServer, tmp_path: Path) -> None:
    assert scores(judge(server, tmp_path)) == EXPECTED
    assert len(server.seen) == len(CASES)
    assert scores(judge(server, tmp_path)) == EXPECTED  # another judge: from the disk
    assert len(server.seen) == len(CASES)


def test_a_request_is_what_the_api_asks_for(
    server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUDGE_KEY", SECRET)
    ask(judge(server, tmp_path, key_variable="JUDGE_KEY"), CASES[:1])
    path, headers, body = server.seen[0]
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == f"Bearer {SECRET}"
    assert body == {
        "model": "m", "temperature": 0, "max_tokens": 256,
        "messages": [{"role": "user", "content": "Grade: x"}],
    }  # fmt: skip
    more = {"max_tokens": None, "max_completion_tokens": 5, "response_format": {"type": "text"}}
    ask(judge(server, tmp_path, parameters=more), CASES[:1])
    assert "Authorization" not in server.seen[1][1]
    assert server.seen[1][2] == {
        "model": "m", "temperature": 0, "max_completion_tokens": 5,
        "response_format": {"type": "text"}, "messages": body["messages"],
    }  # fmt: skip


def test_the_same_question_is_asked_once(server: FakeServer, tmp_path: Path) -> None:
    assert scores(judge(server, tmp_path), [CASES[2]] * 9) == [EXPECTED[2]] * 9
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    "change",
    [{"model": "n"}, {"template": "Rate: {reasoning}"}, {"reply": "number"},
     {"score_range": (0.0, 20.0)}, {"max_new_tokens": 9}, {"parameters": {"seed": 1}}],
)  # fmt: skip
def test_what_a_grade_depends_on_is_in_its_key(
    server: FakeServer, tmp_path: Path, change: dict[str, Any]
) -> None:
    ask(judge(server, tmp_path), CASES[:1])
    ask(judge(server, tmp_path, max_retries=0, **change), CASES[:1])
    assert len(server.seen) == 2


def test_what_it_does_not_depend_on_is_not(server: FakeServer, tmp_path: Path) -> None:
    ask(judge(server, tmp_path))
    ask(judge(server, tmp_path, at_once=1, max_retries=1, request_limit_s=5.0, max_requests=99))
    assert len(server.seen) == len(CASES)


def test_so_many_at_once_and_no_more(server: FakeServer, tmp_path: Path) -> None:
    inside, most = 0, 0

    def watched(handler: Handler, body: dict[str, Any]) -> None:
        nonlocal inside, most
        with server.lock:
            inside += 1
            most = max(most, inside)
        time.sleep(0.05)
        with server.lock:
            inside -= 1
        grade_by_length(handler, body)

    server.behave = watched
    assert scores(judge(server, tmp_path, at_once=3)) == EXPECTED
    assert most == 3


# Failures ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 529])
def test_what_passes_is_tried_again(server: FakeServer, tmp_path: Path, status: int) -> None:
    def failing_twice(handler: Handler, body: dict[str, Any]) -> None:
        if handler.number <= 2:
            handler.send(status, b"busy")
        else:
            grade_by_length(handler, body)

    server.behave = failing_twice
    assert scores(judge(server, tmp_path), CASES[:1]) == EXPECTED[:1]
    assert len(server.seen) == 3


def test_waits_double_and_differ(server: FakeServer, tmp_path: Path) -> None:
    times: list[float] = []

    def failing(handler: Handler, body: dict[str, Any]) -> None:
        times.append(time.monotonic())
        handler.send(503, b"")

    server.behave = failing
    found = ask(judge(server, tmp_path, backoff_s=0.2, max_retries=3), CASES[:1])
    assert found == [Judgement(None, "status 503: ")]
    waits = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert len(waits) == 3
    for number, wait in enumerate(waits):
        assert 0.1 * 2**number <= wait < 0.2 * 2**number + 0.5


@pytest.mark.parametrize("as_date", [False, True])
def test_retry_after_is_honoured(server: FakeServer, tmp_path: Path, as_date: bool) -> None:
    times: list[float] = []

    def busy(handler: Handler, body: dict[str, Any]) -> None:
        times.append(time.monotonic())
        if handler.number == 1:
            later = datetime.now(UTC) + timedelta(seconds=2.2)  # whole seconds are sent
            wait = format_datetime(later, usegmt=True) if as_date else "1.2"
            handler.send(429, b"slow down", Retry_After=wait)
        else:
            grade_by_length(handler, body)

    server.behave = busy
    assert scores(judge(server, tmp_path), CASES[:1]) == EXPECTED[:1]
    assert times[1] - times[0] >= 1.1


def test_a_wait_beyond_the_batch_is_not_begun(server: FakeServer, tmp_path: Path) -> None:
    server.behave = lambda handler, body: handler.send(429, b"", Retry_After="3600")
    begin = time.monotonic()
    (found,) = ask(judge(server, tmp_path, batch_limit_s=5.0), CASES[:1])
    assert "no time for another try within batch_limit_s" in found.failed
    assert time.monotonic() - begin < 2


@pytest.mark.parametrize("behave", [hang, drip])
def test_a_request_has_a_limit_in_all(server: FakeServer, tmp_path: Path, behave: Any) -> None:
    server.behave = behave
    begin = time.monotonic()
    (found,) = ask(judge(server, tmp_path, request_limit_s=0.3, max_retries=1), CASES[:1])
    assert found == Judgement(None, "no reply within 0.3 s")
    assert len(server.seen) == 2
    assert time.monotonic() - begin < 3


def test_a_batch_has_a_limit_in_all(server: FakeServer, tmp_path: Path) -> None:
    def hanging_but_for_two(handler: Handler, body: dict[str, Any]) -> None:
        (grade_by_length if handler.number <= 2 else hang)(handler, body)

    server.behave = hanging_but_for_two
    begin = time.monotonic()
    found = ask(judge(server, tmp_path, batch_limit_s=1.5, at_once=1))
    assert [one.score for one in found[:2]] == EXPECTED[:2]
    assert {one.failed for one in found[2:]} == {"not judged within 1.5 s of the batch"}
    assert time.monotonic() - begin < 5
    server.behave = grade_by_length
    assert scores(judge(server, tmp_path)) == EXPECTED
    assert len(server.seen) == 3 + len(CASES) - 2  # what was judged is kept


LIES: dict[str, Any] = {
    "no JSON": lambda h, b: h.send(200, b"<html>welcome</html>"),
    "nothing": lambda h, b: h.send(200, b""),
    "bytes": lambda h, b: h.send(200, bytes(range(256))),
    "a list": lambda h, b: h.send(200, b"[1, 2]"),
    "a number": lambda h, b: h.send(200, b"3"),
    "no choice": lambda h, b: h.send(200, b'{"choices": []}'),
    "two choices": lambda h, b: h.send(200, b'{"choices": [{}, {}]}'),
    "a text for a choice": lambda h, b: h.send(200, b'{"choices": ["10"]}'),
    "depth": lambda h, b: h.send(200, b"[" * 500_000),
    "no text": lambda h, b: h.reply(None),
    "a list of texts": lambda h, b: h.reply([{"type": "text", "text": '{"score": 10}'}]),
    "prose": lambda h, b: h.reply("I would give it a 10."),
    "out of range": lambda h, b: h.reply('{"score": 1000}'),
    "cut": lambda h, b: h.reply('{"score": 1}', choice={"finish_reason": "length"}),
    "packed": lambda h, b: h.send(200, b"\x1f\x8b\x08\x00", Content_Encoding="gzip"),
    "huge": lambda h, b: h.reply('{"score": 10}' + " " * 2**21),
    "too short": lambda h, b: (
        h.send_response(200),
        h.send_header("Content-Length", "50"),
        h.end_headers(),
        h.wfile.write(b"{"),
        setattr(h, "close_connection", True),
    ),
    "no HTTP": lambda h, b: (h.wfile.write(b"+OK\r\n"), setattr(h, "close_connection", True)),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_a_failure_and_no_grade(server: FakeServer, tmp_path: Path, lie: str) -> None:
    server.behave = LIES[lie]
    (found,) = ask(judge(server, tmp_path, max_retries=1), CASES[:1])
    assert found.score is None
    assert found.failed and "\n" not in found.failed and len(found.failed) < 200
    assert len(server.seen) == 2  # such a server may do better the next time
    server.behave = grade_by_length
    assert scores(judge(server, tmp_path), CASES[:1]) == EXPECTED[:1]  # a failure is not kept


def test_a_question_that_is_refused_costs_itself(server: FakeServer, tmp_path: Path) -> None:
    def refusing_long(handler: Handler, body: dict[str, Any]) -> None:
        if len(body["messages"][0]["content"]) > 17:
            handler.send(400, b'{"error": "too long"}')
        else:
            grade_by_length(handler, body)

    server.behave = refusing_long
    found = ask(judge(server, tmp_path))
    assert [one.score for one in found] == [*EXPECTED[:10], None, None]
    assert found[10].failed == 'status 400: {"error": "too long"}'
    assert len(server.seen) == len(CASES)


@pytest.mark.parametrize("status", [401, 403, 404])
def test_an_endpoint_that_refuses_everybody_stops_the_run(
    server: FakeServer, tmp_path: Path, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUDGE_KEY", SECRET)
    server.behave = lambda h, b: h.send(status, f"wrong key {SECRET}".encode())
    with pytest.raises(RunStopped) as caught:
        ask(judge(server, tmp_path, at_once=1, key_variable="JUDGE_KEY"))
    assert f"answers {status}: wrong key ***" in str(caught.value)
    assert SECRET not in str(caught.value)
    assert len(server.seen) == 1


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_never_followed(server: FakeServer, tmp_path: Path, status: int) -> None:
    with serving() as elsewhere:
        for target in (elsewhere.endpoint, server.endpoint):
            where = f"{target}/chat/completions"
            server.behave = lambda h, b, to=where: h.send(status, b"", Location=to)  # type: ignore[misc]
            before = len(server.seen)
            with pytest.raises(RunStopped, match="a redirect, which is not followed"):
                ask(judge(server, tmp_path), CASES[:1])
            assert len(server.seen) == before + 1
        assert elsewhere.seen == []


def test_nobody_there_is_a_failure(tmp_path: Path) -> None:
    with serving() as gone:
        pass
    (found,) = ask(judge(gone, tmp_path, max_retries=1), CASES[:1])
    assert found.failed.startswith("ConnectError")


# How many failures are borne ----------------------------------------------------------------------


def test_failures_are_counted_said_and_at_last_stop_the_run(
    server: FakeServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def failing_on_short(handler: Handler, body: dict[str, Any]) -> None:
        if len(body["messages"][0]["content"]) <= 9:
            handler.reply("no")
        else:
            grade_by_length(handler, body)

    server.behave = failing_on_short
    one = judge(server, tmp_path, max_retries=0, max_failed_ratio=0.1)
    with caplog.at_level(logging.WARNING):
        assert scores(one) == [None, None, *EXPECTED[2:]]
    line = "judge m: 2 of 12 answers have no grade (2 x the reply is no JSON object)"
    assert line in caplog.text
    # Two of twenty are a tenth; a third is more than that of at least twenty.
    with pytest.raises(RunStopped) as caught:
        ask(one, CASES[:1])
    assert "3 of 13 so far are more than max_failed_ratio 0.1 of at least 20 answers" in str(
        caught.value
    )
    with pytest.raises(RunStopped, match="1 of 1"):
        ask(judge(server, tmp_path, max_retries=0, max_failed_ratio=0.0), CASES[:1])


def test_a_failed_question_counts_for_every_answer_that_asks_it(
    server: FakeServer, tmp_path: Path
) -> None:
    """One question of three fails, which leaves 20 of 22 answers without a grade."""

    def failing_on_one(handler: Handler, body: dict[str, Any]) -> None:
        if "same" in body["messages"][0]["content"]:
            handler.reply("no")
        else:
            grade_by_length(handler, body)

    server.behave = failing_on_one
    cases = [*[Case("same", "")] * 20, *CASES[:2]]
    one = judge(server, tmp_path, max_retries=0, max_failed_ratio=0.5)
    with pytest.raises(RunStopped) as caught:
        ask(one, cases)
    assert "20 of 22 answers have no grade (20 x the reply" in str(caught.value)
    assert "20 of 22 so far are more than max_failed_ratio 0.5" in str(caught.value)
    # Those that have a grade keep it, and are counted no more.
    with pytest.raises(RunStopped, match="20 of 20 answers have no grade"):
        ask(judge(server, tmp_path, max_retries=0, max_failed_ratio=0.5), cases)
    # Answers of which there are fewer than 20 count as that many: a tenth is two of them.
    with pytest.raises(RunStopped, match="3 of 3 so far"):
        ask(judge(server, tmp_path, max_retries=0, max_failed_ratio=0.1), cases[:3])
    assert len(ask(judge(server, tmp_path, max_retries=0, max_failed_ratio=0.1), cases[:2])) == 2


# Budgets -----------------------------------------------------------------------------------------


def test_a_budget_of_requests_is_of_all_runs(server: FakeServer, tmp_path: Path) -> None:
    with pytest.raises(RunStopped) as caught:
        ask(judge(server, tmp_path, max_requests=5))
    assert "the budget max_requests 5 is spent: 5 requests were made" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(server.seen) == 5
    with pytest.raises(RunStopped):  # another run has no budget of its own
        ask(judge(server, tmp_path, max_requests=5))
    assert len(server.seen) == 5
    assert scores(judge(server, tmp_path, max_requests=12)) == EXPECTED
    assert len(server.seen) == 12  # the five that were paid for are not paid again


def test_tries_count(server: FakeServer, tmp_path: Path) -> None:
    server.behave = lambda h, b: h.send(500, b"")
    with pytest.raises(RunStopped, match="max_requests 3 is spent"):
        ask(judge(server, tmp_path, max_requests=3, max_retries=9), CASES[:1])
    assert len(server.seen) == 3


def test_a_budget_of_tokens(server: FakeServer, tmp_path: Path) -> None:
    with pytest.raises(RunStopped, match="max_total_tokens 20 is spent: 21 tokens were made"):
        ask(judge(server, tmp_path, max_total_tokens=20, at_once=1))
    assert len(server.seen) == 3


@pytest.mark.parametrize(
    "usage", [None, {}, {"total_tokens": -5}, {"total_tokens": "9"}, {"total_tokens": 2**40}, [1]]
)
def test_tokens_that_are_not_told_cannot_be_bounded(
    server: FakeServer, tmp_path: Path, usage: Any
) -> None:
    server.behave = lambda h, b: h.reply('{"score": 3}', usage=usage)
    with pytest.raises(RunStopped, match="reports no usage"):
        ask(judge(server, tmp_path, max_total_tokens=20), CASES[:1])
    assert scores(judge(server, tmp_path), CASES[:1]) == [0.3]


# The file ----------------------------------------------------------------------------------------


def _ask_in_a_process(endpoint: str, folder: str, results: Any) -> None:
    config = JudgeConfig(
        template="Grade: {reasoning}", model="m", endpoint=endpoint,
        cache=f"{folder}/cache.sqlite", max_requests=1000,
    )  # fmt: skip
    found = asyncio.run(Judge(config).judge(CASES))
    results.put([one.score for one in found])


def test_processes_share_a_cache(server: FakeServer, tmp_path: Path) -> None:
    """A server that never says the same twice: whoever is first decides for all."""

    def never_the_same(handler: Handler, body: dict[str, Any]) -> None:
        time.sleep(0.02)
        handler.reply(json.dumps({"score": handler.number % 11}))

    server.behave = never_the_same
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    processes = [
        context.Process(target=_ask_in_a_process, args=(server.endpoint, str(tmp_path), results))
        for _ in range(3)
    ]
    for process in processes:
        process.start()
    found = [results.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(timeout=60)
        assert process.exitcode == 0
    assert found[0] == found[1] == found[2]
    assert None not in found[0]
    with GradeCache(tmp_path / "cache.sqlite") as cache:
        # A busy machine may not even take a connection, which is a try, too.
        assert cache.spent().requests >= len(server.seen) >= len(CASES)


@pytest.mark.parametrize("turn", range(5))
def test_another_process_makes_the_cache_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, turn: int
) -> None:
    """Before each statement of opening a cache in turn."""
    file = tmp_path / "cache.sqlite"
    said: list[str] = []

    class Connection(sqlite3.Connection):
        def execute(self, *statement: Any) -> sqlite3.Cursor:
            self._said(*statement)
            return super().execute(*statement)

        def executescript(self, script: str) -> sqlite3.Cursor:
            self._said(script)
            return super().executescript(script)

        def _said(self, *statement: Any) -> None:
            if len(said) == turn:
                with monkeypatch.context() as patch:
                    patch.setattr(sqlite3, "connect", connect)
                    with GradeCache(file) as other:
                        other.keep("key", 0.5, "reply")
            said.append(str(statement))

    connect = sqlite3.connect
    monkeypatch.setattr(
        sqlite3, "connect", lambda *args, **options: connect(*args, factory=Connection, **options)
    )
    with GradeCache(file) as cache:
        assert len(said) > turn
        assert cache.find(["key"]) == {"key": 0.5}


def test_a_file_of_something_else_stays_as_it_is(server: FakeServer, tmp_path: Path) -> None:
    file = tmp_path / "cache.sqlite"
    file.write_bytes(b"my thesis\n" * 1000)
    with pytest.raises(UsageError, match=r"cache.sqlite: file is not a database; name another"):
        ask(judge(server, tmp_path), CASES[:1])
    assert file.read_bytes() == b"my thesis\n" * 1000
    with pytest.raises(UsageError, match="cannot be opened"):
        ask(judge(server, tmp_path, cache=str(file / "below" / "it.sqlite")), CASES[:1])
    other = tmp_path / "other.sqlite"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE mine (x)")
    with pytest.raises(UsageError, match="is a file of something else"):
        ask(judge(server, tmp_path, cache=str(other)), CASES[:1])
    assert server.seen == []
