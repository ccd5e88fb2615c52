"""What SFT and GRPO share: the model, its frozen towers, evaluation, checkpoints."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from r1omni.data import EmotionDataModule
from r1omni.data.batch import Batch
from r1omni.media.config import FrameFit
from r1omni.models.adapters import LoRAConfig
from r1omni.models.checkpoint import same_architecture
from r1omni.models.generate import generate
from r1omni.models.parallelize import gathered, own_share, parallelize, whole
from r1omni.models.pipeline import R1Omni
from r1omni.models.towers import fingerprint
from r1omni.text.prompt import encode_prompt
from r1omni.training.checkpoints import (
    check_origin,
    frozen_fingerprint,
    start_fingerprint,
    trained_state,
)
from r1omni.training.evaluation import Evaluation
from r1omni.training.nonfinite import keep_batch
from r1omni.training.optimization import (
    OptimizerConfig,
    apply_settings,
    build_optimizer,
    choose_trained,
)
from r1omni.training.sharded import FSDP2Strategy
from r1omni.types import PromptInputs, R1OmniError, UsageError

_CLIP_TOWERS = ("vision_tower", "audio_tower")


class EmotionModule(L.LightningModule):
    """The shared model under a trainer; `SFTModule` and `GRPOModule` add their loss.

    Args:
        init_from: model folder, or repository of the hub, to start from; it also fixes
            architecture and tokenizer.
        trainable: parts of the model that are trained, any of vision_tower, audio_tower,
            text_tower, projectors, language_model; the others stay bit-identical. None is
            projectors and language_model, and with `lora` nothing beside the adapters.
        optimizer: rates and schedule.
        max_new_tokens: longest completion in evaluation, in tokens.
        frame_fit: "pad" or "squash", how frames become square; None is the model's own way.
        lora: adapters that are trained in place of the language model's own weights.
    """

    # Frozen weights are not in our checkpoints; `on_load_checkpoint` checks what is missing.
    strict_loading = False

    def __init__(
        self,
        init_from: str,
        trainable: list[str] | None = None,
        optimizer: OptimizerConfig = OptimizerConfig(),  # noqa: B008 - frozen
        max_new_tokens: int = 512,
        frame_fit: FrameFit | None = None,
        lora: LoRAConfig | None = None,
    ) -> None:
        super().__init__()
        # A folder is recorded in full: a checkpoint may be exported from elsewhere.
        self.init_from = str(Path(init_from).resolve()) if Path(init_from).exists() else init_from
        self.omni = R1Omni.from_pretrained(init_from)
        if frame_fit is not None:
            self.omni.use_frame_fit(frame_fit)
        self.model = self.omni.model
        self.optimizer_config = optimizer
        self.max_new_tokens = max_new_tokens
        self.evaluation: Evaluation | None = None
        # Does what takes long and needs no other rank; all ranks call it together. `Termination`
        # puts its own here, which gives the work up when the run is told to stop.
        self.stoppable: Callable[[Callable[[], Any]], Any] = _do
        self._frozen: str | None = None
        self._start: str | None = None
        self._is_sharded = False
        self._chosen = {"trainable": trainable, "lora": lora and asdict(lora)}
        choose_trained(self.model, trainable, lora)

    # Preparation ----------------------------------------------------------------------------

    @property
    def datamodule(self) -> EmotionDataModule:
        return self.trainer.datamodule  # type: ignore[attr-defined]

    @property
    def run_dir(self) -> Path:
        """Folder of everything this run writes."""
        return Path(self.trainer.default_root_dir)

    def setup(self, stage: str) -> None:
        report_dir = None if self.trainer.fast_dev_run else self.run_dir  # type: ignore[attr-defined]
        self.datamodule.prepare_clips(self.omni.processor, report_dir=report_dir)

    def configure_model(self) -> None:
        """Shard the model where the strategy asks for it; called before every stage."""
        strategy = self.trainer.strategy
        if self._start is None:  # before a checkpoint's weights are in its place
            self._start = start_fingerprint(self.model)
        if isinstance(strategy, FSDP2Strategy) and not self._is_sharded:
            self._frozen_fingerprint()  # while the weights are whole
            self._shard(strategy)
            self._is_sharded = True

    def _shard(self, strategy: FSDP2Strategy) -> None:
        parallelize(self.model, strategy.device_mesh, strategy.sharding)

    def on_fit_start(self) -> None:
        self._encode_clips()

    def on_test_start(self) -> None:
        self._encode_clips()

    def on_predict_start(self) -> None:
        self._encode_clips()

    def _encode_clips(self) -> None:
        towers = [getattr(self.model, name) for name in _CLIP_TOWERS]
        frozen = not any(p.requires_grad for tower in towers for p in tower.parameters())
        # Whatever is being evaluated is frozen for the time being.
        if self.datamodule.loader.cache_features and (frozen or not self.trainer.training):
            weights = [{k: whole(w) for k, w in tower.state_dict().items()} for tower in towers]
            with gathered(self.model):
                self.datamodule.encode_clips(self._encode, "-".join(map(fingerprint, weights)))

    @torch.no_grad()
    def _encode(self, media: Any) -> list:
        return self.model(lambda model: model.encode_media(media))

    # Batches --------------------------------------------------------------------------------

    def prompts(self, batch: Batch) -> PromptInputs:
        """The batch's prompts, tokenized."""
        return PromptInputs(
            token_ids=tuple(
                encode_prompt(self.omni.tokenizer, s.instruction, s.modality) for s in batch.samples
            ),
            instruction_ids=tuple(
                self.omni.encode_instruction(s.instruction) for s in batch.samples
            ),
            media=batch.media,
        )

    def transfer_batch_to_device(self, batch: Batch, device: Any, index: int) -> Batch:
        # The model moves what it reads; samples are plain Python.
        return batch

    # Evaluation -----------------------------------------------------------------------------

    def _start_evaluation(self, split: str) -> None:
        self.evaluation = Evaluation(self.datamodule.evaluation_sets(split))

    def _evaluate(self, batch: Batch, dataloader_idx: int) -> list[str]:
        assert self.evaluation is not None
        texts = self.answers(batch, self.max_new_tokens)
        self.evaluation.add(dataloader_idx, batch.samples, texts)
        return texts

    def _end_evaluation(self, loaders: Any) -> Evaluation:
        """The evaluation of all ranks."""
        assert self.evaluation is not None
        self.evaluation.gather([len(loader.dataset) for loader in loaders])
        return self.evaluation

    def _write(self, evaluation: Evaluation, folder: str) -> None:
        if self.trainer.is_global_zero and not self.trainer.fast_dev_run:  # type: ignore[attr-defined]
            evaluation.write(self.run_dir / folder, self.datamodule.broken)

    @torch.no_grad()
    def answers(self, batch: Batch, max_new_tokens: int) -> list[str]:
        """What the model says of each sample, taking the most probable token each time."""
        sampling = self.omni.sampling(max_new_tokens, temperature=0.0)
        prompts = self.prompts(batch)
        with gathered(self.model):
            found = self.model(
                lambda model: generate(model, model.embed_prompts(prompts), sampling)
            )
        return self.omni.decode(found.ids)

    def on_validation_epoch_start(self) -> None:
        self._start_evaluation("val")

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        self._evaluate(batch, dataloader_idx)

    def on_validation_epoch_end(self) -> None:
        evaluation = self._end_evaluation(self.trainer.val_dataloaders)
        self.log_dict(evaluation.metrics("val"), rank_zero_only=True)

    def on_test_epoch_start(self) -> None:
        self._start_evaluation("test")

    def test_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        self._evaluate(batch, dataloader_idx)

    def on_test_epoch_end(self) -> None:
        evaluation = self._end_evaluation(self.trainer.test_dataloaders)
        self._write(evaluation, "test")
        self.log_dict(evaluation.metrics("test"), rank_zero_only=True)

    def on_predict_epoch_start(self) -> None:
        self._start_evaluation("predict")

    def predict_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> list[str]:
        return self._evaluate(batch, dataloader_idx)

    def on_predict_epoch_end(self) -> None:
        self._write(self._end_evaluation(self.trainer.predict_dataloaders), "predict")

    # Optimizer and checkpoints --------------------------------------------------------------

    def configure_optimizers(self) -> Any:
        if self.trainer.max_steps <= 0:
            raise UsageError("trainer.max_steps must be set: the rate's schedule ends there")
        optimizer, schedule = build_optimizer(
            self.model, self.optimizer_config, self.trainer.max_steps
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def on_train_start(self) -> None:
        optimizer, schedule = self.optimizers(use_pl_optimizer=False), self.lr_schedulers()
        assert isinstance(optimizer, torch.optim.AdamW) and isinstance(schedule, LambdaLR)
        apply_settings(optimizer, schedule, self.model, self.optimizer_config)

    def encoded_prompts(self, batch: Batch) -> PromptInputs:
        """The batch's prompts with their clips encoded, without gradient."""
        prompts = self.prompts(batch)
        features = tuple(self._encode(prompts.media))
        return PromptInputs(prompts.token_ids, prompts.instruction_ids, features)

    # Numbers gone wrong ---------------------------------------------------------------------

    def stop_unless_finite(
        self, what: str, value: Tensor, kept: Callable[[], Mapping[str, Any]]
    ) -> None:
        """End the run, on all ranks together, before the weights take in what is not finite.

        Args:
            what: name of the value in the message.
            value: float [...].
            kept: the batch that it came from, as `training/nonfinite.py` keeps it.

        Raises:
            R1OmniError: naming step, rank and samples, and the file that holds the batch.
        """
        finite = bool(value.detach().isfinite().all())
        if self.trainer.strategy.reduce_boolean_decision(finite, all=True):
            return
        place = f"step {self.global_step}, rank {self.global_rank}"
        # All ranks take part in what a sharded model has to gather.
        weights = {name: whole(weight) for name, weight in trained_state(self.model).items()}
        batch = kept()
        if finite:
            raise R1OmniError(f"{place}: stopped with another rank, whose message says why")
        origin = {"init_from": self.init_from, **self._chosen}
        path = keep_batch(self.run_dir, self.global_step, self.global_rank, batch, weights, origin)
        names = ", ".join(batch["sample_ids"])
        raise R1OmniError(
            f"{place}: the {what} is {float(value.detach().sum())} on {names}; nothing was "
            f"changed. `python scripts/replay_batch.py {path}` shows where it comes from; lower "
            "the rate or leave these clips out, and go on from the last checkpoint"
        )

    def sum_over_ranks(self, value: Tensor) -> Tensor:
        """The sum of a value over all ranks, without a gradient."""
        gathered_values = self.all_gather(value)
        assert isinstance(gathered_values, Tensor)
        return gathered_values.sum()

    def trained_names(self) -> list[str]:
        """Parameters of the model that are trained."""
        return [name for name, p in self.model.named_parameters() if p.requires_grad]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        kept = trained_state(self)
        broken = [k for k, w in kept.items() if not bool(own_share(w).isfinite().all())]
        if not self.trainer.strategy.reduce_boolean_decision(not broken, all=True):
            names = f"({broken[0]}, ...)" if broken else "on another rank"
            raise R1OmniError(
                f"step {self.global_step}: {len(broken)} weights are not finite {names}; no "
                "checkpoint is written. Lower the rate and go on from the last one"
            )
        checkpoint["state_dict"] = {k: v for k, v in checkpoint["state_dict"].items() if k in kept}
        checkpoint["r1omni"] = {
            "architecture": self.model.config.architecture(),
            "frozen": self._frozen_fingerprint(),
            "init_from": self.init_from,
            "start": self._start,
            **self._chosen,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check that a checkpoint belongs to this model and to these frozen towers.

        Raises:
            R1OmniError: another architecture, start or frozen weights, or weights missing.
        """
        recorded = checkpoint.get("r1omni")
        if recorded is None:
            raise R1OmniError("the checkpoint was not written by r1omni; give one of its own")
        same_architecture(self.model.config, recorded["architecture"], "the checkpoint")
        missing = trained_state(self).keys() - checkpoint["state_dict"].keys()
        # What is evaluated may be a checkpoint over any model with its frozen weights.
        start = self._start if self.trainer.training else None
        check_origin(recorded, bool(missing), self._frozen_fingerprint(), start, self.init_from)

    def _frozen_fingerprint(self) -> str:
        if self._frozen is None:  # hashing takes seconds at 0.5B, and frozen weights stay
            self._frozen = frozen_fingerprint(self.model)
        return self._frozen

    def frozen_copy(self) -> Any:
        """A copy of the model that never changes, for clips that are encoded already.

        It has no towers for clips.
        """
        left_out = {id(getattr(self.model, name)): nn.Module() for name in _CLIP_TOWERS}
        return copy.deepcopy(self.model, memo=left_out).requires_grad_(False).eval()


def _do(work: Callable[[], Any]) -> Any:
    return work()
