"""The command `analyze` on real files: batches, workers, intervals, its log, and how it goes on."""

from __future__ import annotations

import csv
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
from r1omni.media.processor import NO_PICTURE
from r1omni.media.windows import Window
from r1omni.models import R1Omni
from r1omni.recordings import decoding
from r1omni.recordings.decoding import Plan, decoded
from r1omni.recordings.given_intervals import intervals_of
from r1omni.recordings.log import LOG, LogState, read_log, read_recordings
from r1omni.recordings.output import Output
from r1omni.recordings.records import Record
from r1omni.types import UsageError

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
    [broken] = [r for r in alone if r.error]
    assert broken.path == str(clips / "b.mp4") and "is no recording" in str(broken.error)
    assert {(Path(r.path).name, r.media) for r in alone if not r.error} == {
        ("a.mp4", ("video", "audio")), ("c.wav", ("audio",)),
    }  # fmt: skip
    # A sound among films is asked about as one that is asked about by itself.
    heard = run("--window-s", 0.5, "--modality", "audio", out="heard")
    sounds = [[r for r in found if Path(r.path).name == "c.wav"] for found in (alone, heard)]
    for one, other in zip(*sounds, strict=True):
        assert one.warnings == (NO_PICTURE, *other.warnings)
        assert (one.text, one.start_s) == (other.text, other.start_s)
        assert one.scores == pytest.approx(other.scores, abs=1e-5)
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


