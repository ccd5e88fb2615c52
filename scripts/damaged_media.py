"""A corpus of damaged, odd and hostile recordings, made from small clips by a seed."""

from __future__ import annotations

import json
import os
import random
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from clean_media import FILMS, SOUNDS, Bases, clean_files

Outcome = Literal["decoded", "skipped", "either"]
# (chance, clean files by name) -> (suffix, content)
Mutation = Callable[[random.Random, Bases], tuple[str, bytes]]


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


def _larger_midway(chance: random.Random, bases: Bases) -> tuple[str, bytes]:
    """Frames of 64 px, then such of 128 or of 12000 px, which the header does not tell."""
    return _any_clip(chance, bases, chance.choice(["resized", "swollen"]))


def _wrong_extension(chance: random.Random, bases: Bases) -> tuple[str, bytes]:
    suffix = chance.choice(sorted(FILMS))
    others = [other for other in (*FILMS, ".txt", ".jpg", "") if other != suffix]
    return chance.choice(others), bases[f"clip{suffix}"]


def _noise(chance: random.Random, bases: Bases) -> tuple[str, bytes]:
    """Bytes that are no recording, and begin like other files."""
    heads = [b"", b"\xff\xd8\xff\xe0", b"PK\x03\x04", b"%PDF-1.7\n", b"\x89PNG\r\n\x1a\n", b"RIFF"]
    return chance.choice(sorted(FILMS)), chance.choice(heads) + chance.randbytes(3000)


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
    return chance.choice([*FILMS, ".ffconcat", ".m3u8"]), chance.choice(texts).encode()


def _empty(chance: random.Random, bases: Bases) -> tuple[str, bytes]:
    return chance.choice([*FILMS, *SOUNDS]), b""


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
    "larger frames midway": (_larger_midway, "either"),
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
        picture = folder / "neighbour.mp4" if suffix in SOUNDS else None
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
