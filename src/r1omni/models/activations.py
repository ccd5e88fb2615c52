"""What a training keeps of its forward pass, and what it computes again in the backward pass.

Without checkpointing every decoder layer keeps what its gradient needs until the backward pass has
come to it. With it (arXiv 1604.06174) a layer keeps its input alone, and is computed a second time
when its turn comes: about a third more products, and the memory of one layer instead of all.
"""

from __future__ import annotations

from functools import partial
from types import MethodType
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from r1omni.models.omni import OmniModel


def checkpoint_activations(model: OmniModel) -> None:
    """Have a model compute again what it would keep for the backward pass, in place.

    This is so for each decoder layer, for the projector of pictures, and for each layer of a tower
    that is trained when this is called. Losses and gradients are the same, to the bit where an
    operation gives the same result twice. Passes without a gradient are as before: nothing is kept
    in them, and keys and values of a cache must not be written twice. Called before the model is
    compiled or sharded.
    """
    for layer in _layers(model):
        # Bound to the layer, so that a copy of the model computes with its own weights.
        layer.forward = MethodType(_computed_again, layer)  # type: ignore[method-assign]


def _layers(model: OmniModel) -> list[nn.Module]:
    towers = {
        "vision_tower": "vision_tower.encoder.layers",
        "audio_tower": "audio_tower.encoder.layers",
        "text_tower": "bert_model.encoder.layer",
    }
    layers: list[nn.Module] = [*model.language_model.layers, model.video_projector]
    for name, path in towers.items():
        tower = model.get_submodule(name)
        if any(p.requires_grad for p in tower.parameters()):
            layers += tower.get_submodule(path).children()
    return layers


def _computed_again(layer: nn.Module, *args: Any, **kwargs: Any) -> Any:
    # Of the class, which sharding replaces by one of its own.
    forward = partial(type(layer).forward, layer)
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)
    return checkpoint(forward, *args, use_reentrant=False, **kwargs)
