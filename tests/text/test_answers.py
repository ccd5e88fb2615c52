"""The lenient reader: what stands as the answer, and whether the form is right."""

from dataclasses import FrozenInstanceError

import pytest

from r1omni.text.answers import read_answer, read_answers

WHOLE = "<think>a smile</think><answer> joyful </answer>"


@pytest.mark.parametrize(
    ("text", "before", "word"),
    [
        (WHOLE, "<think>a smile</think><answer>", "joyful"),
        ("I say <ANSWER>sad</Answer>, surely", "I say <ANSWER>", "sad"),
        ("<answer></answer>", "<answer>", ""),
        # without a tag it is the whole text
        (" sad\n", "", "sad"),
        ("", "", ""),
        # half of a block, or several, is no answer
        ("<answer>sad", "", ""),
        ("sad</answer>", "", ""),
        ("</answer>sad<answer>", "", ""),
        ("<answer>sad<answer>sad</answer>", "", ""),
        ("<answer>sad</answer>sad</answer>", "", ""),
        ("<answer>sad</answer><answer>sad</answer>", "", ""),
        # special tokens are passed over
        ("<|im_start|><answer>sad<|im_end|></answer>", "<answer>", "sad"),
    ],
)
def test_word_and_what_is_before_it(text, before, word):
    answer = read_answer(text)
    assert (answer.before, answer.word) == (before, word)


def test_a_completion_of_the_answer_format():
    answer = read_answer(WHOLE)
    assert (answer.format_ok, answer.reasoning, answer.emotion) == (True, "a smile", "happy")
    cut = read_answer(WHOLE, ended=False)
    assert (cut.format_ok, cut.reasoning, cut.emotion) == (False, "", "happy")
    with pytest.raises(FrozenInstanceError):
        answer.word = "sad"


def test_of_several_each_has_its_own_end():
    assert [answer.format_ok for answer in read_answers([WHOLE] * 3)] == [True] * 3
    ended = [answer.format_ok for answer in read_answers([WHOLE] * 3, [True, False, True])]
    assert ended == [True, False, True]
    with pytest.raises(ValueError, match="shorter"):
        read_answers([WHOLE] * 3, [True])
