"""A corpus of damaged, odd and hostile recordings, made from small clips by a seed."""

from __future__ import annotations

import functools
import json
import os
import random
import struct
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import av
import numpy as np

RATE_HZ = 16_000
_FPS = 10
_NUM_FRAMES = 15
_SOUND_S = 1.5
_SOUND_BLOCK = 1152  # a frame of mp3; the other encoders take any length
# Container -> codecs of picture and sound.
_FILMS = {
    ".mp4": ("libx264", "aac"),
    ".mkv": ("libx264", "aac"),
    ".avi": ("mpeg4", "mp3"),
    ".webm": ("libvpx", "libopus"),
}
_SOUNDS = {".wav": "pcm_s16le", ".mp3": "mp3"}

Outcome = Literal["decoded", "skipped", "either"]
# (chance, clean files by name) -> (suffix, content)
Mutation = Callable[[random.Random, "Bases"], tuple[str, bytes]]
Bases = dict[str, bytes]


@dataclass(frozen=True)
class Case:
    """One entry of the corpus.

    Attributes:
        kind: name of the mutation.
        path: the file that was mutated.
        picture: a whole file with the picture, where `path` holds sound alone; otherwise None.
        expected: "decoded", "skipped", or "either" where the damage is left to chance.
    """

    kind: str
    path: Path
    picture: Path | None
    expected: Outcome


# Clean files -------------------------------------------------------------------------------------


def encode(
    path: Path,
    codec: str | None,
    sound_codec: str | None,
    size: tuple[int, int] = (64, 48),
    times: Sequence[int] = range(_NUM_FRAMES),
) -> bytes:
    """A clip with a moving bar and a tone, the same bytes whenever it is made.

    Args:
        path: where to; its suffix names the container.
        codec: of the picture, or None for sound alone.
        sound_codec: of the sound, or None for a silent film.
        size: width and height in pixels.
        times: of the frames, in tenths of a second.
    """
    with av.open(os.fspath(path), "w", options={"fflags": "+bitexact"}) as container:
        video = container.add_stream(codec, rate=_FPS) if codec else None
        sound = (
            container.add_stream(
                sound_codec, rate=48_000 if "opus" in sound_codec else RATE_HZ, layout="mono"
            )
            if sound_codec
            else None
        )
        if video is not None:
            video.width, video.height = size
            video.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
            video.codec_context.time_base = Fraction(1, _FPS)
            video.codec_context.thread_count = 1
            for time in times:
                picture = np.full((size[1], size[0]), 128, dtype=np.uint8)
                picture[:, (4 * time) % size[0] :][:, :8] = 235
                frame = av.VideoFrame.from_ndarray(picture, format="gray")
                frame.pts = time
                container.mux(video.encode(frame))
            container.mux(video.encode())
        if sound is not None:
            rate_hz = sound.codec_context.sample_rate
            tone = 0.5 * np.sin(2 * np.pi * 440 / rate_hz * np.arange(int(_SOUND_S * rate_hz)))
            values = (32_767 * tone).astype(np.int16)
            resampler = av.AudioResampler(sound.format, sound.layout, rate_hz, _SOUND_BLOCK)
            whole = av.AudioFrame.from_ndarray(values[None], format="s16", layout="mono")
            whole.sample_rate, whole.pts = rate_hz, 0
            for block in (*resampler.resample(whole), *resampler.resample(None)):
                container.mux(sound.encode(block))
            container.mux(sound.encode())
    return path.read_bytes()


@functools.cache
def clean_files() -> Bases:
    """Content of whole files by name: every container, and the shapes mutations begin with."""
    with tempfile.TemporaryDirectory(prefix="r1omni-clean-") as folder:

        def make(name: str, *arguments: object, **keywords: object) -> bytes:
            return encode(Path(folder) / name, *arguments, **keywords)  # type: ignore[arg-type]

        bases = {f"clip{suffix}": make(f"a{suffix}", *codecs) for suffix, codecs in _FILMS.items()}
        bases |= {f"clip{suffix}": make(f"a{suffix}", None, c) for suffix, c in _SOUNDS.items()}
        uneven = [0, 1, 2, 5, 6, 20, 21, 23, 40, 41]
        for suffix, (codec, sound_codec) in _FILMS.items():
            bases[f"silent{suffix}"] = make(f"b{suffix}", codec, None)
            bases[f"blind{suffix}"] = make(f"c{suffix}", None, sound_codec)
            bases[f"one{suffix}"] = make(f"d{suffix}", codec, sound_codec, times=[0])
        for suffix in (".mp4", ".mkv"):
            bases[f"uneven{suffix}"] = make(f"e{suffix}", *_FILMS[suffix], times=uneven)
        sizes = {"vast": (12_000, 12_000), "wide": (12_000, 64), "tall": (64, 12_000)}
        for name, size in sizes.items():
            bases[f"{name}.mkv"] = make(f"{name}.mkv", "mjpeg", None, size=size, times=[0])
        bases["wide.avi"] = make("wide.avi", "mjpeg", None, size=sizes["wide"], times=[0])
        bases["wide.mp4"] = make("wide.mp4", "libx264", None, size=sizes["wide"], times=[0, 1])
    return bases


