"""Whether two checkpoints are the same."""

from __future__ import annotations

from typing import Any

import torch


def differences(one: Any, two: Any, place: str = "") -> list[str]:
    """Where two nested values differ; tensors must be equal in every bit."""
    if type(one) is not type(two):
        return [f"{place}: {type(one)} and {type(two)}"]
    if isinstance(one, torch.Tensor):
        return [] if one.dtype == two.dtype and torch.equal(one, two) else [place]
    if isinstance(one, dict):
        if one.keys() != two.keys():
            return [f"{place}: keys"]
        return [line for key in one for line in differences(one[key], two[key], f"{place}/{key}")]
    if isinstance(one, (list, tuple)):
        if len(one) != len(two):
            return [f"{place}: lengths"]
        pairs = enumerate(zip(one, two, strict=True))
        return [line for i, pair in pairs for line in differences(*pair, f"{place}/{i}")]
    return [] if one == two else [f"{place}: {one} and {two}"]


def position(checkpoint: dict[str, Any]) -> Any:
    """Epoch and place of the sampler, and its seed."""
    [state] = checkpoint["loops"]["fit_loop"]["state_dict"]["combined_loader"]
    own = {"epoch", "offset", "seed"}
    assert state.keys() == own | {"global_batch_size", "num_samples", "samples"}
    return {name: state[name] for name in own}
