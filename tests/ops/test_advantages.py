import math

import pytest
import torch

from r1omni.ops import group_advantages
from r1omni.types import UsageError

NAN = math.nan


def column(*values):
    return torch.tensor(values)[:, None]


def test_by_hand():
    # Mean 0.5, unbiased standard deviation sqrt(1/3).
    expected = 0.5 / (math.sqrt(1 / 3) + 1e-4)
    values = group_advantages(column(0.0, 1.0, 1.0, 0.0), 4)
    assert values.dtype == torch.float32
    assert values.tolist() == pytest.approx([-expected, expected, expected, -expected])


def test_scales():
    rewards = column(0.0, 2.0, 5.0, 5.0)
    assert group_advantages(rewards, 2, scale="none").tolist() == [-1, 1, 0, 0]
    std = math.sqrt((9 + 1 + 4 + 4) / 3)
    batch = group_advantages(rewards, 2, scale="batch").tolist()
    assert batch == pytest.approx([-1 / (std + 1e-4), 1 / (std + 1e-4), 0, 0])


def test_leave_one_out():
    values = group_advantages(column(0.0, 3.0, 6.0), 3, scale="none", baseline="leave_one_out")
    assert values.tolist() == pytest.approx([-4.5, 0, 4.5])
    with_gap = group_advantages(column(0.0, NAN, 6.0), 3, scale="none", baseline="leave_one_out")
    assert with_gap.tolist() == pytest.approx([-6, 0, 6])


def test_weights():
    rewards = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    weighted = group_advantages(rewards, 2, torch.tensor([3.0, 1.0]), scale="none")
    assert weighted.tolist() == [1, -1]


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
@pytest.mark.parametrize("aggregation", ["sum_then_normalize", "normalize_then_sum"])
def test_rows_without_reward_change_nothing_for_their_siblings(scale, aggregation):
    options = {"scale": scale, "aggregation": aggregation}
    full = group_advantages(column(0.0, 1.0, 4.0), 3, **options)
    gap = group_advantages(column(0.0, 1.0, 4.0, NAN), 4, **options)
    torch.testing.assert_close(gap, torch.cat([full, torch.zeros(1)]))
    assert group_advantages(column(NAN, NAN), 2, **options).tolist() == [0, 0]
    assert group_advantages(column(3.0, NAN, NAN), 3, **options).tolist() == [0, 0, 0]


@pytest.mark.parametrize("value", [0.1, 1e6, -3.3])
def test_equal_rewards_earn_exactly_nothing(value):
    assert group_advantages(column(*[value] * 8), 4).tolist() == [0] * 8


def test_properties_of_random_groups():
    rewards = torch.randn(32, 3, generator=torch.Generator().manual_seed(0))
    values = group_advantages(rewards, 8)
    torch.testing.assert_close(values.view(4, 8).mean(1), torch.zeros(4), atol=1e-6, rtol=0)
    torch.testing.assert_close(values.view(4, 8).std(1), torch.ones(4), atol=1e-3, rtol=0)
    # A shift of all rewards of a group changes nothing, nor does the order of the groups.
    shift = torch.arange(4.0).repeat_interleave(8)[:, None]
    torch.testing.assert_close(group_advantages(rewards + shift, 8), values, atol=1e-5, rtol=0)
    swapped = group_advantages(rewards.view(4, 8, 3).flip(0).reshape(32, 3), 8)
    torch.testing.assert_close(swapped, values.view(4, 8).flip(0).flatten())


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((column(1.0, 0.0), 1), {}, "group_size is 1"),
        ((column(1.0, 0.0, 1.0), 2), {}, "3 rewards do not divide into groups of 2"),
        ((torch.zeros(4), 2), {}, "expected \\[N, K\\]"),
        ((column(1.0, math.inf), 2), {}, "infinite"),
        ((column(1.0, 0.0), 2, torch.ones(2)), {}, "do not fit 1 reward"),
        ((column(1.0, 0.0), 2, torch.tensor([NAN])), {}, "not all finite"),
        ((column(1.0, 0.0), 2), {"scale": "std"}, "scale 'std' is unknown"),
        ((column(1.0, 0.0), 2), {"aggregation": "sum"}, "aggregation 'sum' is unknown"),
        ((column(1.0, 0.0), 2), {"baseline": "best"}, "baseline 'best' is unknown"),
        (
            (column(1.0, 0.0), 2),
            {"aggregation": "normalize_then_sum", "baseline": "leave_one_out"},
            "no leave_one_out",
        ),
    ],
)
def test_bad_input(arguments, options, message):
    with pytest.raises(UsageError, match=message):
        group_advantages(*arguments, **options)
