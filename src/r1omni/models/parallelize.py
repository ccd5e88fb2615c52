"""Sharding the model over ranks by FSDP2 (`fully_shard`; FSDP is arXiv 2304.11277).

Each rank keeps a shard of every sharded parameter and gathers a layer's weights for as long as the
layer computes: within the methods that `FORWARD_METHODS` of `OmniModel` names, which all ranks call
together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import (
    FSDPModule,
    MixedPrecisionPolicy,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.distributed.tensor import DTensor, Shard

from r1omni.models.config import TORCH_DTYPES
from r1omni.models.omni import FORWARD_METHODS, TOWERS, OmniModel
from r1omni.options import check_options
from r1omni.types import Dtype

# Parts that a batch without pictures or without sound does not use.
_NOT_ALWAYS_USED = ("vision_tower", "audio_tower", "text_tower", "gate", "video_projector",
                    "audio_projector")  # fmt: skip


@dataclass(frozen=True)
class ShardingConfig:
    """How a model is sharded.

    Attributes:
        param_dtype: what layers are gathered and computed in. The optimizer's weights stay as they
            are stored.
        reduce_dtype: what gradients are added up in over the ranks.
        compile_backend: compile each decoder layer by this backend of torch.compile, such as
            "inductor"; None does not.
        shard_frozen_towers: shard towers that are not trained; otherwise every rank has them.
        shard_reference: the same for the reference of GRPO.

    Raises:
        UsageError: an unknown dtype.
    """

    param_dtype: Dtype = "float32"
    reduce_dtype: Dtype = "float32"
    compile_backend: str | None = None
    shard_frozen_towers: bool = False
    shard_reference: bool = True

    def __post_init__(self) -> None:
        check_options(self, "sharding.")

    @property
    def dtype(self) -> torch.dtype:
        """`param_dtype` as torch has it."""
        return TORCH_DTYPES[self.param_dtype]

    @property
    def policy(self) -> MixedPrecisionPolicy:
        """The dtypes as torch takes them."""
        return MixedPrecisionPolicy(
            param_dtype=self.dtype,
            reduce_dtype=TORCH_DTYPES[self.reduce_dtype],
        )


def parallelize(model: OmniModel, mesh: DeviceMesh, config: ShardingConfig) -> None:
    """Compile and shard a model, in this order and in place.

    Each decoder layer is a unit that is gathered at once; so is each frozen tower that is sharded,
    and the rest: embeddings, head, projectors, gate, and towers that are trained. Afterwards
    parameters are DTensors, everything is on the mesh's device, and the model computes in the
    methods of `FORWARD_METHODS` only.

    Args:
        model: with full weights, the same on every rank; after `checkpoint_activations`, if that
            is wanted.
        mesh: one-dimensional, over all ranks.
        config: what to do.

    Raises:
        ValueError: the mesh has several dimensions, over the first of which nothing is sharded.
    """
    if mesh.ndim != 1:
        raise ValueError(f"a mesh of {mesh.ndim} dimensions shards over the last alone; give one")
    layers = list(model.language_model.layers)
    if config.compile_backend is not None:
        for layer in layers:
            layer.compile(backend=config.compile_backend)
    whole: set[nn.Parameter] = set()
    units: list[nn.Module] = layers
    for name in TOWERS:
        tower = model.get_submodule(name)
        if any(p.requires_grad for p in tower.parameters()):
            continue  # with the rest, where `_use_everything` reaches it
        if config.shard_frozen_towers:
            units.append(tower)
        else:
            # FSDP moves only what it shards.
            whole |= set(tower.to(_device_of(mesh)).parameters())
    for unit in units:
        fully_shard(unit, mesh=mesh, mp_policy=config.policy)
    fully_shard(model, mesh=mesh, mp_policy=config.policy, ignored_params=whole)
    _use_everything(model)  # within what FSDP gathers weights for
    for name in FORWARD_METHODS:
        register_fsdp_forward_method(model, name)


def _device_of(mesh: DeviceMesh) -> torch.device:
    """Where this rank of the mesh computes."""
    if mesh.device_type == "cpu":
        return torch.device("cpu")
    module = torch.get_device_module(mesh.device_type)
    return torch.device(mesh.device_type, module.current_device())


def _use_everything(model: OmniModel) -> None:
    """Have what is learned from give parameters that a batch did not use a gradient of 0.

    Ranks add up the gradients that they have. Where one had pictures and another had none, they
    would add up different things.
    """

    def with_everything(door: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        learned, *rest = door(*args, **kwargs)  # log-probabilities, or a loss
        parts = (model.get_submodule(name) for name in _NOT_ALWAYS_USED)
        trained = [p for part in parts for p in part.parameters() if p.requires_grad]
        if learned.requires_grad and trained:
            # Sums over nothing: 0, whatever stands in the weights.
            nothing = torch.stack([p.flatten()[:0].sum().float() for p in trained]).sum()
            learned = learned + nothing.to(learned.dtype)
        return learned, *rest

    for name in ("completion_logps", "completion_loss"):
        setattr(model, name, partial(with_everything, getattr(model, name)))


# What a sharded model is asked for -----------------------------------------------------------


def _units(model: nn.Module) -> list[FSDPModule]:
    return [module for module in model.modules() if isinstance(module, FSDPModule)]


@contextmanager
def gathered(model: nn.Module) -> Iterator[None]:
    """All weights on every rank for the length of a block; nothing happens to a whole model.

    Inside, ranks may call the model as often as they like: sampling takes as many calls as the
    longest completion has tokens. The block itself is entered by all ranks together.
    """
    units = _units(model)
    for unit in units:
        unit.set_reshard_after_forward(False, recurse=False)
        unit.unshard()
    try:
        yield
    finally:
        for unit in units:
            # The outermost is needed again at once by a backward pass.
            unit.set_reshard_after_forward(unit is not model, recurse=False)
        free_gathered(model)


def free_gathered(model: nn.Module) -> None:
    """Let go of gathered weights, so that `parameters` are the rank's own shards again."""
    for unit in _units(model):
        unit.reshard()


def full_tensor(tensor: Tensor) -> Tensor:
    """The full tensor of one that may be sharded; all ranks call this together."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def shard_like(target: Tensor, tensor: Tensor) -> Tensor:
    """The shard of a full tensor that this rank has of `target`, a view; no rank is asked."""
    if not isinstance(target, DTensor):
        return tensor
    (placement,) = target.placements
    assert isinstance(placement, Shard)
    mesh = target.device_mesh
    shards = tensor.chunk(mesh.size(), placement.dim)
    rank = mesh.get_local_rank()
    return shards[rank] if rank < len(shards) else tensor[:0]


def own_shard(tensor: Tensor) -> Tensor:
    """This rank's shard of a tensor that may be sharded."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
