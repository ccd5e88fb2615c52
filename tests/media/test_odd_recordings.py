"""Recordings that are whole and yet unusual: empty packets, turned pictures, odd containers."""

from __future__ import annotations

import struct
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch
from av.bitstream import BitStreamFilterContext
from clips import seen_index, write_clip

from r1omni.media.audio import read_waveform
from r1omni.media.config import MediaConfig
from r1omni.media.container import MediaError, decode, read_packets
from r1omni.media.processor import MediaProcessor
from r1omni.media.timeline import read_duration_s
from r1omni.media.video import read_frames
from r1omni.types import Clip

SMALL = MediaConfig(num_frames=4, image_size=32, num_mel_bins=20, audio_length_s=4.0)


# Empty packets ------------------------------------------------------------------------------------


def ogg_page(packets: list[bytes], number: int, granule: int, flags: int) -> bytes:
    head = b"OggS" + struct.pack("<BBqIII", 0, flags, granule, 1, number, 0)
    page = head + bytes([len(packets), *map(len, packets)]) + b"".join(packets)
    value = 0
    for byte in page:
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1 ^ 0x04C11DB7 if value >> 31 else value << 1) & 0xFFFFFFFF
    return page[:22] + value.to_bytes(4, "little") + page[26:]


def write_speex(path: Path, num_packets: int) -> Path:
    """Narrow-band Speex of 20 ms a packet, every fifth packet of which is empty."""
    head = b"Speex   1.2" + bytes(17) + struct.pack(
        "<13i", 1, 80, 8_000, 0, 4, 1, -1, 160, 0, 1, 0, 0, 0
    )  # fmt: skip
    silent = b"\x03\xff"  # a frame of mode 0, and the mark behind the last frame
    packets = [b"" if index % 5 == 3 else silent for index in range(num_packets)]
    comment = struct.pack("<II", 0, 0)
    path.write_bytes(
        ogg_page([head], 0, 0, 2)
        + ogg_page([comment], 1, 0, 0)
        + ogg_page(packets, 2, 160 * num_packets, 4)
    )
    return path


def test_empty_packets_of_sound(tmp_path: Path) -> None:
    path = write_speex(tmp_path / "a.spx", 100)
    assert read_duration_s(path) == pytest.approx(2.0)
    sound = read_waveform(path)
    assert sound.waveform.shape == (32_000,)  # pauses keep their time
    assert sound.warnings == ()


def test_empty_packets_do_not_end_a_picture(tmp_path: Path) -> None:
    # As Theora says "the same once more"; no encoder writes such packets.
    with av.open(str(write_clip(tmp_path / "a.mkv"))) as container:
        given = []
        for packet in container.demux(video=0):
            given.append(packet)
            if packet.size:
                repeated = av.Packet(0)
                repeated.pts, repeated.dts = packet.pts, packet.dts
                given.append(repeated)
        fake = SimpleNamespace(demux=lambda *_: iter(given))
        stream = container.streams.video[0]
        read = list(read_packets(fake, [stream]))
        frames = [frame for packet in read for frame in decode(Path("a"), stream, packet)]
    assert [seen_index(frame.to_ndarray(format="rgb24")) for frame in frames] == list(range(20))


# Turned and stretched pictures --------------------------------------------------------------------


def remuxed(source: Path, path: Path, filter_name: str) -> Path:
    """The picture of a recording in another container, through a filter of its packets."""
    with av.open(str(source)) as read, av.open(str(path), "w") as written:
        stream = written.add_stream_from_template(read.streams.video[0])
        filtering = BitStreamFilterContext(filter_name, read.streams.video[0], stream)
        for packet in read.demux(video=0):
            if packet is not None and not packet.size:
                continue
            for piece in filtering.filter(packet):
                piece.stream = stream
                written.mux(piece)
    return path


