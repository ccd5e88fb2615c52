"""What a GRPO run is refused for beside its configuration: what is trained, Trainer and batch."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import lightning as L
from lightning.pytorch.utilities import rank_zero_only

from r1omni.data import EmotionDataModule
from r1omni.models.adapters import LoRAConfig
from r1omni.models.pipeline import R1Omni
from r1omni.ops import GRPOLossConfig
from r1omni.options import check_type
from r1omni.training.data_checks import check_labels, check_targets
from r1omni.training.grpo_config import GRPOConfig
from r1omni.training.optimization import check_parts
from r1omni.training.sharded import FSDP2Strategy
from r1omni.types import UsageError

_logger = logging.getLogger(__name__)
# Options of the loss that act on a ratio other than 1, or on drift from the policy that sampled.
_OF_RATIOS = (
    "epsilon", "epsilon_high", "delta", "dual_clip", "off_policy_mask_threshold",
    "sapo_temperature_pos", "sapo_temperature_neg",
)  # fmt: skip
# These also act on the correction of the sampler, which vespo's kernel takes in.
_OF_VESPO = ("vespo_k_pos", "vespo_lambda_pos", "vespo_k_neg", "vespo_lambda_neg")


def check_trained(
    trainable: Sequence[str] | None, lora: LoRAConfig | None, grpo: GRPOConfig
) -> None:
    """Refuse weights that GRPO cannot train, or not with this reference.

    Raises:
        UsageError: a value of another type; an unknown part, or a tower; with adapters, whose
            reference is the model without them, other weights than theirs, or a reference that
            moves.
    """
    check_parts(trainable)
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


def check_fit(
    config: GRPOConfig, trainer: L.Trainer, data: EmotionDataModule, omni: R1Omni
) -> None:
    """What a training is refused for, and what is said of settings that can never act in it.

    Raises:
        UsageError: as `check_batch_size`, `check_labels` and `check_expert`; sampling beside the
            update where the weights are sharded.
    """
    if config.overlap_sampling and isinstance(trainer.strategy, FSDP2Strategy):
        raise UsageError(
            "grpo.overlap_sampling keeps a whole copy of the language model beside the update, "
            "which FSDP2Strategy is there to avoid; set it to false, or use DDP"
        )
    check_batch_size(config, data.loader.batch_size)
    check_labels(data, config.rewards)
    check_expert(config, data, omni, trainer.world_size)
    if not getattr(trainer, "fast_dev_run", False):  # which has other steps than the run
        warn_of_idle_settings(config, trainer.max_steps)


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


def check_expert(config: GRPOConfig, data: EmotionDataModule, omni: R1Omni, num_ranks: int) -> None:
    """Refuse samples to imitate that nothing imitates, a term without any, and an uneven share.

    Raises:
        UsageError: naming both keys; or as `check_targets`, completions' limit being the targets'.
    """
    chord, num_samples = config.chord, sum(map(len, data.samples["expert"]))
    if not chord.mu_peak:
        if num_samples:
            raise UsageError(
                "data.expert has an effect only with grpo.chord.mu_peak above 0; set that, or "
                "leave data.expert out"
            )
        return
    if num_samples < chord.num_samples:
        raise UsageError(
            f"grpo.chord.num_samples {chord.num_samples} are to be imitated in a step, but "
            f"data.expert has {num_samples} samples; add data sets with targets to data.expert, or "
            "lower it"
        )
    if chord.num_samples % num_ranks:
        raise UsageError(
            f"grpo.chord.num_samples {chord.num_samples} cannot be split evenly over {num_ranks} "
            "ranks; make it a multiple of them"
        )
    check_targets(data, omni, config.max_new_tokens, "expert", "grpo.max_new_tokens")


@rank_zero_only
def warn_of_idle_settings(config: GRPOConfig, max_steps: int) -> None:
    """Say once which settings of a run can never act, all of them in their range.

    Args:
        config: of the run.
        max_steps: optimizer steps of the run, or -1 for no limit.
    """
    idle = idle_loss_options(config)
    if idle:
        _logger.warning(
            "%s: without effect, since a rollout is learned from once (grpo.num_iterations 1, "
            "grpo.steps_per_generation 1) and ratios are 1; leave out, or raise one of these",
            ", ".join(f"grpo.loss.{name} {getattr(config.loss, name)}" for name in idle),
        )
    for index in idle_rewards(config, max_steps):
        _logger.warning(
            "grpo.rewards[%d]: %s never weighs, since its schedule begins when the run ends "
            "(trainer.max_steps %d); lower its start_step, or leave it out",
            index, config.rewards[index].name, max_steps,
        )  # fmt: skip


def idle_loss_options(config: GRPOConfig) -> list[str]:
    """Options of the loss that differ from their defaults and change no gradient of the run.

    While a rollout is learned from for the first time the policy is still the one that sampled, but
    with `overlap_sampling`: ratios are 1, within every bound, sapo's gate has the slope 1 there at
    any temperature, and vespo's kernel is 1.
    Cispo's cap below 1 acts on a ratio of 1, too.
    """
    loss, usual = config.loss, GRPOLossConfig()
    if config.has_ratios or (loss.loss_type == "cispo" and loss.upper_epsilon < 1):
        return []
    names = _OF_RATIOS if config.importance_correction != "none" else (*_OF_RATIOS, *_OF_VESPO)
    return [name for name in names if getattr(loss, name) != getattr(usual, name)]


def idle_rewards(config: GRPOConfig, max_steps: int) -> list[int]:
    """Places of rewards that have a weight of 0 in every rollout that the run can have."""
    if max_steps < 1:
        return []
    updates = config.num_iterations * config.steps_per_generation
    last = (max_steps - 1) // updates * updates  # optimizer step that the last rollout begins at
    found = []
    for index, spec in enumerate(config.rewards):
        schedule = spec.schedule
        # A gate opens behind the first rollout at the earliest.
        if schedule is not None and not schedule.share(last, max(schedule.start_step, 1)):
            found.append(index)
    return found
