"""The reference: the policy as it was at the start, or as it was moved since."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from r1omni.models.omni import OmniModel
from r1omni.types import R1OmniError


class Reference:
    """A model that gradients never change.

    Args:
        model: a frozen copy of the policy; towers may be shared with it.
    """

    def __init__(self, model: OmniModel) -> None:
        self.model = model

    def on(self, device: torch.device) -> OmniModel:
        """The model, moved to a device at the first use."""
        if self.model.device != device:
            self.model = self.model.to(device)
        return self.model

    @torch.no_grad()
    def move_towards(self, policy: OmniModel, share: float) -> None:
        """Mix the policy in: reference <- share * policy + (1 - share) * reference.

        TR-DPO (arXiv 2404.09656), soft update; share 1 replaces the reference.
        """
        own = dict(self.on(policy.device).named_parameters())
        for name, parameter in policy.named_parameters():
            if parameter.requires_grad:
                own[name].lerp_(parameter.detach().to(own[name].dtype), share)

    def state(self, names: Iterable[str]) -> dict[str, Tensor]:
        """The weights that differ from the start's, for a checkpoint."""
        own = dict(self.model.named_parameters())
        return {name: own[name].detach().cpu() for name in names}

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
            own[name].copy_(tensor)
