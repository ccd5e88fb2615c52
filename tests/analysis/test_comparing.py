"""Systems on the same clips: figures, refusals, and the page in a browser."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from synthetic_runs import PLAYERS, Player, invented_samples, write_run

from browser import chromium, inaccessible, opened
from r1omni.analysis.comparing import COMPARISON_FILE, write_comparison
from r1omni.cli import main
from r1omni.metrics.comparison import compare, holm
from r1omni.types import UsageError

TRAP = '</script><b id="trap">'


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def rewrite(file: Path, rows: list[dict[str, Any]]) -> Path:
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Three systems on two sets of fewer clips, one of speakers; the first is nearly the second."""
    root = tmp_path_factory.mktemp("compared")
    every = invented_samples([root / "x.mp4"], num_per_class=6)
    samples = {name: every[name] for name in ("mafw", "ravdess")}
    players = {"weak": Player((0.3,) * 3, "tags"), "good": PLAYERS["R1-Omni"]}
    found = {n: write_run(root / n, p, samples, ("full", "muted")) for n, p in players.items()}
    found["near"] = shutil.copytree(found["good"], root / "near")
    file = found["near"] / "test/predictions/ravdess.full.jsonl"
    rows = lines(file)
    rows[0]["text"] = f"<think>{TRAP} It sounds low.</think>\n<answer>disgust</answer>"
    rewrite(file, rows)
    return found


