"""The strategy for FSDP2 (`configs/overlay/fsdp.yaml`).

Lightning's ModelParallelStrategy does the work. This adds how a model is sharded, and checkpoints:
in shares, or as one file that runs without sharding read and write too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch.strategies import ModelParallelStrategy
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import DeviceMesh

from r1omni.models.parallelize import ShardingConfig
from r1omni.options import check_type
from r1omni.training.checkpoints import read_checkpoint, read_plain, trained_state
from r1omni.training.shards import PLAIN_VALUES, check_shards, fill_shards, write_shards


class FSDP2Strategy(ModelParallelStrategy):
    """Weights, gradients and optimizer state sharded over all ranks.

    Args:
        sharding: how the model is sharded.
        sharded_checkpoint: each rank writes its shards, and a checkpoint is a folder. Otherwise
            rank 0 gathers everything and writes the file that a run without sharding would write.
            Either is resumed on any number of ranks, the file also without sharding.
    """

    def __init__(
        self,
        sharding: ShardingConfig = ShardingConfig(),  # noqa: B008 - frozen
        sharded_checkpoint: bool = True,
    ) -> None:
        check_type("sharding", sharding, ShardingConfig)
        check_type("sharded_checkpoint", sharded_checkpoint, bool)
        super().__init__(tensor_parallel_size=1, save_distributed_checkpoint=sharded_checkpoint)
        self.sharding = sharding
        self._saved = StateDictOptions(
            full_state_dict=not sharded_checkpoint, cpu_offload=True, ignore_frozen_params=True
        )

    def setup_environment(self) -> None:
        # What Lightning takes by itself is one share a node.
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    @property
    def mesh(self) -> DeviceMesh:
        """All ranks in one dimension.

        Lightning's own mesh has a second one, of size 1; FSDP would copy over the first and shard
        over the second.
        """
        return self.device_mesh["data_parallel"]

    # Saving ---------------------------------------------------------------------------------

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Trained weights: this rank's shares, or all of them on rank 0 and none elsewhere."""
        return self._trained(self._saved)

    def _trained(self, options: StateDictOptions) -> dict[str, Any]:
        assert self.model is not None
        # torch leaves a frozen weight in under its second name, a tied head's.
        trained = trained_state(self.model).keys()
        found = get_model_state_dict(self.model, options=options)
        return {name: tensor for name, tensor in found.items() if name in trained}

    def optimizer_state(self, optimizer: Any) -> dict[str, Any]:
        """As for the weights; entries are numbered as without sharding."""
        assert self.model is not None
        own = getattr(optimizer, "_optimizer", optimizer)  # Lightning wraps it
        state = get_optimizer_state_dict(self.model, own, options=self._saved)
        return _numbered(state) if state else state

    def save_checkpoint(
        self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None
    ) -> None:
        path = Path(self.broadcast(filepath))
        if not self._save_distributed_checkpoint:
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        if self.is_global_zero:
            path.mkdir(parents=True)
        self.barrier()
        write_shards(checkpoint, path)

    # Loading --------------------------------------------------------------------------------

    def load_checkpoint(
        self, checkpoint_path: Any, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Put weights and optimizers in place; returns the whole checkpoint.

        Raises:
            R1OmniError: it cannot be read, or is of another model.
        """
        path = Path(self.broadcast(checkpoint_path))
        assert self.model is not None and self.lightning_module is not None
        in_shares = path.is_dir()
        checkpoint = read_plain(path / PLAIN_VALUES) if in_shares else read_checkpoint(path)
        optimizers = [get_optimizer_state_dict(self.model, own) for own in self.optimizers]
        if in_shares:
            check_shards(path, checkpoint)
            shares = {
                "state_dict": self._trained(StateDictOptions(ignore_frozen_params=True)),
                "optimizer_states": [_numbered(state) for state in optimizers],
            }
            fill_shards(path, shares)
            _merge(checkpoint, shares)
        self.lightning_module.on_load_checkpoint(checkpoint)
        options = StateDictOptions(full_state_dict=not in_shares, strict=False)
        set_model_state_dict(self.model, checkpoint["state_dict"], options=options)
        for own, now, saved in zip(
            self.optimizers, optimizers, checkpoint["optimizer_states"], strict=False
        ):
            state = _named(saved, _names(now))
            set_optimizer_state_dict(self.model, own, state, options=options)
        return checkpoint


# Optimizer states ------------------------------------------------------------------------------


def _names(state: dict[str, Any]) -> list[str]:
    """Names of the parameters in the order of their groups, which is what numbers count."""
    return [name for group in state["param_groups"] for name in group["params"]]


def _numbered(state: dict[str, Any]) -> dict[str, Any]:
    """Parameters by number instead of by name, as an optimizer of torch has it."""
    numbers = {name: number for number, name in enumerate(_names(state))}
    return {
        "state": {numbers[name]: entry for name, entry in state["state"].items()},
        "param_groups": [
            {**group, "params": [numbers[name] for name in group["params"]]}
            for group in state["param_groups"]
        ],
    }


def _named(state: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """The reverse of `_numbered`."""
    return {
        "state": {names[number]: entry for number, entry in state["state"].items()},
        "param_groups": [
            {**group, "params": [names[number] for number in group["params"]]}
            for group in state["param_groups"]
        ],
    }


def _merge(checkpoint: dict[str, Any], shares: dict[str, Any]) -> None:
    """Put the tensors of `shares` where a checkpoint of plain values lacks them."""
    checkpoint["state_dict"] = shares["state_dict"] | checkpoint["state_dict"]
    for saved, filled in zip(
        checkpoint["optimizer_states"], shares["optimizer_states"], strict=False
    ):
        for number, entry in filled["state"].items():
            saved["state"][number] = entry | saved["state"].get(number, {})
