"""The report's sections about answers with and without reasoning, and about the media."""

from __future__ import annotations

import json
import sys
from base64 import b64decode
from pathlib import Path

import pytest
from synthetic_runs import PLAYERS, invented_samples, write_clip, write_run
from test_report import Reader

from r1omni.analysis.report import table_text, write_report

CONDITIONS = ("full", "muted", "blanked", "swapped", "shuffled")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("modes")
    samples = invented_samples([write_clip(root / "a.mp4")])
    samples = {name: samples[name] for name in ("dfew", "ravdess")}
    runs = {}
    for model, conditions, mode in (
        ("HumanOmni", ("full",), "think"),
        ("EMER-SFT", CONDITIONS, "direct"),
        ("R1-Omni", CONDITIONS, "both"),
    ):
        runs[model] = write_run(root / model, PLAYERS[model], samples, conditions, mode)  # type: ignore[arg-type]
    write_report(runs, root / "out")
    return root


def test_modes_and_media_are_on_the_page(root: Path) -> None:
    reader = Reader((root / "out" / "report.html").read_text("utf-8"))
    anchors = {attributes["id"] for tag, attributes in reader.tags if tag == "section"}
    assert {"answers", "dependence", "media"} <= anchors
    tested = json.loads((root / "R1-Omni" / "test" / "results.json").read_text("utf-8"))
    modes = tested["answer_modes"]["dfew"]["full"]
    apart = f"{100 * modes['think_minus_direct']['war_difference']:+.1f}".replace("-", "−")
    assert apart in reader.text
    assert f"{100 * modes['think']['ece']:.1f} / {100 * modes['direct']['ece']:.1f}" in reader.text
    changed = tested["dependence"]["ravdess"]["swapped"]["answer"]["changed"]
    assert "sound swapped" in reader.text and f"{100 * changed:.1f}" in reader.text
    assert "R1-Omni, direct" in reader.text
    # One diagram a set, in the page itself.
    images = [a for tag, a in reader.tags if tag == "img" and "Reliability" in str(a["alt"])]
    assert [a["alt"] for a in images] == [
        f"Reliability diagram of R1-Omni on {name}" for name in ("DFEW", "RAVDESS")
    ]
    for image in images:
        kind, _, data = str(image["src"]).partition(",")
        assert kind == "data:image/svg+xml;base64" and b"share right" in b64decode(data)
    assert (root / "R1-Omni" / "test" / "reliability" / "dfew.svg").is_file()


def test_without_the_extra_diagrams_are_left_out_and_told(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    samples = {"dfew": invented_samples([root / "a.mp4"])["dfew"]}
    write_run(tmp_path / "run", PLAYERS["R1-Omni"], samples, ("full",), "both")
    assert "no reliability diagrams" in caplog.text and "r1omni[reports]" in caplog.text
    assert not (tmp_path / "run" / "test" / "reliability").exists()
    write_report({"R1-Omni": tmp_path / "run"}, tmp_path / "out")
    page = Reader((tmp_path / "out" / "report.html").read_text("utf-8"))
    assert "For diagrams, pip install 'r1omni[reports]'." in page.text


def test_the_figures_are_those_of_the_runs(root: Path) -> None:
    results = json.loads((root / "out" / "results.json").read_text("utf-8"))
    for model in ("EMER-SFT", "R1-Omni"):
        tested = json.loads((root / model / "test" / "results.json").read_text("utf-8"))
        for kind in ("answer_modes", "dependence"):
            assert results[kind][model] == tested[kind]
    assert results["answer_modes"].keys() == {"EMER-SFT", "R1-Omni"}
    text = table_text(results)
    lines = [line for line in text.splitlines() if "DFEW" in line]
    assert any("R1-Omni" in line and "think minus direct" in line for line in lines)
    assert any("EMER-SFT" in line and "DFEW  direct" in line for line in lines)
    changes = [line for line in lines if "change: sound muted" in line and "shuffled" in line]
    # What was not written has no answer of its own to change.
    assert [" direct answers" in line for line in changes] == [True, False, True]
