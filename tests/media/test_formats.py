"""Every container that is accepted: its length, and reading spans of it at a constant cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
import pytest
from clips import brightness, seen_index

from r1omni.media import audio, timeline, video
from r1omni.media.audio import read_sound_windows, read_waveform
from r1omni.media.config import MediaConfig
from r1omni.media.container import FORMATS
from r1omni.media.processor import MediaProcessor
from r1omni.media.timeline import read_duration_s, scan_timeline
from r1omni.media.video import DecodedFrames, read_frames, read_windows, sample_indices

Find = Callable[[str, bool], Path]

LENGTH_S, FPS = 12, 25
SMALL = MediaConfig(num_frames=4, image_size=32, num_mel_bins=20, audio_length_s=4.0)
# Blocks of lossy sound: what a stated length may leave out or add.
BLOCKS_S = 0.12


class Writing(NamedTuple):
    """How FFmpeg writes a format: its name as a muxer, and codecs."""

    muxer: str
    sound: str
    rate_hz: int = 16_000
    picture: str | None = None
    layout: str = "mono"


WRITTEN = {
    "mov": Writing("mov", "aac", picture="libx264"),
    "mp4": Writing("mp4", "aac", picture="libx264"),
    "m4a": Writing("ipod", "alac", picture="libx264"),
    "3gp": Writing("3gp", "libopencore_amrnb", 8_000, "libx264"),
    "3g2": Writing("3g2", "aac", picture="mpeg4"),
    "matroska": Writing("matroska", "aac", picture="libx265"),
    "webm": Writing("webm", "libopus", 48_000, "libvpx"),
    "avi": Writing("avi", "pcm_s16le", picture="mpeg4"),
    "mpegts": Writing("mpegts", "mp2", picture="libx264"),
    "flv": Writing("flv", "mp3", 22_050, "flv"),
    "ogg": Writing("ogg", "vorbis", picture="libvpx", layout="stereo"),
    "wav": Writing("wav", "pcm_s16le"),
    "mp3": Writing("mp3", "mp3"),
    "flac": Writing("flac", "flac"),
    "aac": Writing("adts", "aac"),
    "asf": Writing("asf", "wmav2", 44_100, "msmpeg4"),
    "mpeg": Writing("vob", "mp2", picture="mpeg2video"),
    "amr": Writing("amr", "libopencore_amrnb", 8_000),
    "aiff": Writing("aiff", "pcm_s16be"),
    "caf": Writing("caf", "pcm_s16be"),
    "w64": Writing("w64", "pcm_s16le"),
}
WITH_PICTURE = [name for name, writing in WRITTEN.items() if writing.picture]
# FFmpeg writes no Motion JPEG 2000, and reads it as the other formats of its family.
UNWRITTEN = {"mj2"}


def pitch_hz(second: int) -> float:
    return 300.0 + 200.0 * second


def write(path: Path, name: str, picture: bool, picture_codec: str | None = None) -> Path:
    """A recording of `LENGTH_S` in which every frame and every second of the sound is known."""
    how = WRITTEN[name]
    with av.open(str(path), "w", format=how.muxer) as container:
        shown: Any = None
        if picture:
            shown = container.add_stream(picture_codec or how.picture, rate=FPS)
            shown.width, shown.height, shown.pix_fmt = 64, 48, "yuv420p"
            shown.codec_context.gop_size = FPS
            shown.codec_context.time_base = Fraction(1, FPS)
            shown.codec_context.thread_count = 1
            if how.picture == "libx265":
                shown.codec_context.options = {"x265-params": "log-level=none"}
        heard: Any = container.add_stream(how.sound, rate=how.rate_hz, layout=how.layout)
        if how.sound == "wmav2":
            heard.codec_context.bit_rate = 128_000
        if how.sound == "vorbis":
            heard.codec_context.options = {"strict": "experimental"}
        times = np.arange(LENGTH_S * how.rate_hz) / how.rate_hz
        tone = 0.5 * np.sin(2 * np.pi * np.cumsum(300 + 200 * np.floor(times)) / how.rate_hz)
        heard.codec_context.open()
        block_size = heard.codec_context.frame_size or 1024
        resampler = av.AudioResampler(heard.format, how.layout, how.rate_hz, block_size)
        for second in range(LENGTH_S):
            for index in range(second * FPS, (second + 1) * FPS) if picture else ():
                grey = np.full((48, 64), brightness(index), dtype=np.uint8)
                frame = av.VideoFrame.from_ndarray(grey, format="gray")
                frame.pts = index
                container.mux(shown.encode(frame))
            piece = tone[second * how.rate_hz :][: how.rate_hz].astype(np.float32)
            sound = av.AudioFrame.from_ndarray(piece[None], format="flt", layout="mono")
            sound.sample_rate, sound.pts = how.rate_hz, second * how.rate_hz
            for block in resampler.resample(sound):
                container.mux(heard.encode(block))
        for block in resampler.resample(None):
            container.mux(heard.encode(block))
        for stream in (shown, heard):
            container.mux(stream.encode() if stream is not None else [])
    return path


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Find:
    """A recording of a format, with a picture or without."""
    folder = tmp_path_factory.mktemp("formats")

    def find(name: str, picture: bool) -> Path:
        path = folder / f"{name} {picture}"
        return path if path.exists() else write(path, name, picture)

    return find


BOTH_KINDS = [(name, False) for name in WRITTEN] + [(name, True) for name in WITH_PICTURE]
EACH = pytest.mark.parametrize(("name", "picture"), BOTH_KINDS)


def heard_hz(waveform: Any) -> float:
    """The strongest frequency of the middle of a waveform at 16 kHz."""
    middle = waveform.numpy()[len(waveform) // 4 : -len(waveform) // 4]
    return float(
        np.abs(np.fft.rfft(middle * np.hanning(len(middle)))).argmax() * 16_000 / len(middle)
    )


def test_every_accepted_format_is_tried() -> None:
    assert set(FORMATS.split(",")) == WRITTEN.keys() | UNWRITTEN


@EACH
def test_length(recording: Find, name: str, picture: bool) -> None:
    path = recording(name, picture)
    assert read_duration_s(path) == pytest.approx(LENGTH_S, abs=BLOCKS_S)
    waveform = read_waveform(path).waveform
    assert len(waveform) / 16_000 == pytest.approx(LENGTH_S, abs=BLOCKS_S)


@EACH
def test_spans(recording: Find, name: str, picture: bool) -> None:
    path = recording(name, picture)
    for second in (10, 4, 1):
        span = (float(second), second + 1.0)
        waveform = read_waveform(path, 16_000, *span).waveform
        assert len(waveform) == pytest.approx(16_000, abs=16)  # time stamps of milliseconds
        assert heard_hz(waveform) == pytest.approx(pitch_hz(second), abs=15)
    if not picture:
        return
    whole = read_frames(path, LENGTH_S * FPS)
    shown = [seen_index(frame) for frame in whole.frames]
    for second in (10, 4, 0):
        decoded = read_frames(path, 5, second, second + 1.0)
        assert decoded.warnings == ()
        within = [place for place, at_s in enumerate(whole.timestamps_s) if at_s // 1 == second]
        wanted = [shown[within[place]] for place in sample_indices(len(within), 5)]
        assert seen(decoded) == pytest.approx(wanted, abs=late(name))
        # Sound whose first block lies before the beginning moves the picture by a frame or two.
        assert seen(decoded) == pytest.approx([2, 7, 12, 17, 22], abs=2)


def seen(decoded: DecodedFrames) -> list[int]:
    return [seen_index(frame) for frame in decoded.frames]


def late(name: str) -> int:
    """Frames by which a time may be wrong: MPEG-PS stamps packs of 2 KiB, not small frames."""
    return 1 if name == "mpeg" else 0


# Lengths that are stated wrongly ------------------------------------------------------------------


def plain_sound(path: Path, codec: str, bit_rate: int, seconds: int) -> bytes:
    """Noise as mp3 or raw AAC without a header that states its length."""
    options = {"write_xing": "0", "id3v2_version": "0"} if codec == "mp3" else {}
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=16_000, layout="mono")
        stream.codec_context.bit_rate = bit_rate
        noise = np.random.default_rng(0).normal(0, 0.1, 16_000 * seconds).astype(np.float32)
        for begin in range(0, len(noise), 1024):
            piece = noise[None, begin : begin + 1024]
            frame = av.AudioFrame.from_ndarray(piece, format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 16_000, begin
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path.read_bytes()


@pytest.mark.parametrize(("suffix", "codec"), [("mp3", "mp3"), ("aac", "aac")])
@pytest.mark.parametrize("rates", [(16_000, 96_000), (96_000, 16_000)])
def test_a_length_guessed_from_the_first_bytes(
    tmp_path: Path, suffix: str, codec: str, rates: tuple[int, int]
) -> None:
    path = tmp_path / f"whole.{suffix}"
    parts = [plain_sound(tmp_path / f"part.{suffix}", codec, rate, 8) for rate in rates]
    path.write_bytes(b"".join(parts))
    with av.open(str(path)) as container:
        assert not 12 < container.duration / 1e6 < 20  # what FFmpeg takes it for
    assert read_duration_s(path) == pytest.approx(16.0, abs=2 * BLOCKS_S)
    assert len(read_waveform(path).waveform) / 16_000 == pytest.approx(16.0, abs=2 * BLOCKS_S)
    # A span behind the stated end, or before it, is the one that is asked for.
    whole = read_waveform(path).waveform[10 * 16_000 : 11 * 16_000]
    span = read_waveform(path, 16_000, 10.0, 11.0).waveform
    assert float((whole - span).abs().mean()) < 0.01


def test_a_picture_that_states_a_wrong_length(tmp_path: Path) -> None:
    path = write(tmp_path / "a.avi", "avi", True)
    data = bytearray(path.read_bytes())
    for mark, place in ((b"avih", 24), (b"strh", 40), (b"strh", 40)):  # counts of frames, samples
        begin = data.index(mark) + place
        data[begin : begin + 4] = (50).to_bytes(4, "little")
        data = data.replace(mark, mark.upper(), 1)
    path.write_bytes(data.replace(b"AVIH", b"avih").replace(b"STRH", b"strh"))
    with av.open(str(path)) as container:
        assert container.duration < 3e6
    assert read_duration_s(path) == pytest.approx(LENGTH_S, abs=BLOCKS_S)
    assert len(read_waveform(path).waveform) / 16_000 == pytest.approx(LENGTH_S, abs=BLOCKS_S)


# Costs --------------------------------------------------------------------------------------------


@pytest.fixture
def spent(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts packets read and packets given to a decoder."""
    counts: Counter[str] = Counter()
    read_packets, decode = video.read_packets, video.decode

    def counted_packets(*arguments: Any) -> Iterator[Any]:
        for packet in read_packets(*arguments):
            counts["packets"] += 1
            yield packet

    def counted_decode(path: Path, stream: Any, packet: Any) -> Any:
        counts[f"{stream.type} decoded"] += 1
        return decode(path, stream, packet)

    for module in (timeline, video, audio):
        monkeypatch.setattr(module, "read_packets", counted_packets)
    for module in (video, audio):
        monkeypatch.setattr(module, "decode", counted_decode)
    return counts