# Mutations ---------------------------------------------------------------------------------------


def _any_clip(chance: random.Random, bases: Bases, name: str = "clip") -> tuple[str, bytearray]:
    chosen = chance.choice(sorted(key for key in bases if key.startswith(f"{name}.")))
    return Path(chosen).suffix, bytearray(bases[chosen])


def _clean(name: str) -> Mutation:
    return lambda chance, bases: _any_clip(chance, bases, name)  # type: ignore[return-value]


def _truncated(chance: random.Random, bases: Bases) -> tuple[str, bytes]:
    suffix, data = _any_clip(chance, bases)
    return suffix, data[: chance.randrange(1, len(data))]


def _flipped(chance: random.Random, bases: Bases) -> tuple[str, bytes]:
    suffix, data = _any_clip(chance, bases)
    for _ in range(chance.choice([1, 4, 16, 64, 256])):
        data[chance.randrange(len(data))] ^= chance.randrange(1, 256)
    return suffix, data


def _flipped_header(chance: random.Random, bases: Bases) -> tuple[str, bytes]:
    """Where containers keep their structure: the first bytes, and in an mp4 the last."""
    suffix, data = _any_clip(chance, bases)
    length = min(1200, len(data))
    begin = len(data) - length if suffix == ".mp4" else 0
    for _ in range(chance.choice([1, 2, 4, 8, 32])):
        data[begin + chance.randrange(length)] ^= 1 << chance.randrange(8)
    return suffix, data


def _zeroed(chance: random.Random, bases: Bases) -> tuple[str, bytes]:
    suffix, data = _any_clip(chance, bases)
    begin = chance.randrange(len(data))
    length = min(chance.choice([16, 256, 4096, len(data)]), len(data) - begin)
    data[begin : begin + length] = bytes(length)
    return suffix, data


def _shuffled(chance: random.Random, bases: Bases) -> tuple[str, bytes]:
    """Blocks in another order, as a failing disk or a broken download leaves them."""
    suffix, data = _any_clip(chance, bases)
    blocks = [data[i : i + 512] for i in range(0, len(data), 512)]
    first, second = chance.randrange(len(blocks)), chance.randrange(len(blocks))
    blocks[first], blocks[second] = blocks[second], blocks[first]
    return suffix, b"".join(blocks)


def _joined(chance: random.Random, bases: Bases) -> tuple[str, bytes]:
    """The beginning of one file and the end of another."""
    suffix, data = _any_clip(chance, bases)
    _, other = _any_clip(chance, bases)
    return suffix, data[: chance.randrange(len(data))] + other[chance.randrange(len(other)) :]


def _odd_rate(chance: random.Random, bases: Bases) -> tuple[str, bytes]:
    """A wav whose header states a sampling rate that no recorder has."""
    data = bytearray(bases["clip.wav"])
    place = data.index(b"fmt ") + 12
    rates = [1, 7, 999, 44_101, 191_999, 767_999, 10_000_019, 2**31 - 1]
    data[place : place + 4] = struct.pack("<I", chance.choice(rates))
    return ".wav", data


def _rotated(chance: random.Random, bases: Bases) -> tuple[str, bytes]:
    """A display matrix in every track header of an mp4, as phones write it."""
    data = bytearray(bases["clip.mp4"])
    one = 1 << 16
    a, b = chance.choice([(0, one), (-one, 0), (0, -one)])
    begin = -1
    while (begin := data.find(b"tkhd", begin + 1)) != -1:
        matrix = begin + 4 + (52 if data[begin + 4] == 1 else 40)
        data[matrix : matrix + 36] = struct.pack(">9i", a, b, 0, -b, a, 0, 0, 0, 1 << 30)
    return ".mp4", data


def _huge_frames(chance: random.Random, bases: Bases) -> tuple[str, bytes]:
    """Frames of 12000 px; half of the Matroska files state 64 px in their header."""
    suffix, data = _any_clip(chance, bases, chance.choice(["vast", "wide", "tall"]))
    if suffix == ".mkv" and chance.random() < 0.5:
        data = understate(data)
    return suffix, data


def understate(data: bytes) -> bytes:
    """A Matroska file of 12000 px whose header states 64 px."""
    for tag in (b"\xb0\x82", b"\xba\x82"):  # PixelWidth, PixelHeight
        data = data.replace(tag + struct.pack(">H", 12_000), tag + struct.pack(">H", 64))
    return data


def _wrong_extension(chance: random.Random, bases: Bases) -> tuple[str, bytes]:
    suffix = chance.choice(sorted(_FILMS))
    others = [other for other in (*_FILMS, ".txt", ".jpg", "") if other != suffix]
    return chance.choice(others), bases[f"clip{suffix}"]


