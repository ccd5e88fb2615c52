"""`R1Omni.analyze` on recordings that are damaged, or are none."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
sys.path.insert(0, str(REPOSITORY / "scripts"))

from clean_media import SOUNDS, clean_files, encode  # noqa: E402
from damaged_media import MUTATIONS, Case, make_corpus  # noqa: E402

from r1omni.media.processor import NO_PICTURE  # noqa: E402
from r1omni.models import R1Omni  # noqa: E402
from r1omni.types import MODALITIES, Modality, R1OmniError, UsageError  # noqa: E402


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> list[Case]:
    return make_corpus(tmp_path_factory.mktemp("damaged"), len(MUTATIONS), seed=5)


@pytest.mark.parametrize("kind", MUTATIONS)
def test_one_line_names_the_recording_and_the_remedy(
    tiny: R1Omni, cases: list[Case], kind: str
) -> None:
    [case] = [case for case in cases if case.kind == kind]
    sound = case.path.suffix in (".wav", ".mp3")
    modality = "audio" if sound or kind == "no video" else "video_audio"
    try:
        [analysis] = tiny.analyze(case.path, modality, max_new_tokens=1)
    except R1OmniError as error:
        assert case.expected != "decoded" and kind != "no video"
        message = str(error)
        assert message.isprintable() and case.path.parent.name in message
        assert "; " in message  # what to do
    else:
        # A file without a picture has sound, which is what was asked for.
        assert case.expected != "skipped" or kind == "no video"
        assert analysis.end_s > 0


def test_windows_of_a_recording_that_breaks_off(tiny: R1Omni, tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    data = clean_files()["clip.mkv"]  # 1.5 s
    path.write_bytes(data[: len(data) // 2])
    found = tiny.analyze(path, "video", window_s=0.2, max_new_tokens=1)
    assert 0.2 < found[-1].end_s < 1.4
    assert all(analysis.text for analysis in found)
    assert "the file is truncated" in found[0].warnings[0]


def answered(tiny: R1Omni, path: Path, modality: Modality) -> list[bool]:
    """Which windows of half a second are answered; the others say why not."""
    found = tiny.analyze(path, modality, window_s=0.5, max_new_tokens=1)
    for analysis in found:
        if not analysis.text:
            assert analysis.label is None and analysis.scores == {}
            assert analysis.warnings[0].startswith(("no picture between", "no sound in the span"))
            assert analysis.warnings[-1] == "not answered"
    return [bool(analysis.text) for analysis in found]


@pytest.mark.parametrize(
    ("seen_s", "heard_s", "wanted"),
    [
        # A rest of 50 ms is no window of its own.
        (1.0, 1.05, {"video": "++", "audio": "++", "video_audio": "++"}),
        (1.0, 2.0, {"video": "++--", "audio": "++++", "video_audio": "++++"}),
        (2.0, 1.0, {"video": "++++", "audio": "++--", "video_audio": "++++"}),
    ],
)
def test_windows_that_lack_a_medium(
    tiny: R1Omni, tmp_path: Path, seen_s: float, heard_s: float, wanted: dict[Modality, str]
) -> None:
    path = tmp_path / "a.mkv"
    encode(path, "mpeg4", "pcm_s16le", times=range(int(10 * seen_s)), sound_s=heard_s)
    for modality, marks in wanted.items():
        assert answered(tiny, path, modality) == [mark == "+" for mark in marks]
    found = tiny.analyze(path, window_s=0.5, max_new_tokens=1)
    for analysis in found:
        lacks = {
            ": black frames are used": analysis.start_s >= seen_s,
            ": silence is used": analysis.start_s >= heard_s,
        }
        for words, is_lacking in lacks.items():
            assert any(words in warning for warning in analysis.warnings) == is_lacking


@pytest.mark.parametrize("window_s", [None, 0.5])
def test_a_medium_that_is_not_there_at_all(
    tiny: R1Omni, tmp_path: Path, window_s: float | None
) -> None:
    for name, modality, remedy in (
        ("silent.mp4", "audio", "modality video"),
        ("blind.mp4", "video", "modality audio"),
        *((f"clip{suffix}", "video", "modality audio") for suffix in SOUNDS),
    ):
        path = tmp_path / name
        path.write_bytes(clean_files()[name])
        with pytest.raises(R1OmniError, match=rf"{name}: has no .* track; use {remedy} for its"):
            tiny.analyze(path, modality, window_s=window_s, max_new_tokens=1)
        other = remedy.split()[1]
        assert all(a.text for a in tiny.analyze(path, other, window_s=window_s, max_new_tokens=1))
    for name, warning in (
        ("silent.mp4", "no audio track: silence is used"), ("blind.mp4", NO_PICTURE),
    ):  # fmt: skip
        [*found] = tiny.analyze(tmp_path / name, window_s=window_s, max_new_tokens=1)
        assert found and all(warning in a.warnings for a in found)


@pytest.mark.parametrize("modality", MODALITIES)
def test_wrong_windows_are_told_before_a_file_is_opened(tiny: R1Omni, modality: Modality) -> None:
    with pytest.raises(UsageError, match="must be positive"):
        tiny.analyze("gone.mp4", modality, window_s=-1.0)
    with pytest.raises(UsageError, match="modality 'smell'"):
        tiny.analyze("gone.mp4", "smell")
