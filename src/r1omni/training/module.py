"""What SFT and GRPO share: the model, its frozen towers, evaluation, checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, replace
from inspect import signature
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, TypeVar

import lightning as L
import torch
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from r1omni.data.batch import Batch
from r1omni.media.config import FrameFit
from r1omni.media.processor import MediaProcessor
from r1omni.models.activations import checkpoint_activations
from r1omni.models.adapters import LoRAConfig
from r1omni.models.flex import Attention, check_flex
from r1omni.models.omni import CLIP_TOWERS
from r1omni.models.packed import pad_ids
from r1omni.models.parallelize import full_tensor, gathered, parallelize
from r1omni.models.pipeline import R1Omni
from r1omni.models.towers import features_fingerprint
from r1omni.options import (
    TOKENS,
    Conditions,
    OnlyWith,
    Ranges,
    check_choice,
    check_effects,
    check_number,
    check_type,
)
from r1omni.text.prompt import encode_target
from r1omni.training.checkpointed import CheckpointedModule
from r1omni.training.checkpoints import (
    start_fingerprint,
)
from r1omni.training.device import (
    check_precision,
    is_mixed,
    keep_freed_memory,
    warn_of_slow_bfloat16,
)
from r1omni.training.optimization import (
    OptimizerConfig,
    Part,
    apply_settings,
    build_optimizer,
    check_kind,
    check_parts,
    choose_trained,
    trained_parts,
)
from r1omni.training.sharded import FSDP2Strategy
from r1omni.training.termination import Termination
from r1omni.training.trainer_options import check_any_trainer
from r1omni.types import ClipFeatures, PromptInputs, UsageError

T = TypeVar("T")
_READ_LATER: ContextVar[bool] = ContextVar("read_later", default=False)


@contextmanager
def weights_read_in_place() -> Iterator[None]:
    """Modules that are made within a block read their weights when a trainer has placed them.

    No process then holds a model that it sends to a device, or shares with others.
    """
    token = _READ_LATER.set(True)
    try:
        yield
    finally:
        _READ_LATER.reset(token)


def _own_learning_rate(kind: type[EmotionModule]) -> float:
    """The rate of a module where none is given: that of its `optimizer` where that is not given."""
    for parent in kind.__mro__:
        parameter = signature(parent.__init__).parameters.get("optimizer")  # type: ignore[misc]
        if parameter is not None and parameter.default.learning_rate is not None:
            return float(parameter.default.learning_rate)
    raise AssertionError(f"{kind.__name__} has no rate of its own")


class EmotionModule(CheckpointedModule):
    """The shared model under a trainer; `SFTModule` and `GRPOModule` add their loss.

    Args:
        init_from: model folder, or repository of the hub (`owner/name` or `owner/name@revision`),
            to start from; it also fixes architecture and tokenizer.
        trainable: parts of the model that are trained, any of vision_tower, audio_tower,
            text_tower, projectors, language_model; the others stay bit-identical. None is
            projectors and language_model, and with `lora` nothing beside the adapters.
        optimizer: rates and schedule.
        max_new_tokens: longest completion in evaluation, in tokens.
        frame_fit: "pad" or "squash", how frames become square; None is the model's own way.
        lora: adapters that are trained in place of the language model's own weights.
        activation_checkpointing: compute each decoder layer, the projector of pictures and the
            layers of trained towers again in the backward pass instead of keeping what they
            computed. Same results, less memory, about a third more time for an update.
        attention: how attention over prompts with their completions is computed: "sdpa" piece by
            piece, "flex" by torch's FlexAttention, for a CUDA device alone. Same results but for
            rounding.
    """

    RANGES: ClassVar[Ranges] = {"max_new_tokens": TOKENS}
    ONLY_WITH: ClassVar[Conditions] = {
        "optimizer.projector_lr_scale": OnlyWith(
            "trainable", "that names projectors", lambda m: "projectors" in m.trainable
        ),
        "optimizer.tower_lr_scale": OnlyWith(
            "trainable", "that names a tower",
            lambda m: any(part.endswith("_tower") for part in m.trainable),
        ),
    }  # fmt: skip

    def __init__(
        self,
        init_from: str,
        trainable: list[Part] | None = None,
        optimizer: OptimizerConfig = OptimizerConfig(learning_rate=2e-5),  # noqa: B008
        max_new_tokens: int = 512,
        frame_fit: FrameFit | None = None,
        lora: LoRAConfig | None = None,
        activation_checkpointing: bool = False,
        attention: Attention = "sdpa",
    ) -> None:
        super().__init__()
        check_type("model.init_from", init_from, str)
        check_type("model.optimizer", optimizer, OptimizerConfig)
        check_type("model.lora", lora, LoRAConfig | None)
        check_number("model.max_new_tokens", max_new_tokens, TOKENS, int)
        check_type("model.activation_checkpointing", activation_checkpointing, bool)
        check_choice("model.frame_fit", frame_fit, FrameFit | None)
        check_choice("model.attention", attention, Attention)
        check_parts(trainable)
        arguments = SimpleNamespace(trainable=trained_parts(trainable, lora), optimizer=optimizer)
        check_effects(arguments, self.ONLY_WITH, "model.")
        self._lacks_weights = _READ_LATER.get()
        self.omni = R1Omni.from_pretrained(init_from, with_weights=not self._lacks_weights)
        # In full, or by its commit: a checkpoint may be exported from elsewhere, or later.
        self.init_from = self.omni.folder.pinned("main")
        if frame_fit is not None:
            self.omni.use_frame_fit(frame_fit)
        self.model = self.omni.model
        self.model.attention = attention
        self.optimizer_config = optimizer
        if optimizer.learning_rate is None:
            self.optimizer_config = replace(optimizer, learning_rate=_own_learning_rate(type(self)))
        self.max_new_tokens = max_new_tokens
        self._termination = Termination()
        self._is_sharded = False
        self.chosen: dict[str, Any] = {"trainable": trainable, "lora": lora and asdict(lora)}
        choose_trained(self.model, trainable, lora)
        if activation_checkpointing:
            checkpoint_activations(self.model)

    # Preparation ----------------------------------------------------------------------------

    def configure_callbacks(self) -> list[L.Callback]:
        # The first hook that knows the trainer.
        plugin = self.trainer.precision_plugin
        check_precision(plugin.precision, plugin)
        warn_of_slow_bfloat16(plugin.precision, self.trainer.strategy.root_device)
        check_any_trainer(self.trainer)
        if self._fits:
            is_sharded = isinstance(self.trainer.strategy, FSDP2Strategy)
            check_kind(self.optimizer_config.kind, is_sharded)
        given = [c for c in self.trainer.callbacks if isinstance(c, Termination)]  # type: ignore[attr-defined]
        if given:  # of the command line, or from the command before
            self._termination = given[0]
            return []
        return [self._termination]

    def stoppable(self, work: Callable[[], T]) -> T:
        """Do what takes long and needs no other rank; given up when the run is told to stop.

        All ranks call this together.
        """
        return self._termination.give_up_together(work)

    @property
    def chosen_parts(self) -> str:
        """What is trained, in words."""
        lora: Any = self.chosen["lora"]
        parts = trained_parts(self.chosen["trainable"], lora)
        return ", ".join([*parts, *([f"adapters of rank {lora['rank']}"] if lora else [])])

    def setup(self, stage: str) -> None:
        keep_freed_memory(self.trainer.strategy.root_device)
        self.configure_model()  # outside Lightning's contexts, which change what it makes

    def configure_model(self) -> None:
        """Put the model where it computes, in shares if the strategy asks for it.

        Called before every stage; what is done already is left alone.
        """
        strategy = self.trainer.strategy
        if self.model.attention == "flex":
            heads: Any = self.model.language_model.layers[0].self_attn
            check_flex(strategy.root_device, heads.head_dim)
        if isinstance(strategy, FSDP2Strategy) and not self._is_sharded:
            parallelize(self.model, strategy.mesh, strategy.sharding)
            self._is_sharded = True
        self.model.to(strategy.root_device)
        if self._lacks_weights:
            self.omni.read_weights()
            self._lacks_weights = False
        if self._fits and self._start is None:  # before a checkpoint's weights are in its place
            self._start = start_fingerprint(self.model)
        if self._is_sharded:
            self._frozen_fingerprint()  # all ranks together

    # What the data module asks for (`r1omni.data.ReadsClips`) -----------------------------------

    @property
    def clip_processor(self) -> MediaProcessor:
        return self.omni.processor

    @property
    def report_dir(self) -> Path | None:
        return None if self._writes_nothing else self.run_dir

    @property
    def splits_batches(self) -> bool:
        return True

    def encode_clips(self) -> None:
        towers = [getattr(self.model, name) for name in CLIP_TOWERS]
        frozen = not any(p.requires_grad for tower in towers for p in tower.parameters())
        # Whatever is being evaluated is frozen for the time being.
        if self.datamodule.loader.cache_features and (frozen or not self._fits):
            weights = [
                {k: full_tensor(w) for k, w in tower.state_dict().items()} for tower in towers
            ]
            with gathered(self.model):
                key = features_fingerprint(
                    self.model.config, weights, self.device, self.model.dtype
                )
                self.datamodule.encode_clips(self._encode, key)

    @property
    def _fits(self) -> bool:
        return self.trainer.state.fn == TrainerFn.FITTING

    @torch.no_grad()
    def _encode(self, media: Any) -> list:
        return self.model.encode_media(media)

    def encoded_prompts(self, batch: Batch) -> PromptInputs:
        """The batch's prompts with their clips encoded, without gradient."""
        prompts = self.prompts(batch)
        features = tuple(self._encode(prompts.media))
        return PromptInputs(prompts.token_ids, prompts.instruction_ids, features)

    def targets(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Target ids, long [B, C], and their mask, bool [B, C], end tokens included."""
        rows = []
        for sample in batch.samples:
            assert sample.target is not None  # refused at setup
            rows.append(encode_target(self.omni.tokenizer, sample.target))
        return pad_ids(rows, self.device, self.omni.tokenizer.pad_token_id)

    def neutral(self) -> ClipFeatures:
        """What the towers make of black frames and of silence, without gradient."""
        return next(iter(self._encode([self.datamodule.neutral])))

    # Optimizer -------------------------------------------------------------------------------

    def configure_optimizers(self) -> Any:
        if self.trainer.max_steps <= 0:
            raise UsageError("trainer.max_steps must be set: the rate's schedule ends there")
        optimizer, schedule = build_optimizer(
            self.model, self.optimizer_config, self.trainer.max_steps,
            mixed=is_mixed(self.trainer.precision),
        )  # fmt: skip
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def on_train_start(self) -> None:
        optimizer, schedule = self.optimizers(use_pl_optimizer=False), self.lr_schedulers()
        assert isinstance(optimizer, torch.optim.Optimizer) and isinstance(schedule, LambdaLR)
        apply_settings(optimizer, schedule, self.model, self.optimizer_config)

    # Over all ranks ------------------------------------------------------------------------

    def sum_over_ranks(self, value: Tensor) -> Tensor:
        """The sum of a value of any shape over all ranks, without a gradient."""
        gathered_values = self.all_gather(value)
        assert isinstance(gathered_values, Tensor)
        return gathered_values.view(-1, *value.shape).sum(dim=0)
