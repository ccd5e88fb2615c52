import itertools

import pytest

from r1omni.rewards import get_reward
from r1omni.text.emotions import ANSWER_WORDS, EMOTIONS
from r1omni.text.wheel import PETALS, petal
from r1omni.types import UsageError


def petal_f1(answer, label=None, words=None, **options):
    text = f"<think>x</think><answer>{answer}</answer>"
    (value,) = get_reward("petal_f1")([text], [label], open_labels=[words], **options)
    return value


@pytest.mark.parametrize(
    ("answer", "words", "expected"),
    [
        ("angry, worried", ["angry", "worried"], 1),
        # base forms and neighbours on a petal
        ("Fury and ANXIETY", ["angry", "worried"], 1),
        # anger of anger and fear: F1 = 2 * 1 / 3, two words allowed and one given
        ("angry", ["angry", "worried"], 2 / 3),
        # three petals for two: F1 = 2 * 2 / 5, cut to 2 / 3
        ("furious, anxious, surprised", ["angry", "worried"], 8 / 15),
        ("sad", ["angry", "worried"], 0),
        # two words on the petal of a reference of one: F1 = 1, cut to a half
        ("happy, joyful", ["glad"], 0.5),
        ("happy, happy", ["glad"], 0.5),
        # a word outside the wheel is dropped from the petals, but it was named
        ("happy, purple", ["glad"], 0.5),
        ("purple", ["glad"], 0),
        ("not happy", ["glad"], 0),
        ("happy sad", ["glad"], 0),
        # words of the reference outside the wheel are dropped; the list was that long all the same
        ("happy, eager", ["glad", "purple"], 2 / 3),
        # as OV-MERD writes its lists
        ("curious; relieved", "['curious', 'relieved']", 1),
        ("高兴，happy", ["glad"], 0.5),
        # nothing to compare with
        ("happy", ["purple"], None),
        ("happy", [], None),
        ("happy", "", None),
    ],
)
def test_by_hand(answer, words, expected):
    value = petal_f1(answer, words=words)
    assert value is None if expected is None else value == pytest.approx(expected)


def test_the_label_stands_in_for_open_labels():
    assert petal_f1("joyful", label="happiness") == 1
    assert petal_f1("joyful, sad", label="happiness") == pytest.approx(1 / 3)
    assert petal_f1("joyful", label="happiness", words=["sad"]) == 0
    assert petal_f1("joyful") is None
    with pytest.raises(UsageError, match="'joyfulish' names no class"):
        petal_f1("joyful", label="joyfulish")


def test_listing_every_emotion_does_not_pay():
    everything = ", ".join(ANSWER_WORDS[emotion] for emotion in EMOTIONS)
    # 12 words on 7 petals: F1 = 2 / 8, cut to a twelfth.
    assert petal_f1(everything, label="happy") == pytest.approx(1 / 48)
    assert petal_f1(everything, label="happy", length_power=0) == pytest.approx(1 / 4)
    assert petal_f1(", ".join(PETALS * 1_000), label="happy") < 1e-4


def test_hedging_never_beats_the_best_guess():
    """Over every mixture of two to four petals, at chances from even to steep."""
    words = {petal(word): word for word in ("joy", "sad", "anger", "fear", "surprise")}
    for chances in ((0.2,) * 5, (0.4, 0.3, 0.15, 0.1, 0.05), (0.26, 0.25, 0.25, 0.14, 0.1)):
        likely = dict(zip(words.values(), chances, strict=True))

        def expected(*guess, likely=likely, **options):
            answer = ", ".join(guess)
            return sum(p * petal_f1(answer, words=[w], **options) for w, p in likely.items())

        best = max(expected(word) for word in likely)
        for size in (2, 3, 4):
            for guess in itertools.combinations(likely, size):
                assert expected(*guess) < best
    # Without the length penalty hedging does pay.
    assert expected("joy", "sad", length_power=0) > expected("joy", length_power=0)


def test_length_power():
    values = [petal_f1("happy, sad", label="happy", length_power=p) for p in (0, 1, 2)]
    assert values == pytest.approx([2 / 3, 1 / 3, 1 / 6])


@pytest.mark.parametrize("text", ["happy", "<answer>happy</answer>", ""])
def test_a_malformed_completion_earns_nothing(text):
    assert get_reward("petal_f1")([text], ["happy"]) == [0]
