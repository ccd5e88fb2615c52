import random

import pytest

from r1omni.rewards import get_reward
from r1omni.types import UsageError

SHARES = {"happy": 0.5, "sad": 0.3, "angry": 0.15, "calm": 0.05}


def calibrated(answer, label="happy", shares=SHARES, **columns):
    text = f"<think>He smiles.</think><answer>{answer}</answer>"
    reward = get_reward("direct_calibration")
    return reward([text], [label], direct_confidence=[shares], **columns)[0]


@pytest.mark.parametrize(
    ("answer", "label", "expected"),
    [
        ("happy", "happy", 1),
        ("joyful", "happiness", 1),
        ("sad", "sad", 1),  # found against the direct answer
        ("sad", "happy", 0.3),
        ("happy", "sad", 0.3),  # misled by the direct answer: what is left of the label counts
        ("angry", "happy", 0.15),
        ("happy", "calm", 0.05),
        ("fear", "happy", 0),  # nothing speaks for it
        ("happy", "fear", 0),  # outside what was scored
        ("happy, sad", "happy", 0),
        ("he is glad", "happy", 0),
        ("happy", None, None),
    ],
)
def test_by_hand(answer, label, expected):
    assert calibrated(answer, label) == expected


def test_what_is_malformed_or_cut_earns_nothing():
    reward, columns = get_reward("direct_calibration"), {"direct_confidence": [SHARES]}
    assert reward(["happy"], ["happy"], **columns) == [0]
    assert calibrated("happy", ended=[False]) == 0


def test_merged_emotions_count_as_one():
    merged = {"label_set": ["ravdess_7way_calm_as_neutral"]}
    shares = {"neutral": 0.4, "calm": 0.1, "sad": 0.5}
    assert calibrated("calm", "neutral", shares, **merged) == 1
    assert calibrated("sad", "neutral", shares, **merged) == 0.5
    assert calibrated("sad", "neutral", shares) == 0.4


def test_a_clip_with_a_label_needs_a_confidence():
    with pytest.raises(UsageError, match="direct_confidence is None for a clip with a label"):
        calibrated("happy", shares=None)
    assert calibrated("happy", None, None) is None
    with pytest.raises(UsageError, match="'joyfulish' names no class"):
        calibrated("happy", "joyfulish")


def test_the_likeliest_class_is_the_best_answer():
    """Where the shares are the odds, and never is a mistake worth more than half."""
    rng, words = random.Random(0), list(SHARES)
    for _ in range(50):
        draws = [rng.random() ** 3 for _ in words]
        shares = dict(zip(words, [draw / sum(draws) for draw in draws], strict=True))
        worth = {
            answer: sum(shares[label] * calibrated(answer, label, shares) for label in words)
            for answer in words
        }
        assert max(worth, key=worth.__getitem__) == max(shares, key=shares.__getitem__)
        mistakes = [calibrated(a, y, shares) for a in words for y in words if a != y]
        assert max(mistakes) <= 0.5
