"""Data sets of the field: whole, in part, and broken."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from r1omni.doctor import published
from r1omni.doctor.checks import Finding
from r1omni.doctor.data import check_data
from r1omni.doctor.field_sets import FIELD_SETS

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))

from field_layouts import FIELD


def examined(root: Path) -> dict[str, Finding]:
    return {finding.subject: finding for finding in check_data(root)}


def test_every_set_of_the_layouts_is_checked() -> None:
    assert {entry.name for entry in FIELD_SETS.values()} == set(FIELD) == set(published.SPLITS)


@pytest.mark.parametrize("title", FIELD_SETS)
def test_whole_and_differing(title: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = FIELD_SETS[title].name
    layout = FIELD[name]
    layout.write(tmp_path / title)
    found = examined(tmp_path)
    for split in layout.counts:
        finding = found[title if split == "all" else f"{title} {split}"]
        assert finding.status == "note" and "; published: " in finding.found
    monkeypatch.setattr(published, "SPLITS", {**published.SPLITS, name: layout.counts})
    # By its folder's name, and by what is in a folder of any other name.
    (tmp_path / title).rename(tmp_path / "elsewhere")
    found = examined(tmp_path / "elsewhere")
    assert {finding.status for finding in found.values()} == {"ok"}
    assert f"{title} clip" in found and len(found) == len(layout.counts) + 1


def test_a_split_that_is_broken_or_gone(tmp_path: Path) -> None:
    FIELD["cremad"].write(tmp_path / "Crema_D")
    (tmp_path / "Crema_D/AudioWAV/1001_DFA_ODD_XX.wav").touch()
    finding = examined(tmp_path)["CREMA-D"]
    assert finding.status == "fails" and "emotion code ODD" in finding.found
    for folder in ("AudioWAV", "VideoFlash"):
        shutil.rmtree(tmp_path / "Crema_D" / folder)
    finding = examined(tmp_path)["CREMA-D"]
    assert finding.status == "fails" and "no CREMA-D recordings" in finding.found
    assert "CREMA-D/VideoFlash" in finding.remedy
