import time

import pytest

from r1omni.text.tags import parse_completion, render_completion
from r1omni.types import UsageError


@pytest.mark.parametrize(
    "text",
    [
        "<think>he smiles</think><answer>happy</answer>",
        "  <think>\nhe smiles\n</think>\n\n<answer> happy </answer>\n",
    ],
)
def test_well_formed(text):
    parsed = parse_completion(text)
    assert (parsed.format_ok, parsed.reasoning, parsed.answer) == (True, "he smiles", "happy")


def test_angle_brackets_that_are_no_tags_are_text():
    parsed = parse_completion("<think>a < b, <thinking> <b>x</b></think><answer>sad</answer>")
    assert parsed.format_ok
    assert parsed.reasoning == "a < b, <thinking> <b>x</b>"


def test_malformed_keeps_nothing():
    parsed = parse_completion("<think>x</think><answer>happy</answer>.")
    assert (parsed.format_ok, parsed.reasoning, parsed.answer) == (False, "", "")


@pytest.mark.parametrize(("reasoning", "word"), [("a\nb", "happy"), (" wide é ", "contemptuous")])
def test_render_is_the_inverse(reasoning, word):
    parsed = parse_completion(render_completion(reasoning, word))
    assert (parsed.format_ok, parsed.reasoning, parsed.answer) == (True, reasoning.strip(), word)


@pytest.mark.parametrize(("reasoning", "word"), [("", "sad"), ("x", " "), ("<THINK>", "sad")])
def test_render_refuses_what_it_could_not_read_back(reasoning, word):
    with pytest.raises(UsageError, match="cannot write a completion"):
        render_completion(reasoning, word)


@pytest.mark.parametrize(
    "unit", ["<", "< ", "<think>", "</think><think>", "<answer>", "<  /  ", " \n", "</think"]
)
@pytest.mark.parametrize("head", ["", "<think>", "<think>a</think><answer>"])
def test_linear_time(unit, head):
    def seconds(count):
        text = head + unit * count
        start = time.perf_counter()
        parse_completion(text)
        return time.perf_counter() - start

    # Quadratic time would take minutes at this length.
    assert seconds(200_000) < 2


def test_one_long_run_of_white_space_after_a_bracket():
    start = time.perf_counter()
    assert not parse_completion("<" + " " * 1_000_000 + "/" + " " * 1_000_000).format_ok
    assert time.perf_counter() - start < 2
