"""RAVDESS as people have it: one of its archives, links, and the copy with every file twice."""

from __future__ import annotations

from pathlib import Path

import layouts
import pytest

from r1omni.data import DatasetSpec, load_dataset
from r1omni.types import Sample, UsageError


def archive(root: Path, kind: str, suffix: str = ".mp4", actors: tuple[int, ...] = (1, 2)) -> Path:
    """Eight takes of each actor; `kind` is modality and vocal channel, 01-01."""
    for actor in actors:
        for emotion in range(1, 9):
            name = f"{kind}-{emotion:02d}-01-01-01-{actor:02d}{suffix}"
            layouts.touch(root, f"Actor_{actor:02d}/{name}")
    return root


def ravdess(root: Path, modality: object = None, **options: object) -> list[Sample]:
    spec = DatasetSpec("ravdess", str(root), "test", modality=modality, options=options)  # type: ignore[arg-type]
    return load_dataset(spec)


@pytest.mark.parametrize("upper", [False, True])
@pytest.mark.parametrize(
    ("kind", "suffix", "own"),
    [("01-01", ".mp4", "video_audio"), ("02-01", ".mp4", "video"), ("03-01", ".wav", "audio")],
)
def test_each_archive(tmp_path: Path, kind: str, suffix: str, own: str, upper: bool) -> None:
    suffix = suffix.upper() if upper else suffix
    archive(tmp_path, kind, suffix)
    samples = ravdess(tmp_path)
    assert len(samples) == 16
    assert {s.modality for s in samples} == {own}
    assert {s.clip.path.suffix for s in samples} == {suffix}
    for modality in ("video_audio", "video", "audio"):
        if own in ("video_audio", modality):
            assert {s.modality for s in ravdess(tmp_path, modality)} == {modality}
        else:
            with pytest.raises(UsageError, match=rf"holds .* alone, and modality {modality} needs"):
                ravdess(tmp_path, modality)


def test_a_take_is_read_once_and_whole_where_it_is_whole(tmp_path: Path) -> None:
    archive(tmp_path, "01-01", actors=(1,))
    archive(tmp_path, "02-01", actors=(1, 2))
    archive(tmp_path, "03-01", ".wav", actors=(1, 3))
    kinds = {
        modality: {(s.group, s.clip.path.name[:2]) for s in ravdess(tmp_path, modality)}
        for modality in (None, "video_audio", "video", "audio")
    }
    assert kinds == {
        None: {("actor_01", "01")},
        "video_audio": {("actor_01", "01")},
        "video": {("actor_01", "01"), ("actor_02", "02")},
        "audio": {("actor_01", "01"), ("actor_03", "03")},
    }


def test_sound_taken_out_of_films(tmp_path: Path) -> None:
    archive(tmp_path / "sound", "01-01", ".wav")
    assert {s.modality for s in ravdess(tmp_path)} == {"audio"}
    archive(tmp_path / "films", "01-01")
    assert {s.clip.path.suffix for s in ravdess(tmp_path, "audio")} == {".mp4"}
    assert len(ravdess(tmp_path)) == 16


@pytest.mark.parametrize(("kind", "suffix"), [("01-02", ".mp4"), ("03-02", ".wav")])
def test_song_only_on_request(tmp_path: Path, kind: str, suffix: str) -> None:
    archive(tmp_path, kind, suffix)
    with pytest.raises(UsageError, match="holds 16 recordings of RAVDESS and no speech"):
        ravdess(tmp_path)
    assert len(ravdess(tmp_path, vocal="song")) == len(ravdess(tmp_path, vocal="both")) == 16
    archive(tmp_path, kind.replace("-02", "-01"), suffix)
    assert {s.sample_id[11:13] for s in ravdess(tmp_path)} == {"01"}
    assert len(ravdess(tmp_path, vocal="both")) == 32


def test_every_file_twice(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    archive(tmp_path, "03-01", ".wav")
    once = ravdess(tmp_path)
    assert "copies" not in caplog.text
    archive(tmp_path / "audio_speech_actors_01-24", "03-01", ".wav")
    assert ravdess(tmp_path) == once
    assert "16 of 32 files are further copies by their names" in caplog.text


def test_linked_actors(tmp_path: Path) -> None:
    root = archive(tmp_path / "RAVDESS", "01-01")
    archive(root / "more", "01-01", actors=(5,))
    (root / "Actor_05").symlink_to("more/Actor_05")  # inside: read where it lies
    assert len(ravdess(root)) == 24
    archive(tmp_path / "elsewhere", "01-01", actors=(6,))
    (root / "Actor_06").symlink_to(tmp_path / "elsewhere/Actor_06")
    with pytest.raises(UsageError, match=r"'Actor_06' leads outside the data root.*copy the files"):
        ravdess(root)
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / "Actor_06").symlink_to(tmp_path / "elsewhere/Actor_06")
    with pytest.raises(UsageError, match="'Actor_06' leads outside"):
        ravdess(alone)
    (tmp_path / "link").symlink_to(archive(tmp_path / "whole", "01-01"))
    assert len(ravdess(tmp_path / "link")) == 16  # the root itself may be a link


def test_the_fourth_number_is_the_intensity(tmp_path: Path) -> None:
    names = ("03-01-01-01-01-01-01", "03-01-05-01-01-01-01", "03-01-05-02-01-01-01")
    layouts.touch(tmp_path, *(f"Actor_01/{name}.wav" for name in names))
    assert [s.intensity for s in ravdess(tmp_path)] == ["normal", "normal", "strong"]
    layouts.touch(tmp_path, "Actor_01/03-01-05-03-01-01-01.wav")
    with pytest.raises(UsageError, match=r"05-03-.*wav: intensity code 03 is neither 01 nor 02"):
        ravdess(tmp_path)
