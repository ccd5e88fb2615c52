import pytest

from r1omni.rewards import get_reward


def repetition(text, **options):
    (value,) = get_reward("repetition")([text], [None], **options)
    return value


def tagged(reasoning):
    return f"<think>{reasoning}</think><answer>c</answer>"


@pytest.mark.parametrize(
    ("text", "options", "expected"),
    [
        # 4 pairs, 1 distinct
        ("a a a a a", {"ngram_size": 2}, -0.75),
        # 3 pairs: ab, ba, ab
        ("a b a b", {"ngram_size": 2}, -1 / 3),
        ("a b a b", {"ngram_size": 2, "max_penalty": 0.3}, -0.1),
        ("a b a b", {"ngram_size": 1}, -0.5),
        ("a b a b", {}, 0),
        ("a b c a b c", {}, -0.25),
        # 9 words, tags included, and 8 pairs, one of them twice
        (tagged("a b a b"), {"ngram_size": 2}, -0.125),
        # case does not hide a repetition
        ("He smiles. he SMILES.", {"ngram_size": 2}, -0.4),
        # as many words as an n-gram, and fewer
        ("a b c", {}, 0),
        ("a b", {}, 0),
        ("", {}, 0),
        # Chinese: each character is a word; 5 pairs, 2 distinct
        ("高兴高兴高兴", {"ngram_size": 2}, -0.6),
        ("他的眉毛上扬", {"ngram_size": 2}, 0),
        # marks are words
        ("!!!!", {}, -0.5),
        # 200 letters without a space are six pieces of 32 and one of 8: 5 triples, 2 distinct
        ("ha" * 100, {}, -0.6),
    ],
)
def test_by_hand(text, options, expected):
    assert repetition(text, **options) == pytest.approx(expected)


def test_an_honest_completion_pays_nothing():
    text = (
        "<think>In the video, the brows are raised and the jaw dropped. In the audio, the voice "
        "is high, loud, slow and bright. Together they suggest surprise.</think>\n"
        "<answer>surprise</answer>"
    )
    assert repetition(text) == 0


def test_a_loop_comes_near_the_largest_penalty():
    assert repetition(tagged("he smiles " * 5_000)) < -0.999
    assert repetition("<think>" * 10_000) == pytest.approx(-1 + 1 / 9_998)
    assert repetition("..." * 10_000, max_penalty=0.5) < -0.499
    assert repetition("\U0001f600" * 100) < -0.98
    assert -1 <= repetition("a " * 10_000, ngram_size=1) < -0.999


def test_a_large_text_returns():
    # Quadratic time would take hours.
    assert repetition("".join(f"w{number} " for number in range(200_000))) == 0
    assert repetition("x" * 1_000_000) < -0.99
    assert repetition("<" * 500_000) < -0.99
