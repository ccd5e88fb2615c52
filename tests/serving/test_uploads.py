"""What strangers upload: every limit, what is no recording, and that nothing is left behind."""

from __future__ import annotations

import io
import tempfile
import wave
from dataclasses import replace
from pathlib import Path

import pytest

from r1omni.serving.uploads import (
    Spool,
    UploadError,
    UploadLimits,
    UploadNotKept,
    UploadTooLarge,
    UploadUnreadable,
    accept,
)

CLIP = Path(__file__).parents[2] / "examples" / "clips" / "a.mp4"
LIMITS = UploadLimits()
PLAYLIST = b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile:///etc/passwd\n"


@pytest.fixture
def spools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where uploads lie meanwhile."""
    folder = tmp_path / "spools"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_an_upload_is_kept_privately_and_then_deleted(spools: Path) -> None:
    data = CLIP.read_bytes()
    with accept(io.BytesIO(data), LIMITS, "../../film.mp4") as path:
        assert path.read_bytes() == data
        assert path.parent.parent == spools and path.name == "upload.mp4"
        assert path.parent.stat().st_mode & 0o077 == 0
    assert not [*spools.glob("r1omni-*")]
    with pytest.raises(ZeroDivisionError), accept(io.BytesIO(data), LIMITS):
        _ = 1 / 0
    assert not [*spools.glob("r1omni-*")]
    with accept(CLIP, LIMITS) as path:
        assert path == CLIP
    assert CLIP.exists() and not [*spools.glob("r1omni-*")]


@pytest.mark.parametrize(
    ("data", "limits", "kind", "told"),
    [
        (CLIP.read_bytes(), {"max_upload_mb": 0.05}, UploadTooLarge, "limit of 0.05 MB"),
        (CLIP.read_bytes(), {"max_seconds": 0.5}, UploadTooLarge, "the limit is 0.5 s; cut it"),
        (CLIP.read_bytes(), {"max_pixels": 100}, UploadTooLarge, "the limit of 100 pixels; scale"),
        (CLIP.read_bytes(), {"probe_limit_s": 1e-6}, UploadUnreadable, "not read within 1e-06 s"),
        (CLIP.read_bytes()[:3000], {}, UploadUnreadable, "is truncated"),
        (b"", {}, UploadUnreadable, "the file is empty (0 bytes)"),
        (b"hello " * 999, {}, UploadUnreadable, "is no recording"),
        (b"\x89PNG\r\n\x1a\n" + bytes(99), {}, UploadUnreadable, "is a picture, a text or"),
        (PLAYLIST, {}, UploadUnreadable, "is a playlist (HLS), which is not read"),
        (b"ffconcat version 1.0\nfile /etc/passwd\n", {}, UploadUnreadable, "is a playlist"),
    ],
    ids=[
        "bytes",
        "seconds",
        "pixels",
        "time",
        "cut off",
        "empty",
        "text",
        "picture",
        "playlist",
        "ffconcat",
    ],
)
def test_what_is_not_accepted_is_told_by_its_name_in_one_line(
    data: bytes, limits: dict[str, float], kind: type[UploadError], told: str, spools: Path
) -> None:
    wanted = replace(LIMITS, **limits)
    with pytest.raises(UploadError) as caught, accept(io.BytesIO(data), wanted, "my\nfilm.mp4"):
        pass
    assert type(caught.value) is kind
    line = str(caught.value)
    assert line.startswith("my\\nfilm.mp4: ") and told in line
    assert "\n" not in line and str(spools) not in line
    assert not [*spools.glob("r1omni-*")]


def test_sound_alone_is_accepted_and_counts_by_its_length(tmp_path: Path) -> None:
    sound = tmp_path / "a.wav"
    with wave.open(str(sound), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(bytes(16_000))
    with accept(sound, LIMITS) as path:
        assert path == sound
    with pytest.raises(UploadTooLarge, match=r"^a\.wav: lasts 0\.5 s"):
        accept(sound, replace(LIMITS, max_seconds=0.1)).__enter__()
    with pytest.raises(UploadUnreadable, match=r"^b\.wav: cannot be read \(No such file"):
        accept(tmp_path / "b.wav", LIMITS).__enter__()


def test_a_full_disk_is_told(spools: Path) -> None:
    full = Path("/dev/full")
    with Spool(spools, LIMITS, "a.mp4") as spool:
        spool._file.close()
        spool._file = full.open("wb", buffering=0)
        with pytest.raises(UploadNotKept, match=r"^a\.mp4: cannot be kept \(No space left"):
            spool.write(b"x")
