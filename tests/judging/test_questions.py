"""What a judge is asked, and which replies have a grade."""

from __future__ import annotations

import pytest

from r1omni.judging.questions import Case, NoGrade, needed_of_sample, question, read_grade
from r1omni.types import UsageError

CASE = Case(
    "She smiles.", "happy", label="happy", open_labels=("joyful", "calm"), reference="A smile."
)


def test_what_is_known_stands_for_the_placeholders() -> None:
    template = 'A: {answer}, R: {reasoning}, L: {label}, {open_labels}; {reference} {"score": 1}'
    expected = 'A: happy, R: She smiles., L: happy, joyful, calm; A smile. {"score": 1}'
    assert question(template, CASE) == expected
    assert needed_of_sample(template) == ("label", "open_labels", "reference")


def test_a_completion_cannot_have_the_label_shown() -> None:
    assert question("{reasoning}", Case("I think {label}", "sad", label="angry")) == (
        "I think {label}"
    )


@pytest.mark.parametrize("name", ["label", "open_labels", "reference"])
def test_a_sample_that_lacks_what_is_shown_is_not_asked_about(name: str) -> None:
    assert question(f"{{reasoning}} {{{name}}}", Case("It is so.", "sad")) is None


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{reasoning} {emotion}", "placeholder {emotion}; known are {reasoning}, {answer}"),
        ("{label} only", "neither {reasoning} nor {answer}"),
    ],
)
def test_a_template_that_cannot_be_meant_is_refused(template: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        needed_of_sample(template)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("reply", "form", "grade"),
    [
        ('{"score": 7}', "json", 7.0),
        (' {"why": "good", "score": 2.5} \n', "json", 2.5),
        ('```json\n{"score": 0}\n```', "json", 0.0),
        ('```\n{"score": 10}\n```', "json", 10.0),
        ("7", "number", 7.0),
        (" 9.5\n", "number", 9.5),
    ],
)
def test_a_grade_is_read(reply: str, form: str, grade: float) -> None:
    assert read_grade(reply, form, (0.0, 10.0)) == grade  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("reply", "form"),
    [
        ("", "json"),
        ("7", "json"),
        ("[7]", "json"),
        ("null", "json"),
        ('{"score": "7"}', "json"),
        ('{"score": true}', "json"),
        ('{"score": null}', "json"),
        ('{"score": NaN}', "json"),
        ('{"score": Infinity}', "json"),
        ('{"score": 1e999}', "json"),
        ('{"score": 11}', "json"),
        ('{"score": -0.1}', "json"),
        ('{"grade": 7}', "json"),
        ('{"score": 1, "score": 10}', "json"),
        ('The grade is {"score": 7}', "json"),
        ('{"score": 7', "json"),
        ("[" * 100_000, "json"),
        ('{"score": ' + "9" * 5000 + "}", "json"),
        ("seven", "number"),
        ("7/10", "number"),
        ("7 or 8", "number"),
        ("nan", "number"),
        ("1e3", "number"),
        ("11", "number"),
        ("٧", "json"),
    ],
)  # fmt: skip
def test_what_is_no_grade_is_never_taken_for_one(reply: str, form: str) -> None:
    with pytest.raises(NoGrade):
        read_grade(reply, form, (0.0, 10.0))  # type: ignore[arg-type]
