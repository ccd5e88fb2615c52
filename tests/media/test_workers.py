"""Decoders that die, hang or ask for all memory, in processes of their own."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from clips import write_clip

from processes import REPOSITORY, Running
from r1omni.data.clip_cache import ClipCache
from r1omni.media.config import MediaConfig
from r1omni.media.prepare import prepare_media
from r1omni.media.processor import MediaProcessor
from r1omni.media.workers import Remedies, in_workers
from r1omni.types import Clip, ClipMedia, R1OmniError

CONFIG = MediaConfig(num_frames=2, image_size=16, num_mel_bins=8, audio_length_s=3.0)
GIB = 2**30


def named(*names: str) -> list[Clip]:
    return [Clip(Path(name)) for name in names]


def obey(clip: Clip) -> str | None:
    """Does what a clip's name says, as a decoder would that stumbles over its content."""
    word = clip.path.name
    if word in ("SIGSEGV", "SIGKILL"):
        os.kill(os.getpid(), getattr(signal, word))
    elif word == "exit":
        os._exit(3)
    elif word == "hang":
        # Native code that hangs takes no signal but SIGKILL.
        signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals) - {signal.SIGKILL})
        threading.Event().wait()
    elif word == "memory":
        np.ones(2 * GIB, dtype=np.uint8)
    elif word == "full disk":
        raise OSError(28, "No space left on device")
    return f"pid {os.getpid()}"


def decode_below(folder: str) -> None:
    tempfile.tempdir = folder
    print(dict(in_workers(named("a"), obey, num_workers=1)))


def test_temporary_files_with_a_long_path(tmp_path: Path) -> None:
    """A socket's path has 107 bytes: what is left is used, and beyond it TMPDIR is named."""
    for length in (75, 76):
        folder = tmp_path / ("x" * (length - len(f"{tmp_path}/")))
        folder.mkdir()
        assert len(str(folder)) == length
        process = Running(decode_below, str(folder), cwd=REPOSITORY, env=os.environ)
        status = process.wait()
        if length == 75:
            assert status == 0 and "'pid " in process.stdout, process.stderr
        else:
            assert status == 1
            told = process.stderr.splitlines()[-1]
            assert f"UsageError: TMPDIR {folder}: " in told and "at most 75 bytes" in told


def test_a_dead_worker_is_blamed_on_its_clip_and_replaced() -> None:
    clips = named("a", "SIGSEGV", "b", "SIGKILL", "exit", "c", "d")
    outcomes = dict(in_workers(clips, obey, num_workers=2))
    assert outcomes.keys() == set(clips)
    reasons = {clip.path.name: reason or "" for clip, reason in outcomes.items()}
    assert reasons["SIGSEGV"] == (
        "SIGSEGV: the decoder's process ended by SIGSEGV on it; convert the file, or leave it out"
    )
    assert "by SIGKILL on it; if memory ran out, use fewer" in reasons["SIGKILL"]
    assert "with status 3 on it" in reasons["exit"]
    pids = {reasons[name] for name in "abcd"}
    assert all(pid.startswith("pid ") and pid != f"pid {os.getpid()}" for pid in pids)


def test_the_last_worker_may_die() -> None:
    [(clip, reason)] = in_workers(named("SIGSEGV"), obey, num_workers=4)
    assert clip.path.name == "SIGSEGV" and "SIGSEGV" in (reason or "")


def test_a_worker_that_hangs_is_killed() -> None:
    clips = named("hang", "a", "b", "c")
    outcomes = {c.path.name: reason or "" for c, reason in in_workers(clips, obey, 1, limit_s=1.0)}
    assert outcomes.pop("hang") == (
        "hang: was not read within 1 s; convert or shorten the file, or raise "
        "data.loader.clip_limit_s"
    )
    assert len(set(outcomes.values())) == 1  # one fresh worker did the rest


