"""The command `analyze` on real files: batches, workers, intervals, its log, and how it goes on."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
from clean_media import clean_files, encode

from processes import Running
from r1omni.cli import main
from r1omni.media.config import MediaConfig
from r1omni.media.windows import Window
from r1omni.models import R1Omni
from r1omni.recordings import decoding
from r1omni.recordings.decoding import Plan, decoded
from r1omni.recordings.log import LOG, LogState, read_log, read_recordings
from r1omni.recordings.records import Record

Run = Callable[..., list[Record]]


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A film of two seconds, a broken one, and a sound."""
    root = tmp_path_factory.mktemp("clips")
    encode(root / "a.mp4", "mpeg4", "aac", times=range(20), sound_s=2.0)
    (root / "b.mp4").write_bytes(clean_files()["clip.mp4"][:1000])
    (root / "c.wav").write_bytes(clean_files()["clip.wav"])
    return root


@pytest.fixture
def run(mini_world: Path, clips: Path, tmp_path: Path) -> Run:
    def analyze(*words: object, out: str = "out", status: int = 1) -> list[Record]:
        names = ("a.mp4", "b.mp4", "c.wav")
        args = ["analyze", *(clips / name for name in names), "--model", mini_world / "init",
                "--max-new-tokens", 3, "--out", tmp_path / out, *words]  # fmt: skip
        assert main([str(word) for word in args]) == status
        log = tmp_path / out
        return [*read_log(log / LOG if log.is_dir() else log)] if status < 2 else []

    return analyze


def answers(records: Sequence[Record]) -> list[tuple[Any, ...]]:
    return [(r.path, r.start_s, r.end_s, r.text, r.media, r.error, r.is_last) for r in records]


def test_batches_and_processes_change_nothing(run: Run, clips: Path) -> None:
    alone = run("--window-s", 0.5, "--batch-size", 1, "--num-workers", 0, out="alone")
    for batch, workers in ((8, 1), (3, 2)):
        words = ("--window-s", 0.5, "--batch-size", batch, "--num-workers", workers)
        found = run(*words, out=f"{batch}_{workers}")
        assert answers(found) == answers(alone)
        for one, other in zip(found, alone, strict=True):
            assert one.scores == pytest.approx(other.scores, abs=1e-5)
    paths = [Path(r.path).name for r in alone]
    assert list(dict.fromkeys(paths)) == ["a.mp4", "b.mp4", "c.wav"]
    assert [r.is_last for r in alone] == [
        i + 1 == len(paths) or paths[i] != paths[i + 1] for i in range(len(paths))
    ]
    broken, sound = (r for r in alone if r.error)
    assert broken.path == str(clips / "b.mp4") and "is no recording" in str(broken.error)
    assert sound.path == str(clips / "c.wav") and "has no picture track" in str(sound.error)
    assert {r.media for r in alone if not r.error} == {("video", "audio")}
    assert len({r.model for r in alone}) == len({r.settings for r in alone}) == 1