@pytest.fixture(scope="module")
def compared(runs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out") / "compared"
    named = [f"Weak one={runs['weak']}", str(runs["good"]), str(runs["near"] / "test")]
    assert main(["compare", *named, "--out", str(out)]) == 0
    return out


def test_every_pair_is_compared_and_corrected(runs: dict[str, Path], compared: Path) -> None:
    results = json.loads((compared / COMPARISON_FILE).read_text())
    assert [system["name"] for system in results["systems"]] == ["Weak one", "good", "near"]
    assert results["sets"].keys() == {"mafw", "ravdess"} and results["left_out_sets"] == []
    assert results["correction"] == {"method": "Holm", "num_tests": 6, "level": 0.05}
    tests = [pair for one in results["sets"].values() for pair in one["comparisons"]]
    assert [p["holm_p"] for p in tests] == holm([p["mcnemar_p"] for p in tests])
    ravdess = results["sets"]["ravdess"]
    assert (ravdess["n"], ravdess["num_speakers"]) == (48, 4)
    assert results["sets"]["mafw"]["num_speakers"] is None
    assert ravdess["systems"]["good"]["protocol"]["label_set"] == "ravdess"
    # By the metric itself, from the files.
    rows = {n: lines(runs[n] / "test/predictions/ravdess.full.jsonl") for n in ("weak", "good")}
    by_hand = compare(
        *([r["prediction"] for r in rows[n]] for n in ("weak", "good")),
        [r["label"] for r in rows["good"]],
        [r["group"] for r in rows["good"]],
    )
    first = ravdess["comparisons"][0]
    assert (first["a"], first["b"]) == ("Weak one", "good") and first["verdict"] == "better"
    assert first["war_difference"] == by_hand.war_difference
    assert tuple(first["uar_interval"]) == by_hand.uar_interval
    assert first["mcnemar_p"] == by_hand.mcnemar_p
    tested = json.loads((runs["good"] / "test/results.json").read_text())["sets"]["ravdess"]["full"]
    for key in ("war", "uar", "war_interval", "uar_interval"):
        assert ravdess["systems"]["good"][key] == tested[key]


def test_near_systems_are_not_told_apart(
    runs: dict[str, Path], compared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = json.loads((compared / COMPARISON_FILE).read_text())
    pairs = {name: one["comparisons"][2] for name, one in results["sets"].items()}
    assert (pairs["mafw"]["verdict"], pairs["ravdess"]["verdict"]) == ("same answers", "unclear")
    assert pairs["ravdess"]["num_answers_that_differ"] == 1
    line = ["compare", str(runs["good"]), str(runs["near"]), "--out", str(tmp_path / "x")]
    assert main([*line, "--pairs", "first"]) == 0
    printed = capsys.readouterr().out
    assert "near and good answer alike on every clip" in printed
    assert "no clear difference" in printed and "corrected by Holm for 2 tests" in printed
    page = (tmp_path / "x" / "compare.html").read_text()
    assert "which does not show that they are equal" in page


def test_first_compares_with_the_first_alone(runs: dict[str, Path], tmp_path: Path) -> None:
    entries = [str(runs[name]) for name in ("good", "weak", "near")]
    found = write_comparison(entries, tmp_path / "x", pairs="first", condition="muted")
    pairs = found["sets"]["ravdess"]["comparisons"]
    assert [(pair["a"], pair["b"]) for pair in pairs] == [("good", "weak"), ("good", "near")]
    assert found["sets"]["ravdess"]["systems"]["good"]["condition"] == "muted"


def test_files_are_of_one_set(runs: dict[str, Path], tmp_path: Path) -> None:
    """A condition beside the full input, and a file of another name with the same clips."""
    folder = runs["good"] / "test/predictions"
    other = shutil.copy(
        runs["weak"] / "test/predictions/ravdess.full.jsonl", tmp_path / "o.a.jsonl"
    )
    entries = [f"{n}={p}" for n, p in (
        ("full", folder / "ravdess.full.jsonl"), ("muted", folder / "ravdess.muted.jsonl"),
        ("other", other),
    )]  # fmt: skip
    found = write_comparison(entries, tmp_path / "x")
    assert found["sets"].keys() == {"ravdess"}
    assert [s["condition"] for s in found["sets"]["ravdess"]["systems"].values()] == [
        "full", "muted", "a"
    ]  # fmt: skip


def test_other_clips_are_refused_or_left_out(runs: dict[str, Path], tmp_path: Path) -> None:
    ours = runs["good"] / "test/predictions/ravdess.full.jsonl"
    rows = lines(runs["weak"] / "test/predictions/ravdess.full.jsonl")
    fewer = rewrite(tmp_path / "fewer.full.jsonl", rows[5:])
    entries = [f"ours={ours}", str(fewer)]
    with pytest.raises(UsageError, match=r"5 of ours are not of all \(ravdess/0, .*43 that all"):
        write_comparison(entries, tmp_path / "x")
    assert not (tmp_path / "x").exists()
    found = write_comparison(entries, tmp_path / "x", clips="shared")["sets"]["ravdess"]
    assert found["n"] == 43
    left_out = {name: system["num_left_out"] for name, system in found["systems"].items()}
    assert left_out == {"ours": 5, "fewer.full": 0}
    none = rewrite(
        tmp_path / "n.full.jsonl", [{**r, "sample_id": "z" + r["sample_id"]} for r in rows]
    )
    with pytest.raises(UsageError, match="there is no clip that all systems answered"):
        write_comparison([f"ours={ours}", str(none)], tmp_path / "y", clips="shared")


def test_what_is_refused(runs: dict[str, Path], tmp_path: Path) -> None:
    good, weak = str(runs["good"]), str(runs["weak"])
    rows = lines(runs["weak"] / "test/predictions/ravdess.full.jsonl")
    ours = f"ours={runs['good'] / 'test/predictions/ravdess.full.jsonl'}"
    other_label = [{**row, "label": "calm"} for row in rows]
    classes = [{**row, "label_set": "all"} for row in rows]
    unlabelled = [{**row, "label": None} for row in rows]
    (tmp_path / "sub").mkdir()
    files = {
        name: str(rewrite(tmp_path / f"{name}.full.jsonl", changed))
        for name, changed in
        (("label", other_label), ("classes", classes), ("none", unlabelled), ("mafwx", rows))
    }  # fmt: skip
    for entries, complaint in (
        ([good], "one system has nothing to be compared with; .*judge one by `score`"),
        ([good, f"good={weak}"], "there is a system good already; write NAME="),
        ([good, f"b={good}"], r"is that of good; name another system's"),
        ([good, str(tmp_path / "sub")], "no predictions there"),
        (
            [ours, files["label"]],
            r"ravdess/0 is neutral by .* and calm by .*; one of them is wrong",
        ),
        ([ours, files["classes"]], "ours is of the classes ravdess and classes.full of all"),
        ([ours, files["none"]], "no answer has a label; there is nothing to compare"),
        ([good, files["mafwx"]], "there is no test set that all systems have: good has mafw"),
    ):
        with pytest.raises(UsageError, match=complaint) as caught:
            write_comparison(entries, tmp_path / "x")
        assert "\n" not in str(caught.value) and not (tmp_path / "x").exists()
    with pytest.raises(UsageError, match="holds no answers to the blanked input; see --condition"):
        write_comparison([good, weak], tmp_path / "x", condition="blanked")


def test_a_browser_shows_and_filters_the_clips(compared: Path, tmp_path: Path) -> None:
    file = compared / "compare.html"
    results = json.loads((compared / COMPARISON_FILE).read_text())
    differ = {n: one["num_clips_that_differ"] for n, one in results["sets"].items()}
    with chromium() as browser:
        with opened(browser, file.as_uri(), 360) as watched:
            page = watched.page
            assert page.evaluate("document.documentElement.scrollWidth") == 360
            assert watched.trouble == []
        with opened(browser, file.as_uri(), scheme="dark") as watched:
            assert inaccessible(watched.page) == []
        with opened(browser, file.as_uri()) as watched:
            page = watched.page
            count = page.locator("#count")
            total = sum(differ.values())
            assert count.inner_text().startswith(f"{total} clips of {total} that are answered")
            assert page.locator("#differing article").count() == min(50, total)
            if total > 50:
                page.locator("#more").click()
                assert page.locator("#differing article").count() == min(100, total)
            page.select_option("#of-set", label="RAVDESS")
            assert count.inner_text().startswith(f"{differ['ravdess']} clips")
            page.select_option("#right", label="Weak one")
            page.select_option("#wrong", label="good")
            alone = results["sets"]["ravdess"]["comparisons"][0]["num_only_a"]
            assert count.inner_text().split()[0] == str(alone)
            for name in ("#right", "#wrong"):
                page.select_option(name, "")
            page.fill("#text", 'id="trap"')
            assert count.inner_text().startswith("1 clip of")
            card = page.locator("#differing article")
            assert TRAP in card.inner_text() and page.locator("#trap").count() == 0
            assert "disgust" in card.inner_text()
            assert watched.trouble == []
            assert inaccessible(page) == []
