"""Accuracy, and rewards by name."""

import inspect

import pytest

from r1omni.rewards import get_reward, needs_labels, register, reward_names
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


def test_rewards_read_further_classes_where_the_label_set_has_them():
    assert accuracy("excitement", "excited", "iemocap_6way") == 1
    assert accuracy("happy", "excited", "iemocap_6way") == 0
    assert accuracy("excited", "happy", "iemocap_6way") == 0
    assert accuracy("excited", "happy") == accuracy("frustrated", "angry", "iemocap_4way") == 0
    with pytest.raises(UsageError, match="'excited' names no class of the taxonomy"):
        accuracy("happy", "excited")
    text, six = [tagged("frustrated")], {"label_set": ["iemocap_6way"]}
    counts = {"frustrated": 1, "sad": 3}
    balanced = get_reward("balanced_accuracy")
    assert balanced(text, ["frustrated"], class_counts=counts, **six) == [2.0]
    calibrated = get_reward("direct_calibration")
    shares = [{"frustrated": 0.3, "angry": 0.7}]
    assert calibrated(text, ["angry"], direct_confidence=shares, **six) == [0.3]
    assert calibrated(text, ["frustrated"], direct_confidence=shares, **six) == [1.0]
    # Excitement lies on the petal of joy; frustration lies on none, so the wheel has no say.
    petals = get_reward("petal_f1")
    assert petals([tagged("happy")] * 2, ["excited", "frustrated"]) == [1.0, None]


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
        "judge",
        "modality_use",
        "overlong",
        "petal_f1",
        "repetition",
        "supported_accuracy",
    )


def test_rewards_that_are_silent_without_a_label():
    """A run whose clips have none does not begin with them."""
    assert {name for name in reward_names() if needs_labels(name)} == {
        "accuracy",
        "balanced_accuracy",
        "direct_calibration",
        "supported_accuracy",
        "petal_f1",
    }
    assert not needs_labels("builtins:len")


@pytest.mark.parametrize("name", reward_names())
def test_columns_and_options_are_given_by_name(name):
    """So that one more of them changes no caller."""
    kinds = [
        parameter.kind for parameter in inspect.signature(get_reward(name)).parameters.values()
    ]
    first, by_name = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
    assert kinds[:2] == [first] * 2
    assert set(kinds[2:-1]) <= {by_name}
    assert kinds[-1] == inspect.Parameter.VAR_KEYWORD


@pytest.mark.parametrize(
    ("name", "labels", "columns"),
    [
        ("accuracy", ["sad"], {}),
        ("accuracy", ["sad"] * 2, {"label_set": [None]}),
        ("format", ["sad"] * 2, {"ended": [True]}),
        ("balanced_accuracy", ["sad"], {"class_counts": {"sad": 1}}),
        ("modality_use", [None] * 2, {"modality": ["video"]}),
        ("overlong", [None] * 2, {"completion_lengths": [1], "max_length": 9}),
        ("petal_f1", ["sad"], {}),
        ("petal_f1", ["sad"] * 2, {"open_labels": [None]}),
    ],
)
def test_a_column_of_another_length_is_no_shorter_batch(name, labels, columns):
    with pytest.raises(ValueError, match=r"shorter|longer"):
        get_reward(name)([tagged("sad")] * 2, labels, **columns)


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
    assert register("accuracy")(get_reward("accuracy")) is get_reward("accuracy")  # the same again
    for name in ("a:b", ""):
        with pytest.raises(UsageError, match="empty or holds a colon"):
            register(name)