def test_the_remedies_are_those_of_the_command() -> None:
    """A command without a configuration names none of its keys."""
    remedies = Remedies("--num-workers", none=None, limit=None)
    clips = named("SIGKILL", "hang")
    told = dict(in_workers(clips, obey, 2, limit_s=0.5, remedies=remedies))
    assert (told[clips[0]] or "").endswith("if memory ran out, use fewer --num-workers")
    assert told[clips[1]] == "hang: was not read within 0.5 s; convert or shorten the file"
    with pytest.raises(R1OmniError, match=r"before its first clip.*__main__':`$"):
        list(in_workers(named("a"), Unwelcome(), 1, remedies=remedies))


def test_starting_a_worker_does_not_count() -> None:
    # A process needs longer to start than this clip may take.
    [(_, reason)] = in_workers(named("a"), SlowToArrive(), 1, limit_s=1.2)
    assert reason == "done"


class SlowToArrive:
    """A function that takes long to be unpickled in the worker."""

    def __call__(self, clip: Clip) -> str:
        return "done"

    def __reduce__(self) -> tuple:
        return _arrive, ()


def _arrive() -> SlowToArrive:
    time.sleep(1.5)
    return SlowToArrive()


def test_memory_is_limited() -> None:
    with pytest.raises(MemoryError):
        list(in_workers(named("memory"), obey, 1, memory_limit_bytes=2 * GIB))


def test_other_failures_end_the_run() -> None:
    with pytest.raises(OSError, match="No space left"):
        list(in_workers(named("a", "full disk", "b"), obey, 2))


def test_a_worker_that_cannot_start_is_no_clip_to_blame() -> None:
    with pytest.raises(R1OmniError, match=r"ended with status 1 before its first clip.*=0"):
        list(in_workers(named("a"), Unwelcome(), 1))


class Unwelcome:
    """A function that no worker can load."""

    def __call__(self, clip: Clip) -> str | None:
        return None

    def __reduce__(self) -> tuple:
        return _refuse, ()


def _refuse() -> None:
    raise ImportError("broken installation")


def test_no_worker_is_left_behind() -> None:
    results = in_workers(named("a", "b", "c", "d"), obey, 2)
    _, said = next(results)
    results.close()  # as Ctrl-C does
    with pytest.raises(ProcessLookupError):
        os.kill(int((said or "").removeprefix("pid ")), 0)


# Through prepare_media ----------------------------------------------------------------------------


class StumblingProcessor(MediaProcessor):
    """Dies on one clip, hangs on another, runs out of memory on a third."""

    def load(self, clip: Clip, modality: str = "video_audio") -> ClipMedia:
        stumbles = {"1.mp4": "SIGSEGV", "3.mp4": "hang"}
        if clip.path.name == "4.mp4":
            raise MemoryError
        obey(Clip(Path(stumbles.get(clip.path.name, "go on"))))
        return super().load(clip, modality)


def test_a_run_survives_its_worst_clips(tmp_path: Path) -> None:
    clips = [Clip(write_clip(tmp_path / f"{i}.mp4", num_frames=5 + i)) for i in range(6)]
    cache = ClipCache(tmp_path / "cache", CONFIG.fingerprint())
    prepared = prepare_media(
        [(clip, "video_audio") for clip in clips],
        StumblingProcessor(CONFIG),
        cache,
        num_workers=2,
        progress=False,
        max_broken_ratio=0.5,
        clip_limit_s=3.0,
    )
    assert [clip.path.name for clip in prepared.broken] == ["1.mp4", "3.mp4", "4.mp4"]
    for (clip, reason), word in zip(
        prepared.broken.items(), ["SIGSEGV", "within 3 s", "too much memory"], strict=True
    ):
        assert reason.startswith(f"{clip.path}: ") and word in reason
    assert prepared.ok == frozenset(clips) - prepared.broken.keys()
    assert all(clip in cache for clip in prepared.ok)


def test_one_missing_clip_is_decoded_in_a_process_too(tmp_path: Path) -> None:
    clip = Clip(write_clip(tmp_path / "1.mp4"))
    cache = ClipCache(tmp_path / "cache", CONFIG.fingerprint())
    with pytest.raises(R1OmniError, match=r"1 of 1 clips.*1\.mp4: the decoder's process ended"):
        prepare_media([(clip, "video_audio")], StumblingProcessor(CONFIG), cache, 2, progress=False)