@pytest.mark.parametrize("span", [(None, None), (2.5, 3.5)])
def test_a_rotation_that_key_frames_state_holds_for_all_frames(
    tmp_path: Path, span: tuple[float | None, float | None]
) -> None:
    source = write_clip(tmp_path / "a.mp4", num_frames=40, sound=False)
    path = remuxed(source, tmp_path / "a.ts", "h264_metadata=display_orientation=insert:rotate=90")
    frames = read_frames(path, 8, *span).frames
    assert frames.shape == (8, 64, 48, 3)
    # The red quarter of the stored picture, top left, is shown bottom left.
    assert (frames[:, 40:56, 4:20, 0] > 200).all() and (frames[:, 40:56, 4:20, 1] < 60).all()
    assert np.ptp(frames[:, :24], axis=3).max() < 20  # grey


def test_pixels_that_are_not_square(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "a.mp4", sound=False)
    path = remuxed(source, tmp_path / "b.mp4", "h264_metadata=sample_aspect_ratio=4/3")
    assert read_frames(source, 4).warnings == ()
    [warning] = read_frames(path, 4).warnings
    assert warning == "its pixels are not square (4:3): the picture is seen narrower than it is"


# A medium that is not there -----------------------------------------------------------------------


def test_no_sound_where_sound_is_asked_for(tmp_path: Path) -> None:
    processor = MediaProcessor(SMALL)
    silent = Clip(write_clip(tmp_path / "a.mp4", sound=False))
    short = Clip(write_clip(tmp_path / "b.mp4", sound_s=0.5), start_s=1.0, end_s=2.0)
    empty = tmp_path / "a.wav"
    form = b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 16_000, 32_000, 2, 16) + b"data"
    empty.write_bytes(b"RIFF" + struct.pack("<I", len(form) + 4) + form + bytes(4))
    for clip, reason in ((silent, "no sound track"), (short, "no sound between 1.00 s and 2.00 s")):
        with pytest.raises(MediaError, match=rf"{reason}; use modality video for its picture"):
            processor.load(clip, "audio")
        for media in (processor.load(clip), processor.load(clip, "audio", silence=True)):
            assert torch.equal(media.mel, processor.silence())
            assert media.warnings[-1].endswith("silence is used")
    with pytest.raises(MediaError, match="holds no sound; give a file with sound"):
        processor.load(Clip(empty), "audio")


@pytest.mark.parametrize("modality", ["video", "video_audio"])
def test_no_picture_where_a_picture_is_asked_for(tmp_path: Path, modality: str) -> None:
    path = write_speex(tmp_path / "a.spx", 50)
    with pytest.raises(MediaError, match="no picture track; use modality audio for its sound"):
        MediaProcessor(SMALL).load(Clip(path), modality)


# Containers that are not read ---------------------------------------------------------------------

NOT_READ = {
    "a.mp4": (b"ffconcat version 1.0\nfile neighbour.mp4\n", "is a playlist (ffconcat)"),
    "a.m3u8": (b"#EXTM3U\n#EXTINF:2,\nneighbour.mp4\n#EXT-X-ENDLIST\n", "is a playlist (HLS)"),
    "a.sdp": (b"v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\n", "is a playlist (SDP)"),
    "a.mpd": (b'<?xml version="1.0"?><MPD></MPD>', "is a playlist (DASH)"),
    "a.au": (b".snd" + struct.pack(">5I", 24, 1000, 3, 8000, 1) + bytes(1000), "of a kind that"),
    "a.srt": (b"1\n00:00:01,000 --> 00:00:02,000\nHello.\n\n" * 9, "of a kind that is not read"),
}


@pytest.mark.parametrize("name", NOT_READ)
def test_containers_that_are_not_read_are_named(tmp_path: Path, name: str) -> None:
    content, reason = NOT_READ[name]
    write_clip(tmp_path / "neighbour.mp4")
    (tmp_path / name).write_bytes(content)
    for read in (read_waveform, read_duration_s, lambda path: read_frames(path, 1)):
        with pytest.raises(MediaError) as caught:
            read(tmp_path / name)
        assert reason in str(caught.value)
        assert "; give the recordings" in str(caught.value) or "; convert it" in str(caught.value)
