"""What a checkpoint of a run holds beside weights and optimizer, and what it is checked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from r1omni.models.checkpoint import same_architecture
from r1omni.models.parallelize import own_shard
from r1omni.training.checkpoints import adapters_of, frozen_fingerprint, trained_state
from r1omni.training.evaluated import EvaluatedModule
from r1omni.types import R1OmniError


class KeptState(Protocol):
    """What changes in training beside the weights of the model."""

    def state(self, trained: Sequence[str]) -> Any:
        """Tensors and plain types; `trained` are the names of the trained weights."""

    def load(self, state: Any) -> None:
        """Take up that state; None where a checkpoint has none."""


class CheckpointedModule(EvaluatedModule):
    """Checkpoints of trained weights, which belong to one start and to frozen weights."""

    # Frozen weights are not in our checkpoints; `on_load_checkpoint` checks what is missing.
    strict_loading = False

    def __init__(self) -> None:
        super().__init__()
        # Fingerprints of the model that the run started from, and of its frozen weights.
        self._start: str | None = None
        self._frozen: str | None = None
        # What is trained, as `trainable` and `lora` say it.
        self.chosen: dict[str, Any] = {}
        # What else a checkpoint keeps, by its name there.
        self.kept_states: dict[str, KeptState] = {}

    def trained_names(self) -> list[str]:
        """Parameters of the model that are trained."""
        return [name for name, p in self.model.named_parameters() if p.requires_grad]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        kept = trained_state(self)
        broken = [k for k, w in kept.items() if not bool(own_shard(w).isfinite().all())]
        if not self.trainer.strategy.reduce_boolean_decision(not broken, all=True):
            names = f"({broken[0]}, ...)" if broken else "on another rank"
            raise R1OmniError(
                f"step {self.global_step}: {len(broken)} weights are not finite {names}; no "
                "checkpoint is written. Lower the rate and resume from the last one"
            )
        checkpoint["state_dict"] = {k: v for k, v in checkpoint["state_dict"].items() if k in kept}
        checkpoint["r1omni"] = {
            "architecture": self.model.config.architecture(),
            "frozen": self._frozen_fingerprint(),
            "init_from": self.init_from,
            "start": self._start,
            "automatic_optimization": self.automatic_optimization,
            **self.chosen,
            **{name: part.state(self.trained_names()) for name, part in self.kept_states.items()},
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check that a checkpoint belongs to this model and to these frozen towers.

        Raises:
            R1OmniError: another architecture, start, frozen weights, adapters or way of training,
                or weights missing.
        """
        recorded = checkpoint.get("r1omni")
        if recorded is None:
            raise R1OmniError("the checkpoint was not written by r1omni; give one of its own")
        same_architecture(self.model.config, recorded["architecture"], "the checkpoint")
        self.loaded_step = checkpoint["global_step"]
        missing = trained_state(self).keys() - checkpoint["state_dict"].keys()
        if missing or recorded["frozen"] != self._frozen_fingerprint():
            raise R1OmniError(
                "the checkpoint was trained on other frozen weights or with another "
                "model.trainable or model.lora; start from the same init_from and configuration"
            )
        lora = adapters_of(recorded)
        if lora != adapters_of(self.chosen):  # as many weights, scaled otherwise
            raise R1OmniError(f"the checkpoint has model.lora {lora}; give the same")
        if not self.trainer.training:
            return
        steps_itself = self.automatic_optimization
        if recorded.get("automatic_optimization", steps_itself) != steps_itself:
            raise R1OmniError(
                f"the checkpoint is of another way of training than {type(self).__name__}; resume "
                "with the class that wrote it, or start from its exported model"
            )
        if recorded.get("start", self._start) != self._start:
            raise R1OmniError(
                f"the run started from {recorded['init_from']}, and {self.init_from} has other "
                "weights; give the run's own start as model.init_args.init_from"
            )
        for name, part in self.kept_states.items():
            part.load(recorded.get(name))

    def _frozen_fingerprint(self) -> str:
        if self._frozen is None:  # hashing takes seconds at 0.5B, and frozen weights stay
            self._frozen = frozen_fingerprint(self.model)
        return self._frozen
