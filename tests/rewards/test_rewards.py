"""Accuracy, and rewards by name."""

import pytest

from r1omni.rewards import get_reward, register, reward_names
from r1omni.types import UsageError


def tagged(answer):
    return f"<think>x</think><answer>{answer}</answer>"


def accuracy(answer, label, label_set=None):
    columns = {} if label_set is None else {"label_set": [label_set]}
    return get_reward("accuracy")([tagged(answer)], [label], **columns)[0]


def test_accuracy_maps_aliases_on_both_sides():
    assert accuracy("joy", "happiness") == 1
    assert accuracy("worried", "anxiety") == 1
    assert accuracy("sad", "happiness") == 0
    assert accuracy("happy", None) is None


def test_accuracy_uses_the_label_set_in_force():
    assert accuracy("calm", "neutral") == 0
    assert accuracy("calm", "neutral", "ravdess_7way_calm_as_neutral") == 1
    assert accuracy("calm", "neutral", "ravdess_7way_no_calm") == 0
    assert accuracy("calm", "neutral", "ravdess") == 0
    mixed = get_reward("accuracy")(
        [tagged("calm")] * 2, ["neutral"] * 2, label_set=[None, "ravdess_7way_calm_as_neutral"]
    )
    assert mixed == [0, 1]


def test_accuracy_refuses_labels_it_cannot_place():
    with pytest.raises(UsageError, match="'joyfulish' names no class of the taxonomy"):
        accuracy("happy", "joyfulish")
    with pytest.raises(UsageError, match="label set 'nope' is unknown"):
        accuracy("calm", "calm", "nope")


def test_registered_names():
    assert reward_names() == (
        "accuracy",
        "balanced_accuracy",
        "consistency",
        "cue_precision",
        "cue_recall",
        "direct_calibration",
        "format",
        "modality_use",
        "overlong",
        "repetition",
        "wheel_f1",
    )


def test_get_reward():
    assert get_reward("builtins:len") is len
    with pytest.raises(UsageError, match="use one of accuracy, balanced_accuracy"):
        get_reward("acuracy")
    with pytest.raises(UsageError, match="cannot import module 'no_such_module'"):
        get_reward("no_such_module:f")
    with pytest.raises(UsageError, match="has no function 'nothing'"):
        get_reward("math:nothing")


def test_register_refuses_a_taken_name():
    with pytest.raises(UsageError, match="already registered as 'accuracy'"):
        register("accuracy")(lambda completions, labels: [])
    with pytest.raises(UsageError, match="colon"):
        register("a:b")
