"""An optimizer step of SFT is the mean over its tokens, in one batch or in several."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from small_training import fit, logged, moments

from r1omni.data.batch import Batch
from r1omni.training import SFTModule


class _Remembers(SFTModule):
    """Keeps the number of target tokens of each batch."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.tokens: list[int] = []

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        self.tokens.append(int(self.targets(batch)[1].sum()))
        return super().training_step(batch, batch_idx)


# The world has 8 samples: the third has fewer batches than it should accumulate.
@pytest.mark.parametrize(("batch_size", "accumulate"), [(2, 4), (1, 8), (1, 16)])
def test_accumulated_batches_are_one_batch(
    mini_world: Path, tmp_path: Path, batch_size: int, accumulate: int
) -> None:
    whole = fit(mini_world, tmp_path / "whole", None, batch_size=8, seen=_Remembers)
    parts = fit(
        mini_world, tmp_path / "parts", None, batch_size=batch_size, seen=_Remembers,
        accumulate_grad_batches=accumulate,
    )  # fmt: skip
    assert sum(parts.tokens) == sum(whole.tokens)
    assert len(set(parts.tokens)) > 1, "batches of as many tokens would not tell"
    wanted, found = moments(whole), moments(parts)
    assert (wanted - found).norm() < 1e-5 * wanted.norm()
    for name in ("loss", "grad_norm", "target_tokens"):
        assert logged(parts)[name] == pytest.approx(logged(whole)[name], rel=1e-5), name
