"""The reference: the policy as it was at the start, or as it was moved since.

`Reference` is a frozen copy; `AdaptersOff` is the policy itself without its adapters, one set of
weights for both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from lightning.pytorch.strategies import Strategy
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from r1omni.models.adapters import adapters_off, has_adapters
from r1omni.models.checkpoint import unfilled
from r1omni.models.omni import CLIP_TOWERS, TOWERS, OmniModel
from r1omni.models.parallelize import (
    ShardingConfig,
    free_gathered,
    own_share,
    parallelize,
    whole,
)
from r1omni.training.grpo_config import GRPOConfig
from r1omni.training.sharded import FSDP2Strategy
from r1omni.types import R1OmniError, UsageError


class Reference:
    """A model that gradients never change.

    Args:
        model: of `frozen_copy`.
    """

    def __init__(self, model: OmniModel) -> None:
        self.model = model

    @contextmanager
    def active(self) -> Iterator[OmniModel]:
        """The model; what it gathered is let go after the block."""
        yield self.model
        free_gathered(self.model)

    @torch.no_grad()
    def move_towards(self, policy: OmniModel, share: float) -> None:
        """Mix the policy in: reference <- share * policy + (1 - share) * reference.

        TR-DPO (arXiv 2404.09656), soft update; share 1 replaces the reference.
        """
        own = dict(self.model.named_parameters())
        for name, parameter in policy.named_parameters():
            if parameter.requires_grad:
                is_whole = not isinstance(own[name], DTensor)
                latest = parameter.detach()
                own[name].lerp_(whole(latest) if is_whole else latest, share)

    def state(self, names: Iterable[str]) -> dict[str, Tensor]:
        """The weights that differ from the start's, for a checkpoint."""
        own = dict(self.model.named_parameters())
        return {name: whole(own[name].detach()).cpu() for name in names}

    @torch.no_grad()
    def load(self, state: dict[str, Tensor] | None) -> None:
        """Take up where a checkpoint left the reference.

        Raises:
            R1OmniError: the checkpoint holds no reference.
        """
        if state is None:
            raise R1OmniError(
                "the checkpoint holds no reference, but grpo.ref_sync_steps moves it; resume with "
                "the configuration the run was started with"
            )
        own = dict(self.model.named_parameters())
        for name, tensor in state.items():
            target: Tensor = own[name]
            if isinstance(target, DTensor):
                tensor = tensor.to(target.device)
                tensor = distribute_tensor(tensor, target.device_mesh, target.placements)
            target.copy_(tensor)


class AdaptersOff:
    """The reference of a policy of which adapters alone are trained.

    Args:
        model: the policy.
    """

    def __init__(self, model: OmniModel) -> None:
        self.model = model

    @contextmanager
    def active(self) -> Iterator[OmniModel]:
        """The policy as it was at the start, for the length of a block."""
        with adapters_off(self.model) as model:
            yield model


def start_of(policy: OmniModel, strategy: Strategy, moves: bool) -> Reference | AdaptersOff:
    """The reference of a policy that is at its start; all ranks call this together.

    Args:
        policy: where it computes.
        strategy: as for `frozen_copy`.
        moves: whether the reference is moved towards the policy later.
    """
    if has_adapters(policy):
        return AdaptersOff(policy)
    return Reference(frozen_copy(policy, strategy, moves))


@torch.no_grad()
def frozen_copy(policy: OmniModel, strategy: Strategy, moves: bool) -> OmniModel:
    """A copy of the policy that is never trained, made where it stays; all ranks call it together.

    What the run computes in half precision is stored in it, which changes no log-probability. A
    copy that moves is in float32: in bfloat16, small steps would be lost.

    Args:
        policy: without adapters, where it computes.
        strategy: says whether the copy is sharded, and in which dtypes the run computes.
        moves: whether `Reference.move_towards` will change it.

    Returns:
        a model without towers for clips, which are encoded already.
    """
    model = unfilled(policy.config)
    for name in CLIP_TOWERS:
        setattr(model, name, nn.Module())
    model.requires_grad_(False).eval()
    sharding = strategy.sharding if isinstance(strategy, FSDP2Strategy) else ShardingConfig()
    if not moves:
        mixed = strategy.precision_plugin.precision == "bf16-mixed"
        for parameter, dtype in _computed_in(model, sharding, mixed):
            parameter.data = torch.empty_like(parameter, dtype=dtype)
    if isinstance(strategy, FSDP2Strategy) and sharding.shard_reference:
        parallelize(model, strategy.mesh, sharding)
    model.to(policy.device)
    start = dict(policy.named_parameters())
    for name, parameter in model.named_parameters():
        if isinstance(parameter, DTensor):
            own_share(parameter).copy_(own_share(start[name]))
        else:
            parameter.copy_(whole(start[name]))
    return model


def _computed_in(
    model: OmniModel, sharding: ShardingConfig, mixed: bool
) -> Iterator[tuple[nn.Parameter, torch.dtype]]:
    """Parameters that the run rounds before it computes with them, and to what."""
    if sharding.dtype != torch.float32:
        # All that is gathered; towers stay whole, and gates read what a tower gives.
        towers = {p for name in TOWERS for p in model.get_submodule(name).parameters()}
        yield from ((p, sharding.dtype) for p in model.parameters() if p not in towers)
    elif mixed:
        # Autocast rounds the factors of products. An embedding is looked up as it is, tied or not.
        embedded = {m.weight for m in model.modules() if isinstance(m, nn.Embedding)}
        for module in model.modules():
            if isinstance(module, nn.Linear):
                own = module.parameters(recurse=False)
                yield from ((p, torch.bfloat16) for p in own if p not in embedded)


def check_shared_reference(trainable: Sequence[str] | None, grpo: GRPOConfig) -> None:
    """Refuse what a reference that shares the policy's weights cannot do.

    Raises:
        UsageError: other weights than the adapters' would be trained, or the reference be moved.
    """
    if trainable:
        raise UsageError(
            f"model.trainable is {list(trainable)}, but with model.lora the reference is the model "
            "without its adapters, which training those would change; set trainable to [], or "
            "grpo.loss.beta, grpo.kl_in_reward and grpo.log_kl to nothing"
        )
    if grpo.ref_sync_steps:
        raise UsageError(
            "grpo.ref_sync_steps moves a reference, but with model.lora the reference is the model "
            "without its adapters; set ref_sync_steps to 0"
        )
