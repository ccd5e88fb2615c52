"""The reference: the policy as it was at its start, or as it was moved since.

It is a policy too: a frozen copy, or the policy itself without its adapters, one set of weights for
both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
    full_tensor,
    own_shard,
    parallelize,
)
from r1omni.training.policy import Policy
from r1omni.training.sharded import FSDP2Strategy
from r1omni.types import R1OmniError


class Reference(Policy):
    """A policy that gradients never change.

    Args:
        policy: what it is the reference of.
        model: of `frozen_copy`.
    """

    def __init__(self, policy: Policy, model: OmniModel) -> None:
        super().__init__(policy.omni, policy.config, model)

    @contextmanager
    def active(self) -> Iterator[OmniModel]:
        """The model; what it gathered is let go after the block."""
        yield self.model
        free_gathered(self.model)

    def follow(self, policy: OmniModel, step: int) -> None:
        """Move towards the policy after every `ref_sync_steps` optimizer steps, if at all."""
        every = self.config.ref_sync_steps
        if every and step % every == 0:
            self.move_towards(policy, self.config.ref_mixup_alpha)

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
                own[name].lerp_(full_tensor(latest) if is_whole else latest, share)

    def state(self, trained: Sequence[str]) -> dict[str, Tensor]:
        """The weights that differ from the start's, for a checkpoint."""
        own = dict(self.model.named_parameters())
        return {name: full_tensor(own[name].detach()).cpu() for name in trained}

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


class AdaptersOff(Reference):
    """The reference of a policy of which adapters alone are trained; it cannot be moved.

    Args:
        policy: the policy.
    """

    def __init__(self, policy: Policy) -> None:
        super().__init__(policy, policy.model)

    @contextmanager
    def active(self) -> Iterator[OmniModel]:
        """The policy as it was at the start, for the length of a block."""
        with adapters_off(self.model) as model:
            yield model


def start_of(policy: Policy, strategy: Strategy) -> Reference:
    """The reference of a policy that is at its start; all ranks call this together.

    Args:
        policy: where it computes.
        strategy: as for `frozen_copy`.
    """
    if has_adapters(policy.model):
        return AdaptersOff(policy)
    moves = policy.config.ref_sync_steps > 0
    return Reference(policy, frozen_copy(policy.model, strategy, moves))


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
    model.attention = policy.attention
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
            own_shard(parameter).copy_(own_shard(start[name]))
        else:
            parameter.copy_(full_tensor(start[name]))
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
            if isinstance(module, nn.Linear | nn.Conv2d | nn.Conv3d):
                own = module.parameters(recurse=False)
                yield from ((p, torch.bfloat16) for p in own if p not in embedded)
