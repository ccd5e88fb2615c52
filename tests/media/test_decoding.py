"""Reading frames and sound of real files, good and bad."""

from __future__ import annotations

import os
from pathlib import Path

import av
import numpy as np
import pytest
from clips import rotate_clockwise, seen_index, truncate, write_clip

from r1omni.media.audio import NO_TRACK_WARNING, read_waveform
from r1omni.media.container import MediaError
from r1omni.media.timeline import read_duration_s
from r1omni.media.video import read_frames, sample_indices
from r1omni.media.workers import in_workers
from r1omni.types import Clip


def seen(frames: np.ndarray) -> list[int]:
    return [seen_index(frame) for frame in frames]


def test_indices_follow_the_reference_rule() -> None:
    assert sample_indices(105, 8) == [7, 20, 33, 46, 59, 72, 85, 98]
    assert sample_indices(5, 2) == [1, 3]
    assert sample_indices(3, 8) == [0, 1, 2]
    assert sample_indices(8, 8) == list(range(8))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.mp4", {}),
        ("a.mkv", {}),
        ("a.ts", {}),
        ("a.avi", {"sound_codec": "mp3"}),  # reordered frames without presentation times
        ("b.avi", {"codec": "mpeg4", "sound_codec": "mp3"}),
        ("a.webm", {"codec": "libvpx", "sound_codec": "libopus"}),
    ],
)
def test_frames_and_sound_of_each_container(tmp_path: Path, name: str, options: dict) -> None:
    path = write_clip(tmp_path / name, **options)
    decoded = read_frames(path, 4)
    assert seen(decoded.frames) == [2, 7, 12, 17]
    assert decoded.frames.shape == (4, 48, 64, 3)
    assert np.diff(decoded.timestamps_s) == pytest.approx([0.5, 0.5, 0.5], abs=0.02)
    assert decoded.warnings == ()
    sound = read_waveform(path)
    assert sound.waveform.shape[0] / 16_000 == pytest.approx(2.0, abs=0.12)
    assert float(sound.waveform.abs().max()) == pytest.approx(0.5, abs=0.1)
    assert read_duration_s(path) == pytest.approx(2.0, abs=0.3)


