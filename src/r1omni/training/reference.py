"""The reference: the policy as it was at the start, or as it was moved since.

`Reference` is a frozen copy; `AdaptersOff` is the policy itself without its adapters, one set of
weights for both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor

from r1omni.models.adapters import adapters_off
from r1omni.models.omni import OmniModel
from r1omni.models.parallelize import free_gathered, whole
from r1omni.training.grpo_config import GRPOConfig
from r1omni.types import R1OmniError, UsageError


class Reference:
    """A model that gradients never change.

    Args:
        model: a frozen copy of the policy; towers may be shared with it.
    """

    def __init__(self, model: OmniModel) -> None:
        self.model = model

    @contextmanager
    def active(self, device: torch.device) -> Iterator[OmniModel]:
        """The model, moved to a device at the first use."""
        yield self._on(device)
        free_gathered(self.model)

    def _on(self, device: torch.device) -> OmniModel:
        if self.model.device != device:
            self.model = self.model.to(device)
        return self.model

    @torch.no_grad()
    def move_towards(self, policy: OmniModel, share: float) -> None:
        """Mix the policy in: reference <- share * policy + (1 - share) * reference.

        TR-DPO (arXiv 2404.09656), soft update; share 1 replaces the reference.
        """
        own = dict(self._on(policy.device).named_parameters())
        for name, parameter in policy.named_parameters():
            if parameter.requires_grad:
                is_whole = not isinstance(own[name], DTensor)
                latest = parameter.detach().to(own[name].dtype)
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
    def active(self, device: torch.device) -> Iterator[OmniModel]:
        """The policy as it was at the start, for the length of a block."""
        with adapters_off(self.model) as model:
            yield model


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
