"""`R1Omni.analyze` on recordings that are damaged, or are none."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
sys.path.insert(0, str(REPOSITORY / "scripts"))

from clean_media import clean_files  # noqa: E402
from damaged_media import MUTATIONS, Case, make_corpus  # noqa: E402

from r1omni.models import R1Omni  # noqa: E402
from r1omni.types import R1OmniError  # noqa: E402


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
