"""Supervised fine-tuning: next-token loss on the assistant's text, the prompt masked out."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any, ClassVar

import torch
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from r1omni.data.batch import Batch, collate
from r1omni.media.config import FrameFit
from r1omni.models.adapters import LoRAConfig
from r1omni.models.flex import Attention
from r1omni.models.parallelize import full_tensor
from r1omni.options import TOKENS, Range, Ranges, check_number
from r1omni.streams import stream_seed, uniform_streams
from r1omni.text.prompt import R1OMNI_INSTRUCTION
from r1omni.training.data_checks import check_targets
from r1omni.training.module import EmotionModule
from r1omni.training.nonfinite import sft_batch, stop_unless_finite
from r1omni.training.optimization import OptimizerConfig, Part
from r1omni.types import ClipFeatures, PromptInputs, UsageError

_logger = logging.getLogger(__name__)
# Enough for "<think>" in any tokenizer.
_OPENING_LENGTH = 8


class SFTModule(EmotionModule):
    """Cold start, label baseline and base training: all are this loss on other data.

    The loss of an optimizer step is the mean over all its target tokens, however they are divided
    into ranks and accumulated batches.

    Args:
        init_from, trainable, optimizer, max_new_tokens, frame_fit, lora: as for `EmotionModule`.
        activation_checkpointing, attention: as for `EmotionModule`.
        max_target_tokens: longest target of a training sample in tokens, the end token included;
            a longer one is refused before anything is decoded. Memory and time of a step grow with
            its longest target.
        feature_dropout: share of what the towers give of a clip that is set to zero in training,
            against learning few clips by heart: frames of the sound, patches of the picture, drawn
            anew for every clip and step. In the manner of SpecAugment (arXiv 1904.08779), which
            masks stretches of a spectrogram.
    """

    RANGES: ClassVar[Ranges] = {
        **EmotionModule.RANGES, "max_target_tokens": TOKENS, "feature_dropout": Range(0, 0.9),
    }  # fmt: skip

    def __init__(
        self,
        init_from: str,
        trainable: list[Part] | None = None,
        optimizer: OptimizerConfig = OptimizerConfig(learning_rate=2e-5),  # noqa: B008
        max_new_tokens: int = 512,
        frame_fit: FrameFit | None = None,
        lora: LoRAConfig | None = None,
        max_target_tokens: int = 2048,
        feature_dropout: float = 0.0,
        activation_checkpointing: bool = False,
        attention: Attention = "sdpa",
    ) -> None:
        check_number("model.max_target_tokens", max_target_tokens, TOKENS, int)
        check_number("model.feature_dropout", feature_dropout, self.RANGES["feature_dropout"])
        super().__init__(
            init_from, trainable, optimizer, max_new_tokens, frame_fit, lora,
            activation_checkpointing, attention,
        )  # fmt: skip
        self.max_target_tokens = max_target_tokens
        self.feature_dropout = feature_dropout

    def setup(self, stage: str) -> None:
        if stage == "fit":
            if self.datamodule.specs["expert"]:
                raise UsageError(
                    "data.expert is what GRPO imitates beside its rollouts; SFTModule learns from "
                    "data.train alone: list these sets there"
                )
            check_targets(self.datamodule, self.omni, self.max_target_tokens)
        super().setup(stage)

    def on_fit_start(self) -> None:
        # Of each batch since the last optimizer step: target tokens, a rank's on average, and loss.
        self._accumulated: list[tuple[float, Tensor]] = []
        samples = [s for samples in self.datamodule.samples["train"] for s in samples]
        if not any("<think>" in (s.target or "") for s in samples) and self.reasons():
            _warn_of_unlearning(self.init_from)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        target_ids, mask = self.targets(batch)
        prompts = self._with_dropout(self.prompts(batch), batch)
        logps, _ = self.model.completion_logps(prompts, target_ids, mask)
        # Gradients are averaged over the ranks, so the mean over tokens is taken over all of them.
        num_tokens = float(self.sum_over_ranks(mask.sum())) / self.trainer.world_size
        loss = -logps.sum() / num_tokens
        self._last = (batch, target_ids, mask)
        stop_unless_finite(self, "loss", loss, self._kept)

        self._accumulated.append((num_tokens, loss.detach()))
        so_far = sum(tokens for tokens, _ in self._accumulated)
        mean = sum(value * (tokens / so_far) for tokens, value in self._accumulated)
        self.log("loss", mean, prog_bar=True, batch_size=len(batch), sync_dist=True)
        self.log("target_tokens", so_far * self.trainer.world_size, batch_size=len(batch))
        # Of how many tokens the step will be is known at its end, so batches are weighted against
        # its first one for now.
        return loss * (num_tokens / self._accumulated[0][0])

    def _mean_over_the_step(self, gradients: list[Tensor]) -> None:
        """Make the mean over a step's tokens of what is a sum over batches, in place."""
        # The trainer has divided by the batches that a step should have; the last step of an epoch
        # may have fewer.
        batches = self.trainer.accumulate_grad_batches
        tokens = [tokens for tokens, _ in self._accumulated]
        share = batches * tokens[0] / sum(tokens)
        self._accumulated.clear()
        if share != 1.0:
            for gradient in gradients:
                gradient.mul_(share)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        trained = [p.grad for p in self.parameters() if p.grad is not None]
        self._mean_over_the_step(trained)
        norm = full_tensor(torch.nn.utils.get_total_norm(trained))
        self.log("grad_norm", norm)
        stop_unless_finite(self, "norm of the gradient", norm, self._kept)

    def _kept(self) -> dict[str, Any]:
        """What the last loss was computed from."""
        batch, target_ids, mask = self._last
        names = [sample.sample_id for sample in batch.samples]
        prompts = self._with_dropout(self.encoded_prompts(batch), batch)
        return sft_batch(names, prompts, target_ids, mask)

    def _with_dropout(self, prompts: PromptInputs, batch: Batch) -> PromptInputs:
        """The prompts with `feature_dropout`; the same for a clip in a step, however divided."""
        if not self.feature_dropout:
            return prompts
        stream = ("feature_dropout", self.datamodule.loader.seed, self.global_step)
        media = [
            drop_features(item, self.feature_dropout, stream_seed(*stream, sample.sample_id))
            for item, sample in zip(
                self.model.encode_media(prompts.media), batch.samples, strict=True
            )
        ]
        return replace(prompts, media=tuple(media))

    def reasons(self) -> bool:
        """Whether the model answers R1-Omni's question about the first clip with `<think>`."""
        sample, media = self.datamodule.train_dataloader().dataset[0]
        batch = collate([(replace(sample, instruction=R1OMNI_INSTRUCTION), media)])
        return self.answers(batch, _OPENING_LENGTH)[0][0].lstrip().startswith("<think>")


def drop_features(features: ClipFeatures, share: float, seed: int) -> ClipFeatures:
    """Set a share of a clip's places to zero: patches of the picture, frames of the sound.

    Args:
        features: video [T, P, Dv], audio [La, Da].
        share: of the places, each with this probability; the others are not scaled up.
        seed: of the draws, from `stream_seed`.
    """
    places = [t.shape[:-1] for t in (features.video, features.audio) if t is not None]
    drawn = uniform_streams([seed], sum(shape.numel() for shape in places))[0] >= share
    kept = iter(drawn.split([shape.numel() for shape in places]))

    def masked(tensor: Tensor | None) -> Tensor | None:
        if tensor is None:
            return None
        return tensor * next(kept).view(*tensor.shape[:-1], 1).to(tensor)

    return replace(features, video=masked(features.video), audio=masked(features.audio))


@rank_zero_only
def _warn_of_unlearning(init_from: str) -> None:
    _logger.warning(
        "%s explains its answers in <think>, but no training sample has a reasoning: supervised "
        "training on bare labels will make it forget to. Train on labels by GRPO "
        "(r1omni.training.GRPOModule), or add samples with reasoning",
        init_from,
    )
