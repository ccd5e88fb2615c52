"""What a loss logs of its clipping, worked out by hand."""

import pytest
import torch

from r1omni.ops import GRPOLossConfig, grpo_loss


def clipped(level, advantages, mask, ratios, **options):
    """The metrics of a batch whose ratios are given, and which are means over completions."""
    logps = torch.tensor(ratios, dtype=torch.float64).log()
    result = grpo_loss(
        logps, torch.tensor(advantages), torch.tensor(mask), old_logps=torch.zeros_like(logps),
        config=GRPOLossConfig(beta=0.0, importance_sampling_level=level, **options),
    )  # fmt: skip
    return {name: value.item() for name, value in result.metrics.items()}, result.row_metrics


def test_clip_metrics_by_hand():
    """Of a bad completion what is clipped below counts, of a good one what is clipped above."""
    ratios = [[0.5, 1.0, 1.5, 0.5]] * 3 + [[0.5, 9.0, 9.0, 9.0]]
    mask = [[1, 1, 1, 0]] * 3 + [[1, 0, 0, 0]]
    advantages = [-0.5, 0.0, 0.5, -0.5]
    found, row_metrics = clipped("token", advantages, mask, ratios)
    expected = {"low_mean": 2 / 10, "low_min": 0, "high_mean": 1 / 10, "high_max": 1 / 3,
                "region_mean": 3 / 10}  # fmt: skip
    assert found == pytest.approx({f"clip_ratio/{name}": v for name, v in expected.items()})
    assert row_metrics == frozenset()
    # Of one completion as well, and of two tokens.
    for row, low in ((0, 1 / 3), (3, 1)):
        found, row_metrics = clipped("token", advantages[row : row + 1], [mask[row]], [ratios[row]])
        assert found["clip_ratio/low_mean"] == found["clip_ratio/low_min"] == pytest.approx(low)
        assert row_metrics == frozenset()
    found, _ = clipped("token", [-0.5], [[1, 0]], [[0.5, 1.0]])
    assert found["clip_ratio/low_mean"] == 1


def test_clip_metrics_of_sequences():
    """A completion counts once, whatever its length; its ratio is the geometric mean."""
    ratios = [[0.25, 1.0, 9.0], [1.0, 1.0, 1.0], [0.5, 9.0, 9.0], [1.5, 1.5, 9.0]]
    mask = [[1, 1, 0], [1, 1, 1], [1, 0, 0], [1, 1, 0]]
    found, row_metrics = clipped("sequence", [-1.0, -1.0, -1.0, 1.0], mask, ratios)
    expected = {"low_mean": 2 / 4, "low_min": 0, "high_mean": 1 / 4, "high_max": 1,
                "region_mean": 3 / 4}  # fmt: skip
    assert found == pytest.approx({f"clip_ratio/{name}": v for name, v in expected.items()})
    assert row_metrics == found.keys()


def test_clip_metrics_of_the_other_losses():
    cap = {"loss_type": "cispo", "epsilon_high": 1.0}
    found, _ = clipped("token", [0.5, -0.5], [[1, 1, 1]] * 2, [[0.5, 1.0, 1.5]] * 2, **cap)
    assert found == {"cispo_clip_ratio": pytest.approx(1 / 6)}  # a ratio at the cap is not cut
    assert clipped("token", [1.0], [[1]], [[9.0]], loss_type="sapo") == ({}, frozenset())
