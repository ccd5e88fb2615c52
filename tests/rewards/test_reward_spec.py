"""Rewards as a configuration names them, refused before a run where they could not work."""

import math
from dataclasses import FrozenInstanceError

import pytest
from jsonargparse import ArgumentParser

from r1omni.rewards import COLUMNS, RewardSpec, check_rewards, get_reward, score
from r1omni.types import UsageError

HERE = __name__


def scaled(completions, labels, *, factor=1.0, **columns):
    return [factor * len(text) for text in completions]


def needs_a_judge(completions, labels, *, judge, **columns):
    return [judge] * len(completions)


def closed(completions, labels, modality=None):
    return [0.0] * len(completions)


def check(name, columns=(), options=None):
    check_rewards([RewardSpec(name, options=options or {})], columns)


def test_options_reach_the_function():
    specs = [RewardSpec(f"{HERE}:scaled", options={"factor": 0.5})]
    assert score(specs, ["ab", "abcd"], [None, None]).tolist() == [[1.0], [2.0]]
    assert score([RewardSpec(f"{HERE}:scaled")], ["ab"], [None]).tolist() == [[2.0]]
    specs = [RewardSpec(f"{HERE}:needs_a_judge", options={"judge": 3})]
    assert score(specs, ["ab"], [None]).tolist() == [[3.0]]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("scaled", {"faktor": 2}, "option 'faktor' is unknown; known are factor"),
        ("scaled", {"completions": []}, "option 'completions' is unknown"),
        ("scaled", {"labels": []}, "'labels' is a column, one value a completion"),
        ("scaled", {"modality": "video"}, "'modality' is a column"),
        ("scaled", {"columns": {}}, "option 'columns' is unknown"),
        ("needs_a_judge", {}, "needs 'judge', which is neither among its options nor a column"),
        ("closed", {}, r"does not take every column; end its parameters with \*\*columns"),
    ],
)
def test_options_that_do_not_fit_are_refused(name, options, message):
    with pytest.raises(UsageError, match=message) as caught:
        check(f"{HERE}:{name}", COLUMNS, options)
    assert repr(f"{HERE}:{name}") in str(caught.value)


@pytest.mark.parametrize(
    ("name", "columns", "options", "message"),
    [
        ("format", (), {"strict": True}, "option 'strict' is unknown; known are none"),
        ("accuracy", (), {"label_set": "dfew"}, "'label_set' is a column"),
        ("overlong", (), {"max_length": 9}, "needs 'completion_lengths'.*columns are none"),
        ("overlong", ["completion_lengths"], {}, "option max_length is missing"),
        ("overlong", COLUMNS, {"max_length": 0}, "max_length is 0"),
        ("overlong", COLUMNS, {"max_length": 9.0}, "max_length is 9.0"),
        ("overlong", COLUMNS, {"cache_length": -1}, "cache_length is -1"),
        ("overlong", COLUMNS, {"max_length": 9, "cache_length": 10}, "10 is above max_length 9"),
        ("repetition", (), {"ngram_size": 0}, "ngram_size is 0"),
        ("repetition", (), {"ngram_size": "3"}, "ngram_size is '3'"),
        ("repetition", (), {"max_penalty": -1}, "max_penalty is -1"),
        ("repetition", (), {"max_penalty": 0}, "max_penalty is 0"),
        ("repetition", (), {"max_penalty": math.inf}, "max_penalty is inf"),
        ("consistency", (), {"max_named": 0}, "max_named is 0"),
        ("consistency", (), {"max_concluded": True}, "max_concluded is True"),
        ("cue_recall", COLUMNS, {"against": "truth"}, "against 'truth' is unknown; use one of"),
        ("modality_use", ["sample_ids"], {}, "needs 'modality'.*columns are sample_ids"),
        ("petal_f1", (), {"length_power": -1}, "length_power is -1"),
        ("petal_f1", (), {"length_power": math.nan}, "length_power is nan"),
        ("balanced_accuracy", (), {}, "needs 'class_counts'"),
        ("balanced_accuracy", (), {"class_counts": {}}, "expected the number of each class"),
        ("balanced_accuracy", (), {"class_counts": {"hapy": 1}}, "'hapy' names no emotion"),
        ("balanced_accuracy", (), {"class_counts": {"joy": 1, "happy": 1}}, "a second time"),
        ("balanced_accuracy", (), {"class_counts": {"joy": 0}}, "'joy' has 0 clips"),
    ],
)
def test_values_of_options_are_checked_before_a_run(name, columns, options, message):
    with pytest.raises(UsageError, match=message) as caught:
        check(name, columns, options)
    assert f"reward {name!r}" in str(caught.value)


def test_rewards_that_can_be_computed_are_accepted():
    names = "accuracy format overlong repetition consistency modality_use petal_f1"
    check_rewards([RewardSpec(name) for name in names.split()], COLUMNS)
    check("overlong", ["completion_lengths"], {"max_length": 9, "cache_length": 0})
    check("overlong", COLUMNS, {"cache_length": 0})
    check("petal_f1", (), {"length_power": 0})
    check("balanced_accuracy", (), {"class_counts": {"joy": 3, "sad": 1}})


def test_no_reward_and_a_reward_named_twice():
    with pytest.raises(UsageError, match="name at least one"):
        check_rewards([], COLUMNS)
    with pytest.raises(UsageError, match="each once"):
        check_rewards([RewardSpec("format"), RewardSpec("format", 0.5)], COLUMNS)
    with pytest.raises(UsageError, match="'acuracy' is unknown"):
        check("acuracy")


def test_a_builtin_takes_no_options():
    with pytest.raises(UsageError, match="builtins:"):
        check("builtins:max", (), {"factor": 1})


def test_weights_are_finite():
    assert RewardSpec("format").weight == 1
    with pytest.raises(UsageError, match="weight is nan; it must be a number"):
        RewardSpec("format", math.nan)
    with pytest.raises(FrozenInstanceError):  # unchecked, it could be anything
        RewardSpec("format").weight = math.nan


def test_a_yaml_file_sets_options(tmp_path):
    file = tmp_path / "rewards.yaml"
    file.write_text(
        "rewards:\n"
        "  - {name: accuracy}\n"
        "  - {name: overlong, weight: 0.5, options: {max_length: 64, cache_length: 16}}\n"
        "  - {name: balanced_accuracy, options: {class_counts: {happy: 6, sad: 3}}}\n"
    )
    parser = ArgumentParser(parser_mode="omegaconf", exit_on_error=False)
    parser.add_argument("--config", action="config")
    parser.add_argument("--rewards", type=list[RewardSpec])
    parsed = parser.parse_args(["--config", str(file)])
    specs = parser.instantiate(parsed).rewards
    assert specs == [
        RewardSpec("accuracy"),
        RewardSpec("overlong", 0.5, {"max_length": 64, "cache_length": 16}),
        RewardSpec("balanced_accuracy", 1.0, {"class_counts": {"happy": 6, "sad": 3}}),
    ]
    check_rewards(specs, COLUMNS)
    rows = score(specs, ["x"], ["sad"], completion_lengths=[56]).tolist()
    assert rows == [[0.0, -0.5, 0.0]]
    assert get_reward("overlong")([], [], completion_lengths=[], max_length=9) == []
