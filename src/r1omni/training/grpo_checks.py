"""What a GRPO run is refused for beside its configuration: what is trained, Trainer and batch."""

from __future__ import annotations

from collections.abc import Sequence

from r1omni.models.adapters import LoRAConfig
from r1omni.options import check_type
from r1omni.training.grpo_config import GRPOConfig
from r1omni.types import UsageError


def check_trained(
    trainable: Sequence[str] | None, lora: LoRAConfig | None, grpo: GRPOConfig
) -> None:
    """Refuse weights that GRPO cannot train, or not with this reference.

    Raises:
        UsageError: a value of another type; a tower; with adapters, whose reference is the model
            without them, other weights than theirs, or a reference that moves.
    """
    check_type("model.grpo", grpo, GRPOConfig)
    check_type("model.lora", lora, LoRAConfig | None)
    towers = [part for part in trainable or [] if part.endswith("_tower")]
    if towers:
        # A clip is encoded once, for the policy and the frozen reference alike.
        raise UsageError(f"model.trainable: GRPO keeps towers frozen; leave out {towers}")
    if lora is None or not grpo.needs_reference:
        return
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


def check_trainer(gradient_clip_val: float | None, accumulate_grad_batches: int) -> None:
    """Refuse settings of the trainer that GRPO has in other places.

    Raises:
        UsageError: naming the key to set instead.
    """
    if gradient_clip_val is not None:
        raise UsageError(
            "trainer.gradient_clip_val has no effect on GRPO; set model.init_args.grpo."
            "max_grad_norm instead"
        )
    if accumulate_grad_batches != 1:
        raise UsageError(
            "trainer.accumulate_grad_batches has no effect on GRPO, where a batch is a "
            "rollout batch; raise data.loader.batch_size and set model.init_args.grpo."
            "micro_batch_size to what fits into memory"
        )


def check_batch_size(config: GRPOConfig, batch_size: int) -> None:
    """Refuse a batch that has too few prompts for its optimizer steps.

    Raises:
        UsageError: naming both keys.
    """
    if config.steps_per_generation > batch_size:
        raise UsageError(
            f"grpo.steps_per_generation {config.steps_per_generation} splits the prompts of a "
            f"rollout batch into as many optimizer steps, but a rank has {batch_size} of them; "
            "lower it, or raise data.loader.batch_size"
        )
