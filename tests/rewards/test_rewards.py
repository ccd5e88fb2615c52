import math

import pytest
import torch

from r1omni.rewards import RewardSpec, get_reward, register, score
from r1omni.types import R1OmniError, UsageError


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
    with pytest.raises(UsageError, match="'calm' names no class of label set 'dfew'"):
        accuracy("calm", "calm", "dfew")
    with pytest.raises(UsageError, match="label set 'nope' is unknown"):
        accuracy("calm", "calm", "nope")


def test_get_reward():
    assert get_reward("builtins:len") is len
    with pytest.raises(UsageError, match="use one of accuracy, format"):
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


def test_score():
    values = score(
        [RewardSpec("accuracy"), RewardSpec("format", 0.5)],
        [tagged("happy"), "happy", tagged("sad")],
        ["happy", "happy", None],
        sample_ids=["a", "b", "c"],
    )
    assert values.dtype == torch.float32
    expected = torch.tensor([[1.0, 1.0], [0.0, 0.0], [math.nan, 1.0]])
    torch.testing.assert_close(values, expected, equal_nan=True)


def test_score_checks_its_input():
    spec = RewardSpec("format")
    with pytest.raises(UsageError, match="labels has 1 entries for 2 completions"):
        score([spec], ["a", "b"], ["happy"])
    with pytest.raises(UsageError, match="sample_ids has 3 entries"):
        score([spec], ["a"], ["happy"], sample_ids=[1, 2, 3])
    with pytest.raises(UsageError, match="each once"):
        score([spec, spec], ["a"], ["happy"])
    with pytest.raises(UsageError, match="at least one"):
        score([], ["a"], ["happy"])
    with pytest.raises(UsageError, match="not finite"):
        RewardSpec("format", math.nan)


def picky(completions, labels, **columns):
    return [1 / len(text) for text in completions]


def needs_two(completions, labels, **columns):
    raise KeyError("no judge") if len(completions) > 1 else RuntimeError("alone")


def too_few(completions, labels, **columns):
    return [1.0]


def strange(completions, labels, **columns):
    return [1.0, float("inf")]


def texts(completions, labels, **columns):
    return completions


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("picky", "failed on completion 1: ZeroDivisionError"),
        ("needs_two", "failed: KeyError"),
        ("too_few", "returned 1 values for 2 completions"),
        ("strange", "returned inf for completion 1"),
        ("texts", "returned 'ab' for completion 0"),
    ],
)
def test_failing_functions_are_named(function, message):
    with pytest.raises(R1OmniError, match=message) as caught:
        score([RewardSpec(f"{__name__}:{function}")], ["ab", ""], ["happy", "happy"])
    assert function in str(caught.value)