def test_span(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", num_frames=24)
    decoded = read_frames(path, 4, start_s=1.0, end_s=2.0)
    # Frames 10 to 19: seg = 9 / 4, positions 1, 3, 6, 8.
    assert seen(decoded.frames) == [11, 13, 16, 18]
    assert decoded.timestamps_s == pytest.approx([1.1, 1.3, 1.6, 1.8])
    assert read_waveform(path, start_s=1.0, end_s=2.0).waveform.shape == (16_000,)
    # A span between two frames shows the one on screen.
    assert seen(read_frames(path, 1, start_s=1.01, end_s=1.05).frames) == [10]
    with pytest.raises(MediaError, match=r"no picture between 9\.00 s and 10\.00 s"):
        read_frames(path, 4, start_s=9.0, end_s=10.0)
    assert "no sound in the span" in read_waveform(path, start_s=9.0, end_s=9.5).warnings[0]
    with pytest.raises(MediaError, match="empty or negative"):
        read_frames(path, 4, start_s=2.0, end_s=1.0)


def test_span_of_the_sound_begins_where_asked(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mkv", num_frames=40)
    whole = read_waveform(path).waveform
    part = read_waveform(path, start_s=2.0, end_s=3.0).waveform
    assert float((part[100:-100] - whole[32_100:47_900]).abs().max()) < 0.02


def test_long_clip_is_read_by_seeking(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", num_frames=600, gop=20, width=32, height=32)
    decoded = read_frames(path, 4)
    assert seen(decoded.frames) == [75 % 25, 225 % 25, 374 % 25, 524 % 25]
    assert decoded.timestamps_s == pytest.approx([7.5, 22.5, 37.4, 52.4])


def test_few_frames_are_filled_up_with_black(tmp_path: Path) -> None:
    decoded = read_frames(write_clip(tmp_path / "a.mp4", num_frames=3), 8)
    assert seen(decoded.frames)[:3] == [0, 1, 2]
    assert not decoded.frames[3:].any()
    assert len(decoded.timestamps_s) == 3
    assert decoded.warnings == ("the clip has 3 of 8 frames: black frames fill up",)


def test_rotated_clip_is_turned_upright(tmp_path: Path) -> None:
    path = rotate_clockwise(write_clip(tmp_path / "a.mp4"))
    decoded = read_frames(path, 2)
    assert decoded.frames.shape == (2, 64, 48, 3)
    # The red quarter of the stored picture, top left, is shown top right.
    assert decoded.frames[0, 8, 40, 0] > 200
    assert decoded.frames[0, 8, 40, 1] < 60
    assert decoded.frames[0, 8, 8, 0] < 100


def test_clip_without_sound_gives_ten_seconds_of_silence(tmp_path: Path) -> None:
    sound = read_waveform(write_clip(tmp_path / "a.mp4", sound=False))
    assert sound.waveform.shape == (160_000,)
    assert not sound.waveform.any()
    assert sound.warnings == (NO_TRACK_WARNING,)


def test_stereo_integers_are_averaged(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=16_000, layout="stereo")
        values = np.tile(np.array([16_384, 8_192], dtype=np.int16), 8_000)[None]
        frame = av.AudioFrame.from_ndarray(values, format="s16", layout="stereo")
        frame.sample_rate = 16_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    waveform = read_waveform(path).waveform
    assert waveform.shape == (8_000,)
    assert waveform.numpy() == pytest.approx(np.full(8_000, 0.375))
    with pytest.raises(MediaError, match="no picture track"):
        read_frames(path, 4)


def write_channels(
    path: Path, codec: str, layout: str, levels: list[float], options: dict[str, str] | None = None
) -> Path:
    """Sound whose channels each hold one level throughout, at 48 kHz."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=48_000, layout=layout, options=options)
        resampler = av.AudioResampler(stream.format, layout, 48_000, 960)
        values = np.tile(np.array(levels, dtype=np.float32), 9_600)[None]
        frame = av.AudioFrame.from_ndarray(values, format="flt", layout=layout)
        frame.sample_rate = 48_000
        for piece in resampler.resample(frame):
            container.mux(stream.encode(piece))
        container.mux(stream.encode())
    return path


def middle_level(clip: Clip) -> str:
    try:
        waveform = read_waveform(clip.path).waveform
        return f"{float(waveform[len(waveform) // 2]):.2f}"
    except MediaError as error:
        return str(error)


def test_eight_channels_and_more(tmp_path: Path) -> None:
    # In processes of their own, since these were crashes: PyAV reads beyond eight planes.
    levels = [0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.5]
    paths = [
        write_channels(tmp_path / "packed.flac", "flac", "7.1", levels),
        write_channels(tmp_path / "planar.m4a", "alac", "7.1(wide)", levels),
        write_channels(
            tmp_path / "many.mkv", "libopus", "hexadecagonal", [0.1] * 16, {"mapping_family": "255"}
        ),
    ]
    outcomes = dict(in_workers([Clip(path) for path in paths], middle_level, 1))
    reasons = [outcomes[Clip(path)] or "" for path in paths]
    assert reasons[:2] == ["0.15", "0.15"]
    assert "many.mkv: its sound has 16 channels; " in reasons[2]


def test_truncated_matroska_warns(tmp_path: Path) -> None:
    path = truncate(write_clip(tmp_path / "a.mkv", num_frames=50), 0.5)
    decoded = read_frames(path, 4)
    assert decoded.warnings[0].startswith("the file is truncated: ")
    assert max(decoded.timestamps_s) < 3.0


def test_damaged_packets_are_counted(tmp_path: Path) -> None:
    # VP8 refuses a frame whose header is destroyed; H.264 would conceal the damage.
    path = write_clip(tmp_path / "a.webm", codec="libvpx", num_frames=40, sound=False)
    with av.open(str(path)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    data = path.read_bytes()
    key_frame = packets[12]  # every twelfth frame is one
    path.write_bytes(data.replace(key_frame, b"\xff" * len(key_frame)))
    decoded = read_frames(path, 8)
    assert any("damaged packets" in warning for warning in decoded.warnings)
    assert decoded.frames.shape == (8, 48, 64, 3)


@pytest.mark.parametrize(
    "kind",
    ["missing", "empty", "truncated", "concat", "playlist", "text", "folder", "pipe", "odd name"],
)
def test_unreadable_file_is_one_line_with_path_and_reason(tmp_path: Path, kind: str) -> None:
    write_clip(tmp_path / "neighbour.mp4")
    path = tmp_path / "x.mp4"
    if kind == "empty":
        path.touch()
    elif kind == "truncated":
        truncate(write_clip(path), 0.5)
    elif kind == "concat":
        # FFmpeg would follow it to the neighbour if its format were not refused.
        path.write_text("ffconcat version 1.0\nfile neighbour.mp4\n")
    elif kind == "playlist":
        path.write_text("#EXTM3U\n#EXTINF:2,\nconcat:neighbour.mp4|neighbour.mp4\n")
    elif kind == "text":
        path.write_text("this is no video\n" * 50)
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)  # whoever opens it waits for a writer
    elif kind == "odd name":
        path = tmp_path / "a\nb\x1b[31m\u202e\udcff \N{GRINNING FACE}.mp4"
        path.touch()
    shown = str(path)
    if kind == "odd name":
        shown = f"{tmp_path}/a\\nb\\x1b[31m\\u202e\\udcff \N{GRINNING FACE}.mp4"
    reads = (
        lambda: read_frames(path, 4),
        lambda: read_waveform(path),
        lambda: read_duration_s(path),
    )
    for read in reads:
        with pytest.raises(MediaError) as caught:
            read()
        assert str(caught.value).startswith(f"{shown}: ")
        assert str(caught.value).isprintable()


def test_pixel_limit(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4")
    with pytest.raises(MediaError, match="64x48 pixels exceed the limit of 1000"):
        read_frames(path, 4, max_pixels=1000)
    long = write_clip(tmp_path / "b.mkv", width=64, height=8208, num_frames=1, sound=False)
    with pytest.raises(MediaError, match="64x8208 pixels exceed the limit of 8192 pixels a side"):
        read_frames(long, 4)
