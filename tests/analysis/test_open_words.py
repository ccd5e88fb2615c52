"""Free words, grades of a judge and MER-UniBench on the page of results."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from browser import chromium, inaccessible, opened
from r1omni.analysis.report import write_report
from r1omni.analysis.scores import write_scores

JUDGING = Path(__file__).parents[1] / "judging"
ANSWERS = {
    "R1-Omni": ["happy, joyful", "sad", "angry", "worried, afraid"],
    "EMER-SFT": ["happy", "happy", "gladly", "calm"],
}
LABELS = [("happy", ["happy"]), ("sad", ["sad", "lonely"]), ("angry", ["angry"]),
          ("fear", ["afraid", "nervous"])]  # fmt: skip


def written(root: Path, model: str) -> Path:
    """Predictions of a model on two sets: MER2023 with classes, MER2025 with free words as well."""
    folder = root / model / "predictions"
    folder.mkdir(parents=True)
    for name in ("mer2023", "mer2025"):
        rows: list[dict[str, Any]] = []
        for number, (said, (label, words)) in enumerate(zip(ANSWERS[model], LABELS, strict=True)):
            rows.append(
                {"sample_id": f"{name}/{number}", "label": label, "group": None, "ended": True,
                 "text": f"<think>A <b>smile</b>.</think>\n<answer>{said}</answer>",
                 "reference": "A smile.", "label_set": "all"}
            )  # fmt: skip
            if name == "mer2025":
                rows[-1]["open_labels"] = words
        lines = "".join(f"{json.dumps(row)}\n" for row in rows)
        (folder / f"{name}.full.jsonl").write_text(lines)
    return folder.parent


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, dict[str, Any]]]:
    """The report's folder, and what `score` found of each model."""
    root = tmp_path_factory.mktemp("open")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(JUDGING))
        patch.setenv("NO_PROXY", "127.0.0.1")
        from fake_server import serving

        scored = {}
        with serving() as server:
            judge = root / "judge.yaml"
            settings = {
                "template": "{reference} {reasoning}", "model": "some-judge", "at_once": 1,
                "endpoint": server.endpoint, "cache": str(root / "judge.sqlite"),
            }  # fmt: skip
            judge.write_text(yaml.safe_dump(settings))
            for model in ("EMER-SFT", "R1-Omni"):
                out = root / f"scored_{model}"
                given = [written(root, model)]
                scored[model] = write_scores(given, out, judge=judge, with_unibench=True)
    write_report({model: root / f"scored_{model}" for model in scored}, root / "out")
    return root / "out", scored


def section(page: str, anchor: str) -> str:
    found = re.search(rf'<section id="{anchor}".*?</section>', page, re.DOTALL)
    assert found is not None, anchor
    return " ".join(re.sub(r"<[^>]*>", " ", found[0]).split())


def test_the_page_has_their_figures(report: tuple[Path, dict[str, dict[str, Any]]]) -> None:
    out, scored = report
    page = (out / "report.html").read_text(encoding="utf-8")
    words, grades, bench = (section(page, a) for a in ("open-words", "judge", "unibench"))
    for model, found in scored.items():
        free = found["open_vocabulary"]["mer2025"]["full"]
        for figure in ("precision", "recall", "f1", "hit_rate"):
            assert f"{100 * free[figure]:.1f}" in words
        assert f"{model} on MER2025" in words and f"{model} on MER2023" not in words
        for name in ("mer2023", "mer2025"):
            judged = found["judge"][name]["full"]
            assert judged["judged"] > 0
            assert f"{model} on {name.upper()} {judged['mean']:.3f}" in grades
        assert f"{100 * found['unibench']['mean']:.1f}" in bench
        for entry in found["unibench"]["figures"].values():
            assert f"{100 * entry['value']:.1f}" in bench
    assert scored["R1-Omni"]["unibench"]["mean"] != scored["EMER-SFT"]["unibench"]["mean"]
    assert "by some-judge" in grades and "iemocap" in bench
    kept = json.loads((out / "results.json").read_text())
    wanted = json.loads(json.dumps(scored))
    for key in ("open_vocabulary", "judge", "judge_settings", "unibench"):
        assert kept[key] == {model: found[key] for model, found in wanted.items()}


def test_a_page_without_them_says_nothing_of_them(
    report: tuple[Path, dict[str, dict[str, Any]]], tmp_path: Path
) -> None:
    folder = written(tmp_path, "R1-Omni")
    (folder / "predictions" / "mer2025.full.jsonl").unlink()
    write_scores([folder], tmp_path / "scored")
    results = write_report({"R1-Omni": tmp_path / "scored"}, tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    for anchor in ("open-words", "judge", "unibench"):
        assert f'id="{anchor}"' not in page and f"#{anchor}" not in page
    assert not {"open_vocabulary", "judge", "judge_settings", "unibench"} & results.keys()


def test_a_browser_shows_them(report: tuple[Path, dict[str, dict[str, Any]]]) -> None:
    address = (report[0] / "report.html").as_uri()
    with chromium() as browser:
        with opened(browser, address, 360) as watched:
            page = watched.page
            assert page.evaluate("document.documentElement.scrollWidth") == 360
            for anchor in ("open-words", "judge", "unibench"):
                page.locator(f'a[href="#{anchor}"]').first.click()
                assert page.locator(f"#{anchor} table").is_visible()
            assert watched.trouble == []
        with opened(browser, address, scheme="dark") as watched:
            assert inaccessible(watched.page) == []
