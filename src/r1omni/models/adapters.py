"""Low-rank adapters on the language model (LoRA, arXiv 2106.09685), by the peft library.

An adapted layer computes W x + (alpha / rank) B A x. W stays as it is; only A and B are trained,
and B starts at 0, so a fresh adapter changes nothing. Without its adapters the model is the one it
was, which makes the reference of GRPO free of memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor

from r1omni.models.omni import OmniModel
from r1omni.options import Ranges, at_least, check_options

# Every matrix of a layer (arXiv 2305.14314 found that needed for full quality).
Matrix = Literal["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
ALL_MATRICES: tuple[Matrix, ...] = get_args(Matrix)
# What peft calls the one adapter of a layer, and the layer that is adapted.
_ADAPTER = "default"
_BASE = ".base_layer."


@dataclass(frozen=True)
class LoRAConfig:
    """Adapters on the language model.

    There is no dropout: the log-probabilities of sampling and of training must be the same.

    Attributes:
        rank: inner size of an adapter.
        alpha: an adapter's output is multiplied by alpha / rank.
        targets: the matrices of each layer that are adapted, any of `ALL_MATRICES`.

    Raises:
        UsageError: a number out of its range, or an unknown matrix.
    """

    rank: int = 16
    alpha: int = 32
    targets: tuple[Matrix, ...] = ALL_MATRICES

    RANGES: ClassVar[Ranges] = {"rank": at_least(1, 2**16), "alpha": at_least(1)}

    def __post_init__(self) -> None:
        check_options(self, "lora.")


def add_adapters(model: OmniModel, config: LoRAConfig) -> None:
    """Put adapters into the language model, in place, and freeze what they adapt."""
    # Here, not at the top: peft takes seconds to import, and few runs need it.
    from peft import LoraConfig, inject_adapter_in_model

    settings = LoraConfig(
        r=config.rank, lora_alpha=config.alpha, target_modules=list(config.targets)
    )
    inject_adapter_in_model(settings, model.language_model, _ADAPTER)


def has_adapters(model: OmniModel) -> bool:
    """Whether adapters were put into the model."""
    return bool(_adapted(model))


@contextmanager
def adapters_off(model: OmniModel) -> Iterator[OmniModel]:
    """The model as it was before its adapters were trained, for the length of a block."""
    layers = _adapted(model).values()
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield model
    finally:
        for layer in layers:
            layer.enable_adapters(True)


@torch.no_grad()
def merged_state(model: OmniModel) -> dict[str, Tensor]:
    """The weights with every adapter added to what it adapts, named as without adapters.

    The model itself stays as it is. Without adapters this is its `state_dict`.
    """
    adapted = _adapted(model)
    state: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        layer, _, rest = name.partition(_BASE)
        if not rest:
            if ".lora_" not in name:
                state[name] = tensor
        elif rest == "weight":
            merged = _with_adapter(adapted[layer], tensor)
            state[f"{layer}.{rest}"] = merged.to(tensor.dtype)
        else:
            state[f"{layer}.{rest}"] = tensor
    return state


def effective_weight(linear: Any) -> Tensor:
    """The matrix that a layer multiplies by, adapter included where it has one that is on.

    Without an adapter this is the layer's own parameter; with one it is float32, and new.
    """
    if not hasattr(linear, "base_layer"):
        weight: Tensor = linear.weight
        return weight
    base: Tensor = linear.base_layer.weight
    return base if linear.disable_adapters else _with_adapter(linear, base)


def _with_adapter(layer: Any, base: Tensor) -> Tensor:
    """float32 W + (alpha / rank) B A."""
    with torch.autocast(base.device.type, enabled=False):
        delta: Tensor = layer.get_delta_weight(_ADAPTER)
    return base.float() + delta.float()


def base_state(model: OmniModel) -> dict[str, Tensor]:
    """The weights that adapters leave alone, named as without adapters."""
    state = model.state_dict().items()
    return {name.replace(_BASE, "."): tensor for name, tensor in state if ".lora_" not in name}


def _adapted(model: OmniModel) -> dict[str, Any]:
    """The adapted layers (peft's `BaseTunerLayer`), by name."""
    names = [name for name, _ in model.named_modules() if name.endswith(_BASE.rstrip("."))]
    return {
        layer: model.get_submodule(layer)
        for layer in (name.removesuffix(_BASE.rstrip(".")) for name in names)
    }
