import time
from dataclasses import FrozenInstanceError

import pytest

from r1omni.text.tags import MAX_SPACE_OUTSIDE, parse_completion, render_completion
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


@pytest.mark.parametrize("place", range(3))
def test_white_space_around_the_blocks_has_a_bound(place):
    def padded(count):
        outside = ["\n" * count if place == index else "" for index in range(3)]
        return "{}<think>x</think>{}<answer>sad</answer>{}".format(*outside)

    assert MAX_SPACE_OUTSIDE == 16
    assert parse_completion(padded(16)).format_ok
    assert not parse_completion(padded(17)).format_ok


@pytest.mark.parametrize(
    "text",
    [
        "<think>x</think> so <answer>sad</answer>",
        "so <think>x</think><answer>sad</answer>",
        "<answer>sad</answer><think>x</think>",
        "<think>x</think><answer>sad</answer>" * 2,
        "<think>x</think>",
        "<think>\u200b</think><answer>sad</answer>",  # prints nothing
        "<think>x</think><answer>\u3164</answer>",
        "<think>x<|im_end|></think><answer>sad</answer>",
    ],
)
def test_malformed(text):
    assert not parse_completion(text).format_ok


def test_malformed_keeps_nothing():
    parsed = parse_completion("<think>x</think><answer>happy</answer>.")
    assert (parsed.format_ok, parsed.reasoning, parsed.answer) == (False, "", "")
    with pytest.raises(FrozenInstanceError):  # it is shared by all that are malformed
        parsed.answer = "sad"


@pytest.mark.parametrize(("reasoning", "word"), [("a\nb", "happy"), (" wide é ", "contemptuous")])
def test_render_is_the_inverse(reasoning, word):
    parsed = parse_completion(render_completion(reasoning, word))
    assert (parsed.format_ok, parsed.reasoning, parsed.answer) == (True, reasoning.strip(), word)


@pytest.mark.parametrize(("reasoning", "word"), [("", "sad"), ("x", " "), ("<THINK>", "sad")])
def test_render_refuses_what_it_could_not_read_back(reasoning, word):
    with pytest.raises(UsageError, match="cannot write a completion"):
        render_completion(reasoning, word)


def test_a_refusal_shows_the_beginning_of_long_parts():
    with pytest.raises(UsageError) as caught:
        render_completion("<answer>" + "r" * 100, "w" * 100)
    shown = f"reasoning {'<answer>' + 'r' * 72!r} and answer {'w' * 80!r}: "
    assert shown in str(caught.value)


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
