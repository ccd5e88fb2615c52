"""A training of two steps, undivided or divided: ranks, micro-batches, batches, and a resume.

Ranks are threads of this process, each with a model and a trainer of its own; what they tell each
other goes through `_Table`. `test_ranks.py` has real ones.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.strategies import SingleDeviceStrategy
from lightning.pytorch.trainer.connectors import data_connector
from torch import Tensor

from r1omni.data import DatasetSpec, EmotionDataModule, datamodule
from r1omni.training.module import EmotionModule

_LIMIT_S = 60.0


class _Table:
    """Where ranks lay what they have to say, and read what the others have laid."""

    def __init__(self, num_ranks: int) -> None:
        self.num_ranks = num_ranks
        self.barrier = threading.Barrier(num_ranks, timeout=_LIMIT_S)
        self._said: list[Any] = [None] * num_ranks
        self._own = threading.local()

    def sit_down(self, rank: int) -> None:
        self._own.rank = rank

    def everyone(self, own: Any) -> list[Any]:
        """What every rank says, in their order; all of them call this together."""
        self._said[self._own.rank] = own
        self.barrier.wait()
        said = list(self._said)
        self.barrier.wait()
        return said


class RankThreads(SingleDeviceStrategy):
    """One rank of several threads. Gradients are averaged after each backward pass, as by DDP."""

    def __init__(self, table: _Table, rank: int) -> None:
        super().__init__("cpu")
        self._table = table
        self.global_rank = self.local_rank = rank
        self.world_size = table.num_ranks

    @property
    def is_global_zero(self) -> bool:
        return self.global_rank == 0

    def all_gather(self, tensor: Tensor, group: Any = None, sync_grads: bool = False) -> Tensor:
        assert not sync_grads
        return torch.stack(self._table.everyone(tensor.detach().clone()))

    def reduce(self, tensor: Any, group: Any = None, reduce_op: Any = "mean") -> Any:
        said = [torch.as_tensor(v).float() for v in self._table.everyone(tensor)]
        total = torch.stack(said).sum(0)
        return total if str(reduce_op).lower().endswith("sum") else total / len(said)

    def reduce_boolean_decision(self, decision: bool, all: bool = True) -> bool:  # noqa: A002 - the base's name
        said = self._table.everyone(decision)
        return min(said) if all else max(said)

    def broadcast(self, obj: Any, src: int = 0) -> Any:
        return self._table.everyone(obj)[src]

    def barrier(self, *args: Any, **kwargs: Any) -> None:
        self._table.everyone(None)

    def post_backward(self, closure_loss: Tensor) -> None:
        assert self.lightning_module is not None
        trained = [p for p in self.lightning_module.parameters() if p.requires_grad]
        said = self._table.everyone([None if p.grad is None else p.grad.clone() for p in trained])
        for parameter, *gradients in zip(trained, *said, strict=True):
            there = [gradient for gradient in gradients if gradient is not None]
            if there:
                parameter.grad = torch.stack(there).sum(0) / self.world_size


@dataclass(frozen=True)
class Training:
    """What is trained, before it is divided.

    Attributes:
        kind: class of the module.
        module, loader, trainer: arguments.
        batch_size: prompts of a batch over all ranks and accumulated batches.
        samples: of the data.
        steps: optimizer steps; half of them come before the checkpoint.
        imitates: whether the data has samples to imitate.
    """

    kind: type[EmotionModule]
    module: Mapping[str, Any]
    loader: Mapping[str, Any]
    trainer: Mapping[str, Any]
    batch_size: int
    samples: int
    steps: int
    imitates: bool = False


@dataclass(frozen=True)
class Learned:
    """What is left of a training.

    Attributes:
        moments: Adam's first moments, all in one row.
        way: from where all trained weights began to where they are, in one row.
    """

    moments: Tensor
    way: Tensor


class _SaveAt(L.Callback):
    """Writes a checkpoint after some optimizer steps, as a run does."""

    def __init__(self, step: int, path: Path) -> None:
        self.step, self.path = step, path

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)


def train(
    training: Training,
    world: Path,
    out: Path,
    *,
    ranks: int = 1,
    batches: int = 1,
    save: Path | None = None,
    resume: Path | None = None,
) -> Learned:
    """Train in so many ranks and accumulated batches.

    Raises:
        UsageError, R1OmniError: as any rank raised it.
    """
    table = _Table(ranks)
    found: list[Learned | BaseException] = [BaseException()] * ranks
    callbacks = [_SaveAt(training.steps // 2, save)] if save is not None else []
    # One after the other: adapters are drawn from the generator that all threads share.
    modules = [_module(training, world) for _ in range(ranks)]
    start = _trained(modules[0])

    def one(rank: int) -> None:
        table.sit_down(rank)
        options: dict[str, Any] = {"strategy": RankThreads(table, rank)} if ranks > 1 else {}
        if batches > 1:
            options["accumulate_grad_batches"] = batches
        size = training.batch_size // ranks // batches
        try:
            data = _data(training, world, size)
            trainer = L.Trainer(
                max_steps=training.steps, default_root_dir=out, accelerator="cpu", logger=False,
                enable_checkpointing=False, enable_progress_bar=False,
                enable_model_summary=False, callbacks=list(callbacks),
                **{**options, **training.trainer},
            )  # fmt: skip
            trainer.fit(modules[rank], data, ckpt_path=resume, weights_only=True)
            found[rank] = _learned(modules[rank], start)
        except BaseException as error:  # handed to the caller below
            found[rank] = error
            table.barrier.abort()

    if ranks == 1:
        one(0)
    else:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(datamodule, "gathered_objects", table.everyone)
            # It changes classes for a while, under the feet of other threads, to make loaders anew.
            patch.setattr(data_connector, "_replace_dunder_methods", _nothing)
            threads = [threading.Thread(target=one, args=(rank,)) for rank in range(ranks)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    errors = [f for f in found if not isinstance(f, Learned)]
    for error in sorted(errors, key=lambda e: isinstance(e, threading.BrokenBarrierError)):
        raise error
    assert isinstance(found[0], Learned)
    return found[0]


def _nothing(*_: Any) -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext()


def _module(training: Training, world: Path) -> EmotionModule:
    torch.manual_seed(0)
    make: Callable[..., EmotionModule] = training.kind
    return make(str(world / "init"), **training.module)


def _data(training: Training, world: Path, batch_size: int) -> EmotionDataModule:
    sampling = f"first:{training.samples}"
    loader = {"cache_dir": str(world / "cache"), "decode_workers": 0, "batch_size": batch_size}
    expert = [DatasetSpec("dfew", "DFEW", sampling="first:8", options={"fold": 1})]
    return EmotionDataModule(
        root=str(world / "world"),
        train=[DatasetSpec("mafw", "MAFW", sampling=sampling, options={"fold": 1})],
        expert=expert if training.imitates else None,
        loader=datamodule.LoaderConfig(**{**loader, **training.loader}),
    )


def _trained(module: EmotionModule) -> Tensor:
    return torch.cat([p.detach().flatten() for p in module.parameters() if p.requires_grad])


def _learned(module: EmotionModule, start: Tensor) -> Learned:
    state: Any = module.trainer.optimizers[0].state_dict()["state"]
    moments = [entry["exp_avg"].flatten() for entry in state.values()]
    return Learned(torch.cat(moments), _trained(module) - start)
