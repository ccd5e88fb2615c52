"""AdamW with moments in 8 bits: what is kept how, resumed to the bit, and where it is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from small_training import BASE, fit, logged, weights
from torch import Tensor

from r1omni.training import FSDP2Strategy, OptimizerConfig
from r1omni.training.optimization import check_kind
from r1omni.types import R1OmniError, UsageError

pytest.importorskip("bitsandbytes")
EIGHT_BIT = OptimizerConfig(
    learning_rate=1e-3, schedule="constant", warmup_ratio=0.0, kind="adamw_8bit"
)


@pytest.fixture(autouse=True)
def _rewards_of_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))


def _state(module: Any) -> dict[str, dict[str, Any]]:
    """What the optimizer keeps of each trained weight, by its name."""
    own = module.trainer.optimizers[0].state
    return {name: own[p] for name, p in module.model.named_parameters() if p.requires_grad}


def _bytes(state: dict[str, dict[str, Any]]) -> int:
    tensors = [v for entry in state.values() for v in entry.values() if isinstance(v, Tensor)]
    return sum(t.nbytes for t in tensors if t.numel() != 256)  # without the codes' common table


@pytest.mark.parametrize("grpo", [None, BASE])
def test_a_resumed_training_is_the_unbroken_one(
    mini_world: Path, tmp_path: Path, grpo: Any
) -> None:
    whole = fit(mini_world, tmp_path, grpo, steps=3, optimizer=EIGHT_BIT)
    half = fit(mini_world, tmp_path, grpo, steps=2, optimizer=EIGHT_BIT)
    half.trainer.save_checkpoint(tmp_path / "half.ckpt")
    # Read with weights_only, as every checkpoint.
    resumed = fit(
        mini_world, tmp_path, grpo, steps=3, optimizer=EIGHT_BIT, ckpt_path=tmp_path / "half.ckpt"
    )
    wanted, found = weights(whole), weights(resumed)
    assert all(torch.equal(wanted[name], found[name]) for name in wanted)
    assert not all(torch.equal(wanted[name], w) for name, w in weights(half).items())
    kept, again = _state(whole), _state(resumed)
    for name, entry in kept.items():
        for key, value in entry.items():
            same = torch.equal(value, again[name][key]) if isinstance(value, Tensor) else True
            assert same and type(value) is type(again[name][key]), (name, key)
    with pytest.raises(R1OmniError, match=r"another optimizer than adamw;"):
        fit(mini_world, tmp_path, grpo, steps=3, ckpt_path=tmp_path / "half.ckpt")


def test_what_is_kept_in_how_many_bits(mini_world: Path, tmp_path: Path) -> None:
    plain = fit(mini_world, tmp_path, None, steps=2)
    eight = fit(mini_world, tmp_path, None, steps=2, optimizer=EIGHT_BIT)
    state = _state(eight)
    small = {n for n, p in eight.model.named_parameters() if n in state and p.numel() < 4096}
    embedding = {"language_model.embed_tokens.weight"}
    in_float32 = {n for n, entry in state.items() if entry["state1"].dtype == torch.float32}
    assert in_float32 == small | embedding and len(state) > len(in_float32)
    matrices = {n: entry for n, entry in state.items() if n not in in_float32}
    whole = {n: entry for n, entry in _state(plain).items() if n in matrices}
    # Two bytes and two float32 a block of 256, in place of two float32 (and a counter).
    assert _bytes(matrices) == pytest.approx(_bytes(whole) * (2 + 8 / 256) / 8, rel=0.01)
    # It learns the same: the way the weights have gone, and the loss.
    start = weights(fit(mini_world, tmp_path, None, steps=1, optimizer=_STILL))
    ways = [
        torch.cat([(weights(m)[n] - w).flatten() for n, w in start.items()]) for m in (plain, eight)
    ]
    assert torch.nn.functional.cosine_similarity(*ways, dim=0) > 0.95
    # The first update is computed before anything is rounded, so the second loss is equal, too.
    assert abs(logged(plain)["loss"] - logged(eight)["loss"]) < 1e-2


_STILL = OptimizerConfig(learning_rate=0.0, schedule="constant", warmup_ratio=0.0)


def test_sharded_weights_are_refused(mini_world: Path, tmp_path: Path) -> None:
    check_kind("adamw", is_sharded=True)
    with pytest.raises(UsageError, match=r"kind adamw_8bit .* use adamw with FSDP2"):
        check_kind("adamw_8bit", is_sharded=True)
    with pytest.raises(UsageError, match=r"use adamw with FSDP2"):
        fit(mini_world, tmp_path, None, optimizer=EIGHT_BIT, strategy=FSDP2Strategy())
