import pytest
import torch

from r1omni.ops import group_advantages
from r1omni.rewards import get_reward
from r1omni.types import UsageError

# 10 clips in 3 classes: weights 10 / (3 * 6), 10 / (3 * 3), 10 / (3 * 1).
COUNTS = {"happiness": 6, "sad": 3, "Fear": 1}
WEIGHTS = {"happy": 5 / 9, "sadness": 10 / 9, "afraid": 10 / 3}


def balanced(answer, label, **arguments):
    text = f"<think>x</think><answer>{answer}</answer>"
    (value,) = get_reward("balanced_accuracy")([text], [label], **arguments)
    return value


def test_by_hand():
    for label, weight in WEIGHTS.items():
        assert balanced(label, label, class_counts=COUNTS) == pytest.approx(weight)
        assert balanced("angry", label, class_counts=COUNTS) == 0
    assert balanced("happy", None, class_counts=COUNTS) is None


def test_the_mean_weight_over_the_data_set_is_one():
    counts = {"happy": 489, "sad": 379, "neutral": 534, "angry": 435, "surprise": 294,
              "disgust": 29, "fear": 181}  # fmt: skip
    total = sum(counts.values())
    earned = {label: balanced(label, label, class_counts=counts) for label in counts}
    assert sum(n * earned[label] for label, n in counts.items()) / total == pytest.approx(1)
    # Each class adds the same, so always answering with the largest one earns 1/7 of all.
    shares = [n * earned[label] / total for label, n in counts.items()]
    assert shares == pytest.approx([1 / 7] * 7)


def test_even_classes_are_plain_accuracy():
    assert balanced("sad", "sad", class_counts={"sad": 4, "happy": 4}) == 1


def test_the_label_set_in_force():
    arguments = {"class_counts": {"neutral": 1, "sad": 3}}
    merged = {"label_set": ["ravdess_7way_calm_as_neutral"]}
    assert balanced("calm", "neutral", **arguments) == 0
    assert balanced("calm", "neutral", **arguments, **merged) == 2


def test_refusals():
    with pytest.raises(UsageError, match="label 'angry' is not in class_counts"):
        balanced("sad", "angry", class_counts=COUNTS)
    for counts in (
        {},
        {"sad": 0},
        {"sad": 1.5},
        {"sad": True},
        {"sadd": 1},
        {"sad": 1, "grief": 2},
    ):
        with pytest.raises(UsageError, match="class_counts"):
            balanced("sad", "sad", class_counts=counts)


def test_the_weight_cancels_in_a_group_that_is_divided_by_its_own_spread():
    """What the docstring warns of, and the setting that it advises."""
    plain = torch.tensor([[1.0], [0.0], [0.0], [1.0]])
    weighted = plain * WEIGHTS["afraid"]
    for scale, same in (("group", True), ("none", False)):
        advantages = [group_advantages(r, 4, scale=scale) for r in (plain, weighted)]
        assert torch.allclose(*advantages, atol=1e-3) == same