@EACH
def test_a_span_costs_the_same_wherever_it_is(
    recording: Find, spent: Counter[str], name: str, picture: bool
) -> None:
    path = recording(name, picture)
    costs = []
    # Matroska lists a place every five seconds in a sound, so both are far from one.
    for start_s in (4.5, 10.5):
        spent.clear()
        read_waveform(path, 16_000, start_s, start_s + 1.0)
        if picture:
            read_frames(path, 5, start_s, start_s + 1.0)
        costs.append(dict(spent))
    near, far = costs
    assert near.keys() == far.keys()
    for what, count in far.items():
        assert 0 < count <= 1.3 * near[what] + 5, what
    if picture:
        assert far["video decoded"] <= 3 * FPS  # the second, and the one before its key frame


def reordered_avi(folder: Path) -> Path:
    """AVI states no presentation times; with reordered frames they can only be counted."""
    path = folder / "reordered.avi"
    return path if path.exists() else write(path, "avi", True, picture_codec="libx264")


@pytest.mark.parametrize("name", [*WITH_PICTURE, "reordered avi"])
def test_windows_are_read_forward_once(
    recording: Find, spent: Counter[str], tmp_path: Path, name: str
) -> None:
    path = recording(name, True) if name != "reordered avi" else reordered_avi(tmp_path)
    spans = [(0.5 * place, 0.5 * place + 1.0) for place in range(23)]
    whole = scan_timeline(path)
    scanned, _ = spent.pop("packets"), spent.clear()
    pictures = list(read_windows(path, whole, spans, 5, lambda frame: frame))
    sounds = list(read_sound_windows(path, spans, 16_000))
    num_frames = LENGTH_S * FPS
    assert num_frames <= spent["video decoded"] + FPS <= num_frames + 2 * FPS
    assert spent["packets"] <= scanned + 2 * FPS
    assert spent["audio decoded"] <= scanned - num_frames + 2
    for span, picture, sound in list(zip(spans, pictures, sounds, strict=True))[::7]:
        alone = read_frames(path, 5, *span)
        assert seen(picture) == pytest.approx(seen(alone), abs=late(name))
        assert picture.timestamps_s == pytest.approx(alone.timestamps_s, abs=2 * late(name) / FPS)
        heard = read_waveform(path, 16_000, *span).waveform
        assert float((sound.waveform - heard).abs().mean()) < 0.005


def test_gaps_between_windows_are_not_decoded(recording: Find, spent: Counter[str]) -> None:
    path = recording("mp4", True)
    whole = scan_timeline(path)
    spent.clear()
    spans = [(0.0, 1.0), (10.0, 11.0)]
    _, second = read_windows(path, whole, spans, 5, lambda frame: frame)
    assert np.array_equal(second.frames, read_frames(path, 5, 10.0, 11.0).frames)
    list(read_sound_windows(path, spans, 16_000))
    assert spent["video decoded"] < 5 * FPS
    assert spent["audio decoded"] < 4 * 16_000 / 1024


@pytest.mark.parametrize(("modality", "passes"), [("video_audio", 3), ("video", 2), ("audio", 2)])
def test_a_recording_is_surveyed_once_for_all_windows(
    recording: Find, spent: Counter[str], modality: str, passes: int
) -> None:
    path = recording("mp4", True)
    scan_timeline(path)
    scanned = spent["packets"]
    spent.clear()
    found = list(MediaProcessor(SMALL).load_windows(path, 0.5, None, modality))
    assert [round(start_s, 6) for start_s, *_ in found] == [0.5 * place for place in range(24)]
    assert spent["packets"] <= passes * scanned + 5
