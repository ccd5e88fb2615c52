"""Answers in free words on wheels of emotions, against figures worked out by hand."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from openpyxl import Workbook

from r1omni.cli import main
from r1omni.data.conditions import EvaluationSet
from r1omni.metrics.emotion_wheels import published_wheels
from r1omni.metrics.open_vocabulary import evaluate_open_vocabulary, open_vocabulary_of
from r1omni.text.emotions import EMOTIONS
from r1omni.text.wheels import SHIPPED, base_forms, wheel_of
from r1omni.training.evaluation import Evaluation
from r1omni.types import Clip, Sample, UsageError

TARGET = "<think>A wide smile.</think>\n<answer>happy</answer>"
# Two wheels that divide four words in two ways.
WHEELS = {
    "one": wheel_of({"a": "A", "b": "A", "c": "C", "d": "D"}),
    "two": wheel_of({"a": "X", "b": "Y", "c": "Y"}),
}
ANSWERS = [["a"], ["a", "c", "zzz"], ["zzz"], ["d"], ["c"]]
REFERENCES = [["b"], ["b", "c"], ["a"], ["c", "d"], ["zzz"]]


def test_equal_to_figures_by_hand() -> None:
    """Wheel one: {A}/{A}, {A C}/{A C}, {}/{A}, {D}/{C D}; the fifth has no reference on it.

    Wheel two: {X}/{Y}, {X Y}/{Y}, {}/{X}, {}/{Y}; likewise.
    """
    found = evaluate_open_vocabulary(ANSWERS, REFERENCES, WHEELS)
    assert found is not None
    one, two = found.wheels["one"], found.wheels["two"]
    assert (one.n, one.precision, one.recall) == (4, 3 / 4, (1 + 1 + 0 + 1 / 2) / 4)
    assert one.f1 == pytest.approx(2 * 0.75 * 0.625 / 1.375)
    assert (one.hit_rate, one.num_answered, one.num_reference) == (0.75, 4 / 4, 6 / 4)
    assert (two.n, two.precision, two.recall) == (4, 1 / 8, 1 / 4)
    assert two.f1 == pytest.approx(2 * 0.125 * 0.25 / 0.375)
    assert two.hit_rate == 0.25
    # Of the two wheels' figures the mean; the F1 is not that of the mean precision and recall.
    assert found.precision == (0.75 + 0.125) / 2
    assert found.recall == (0.625 + 0.25) / 2
    assert found.f1 == pytest.approx((one.f1 + two.f1) / 2)
    assert found.hit_rate == 0.5
    assert (found.n, found.words_answered, found.words_reference) == (5, 7 / 5 + 0.0, 7 / 5)
    assert found.unknown_answered == pytest.approx(2 / 7)
    assert found.unknown_reference == pytest.approx(1 / 7)


def test_listing_everything_has_every_hit_and_no_precision() -> None:
    everything = [["a", "b", "c", "d"]] * 5
    found = evaluate_open_vocabulary(everything, REFERENCES, WHEELS)
    assert found is not None
    assert found.hit_rate == 1.0 and found.recall == 1.0
    assert found.precision == pytest.approx(((1 + 2 + 1 + 2) / 3 / 4 + 4 / 2 / 4) / 2)


def test_no_word_and_no_hit_are_zero_and_no_division() -> None:
    found = evaluate_open_vocabulary([[], ["d"]], [["a"], ["a"]], WHEELS)
    assert found is not None
    assert (found.precision, found.recall, found.f1, found.hit_rate) == (0, 0, 0, 0)
    assert found.intervals["f1"] == (0.0, 0.0)
    assert evaluate_open_vocabulary([["a"]], [["zzz"]], WHEELS) is None


def test_intervals_hold_the_figure_and_follow_groups() -> None:
    found = evaluate_open_vocabulary(ANSWERS * 6, REFERENCES * 6, WHEELS)
    assert found is not None
    for name in ("precision", "recall", "f1", "hit_rate"):
        interval = found.intervals[name]
        assert interval is not None
        assert interval[0] < getattr(found, name) < interval[1]
    alone = evaluate_open_vocabulary(ANSWERS, REFERENCES, WHEELS, groups=["p"] * 5)
    assert alone is not None and set(alone.intervals.values()) == {None}


@pytest.mark.parametrize(
    ("word", "plutchik", "ekman"),
    [
        ("happy", "joy", "joy"),
        ("Joyfulness", "joy", "joy"),
        ("angrily", "anger", "anger"),
        ("worries", "fear", "fear"),
        ("gratitude", None, "joy"),
        ("interest", "anticipation", None),
        ("contemptuous", "disgust", None),
        ("frustrated", None, None),
        ("s", None, None),
    ],
)
def test_words_of_the_shipped_wheels(word: str, plutchik: str | None, ekman: str | None) -> None:
    assert (SHIPPED["plutchik"](word), SHIPPED["ekman"](word)) == (plutchik, ekman)


def test_every_emotion_of_the_taxonomy_is_on_a_wheel() -> None:
    assert all(any(wheel(emotion) for wheel in SHIPPED.values()) for emotion in EMOTIONS)
    assert list(base_forms("(Hoping!)")) == ["hoping", "hop", "hope"]


# The published tables ----------------------------------------------------------------------------


def sheet(file: Path, rows: list[list[Any]]) -> None:
    book = Workbook()
    for row in rows:
        book.active.append(row)  # type: ignore[union-attr]
    book.save(file)


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    """In the published layout: two wheels, synonyms of two runs, forms."""
    folder = tmp_path / "emotion_wheel"
    folder.mkdir()
    levels = ["level1", "level2", "level3"]
    sheet(folder / "wheel1.xlsx", [
        levels, ["Happy", "Proud", "Confident"], [None, None, "Sure"], [None, "Playful", "Cheeky"],
        ["Sad", "Hurt", "Let down"],
    ])  # fmt: skip
    rows = [levels, ["Strong", "Confident", "Proud"], ["Weak", "Sad", "Sure"]]
    sheet(folder / "wheel2.xlsx", rows)
    sheet(folder / "synonym.xlsx", [
        ["word_run1", "synonym_run1", "word_run2", "synonym_run2"],
        ["happy", "['glad', 'merry']", "sad", "down, glad"],
        ["proud", "['assured']", "confident", "['assured']"],
        ["sad", "[]", "playful", "merry"],
        *([word, "", word, ""] for word in
          ("hurt", "sure", "cheeky", "strong", "weak", "let down")),
    ])  # fmt: skip
    with (folder / "format.csv").open("w", newline="", encoding="utf-8") as lines:
        csv.writer(lines).writerows([
            ["name", "format"], ["happy", "happily,happiness"], ["glad", "gladly"],
            ["assured", "assuredly"], ["merry", "merrily,happily"], ["sad", "sadly"],
            ["let down", "letting down"], ["nowhere", "nowhereness"],
        ])  # fmt: skip
    return folder


@pytest.mark.parametrize(
    ("word", "first", "second"),
    [
        (" Happily ", "happy", None),  # a form of happy and of merry: happy is on wheel 1
        ("gladly", "happy", "weak"),  # glad: of happy and of sad; happy is not on wheel 2
        ("assuredly", "happy", "strong"),  # assured: confident comes before proud
        ("merry", "happy", None),
        ("sadly", "sad", "weak"),
        ("letting down", "sad", None),
        ("nowhereness", None, None),
        ("sure", None, None),  # on the wheels, but in no table of forms
        ("unheard", None, None),
    ],
)
def test_words_go_the_published_way(
    tables: Path, word: str, first: str | None, second: str | None
) -> None:
    wheels = published_wheels(tables)
    assert list(wheels) == ["wheel1", "wheel2"]
    assert (wheels["wheel1"](word), wheels["wheel2"](word)) == (first, second)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: [w.unlink() for w in f.glob("wheel*")], "has no wheel1.xlsx"),
        (lambda f: (f / "format.csv").unlink(), "format.csv: there is no such file"),
        (lambda f: (f / "format.csv").write_text("a,b\n1,2\n"), "no columns name and format"),
        (lambda f: (f / "synonym.xlsx").unlink(), "synonym.xlsx: there is no such file"),
        (lambda f: (f / "synonym.xlsx").write_bytes(b"PK"), "is no table of Excel"),
        (lambda f: sheet(f / "wheel2.xlsx", [["level1"]]), "wheel2.xlsx: has no column level2"),
    ],
)  # fmt: skip
def test_tables_that_are_none_are_refused(tables: Path, change: Any, words: str) -> None:
    change(tables)
    with pytest.raises(UsageError) as caught:
        published_wheels(tables)
    assert words in str(caught.value) and "\n" not in str(caught.value)


# The command -------------------------------------------------------------------------------------


def record(name: str, text: str, **more: Any) -> dict[str, Any]:
    return {
        "sample_id": name, "label": None, "text": text, "ended": True, "group": None,
        "label_set": "all", **more,
    }  # fmt: skip


@pytest.fixture
def predictions(tmp_path: Path) -> Path:
    """A set in free words and one with classes."""
    folder = tmp_path / "predictions"
    folder.mkdir()
    form = "<think>Because.</think>\n<answer>{}</answer>"
    words = [["happy", "calm"], ["sad"], ["angry", "zzz"]]
    answers = ["happy, gladly", "joyful, sad", "no idea"]
    rows = [
        record(f"mer2025/{i}", form.format(answer), open_labels=labels)
        for i, (answer, labels) in enumerate(zip(answers, words, strict=True))
    ]
    (folder / "mer2025.full.jsonl").write_text("\n".join(map(json.dumps, rows)))
    closed = [
        record("meld/1", form.format("glad"), label="happy", label_set="meld"),
        record("meld/2", form.format("sad"), label="angry", label_set="meld"),
    ]
    (folder / "meld.full.jsonl").write_text("\n".join(map(json.dumps, closed)))
    return folder


def test_score_reads_free_words(
    predictions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["score", str(predictions), "--unibench", "--out", str(out)]) == 0
    results = json.loads((out / "results.json").read_text())
    assert results["sets"].keys() == {"meld"}
    found = results["open_vocabulary"]["mer2025"]["full"]
    # Plutchik: {joy}/{joy}, {joy sadness}/{sadness}, {}/{anger}; on Ekman's, calm is nowhere.
    assert (found["precision"], found["recall"]) == (pytest.approx(1.5 / 3), pytest.approx(2 / 3))
    assert found["f1"] == pytest.approx(2 * 0.5 * (2 / 3) / (0.5 + 2 / 3))
    assert (found["source"], list(found["wheels"])) == ("shipped", ["plutchik", "ekman"])
    table = results["unibench"]
    assert table["figures"]["meld"] == {"n": 2, "measure": "hit_rate", "value": 0.5}
    assert table["figures"]["mer2025"]["measure"] == "f1"
    assert table["mean"] == pytest.approx((0.5 + found["f1"]) / 2)
    assert table["missing"] == [
        "mer2023", "mer2024", "iemocap", "cmu-mosi", "cmu-mosei", "ch-sims", "ch-sims v2"
    ]  # fmt: skip
    printed = capsys.readouterr().out
    assert f"{found['f1']:.1%}" in printed and "hit rate   50.0%" in printed


def test_score_with_the_published_tables(
    predictions: Path, tables: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = ["score", str(predictions / "mer2025.full.jsonl"), "--wheels", str(tables)]
    assert main([*words, "--out", str(out)]) == 0
    found = json.loads((out / "results.json").read_text())["open_vocabulary"]["mer2025"]["full"]
    assert found["source"] == str(tables)
    # Wheel 1: {happy}/{happy}, {sad}/{sad}; wheel 2: {weak}/{} left out, {weak}/{weak}.
    assert (found["wheels"]["wheel1"]["n"], found["wheels"]["wheel2"]["n"]) == (2, 1)
    assert found["f1"] == 1.0
    assert main([*words[:2], "--wheels", str(tmp_path / "none")]) == 2
    assert "has no wheel1.xlsx" in capsys.readouterr().err


def test_records_without_words_have_no_figures() -> None:
    assert open_vocabulary_of([record("a", "happy", label="happy")]) is None
    closed = open_vocabulary_of([record("a", "happy", label="happy")], closed=True)
    assert closed is not None and closed.hit_rate == 1.0


def test_test_measures_free_words_as_score_does(tmp_path: Path) -> None:
    """A set without a label: OV-MERD as MER2025 has it."""
    samples = [
        Sample(f"mer2025/{i}", Clip(Path(f"{i}.mp4")), "?", label_set="all", target=TARGET,
               open_labels=labels)
        for i, labels in enumerate([("happy", "calm"), ("sad",)])
    ]  # fmt: skip
    evaluation = Evaluation([EvaluationSet("mer2025", "all", "full")])
    form = "<think>Because.</think>\n<answer>{}</answer>"
    evaluation.add(0, samples, [form.format("happy, gladly"), form.format("joyful, sad")])
    evaluation.write(tmp_path / "test", broken={})
    results = json.loads((tmp_path / "test" / "results.json").read_text())
    found = results["open_vocabulary"]["mer2025"]["full"]
    assert (results["sets"], found["precision"], found["recall"]) == ({}, 0.75, 1.0)
    figures = evaluation.metrics("test")
    assert figures["test/mer2025/ew_f1"] == found["f1"] == pytest.approx(6 / 7)
    assert main(["score", str(tmp_path / "test"), "--out", str(tmp_path / "out")]) == 0
    again = json.loads((tmp_path / "out" / "results.json").read_text())
    assert again["open_vocabulary"] == results["open_vocabulary"]
    (line, *_) = (tmp_path / "test/predictions/mer2025.full.jsonl").read_text().splitlines()
    kept = json.loads(line)
    assert kept["open_labels"] == ["happy", "calm"]
    assert (kept["reference"], kept["modality"]) == ("A wide smile.", "video_audio")