def test_a_run_that_was_cut_off_goes_on(run: Run, tmp_path: Path) -> None:
    words = ("--window-s", 0.5, "--modality", "audio")
    whole = run(*words, out="whole")
    lines = (tmp_path / "whole" / LOG).read_bytes().splitlines(keepends=True)
    for kept in range(len(lines)):
        folder = tmp_path / f"cut{kept}"
        folder.mkdir()
        torn = b"" if kept % 2 else lines[kept][: len(lines[kept]) // 2]
        (folder / LOG).write_bytes(b"".join(lines[:kept]) + torn)
        if kept in (0, 1, len(lines) - 1):
            assert answers(run(*words, "--resume", out=folder.name)) == answers(whole)
            assert (folder / LOG).read_bytes().count(b"\n") == len(lines)
    assert (tmp_path / "whole" / LOG).read_bytes() == b"".join(lines)


def test_what_is_complete_is_written_in_formats_without_the_model(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    run("--window-s", 0.5)
    monkeypatch.setattr(R1Omni, "from_pretrained", None)
    run("--window-s", 0.5, "--resume", "--format", "csv,eaf")
    assert {"records.csv", "a.eaf"} <= {file.name for file in (tmp_path / "out").iterdir()}
    for words, told in (
        (("--window-s", 0.5), "go on with --resume"),
        (("--window-s", 1, "--resume"), "other settings"),
        (("--window-s", 0.5, "--resume", "--dtype", "bfloat16"), "other settings"),
    ):
        run(*words, status=2)
        assert told in capfd.readouterr().err
    names = [Path(recording.path).name for recording in read_recordings(tmp_path / "out" / LOG)]
    assert names == ["a.mp4", "b.mp4", "c.wav"]


def test_answers_for_given_spans(
    run: Run, clips: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "spans.csv"
    rows = ["file,start,end,speaker", "a,0.5,1.0,Ann", "a.mp4,0.2,0.4,Bob", "a.mp4,0.25,1.5,Ann",
            "a.mp4,90,91,Eve", "c.wav,0.1,0.4,"]  # fmt: skip
    table.write_text("\n".join(rows))
    found = run("--modality", "audio", "--intervals", table)
    told = [(Path(r.path).name, r.start_s, r.end_s, r.speaker) for r in found if not r.error]
    assert told == [
        ("a.mp4", 0.2, 0.4, "Bob"), ("a.mp4", 0.25, 1.5, "Ann"), ("a.mp4", 90, 90, "Eve"),
        ("c.wav", 0.1, 0.4, None),
    ]  # fmt: skip
    late = found[[r.speaker for r in found].index("Eve")]
    assert late.label is None and "begins after the end" in late.warnings[0]
    [missing] = [r.error for r in found if r.error]
    assert missing == f"{clips / 'b.mp4'}: --intervals {table} names no such file"
    folder = tmp_path / "spans"
    folder.mkdir()
    (folder / "c.srt").write_text("1\n00:00:00,100 --> 00:00:00,300\nhello\n")
    found = run("--modality", "audio", "--intervals", folder, out="folder")
    assert [(r.start_s, r.end_s) for r in found if not r.error] == [(0.1, 0.3)]
    assert sum("has no file called" in (r.error or "") for r in found) == 2
    for words, told in (
        (("--intervals", folder / "c.srt"), "does not say which of 3 recordings"),
        (("--intervals", table, "--window-s", 1), "in place of --window-s"),
        (("--tier", "x"), "give --intervals"),
    ):
        capfd.readouterr()
        run(*words, out="never", status=2)
        assert told in capfd.readouterr().err


def test_sound_that_is_not_there_gives_no_label(
    run: Run, clips: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    found = run("--modality", "video")
    [error] = [r.error for r in found if r.path.endswith("c.wav")]
    assert error and "no picture" in error


def test_where_answers_may_go(
    run: Run, mini_world: Path, clips: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = str(mini_world / "init")
    (tmp_path / "old.jsonl").write_text("of an earlier run\n")
    for out, words, told in (
        ("no/out.jsonl", (), "make the folder"),
        ("old.jsonl", (), "go on with --resume"),
        ("old.jsonl", ("--resume",), "line 1: no record"),
        ("new.jsonl", ("--format", "csv"), "it has to be a folder"),
        ("new", ("--format", "docx"), "--format docx"),
    ):
        status = 1 if "no record" in told else 2
        if status == 1:
            args = ["analyze", str(clips / "a.mp4"), "--model", model, "--out", str(tmp_path / out)]
            assert main([*args, *words]) == 1
        else:
            run(*words, out=out, status=2)
        assert told in capfd.readouterr().err
    assert (tmp_path / "old.jsonl").read_text() == "of an earlier run\n"
    assert {path.name for path in tmp_path.iterdir()} == {"old.jsonl"}
    args = ["analyze", str(clips / "a.mp4"), "--model", "nowhere", "--out", str(tmp_path / "new")]
    assert main(args) == 2 and not (tmp_path / "new").exists()


def _slowly(words: Sequence[str]) -> int:
    """The command, a second for each answer."""
    from r1omni.recordings import analyzing

    answer = analyzing.analyze_windows

    def slow(*args: Any) -> Any:
        time.sleep(0.5)
        return answer(*args)

    analyzing.analyze_windows = slow
    return main([*words])


@pytest.mark.parametrize(
    ("signum", "status"),
    [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)],
)
def test_what_was_answered_stays_when_the_process_is_ended(
    signum: int, status: int, mini_world: Path, clips: Path, tmp_path: Path
) -> None:
    words = ["analyze", clips / "a.mp4", "--model", mini_world / "init", "--max-new-tokens", 2,
             "--window-s", 0.2, "--batch-size", 1, "--out", tmp_path / "out",
             "--format", "csv"]  # fmt: skip
    running = Running(_slowly, [str(word) for word in words], cwd=tmp_path, env=os.environ)
    log = tmp_path / "out" / LOG
    deadline = time.monotonic() + 60
    while not (log.exists() and log.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(running.pid, signum)
    assert running.wait() == status
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    assert 0 < len(rows) < 10 and not any(row["is_last"] for row in rows)
    # What there is is in the other formats, too, unless nobody could write them any more.
    assert (tmp_path / "out" / "records.csv").exists() == (signum != signal.SIGKILL)
    assert LogState.read(log).num_records(clips / "a.mp4") == len(rows)


def _dies(connection: Connection, config: MediaConfig, plans: Sequence[Plan]) -> None:
    """A worker that crashes, or hangs, in the second window of some recordings."""
    for plan in plans:
        for item in [*decoding._items(decoding.MediaProcessor(config), plan)][:1]:
            connection.send(decoding._packed(item))
        if plan.path.stem == "hangs":
            time.sleep(60)
        if plan.path.stem == "crashes":
            os._exit(7)
        connection.send(None)


def test_a_decoder_that_crashes_or_hangs_costs_its_recording(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = (clips / "c.wav").read_bytes()
    plans = []
    for name in ("first", "crashes", "hangs", "last"):
        (tmp_path / f"{name}.wav").write_bytes(content)
        plans.append(Plan(tmp_path / f"{name}.wav", "audio", 0.2))
    monkeypatch.setattr(decoding, "_serve", _dies)
    found = [*decoded(MediaConfig(), plans, 1, ahead=2, limit_s=3.0)]
    told = [(plan.path.stem, "window" if isinstance(item, Window) else str(item))
            for plan, item in found]  # fmt: skip
    kinds = [(name, told.partition(": ")[2] or told) for name, told in told]
    assert kinds[:2] == [("first", "window"), ("first", "None")]
    assert kinds[2] == ("crashes", "window") and "ended with status 7 on it" in kinds[3][1]
    assert kinds[4] == ("hangs", "window") and "not read within 3 s" in kinds[5][1]
    assert kinds[6:] == [("last", "window"), ("last", "None")]
