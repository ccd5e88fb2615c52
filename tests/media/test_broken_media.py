"""Damaged, odd and hostile recordings on the way that training takes; scripts/broken_media.py has
the large corpus.
"""

from __future__ import annotations

import json
import struct
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

REPOSITORY = Path(__file__).parents[2]
sys.path.insert(0, str(REPOSITORY / "scripts"))

import broken_media  # noqa: E402
import damaged_media  # noqa: E402
from clean_media import clean_files, encode  # noqa: E402
from damaged_media import MUTATIONS, Case, make_corpus  # noqa: E402

from r1omni.media.audio import read_waveform  # noqa: E402
from r1omni.media.config import MediaConfig  # noqa: E402
from r1omni.media.container import MediaError  # noqa: E402
from r1omni.media.processor import MediaProcessor  # noqa: E402
from r1omni.media.timeline import read_duration_s  # noqa: E402
from r1omni.media.video import read_frames  # noqa: E402
from r1omni.media.workers import in_workers  # noqa: E402
from r1omni.types import Clip  # noqa: E402

Corpus = tuple[Path, list[Case]]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("damaged")
    return folder, make_corpus(folder, 2 * len(MUTATIONS), seed=3)


@pytest.fixture(scope="module")
def prepared(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Run folders of the corpus prepared with so many decoding processes."""
    folders = {workers: tmp_path_factory.mktemp(f"workers_{workers}") for workers in (2, 0)}
    for workers, folder in folders.items():
        broken_media.prepare(corpus[0], folder, workers)
    return folders


# The corpus ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [2, 0])
def test_every_file_is_decoded_or_skipped_with_a_reason(
    corpus: Corpus, prepared: dict[int, Path], workers: int
) -> None:
    tally = broken_media.count(corpus[1], prepared[workers])
    if workers == 0:
        tally = replace(tally, peak_mib=0)  # that of the tests themselves
    assert tally.failures() == []
    assert tally.crashed_workers == 0
    assert tally.decoded + tally.skipped == len(corpus[1])
    by_fate = {
        fate: [c for c in corpus[1] if c.expected == fate] for fate in ("decoded", "skipped")
    }
    assert tally.decoded >= len(by_fate["decoded"]) >= 10
    assert tally.skipped >= len(by_fate["skipped"]) >= 10
    assert sum(tally.reasons.values()) == tally.skipped


def test_processes_and_the_main_process_agree(prepared: dict[int, Path]) -> None:
    reports = [(prepared[n] / "broken_clips_predict.jsonl").read_text("utf-8") for n in (2, 0)]
    assert reports[0] == reports[1] != ""


def test_reasons_name_the_file_on_one_printable_line(
    corpus: Corpus, prepared: dict[int, Path]
) -> None:
    rows = broken_media._lines(prepared[2] / "broken_clips_predict.jsonl")
    damaged = {str(case.path) for case in corpus[1]}
    for row in rows:
        path = row["audio_path"] or row["path"]
        assert path in damaged
        assert row["reason"].isprintable()
        assert row["reason"].startswith(f"{MediaError(path)}: ")


def test_a_missing_reason_is_a_failure(
    corpus: Corpus, prepared: dict[int, Path], tmp_path: Path
) -> None:
    for name in ("log.jsonl", "served.json"):
        (tmp_path / name).write_bytes((prepared[2] / name).read_bytes())
    tally = broken_media.count(corpus[1], tmp_path)  # without the report
    skipped = len(corpus[1]) - tally.decoded
    assert [f.split(":")[0] for f in tally.failures()] == ["no reason given"] * skipped
    (tmp_path / "served.json").write_text("[]")
    assert len(broken_media.count(corpus[1], tmp_path).lost) == len(corpus[1])
    bad = replace(tally, lost=[], hangs=1, peak_mib=10**6, run_crashed=True)
    assert len(bad.failures()) == 3


def test_a_file_that_should_have_been_refused_is_a_failure(
    corpus: Corpus, prepared: dict[int, Path]
) -> None:
    turned = {"decoded": "skipped", "skipped": "decoded", "either": "either"}
    cases = [replace(case, expected=turned[case.expected]) for case in corpus[1]]
    tally = broken_media.count(cases, prepared[2])
    assert len(tally.unexpected) == sum(case.expected != "either" for case in cases)


def test_the_seed_fixes_the_corpus(corpus: Corpus, tmp_path: Path) -> None:
    clean_files.cache_clear()  # encoding is repeatable as well
    make_corpus(tmp_path / "again", 2 * len(MUTATIONS), seed=3)
    make_corpus(tmp_path / "other", 2 * len(MUTATIONS), seed=4)
    contents = [_contents(folder) for folder in (corpus[0], tmp_path / "again", tmp_path / "other")]
    assert contents[0] == contents[1] != contents[2]


def _contents(folder: Path) -> dict[Path, bytes | None]:
    return {
        path.relative_to(folder): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


# Memory ------------------------------------------------------------------------------------------


def memory_taken(clip: Clip) -> str:
    """MiB by which the process has grown at its peak, and what came of the clip."""
    before = broken_media.peak_mib()
    try:
        if clip.path.suffix == ".wav":
            outcome = str(read_waveform(clip.path).waveform.shape)
        else:
            outcome = str(read_frames(clip.path, 8).frames.shape)
    except MediaError as error:
        outcome = str(error)
    return f"{broken_media.peak_mib() - before} {outcome}"


def test_frames_of_12000_px_take_no_memory(tmp_path: Path) -> None:
    honest = ("vast.mkv", "wide.mkv", "tall.mkv", "wide.avi", "wide.mp4")
    forged = ("vast.mkv", "wide.mkv", "tall.mkv")
    clips = [Clip(tmp_path / name) for name in (*honest, "swollen.mkv")]
    clips += [Clip(tmp_path / f"forged {name}") for name in forged]
    for clip in clips:
        name = clip.path.name.removeprefix("forged ")
        data = clean_files()[name]
        clip.path.write_bytes(data if clip.path.name == name else damaged_media.understate(data))
    for clip, outcome in in_workers(clips, memory_taken, 1):
        growth, reason = (outcome or "").split(" ", 1)
        # One such frame decoded has 216 MB, the square around it in RGB 432 MB.
        assert int(growth) < 100, clip
        assert reason.startswith(f"{clip.path}: ")
        if clip.path.name != "swollen.mkv":  # in which the decoder is the first to notice
            assert "12000" in reason and "scale it down" in reason


def memory_to_load(clip: Clip) -> str:
    """MiB by which the process has grown at its peak while it loaded 64 frames."""
    processor = MediaProcessor(MediaConfig(num_frames=64))
    processor.load(Clip(clip.path.with_name("small.mkv")), "video")  # loads libraries
    before = broken_media.peak_mib()
    assert processor.load(clip, "video").frames.shape == (64, 3, 224, 224)
    return str(broken_media.peak_mib() - before)


def test_frames_are_fitted_one_by_one(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    encode(path, "mjpeg", None, size=(1280, 720), times=range(64))
    (tmp_path / "small.mkv").write_bytes(clean_files()["resized.mkv"])
    [(_, growth)] = in_workers([Clip(path)], memory_to_load, 1)
    assert int(growth or "") < 100  # the frames together have 169 MiB


def test_an_odd_sampling_rate_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    data = bytearray(clean_files()["clip.wav"])
    place = data.index(b"fmt ") + 12
    data[place : place + 4] = struct.pack("<I", 44_101)
    path.write_bytes(data)
    [(_, outcome)] = in_workers([Clip(path)], memory_taken, 1)
    assert int((outcome or "").split()[0]) < 300  # the exact table would have 2.8 GB
    # 24,000 samples at 44,101 Hz, and the tone of 440 Hz is that much higher.
    waveform = read_waveform(path).waveform.numpy()
    assert len(waveform) == pytest.approx(24_000 * 16_000 / 44_101, abs=2)
    strongest = np.abs(np.fft.rfft(waveform)).argmax() * 16_000 / len(waveform)
    assert strongest == pytest.approx(440 * 44_101 / 16_000, abs=2)


@pytest.mark.parametrize("rate_hz", [1, 999, 768_001, 2**31 - 1])
def test_sampling_rates_that_cannot_be(tmp_path: Path, rate_hz: int) -> None:
    path = tmp_path / "a.wav"
    data = bytearray(clean_files()["clip.wav"])
    place = data.index(b"fmt ") + 12
    data[place : place + 4] = struct.pack("<I", rate_hz)
    path.write_bytes(data)
    with pytest.raises(MediaError, match=rf"a\.wav: its sound states {rate_hz} samples a second"):
        read_waveform(path)


# Lengths -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("stated_ms", [1e15, -5.0, 0.0])
def test_a_length_that_cannot_be_is_measured(tmp_path: Path, stated_ms: float) -> None:
    path = tmp_path / "a.mkv"
    data = bytearray(clean_files()["clip.mkv"])
    place = data.index(b"\x44\x89\x88") + 3  # Duration, a float of 8 bytes
    data[place : place + 8] = struct.pack(">d", stated_ms)
    path.write_bytes(data)
    assert read_duration_s(path) == pytest.approx(1.5, abs=0.1)


# The recorded run --------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["decode_workers_2", "decode_workers_0"])
def test_the_recorded_run_kept_the_promises(way: str) -> None:
    recorded = json.loads((REPOSITORY / "docs/benchmarks/broken_media.json").read_text())
    assert recorded["files"] >= 500
    assert recorded["mutations"].keys() == MUTATIONS.keys()
    assert (recorded["limit_s"], recorded["max_peak_mib"]) == (
        broken_media.LIMIT_S,
        broken_media.MAX_PEAK_MIB,
    )
    tally = broken_media.Tally(**recorded[way])
    assert tally.failures() == []
    assert tally.decoded + tally.skipped == recorded["files"]
