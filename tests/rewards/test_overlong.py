import pytest

from r1omni.rewards import get_reward
from r1omni.rewards.overlong import check_limit
from r1omni.types import UsageError


def overlong(lengths, **arguments):
    texts = ["x"] * len(lengths)
    return get_reward("overlong")(
        texts, [None] * len(texts), completion_lengths=lengths, **arguments
    )


def test_by_hand():
    # L_max 100, L_cache 20: free up to 80 tokens, then a twentieth a token.
    lengths = [1, 80, 81, 90, 99, 100, 101, 5000]
    expected = [0, 0, -0.05, -0.5, -0.95, -1, -1, -1]
    assert overlong(lengths, max_length=100, cache_length=20) == pytest.approx(expected)


def test_the_limit_of_the_sampling_and_the_cache_of_the_paper():
    # 4,096 of 20,480 tokens in the paper.
    assert overlong([16384, 18432, 20480], max_length=20480) == [0, -0.5, -1]
    assert overlong([8, 9, 10, 10], max_new_tokens=[10, 10, 10, 100]) == [0, -0.5, -1, 0]
    assert overlong([10], max_new_tokens=[10], max_length=100) == [0]  # the option decides


def test_without_a_ramp():
    assert overlong([9, 10, 11], max_length=10, cache_length=0) == [0, 0, -1]
    assert overlong([3, 4], max_length=3) == [0, -1]  # a fifth of three tokens is none
    assert overlong([1, 2], max_length=1) == [0, -1]


def test_the_ramp_may_begin_at_nothing():
    assert overlong([0, 5, 10], max_length=10, cache_length=10) == [0, -0.5, -1]


def test_it_never_pays_to_be_shorter_or_longer():
    values = overlong(list(range(200)), max_length=100, cache_length=30)
    assert values == sorted(values, reverse=True)
    assert max(values) == 0 and min(values) == -1


def test_refusals():
    with pytest.raises(UsageError, match="max_length or the column max_new_tokens"):
        overlong([1])
    with pytest.raises(UsageError, match="cache_length 11 is above max_length 10"):
        overlong([1], max_length=10, cache_length=11)
    with pytest.raises(UsageError, match="cache_length is -1"):
        overlong([1], max_length=10, cache_length=-1)
    with pytest.raises(UsageError, match="max_length is None"):
        overlong([1], max_new_tokens=[None])


def test_options_that_contradict_the_limit_of_the_sampling():
    for options in ({}, {"max_length": 10}, {"cache_length": 10}):
        check_limit(options, 10)
    for max_length in (9, 11):
        with pytest.raises(UsageError, match=rf"max_length .* is {max_length}, .* 10; leave it"):
            check_limit({"max_length": max_length}, 10)
    with pytest.raises(UsageError, match="cache_length 11 is above max_length 10"):
        check_limit({"cache_length": 11}, 10)