def _noise(chance: random.Random, bases: Bases) -> tuple[str, bytes]:
    """Bytes that are no recording, and begin like other files."""
    heads = [b"", b"\xff\xd8\xff\xe0", b"PK\x03\x04", b"%PDF-1.7\n", b"\x89PNG\r\n\x1a\n", b"RIFF"]
    return chance.choice(sorted(_FILMS)), chance.choice(heads) + chance.randbytes(3000)


def _playlist(chance: random.Random, bases: Bases) -> tuple[str, bytes]:
    """Text that FFmpeg would follow to the file beside it."""
    texts = [
        "ffconcat version 1.0\nfile neighbour.mp4\n",
        "ffconcat version 1.0\nfile 'file:/etc/passwd'\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nneighbour.mp4\n#EXT-X-ENDLIST\n",
        "#EXTM3U\n#EXTINF:2,\nconcat:neighbour.mp4|neighbour.mp4\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\n",
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"></MPD>\n',
    ]
    return chance.choice([*_FILMS, ".ffconcat", ".m3u8"]), chance.choice(texts).encode()


def _empty(chance: random.Random, bases: Bases) -> tuple[str, bytes]:
    return chance.choice([*_FILMS, *_SOUNDS]), b""


def _only_zeros(chance: random.Random, bases: Bases) -> tuple[str, bytes]:
    suffix, data = _any_clip(chance, bases)
    return suffix, bytes(len(data))


MUTATIONS: dict[str, tuple[Mutation, Outcome]] = {
    "intact": (_clean("clip"), "decoded"),
    "truncated": (_truncated, "either"),
    "flipped bytes": (_flipped, "either"),
    "flipped header": (_flipped_header, "either"),
    "zero bytes": (_zeroed, "either"),
    "only zeros": (_only_zeros, "skipped"),
    "empty": (_empty, "skipped"),
    "shuffled blocks": (_shuffled, "either"),
    "two files joined": (_joined, "either"),
    "no audio": (_clean("silent"), "decoded"),
    "no video": (_clean("blind"), "skipped"),
    "variable frame rate": (_clean("uneven"), "decoded"),
    "rotated": (_rotated, "decoded"),
    "one frame": (_clean("one"), "decoded"),
    "12000 px frames": (_huge_frames, "skipped"),
    "odd sampling rate": (_odd_rate, "either"),
    "wrong extension": (_wrong_extension, "decoded"),
    "no recording": (_noise, "skipped"),
    "ffconcat": (_playlist, "skipped"),
    "odd name": (_clean("clip"), "decoded"),
    "odd name, empty": (_empty, "skipped"),
    "no file": (_empty, "skipped"),
}

_ODD_NAMES = (
    "\N{GRINNING FACE} \N{WOMAN}\N{ZERO WIDTH JOINER}\N{ROCKET}",
    "line\nbreak",
    "tab\tand\rreturn",
    "\x1b[31mred\x07",
    "\N{RIGHT-TO-LEFT OVERRIDE}gpj",
    "\udcff\udcfe no text",  # the bytes ff fe
    "-i",
    "http:x",
    "concat:neighbour.mp4|neighbour",
    "%03d",
    "'quote\" & $(name)",
    "*?[x]",
    "n" * 240,
)


# The corpus --------------------------------------------------------------------------------------


def make_corpus(out: Path, num_files: int, seed: int) -> list[Case]:
    """Write `num_files` recordings below `out`, every mutation in turn, and their list.

    The list is `corpus.jsonl`, which the data set "own" reads. A case depends on the seed and its
    number alone.
    """
    bases = clean_files()
    cases = []
    for index in range(num_files):
        kind = list(MUTATIONS)[index % len(MUTATIONS)]
        mutate, expected = MUTATIONS[kind]
        chance = random.Random(f"{seed}/{index}")
        folder = out / f"{index:04d}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "neighbour.mp4").write_bytes(bases["clip.mp4"])
        suffix, data = mutate(chance, bases)
        name = chance.choice(_ODD_NAMES) if kind.startswith("odd name") else "file"
        path = folder / f"{name}{suffix}"
        _write(path, data, chance if kind == "no file" else None)
        picture = folder / "neighbour.mp4" if suffix in _SOUNDS else None
        cases.append(Case(kind, path, picture, expected))
    rows = []
    for case in cases:
        row = {"path": str((case.picture or case.path).relative_to(out))}
        if case.picture is not None:
            row["audio"] = str(case.path.relative_to(out))
        rows.append(json.dumps(row) + "\n")
    (out / "corpus.jsonl").write_text("".join(rows), encoding="utf-8")
    return cases


def _write(path: Path, data: bytes, chance: random.Random | None) -> None:
    """The file, or with a chance what stands in its place: nothing, a folder or a named pipe."""
    if chance is None:
        path.write_bytes(data)
        return
    stand_in = chance.choice(["nothing", "folder", "pipe"])
    if stand_in == "folder":
        path.mkdir()
    elif stand_in == "pipe":
        os.mkfifo(path)