def test_what_failed_or_changed_is_told_when_a_run_goes_on(
    mini_world: Path, clips: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder, out, table = tmp_path / "data", tmp_path / "out", tmp_path / "who.csv"
    folder.mkdir()
    for name in ("a.mp4", "b.mp4"):
        (folder / name).write_bytes((clips / name).read_bytes())
    (folder / "c.mp4").write_bytes((clips / "a.mp4").read_bytes())

    def analyze(*words: object, status: int) -> str:
        args = ["analyze", folder, "--model", mini_world / "init", "--max-new-tokens", 2,
                "--num-workers", 0, "--out", out, "--resume", *words]  # fmt: skip
        assert main([str(word) for word in args]) == status
        return capfd.readouterr().err

    table.write_text("file,start,end\na,0,1\nb,0,1\nc,0.5,1\nc,0,1.5\n")
    told = analyze("--intervals", table, status=1)
    assert f"answered 2 of 3 recordings: {out / LOG}\n" in told and "1 of 3 recordings" in told
    lines = (out / LOG).read_bytes().splitlines(keepends=True)
    (folder / "d.mp4").write_bytes((clips / "b.mp4").read_bytes())  # another one, later
    table.write_text(table.read_text() + "d,0,1\n")
    told = analyze("--intervals", table, "--retry-failed", status=1)
    assert "2 of 4 recordings" in told and "d.mp4: is no recording" in told
    assert [Path(r.path).stem for r in read_log(out / LOG)] == [*"accbd"]
    table.write_text(table.read_text().replace("c,0,1.5", "c,0,1.6"))
    assert "or other intervals of" in analyze("--intervals", table, status=2)
    told = analyze("--window-s", 1, status=2)
    assert "(window_s None, now 1.0; hop_s None, now 1.0; has_intervals True, now False)" in told
    with Output.of(out, resumes=True).opened([]):
        assert "another process writes there" in analyze("--intervals", table, status=2)
    (out / LOG).write_bytes(b"".join(lines[:3]))  # c is begun
    table.write_text(table.read_text().replace("c,0,1.6", "c,0,1.5"))
    encode(folder / "c.mp4", "mpeg4", "aac", times=range(4), sound_s=0.4)
    assert "c.mp4: is another recording" in analyze("--intervals", table, status=1)


def test_what_is_complete_is_written_in_formats_without_the_model(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    run("--window-s", 0.5)
    monkeypatch.setattr(R1Omni, "from_pretrained", None)
    run("--window-s", 0.5, "--resume", "--format", "csv,eaf")
    done = f"answered 2 of 3 recordings: {tmp_path / 'out' / LOG}, with csv, eaf beside it\n"
    assert done in capfd.readouterr().err
    assert {"records.csv", "a.eaf"} <= {file.name for file in (tmp_path / "out").iterdir()}
    for words, told in (
        (("--window-s", 0.5), "go on with --resume"),
        (("--window-s", 1, "--resume"), "other settings"),
        (("--window-s", 0.5, "--resume", "--dtype", "bfloat16"), "other settings"),
        (
            ("--window-s", 0.5, "--resume", "--media-ablation", "answer"),
            "(media_ablation 'none', now 'answer')",
        ),
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
            f"{clips.name}/a.mp4,90,91,Eve", "c.wav,0.1,0.4,", "z.mp4,0,1,Ann",
            "a.mp4,1.6,5,Ann"]  # fmt: skip
    table.write_text("\n".join(rows))
    found = run("--modality", "audio", "--intervals", table)
    answered = [r for r in found if not r.error]
    end_s = answered[3].end_s
    assert [(Path(r.path).name, r.start_s, r.end_s, r.speaker) for r in answered] == [
        ("a.mp4", 0.2, 0.4, "Bob"), ("a.mp4", 0.5, 1.0, "Ann"), ("a.mp4", 0.25, 1.5, "Ann"),
        ("a.mp4", 1.6, end_s, "Ann"), ("a.mp4", 90, 90, "Eve"), ("c.wav", 0.1, 0.4, None),
    ]  # fmt: skip
    # By its row each answer can be joined to the table, and what was cut off is told.
    assert [r.interval for r in answered] == [2, 1, 3, 7, 4, 5]
    cut = f"ends with the end of the recording, at {end_s:.2f} s, and not at 5.00 s"
    assert end_s < 3 and answered[3].warnings == (cut,)
    assert not any("ends with" in w for r in answered for w in r.warnings if r is not answered[3])
    told = capfd.readouterr().err
    assert "names 1 files that are not analyzed, such as 'z.mp4'" in told
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
    (folder / "a.csv").write_text("start,end\n2,1\n")  # costs its recording alone
    found = run("--modality", "audio", "--intervals", folder, out="malformed")
    assert [r.error is None for r in found] == [False, False, True]
    assert any("a.csv, line 2: the end 1.0 is not after" in (r.error or "") for r in found)
    for words, told in (
        (("--intervals", folder / "c.srt"), "does not say which of 3 recordings"),
        (("--intervals", table, "--window-s", 1), "in place of --window-s"),
        (("--tier", "x"), "give --intervals"),
    ):
        capfd.readouterr()
        run(*words, out="never", status=2)
        assert told in capfd.readouterr().err


def test_a_name_in_a_table_means_one_recording(tmp_path: Path) -> None:
    table = tmp_path / "spans.csv"
    paths = [tmp_path / "a/clip.mp4", tmp_path / "b/clip.mp4"]
    table.write_text("file,start,end\na\\clip.mp4,0,1\nb/clip,1,2\n")
    found, missing = intervals_of(table, None, paths)
    assert [own[0].start_s for own in found.values()] == [0, 1] and not missing
    for content, reason in (
        ("file,start,end\nclip.mp4,0,1\n", "clip.mp4 may be .*a/clip.mp4 or .*; write more"),
        ("file,start,end\na/clip,0,1\n,0,1\n", "does not say which of 2 recordings"),
        ("file,start,end\nx,0,1\n", "names none of the recordings"),
    ):
        table.write_text(content)
        with pytest.raises(UsageError, match=reason):
            intervals_of(table, None, paths)


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
        for analysis in answer(*args):
            time.sleep(0.5)
            yield analysis

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
    if signum != signal.SIGKILL:
        assert f"what was answered is in {log}, and --resume goes on" in running.stderr
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    assert 0 < len(rows) < 10 and not any(row["is_last"] for row in rows)
    # What there is is in the other formats, too, unless nobody could write them any more.
    assert (tmp_path / "out" / "records.csv").exists() == (signum != signal.SIGKILL)
    if signum != signal.SIGKILL:
        with (tmp_path / "out" / "summary.csv").open(encoding="utf-8", newline="") as table:
            assert [row["is_complete"] for row in csv.DictReader(table)] == ["false"]
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
    assert kinds[4] == ("hangs", "window")
    assert "not read within 3 s; convert or shorten the file, or raise the decode" in kinds[5][1]
    assert kinds[6:] == [("last", "window"), ("last", "None")]


def test_a_page_may_hold_its_recordings(run: Run, clips: Path, tmp_path: Path) -> None:
    for words, is_there in (((), False), (("--embed",), True), (("--embed", 1), True)):
        out = f"page{len(words)}{words[-1:]}"
        run("--format", "html", *words, out=out)
        page = (tmp_path / out / "index.html").read_text(encoding="utf-8")
        assert ("data:video/mp4;base64," in page) == is_there
        assert ("a.mp4" in page) and page.count("<script") > 0
    run("--embed", out="none", status=2)
    run("--format", "csv", "--embed", out="none", status=2)
    assert not (tmp_path / "none").exists()
