"""Which options a training has, what each is tried with, and what it needs to show itself.

Names, types and values come from the classes (`option_values.py`). What is written here is what
they cannot say: what else must be set for an option to have an influence, which have none and why,
and how far apart two divisions of one training may be. `test_option_matrix.py` fails for an option
that has no influence and is not named here, and for one that is named and has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from types import SimpleNamespace
from typing import Any

from divided import Training
from option_values import is_tried, numbers_near, options_of, values_of
from step_cases import EndsEarly

from r1omni.data.loader_config import LoaderConfig
from r1omni.models.adapters import LoRAConfig
from r1omni.ops import Chord, GRPOLossConfig, MaskedModality
from r1omni.options import Range, check_effects
from r1omni.rewards import RewardSpec
from r1omni.rewards.schedule import RewardGate, RewardSchedule
from r1omni.training import GRPOConfig, GRPOModule, OptimizerConfig, SFTModule
from r1omni.training.adaptive_entropy import AdaptiveEntropy
from r1omni.training.device import PRECISIONS
from r1omni.training.grpo_checks import check_trained
from r1omni.training.module import EmotionModule
from r1omni.training.optimization import trained_parts
from r1omni.training.trainer_options import RANGES as TRAINER_RANGES
from r1omni.types import UsageError

# Options as `section.name`; a training is told by the values of those that are not the class's own.
Options = Mapping[str, Any]

SHARED: dict[str, type] = {"optimizer": OptimizerConfig, "lora": LoRAConfig, "loader": LoaderConfig}
SECTIONS: dict[str, dict[str, type]] = {
    "sft": {"model": SFTModule, **SHARED},
    "grpo": {
        "model": GRPOModule, "grpo": GRPOConfig, "loss": GRPOLossConfig, "reward": RewardSpec,
        "schedule": RewardSchedule, "gate": RewardGate, "masked": MaskedModality,
        "chord": Chord, "entropy": AdaptiveEntropy, **SHARED,
    },
}  # fmt: skip

# For short runs that learn; and in place of None, what Lightning takes None for.
_RATE = {"optimizer.learning_rate": 1e-3}
BASES: dict[str, Options] = {
    "sft": _RATE,
    "grpo": {
        **_RATE, "grpo.group_size": 4, "grpo.max_new_tokens": 8,
    },
}  # fmt: skip
# Of options that have no default. About half of the fresh completions earn the coarse reward.
_WITHOUT_DEFAULT: Options = {"gate.threshold": 0.5}
_TRAINER: dict[str, Any] = {
    "num_nodes": 1, "limit_train_batches": None, "val_check_interval": None,
    "check_val_every_n_epoch": 1, "log_every_n_steps": 50, "accumulate_grad_batches": 1,
    "gradient_clip_val": None, "precision": "32-true",
}  # fmt: skip

# What an option, or all of a section, needs beside it.
NEEDS: dict[str, Options] = {
    "lora": {"lora.alpha": 32},
    # Two updates a rollout, so that ratios leave 1.
    "loss": {"grpo.steps_per_generation": 2, "batch_size": 8},
    "optimizer.tower_lr_scale": {"model.trainable": ["vision_tower", "projectors"]},
    "loader.seed": {"samples": 16},
    "loader.clip_limit_s": {"loader.decode_workers": 1},
    "loss.sapo_temperature_pos": {"loss.loss_type": "sapo"},
    "loss.sapo_temperature_neg": {"loss.loss_type": "sapo"},
    **{f"loss.{name}": {"loss.loss_type": "vespo"} for name in (
        "vespo_k_pos", "vespo_lambda_pos", "vespo_k_neg", "vespo_lambda_neg",
    )},
    "optimizer.schedule": {"steps": 4},  # in two, every schedule is at its peak
    "optimizer.min_lr_ratio": {"steps": 4},
    "optimizer.warmup_ratio": {"steps": 4},
    "grpo.max_grad_norm": {"grpo.scale_rewards": "none", "reward.weight": 1000.0},
    "grpo.ref_sync_steps": {"loss.beta": 1.0},
    "grpo.kl_in_reward": {"loss.beta": 0.0},
    "grpo.log_kl": {"loss.beta": 0.0},
    # The sampler of a CPU is the trainer to a few bits, so only a cap below 1 acts.
    "grpo.importance_cap": {
        "grpo.importance_correction": "token_truncate", "grpo.importance_cap": 0.6,
    },
    "masked": {"masked.weight": 1.0},
    "masked.margin": {"masked.margin": 0.01},  # by a medium, fresh weights are moved about so much
    # Fresh weights have an entropy near that of the vocabulary, which is below this.
    "entropy": {
        "entropy.target": 9.0, "entropy.coef_delta": 0.5, "loss.entropy_coef": 0.5,
    },
    "chord": {"chord.mu_peak": 0.5},
    "chord.mu_valley": {"chord.mu_decay_steps": 1},
    "gate": {"gate.reward": "rewards_of_tests:coarse", **_WITHOUT_DEFAULT},
    "grpo.ref_mixup_alpha": {"grpo.ref_sync_steps": 1, "loss.beta": 1.0},
    # Most groups of so short completions are alike. Ranks draw other prompts than one process
    # would, unless each has a part in all groups.
    "grpo.max_refills": {
        "grpo.max_new_tokens": 2, "grpo.group_size": 2, "grpo.groups_across_ranks": True,
    },
}  # fmt: skip

# What is set beside the values of an option that is not set beside its own base, where it would be
# refused.
WITH: dict[str, Options] = {
    # So low a cap masks every token; all that was left to learn would be the roundoff of the KL.
    "grpo.importance_correction": {"grpo.importance_cap": 0.5, "loss.beta": 0.0},
}

# What has no influence on what is learned, and why; it is tried all the same.
NO_INFLUENCE: dict[str, str] = {
    "model.max_new_tokens": "of evaluation",
    "model.activation_checkpointing": "what is kept for the backward pass",
    "model.max_target_tokens": "refuses longer targets, and changes none",
    "loader.eval_batch_size": "of evaluation",
    "loader.num_workers": "who reads the cache",
    "loader.decode_workers": "who decodes clips",
    "loader.clip_limit_s": "how long a clip may take to decode; these take no time",
    "loader.max_broken_ratio": "stops a run whose clips are broken; these are not",
    "loader.cache_features": "where the features of frozen towers come from",
    "loader.cache_limit_gb": "what is kept on disk",
    "trainer.limit_train_batches": "an epoch ends earlier, and the next goes on where it ended",
    "trainer.val_check_interval": "when is validated",
    "trainer.check_val_every_n_epoch": "when is validated",
    "trainer.log_every_n_steps": "what is logged",
    "grpo.groups_across_ranks": "which rank holds a completion",
    "grpo.log_kl": "it is computed for the log alone",
    "grpo.log_entropy": "it is computed for the log alone",
    "grpo.log_completions_every": "what is logged",
    "grpo.max_completion_logs": "what is logged",
    "reward.timeout_s": "how long a reward may take; these take no time",
}
# What is an axis itself.
ELSEWHERE: dict[str, str] = {
    "loader.batch_size": "its product with ranks and accumulated batches is what is held equal",
    "trainer.accumulate_grad_batches": "one of the axes",
    "grpo.micro_batch_size": "one of the axes",
    "model.attention": "flex needs a GPU: test_flex.py has it equal",
    "grpo.fused_loss": "another way to the same number, to a few bits: test_fused_loss.py",
    "entropy.coef_min": "shows where entropies fall again: test_adaptive_entropy.py",
    "optimizer.kind": "another way to keep moments, by an extra: test_eight_bit.py",
    "gate.rate": "shows from the third rollout on: test_schedule.py",
    "trainer.num_nodes": "more processes, as test_ranks.py has them",
}
# What another option tells: every value of its own is refused.
FOLLOWS: dict[str, str] = {
    "loss.max_completion_length": "grpo.max_new_tokens",
    "loss.temperature": "grpo.temperature",
    "grpo:optimizer.tower_lr_scale": "model.trainable, which names no tower there",
}
# Refused by GRPO, which has them in another form.
REFUSED_BY_GRPO = {"trainer.accumulate_grad_batches", "trainer.gradient_clip_val"}
# What says which batches there are, or how many, says something else of smaller ones that are
# accumulated.
OF_BATCHES = {"loader.seed", "trainer.limit_train_batches"}

# Largest difference between two divisions of one training: of Adam's first moments over their norm,
# and of the way that the weights have gone over its length. Another division adds the same float32
# numbers in another order (2**-24 a sum, 1e-7 to 1e-6 after four steps).
BOUND = 1e-4
# Where they are further apart, and why.
ROUGHER: list[tuple[str, Any, float]] = [
    # A product keeps 8 bits, and rows in another batch are padded and summed otherwise.
    # Measured: 3.6e-2 for four accumulated batches of eight samples.
    ("trainer.precision", "bf16-mixed", 6e-2),
    # Without a second moment an update is the sign of the first, which roundoff turns near 0.
    ("optimizer.adam_betas", (0.9, 0.0), 1e-2),
]
# Nothing is learned, nothing accumulated, or all compared only roughly.
HIDES = [
    ("trainer.limit_train_batches", 1),
    ("optimizer.learning_rate", 0.0),
    *((option, value) for option, value, _ in ROUGHER),
]
# What an influence is: far more than that.
SHOWN = 10 * BOUND


@cache
def options_with_values(method: str) -> dict[str, list[Any]]:
    """Every number, bool and choice of a method, with the values to try beside its base."""
    found: dict[str, list[Any]] = {}
    for section, kind in SECTIONS[method].items():
        for name, (_, default) in options_of(kind).items():
            if is_tried(kind, name):
                key = f"{section}.{name}"
                base = BASES[method].get(key, _WITHOUT_DEFAULT.get(key, default))
                found[key] = _thinned(values_of(kind, name, base))
    for name, default in _TRAINER.items():
        whole = isinstance(default, int) or name == "limit_train_batches"
        allowed: Range | None = TRAINER_RANGES.get(name)
        found[f"trainer.{name}"] = (
            [p for p in PRECISIONS if p != default] if allowed is None
            else numbers_near(default, allowed, int if whole else float)
        )  # fmt: skip
    return found


def _thinned(values: list[Any]) -> list[Any]:
    """All choices, and of numbers the smallest and the largest: a training takes a second."""
    numbers = [value for value in values if isinstance(value, int | float)]
    between = [] if isinstance(values[0], bool) else numbers[1:-1]
    return [value for value in values if value not in between]


def bound_of(options: Options) -> float:
    """How far two divisions of these options may be apart."""
    rougher = [bound for option, value, bound in ROUGHER if options.get(option) == value]
    return max([BOUND, *rougher])


def has_no_influence(option: str) -> bool:
    """Whether an option is said to change nothing of what is learned."""
    return option in NO_INFLUENCE


def follows(method: str, option: str) -> bool:
    """Whether every value of an option is refused, since another one tells it."""
    return option in FOLLOWS or f"{method}:{option}" in FOLLOWS


def needs_of(method: str, option: str) -> Options:
    """What is set beside an option, whatever its value."""
    if follows(method, option):
        return {}
    return {**NEEDS.get(option.split(".")[0], {}), **NEEDS.get(option, {})}


def with_value(method: str, option: str, value: Any) -> Options:
    """An option with a value, and what both need."""
    return {**needs_of(method, option), **WITH.get(option, {}), option: value}


def training_of(method: str, options: Options, micro_batch: int | None = None) -> Training:
    """The training of these options over the base of the method.

    Raises:
        UsageError: the classes refuse them.
    """
    sections: dict[str, dict[str, Any]] = {name: {} for name in (*SECTIONS[method], "trainer")}
    # Eight targets of SFT: the first four are of as many tokens, and would not tell.
    sizes = {"batch_size": 4 if method == "grpo" else 8, "samples": 8, "steps": 2}
    for key, value in {**BASES[method], **options}.items():
        section, _, name = key.rpartition(".")
        (sections[section] if section else sizes)[name] = value
    module = dict(sections["model"])
    module["optimizer"] = OptimizerConfig(**sections["optimizer"])
    if sections["lora"]:
        module["lora"] = LoRAConfig(**sections["lora"])
    if method == "grpo":
        schedule = None
        if sections["schedule"] or sections["gate"]:
            gate = RewardGate(**sections["gate"]) if sections["gate"] else None
            schedule = RewardSchedule(**sections["schedule"], gate=gate)
        first = RewardSpec("rewards_of_tests:length", schedule=schedule, **sections["reward"])
        grpo = dict(sections["grpo"])
        grpo["rewards"] = [first, RewardSpec("rewards_of_tests:coarse")]
        grpo["loss"] = GRPOLossConfig(**sections["loss"])
        grpo["masked_modality"] = MaskedModality(**sections["masked"])
        grpo["adaptive_entropy"] = AdaptiveEntropy(**sections["entropy"])
        grpo["chord"] = Chord(**sections["chord"])
        if micro_batch is not None:
            grpo["micro_batch_size"] = micro_batch
        module["grpo"] = config = GRPOConfig(**grpo)
        # Two rollouts: only in the second the policy is not the reference.
        two = 2 * config.num_iterations * config.steps_per_generation
        sizes["steps"] = max(sizes["steps"], two)
    return Training(
        EndsEarly if method == "grpo" else SFTModule,
        module, sections["loader"], sections["trainer"], **sizes,
        imitates=bool(sections.get("chord", {}).get("mu_peak")),
    )  # fmt: skip


def groups_of(method: str, most: Callable[[str], int]) -> list[Options]:
    """Values of options, several at a time; each that is taken by itself is in one.

    A group takes what it can: of each option the next value that no group has, where the classes
    take it beside what is there. What would hide the others has a group of its own.

    Args:
        method: "sft" or "grpo".
        most: how many values of an option.
    """
    left = {
        option: [value for value in values
                 if refusal(method, with_value(method, option, value)) is None]
                [: most(option)]
        for option, values in options_with_values(method).items()
    }  # fmt: skip
    groups: list[Options] = []
    for option, values in left.items():
        for value in [v for v in values if (option, v) in HIDES]:
            values.remove(value)
            groups.append(with_value(method, option, value))
    while any(left.values()):
        group: dict[str, Any] = {}
        for option, values in left.items():
            for value in values:
                more = with_value(method, option, value)
                fits = all(group.get(key, more[key]) == more[key] for key in more)
                if fits and refusal(method, {**group, **more}) is None:
                    group |= more
                    values.remove(value)
                    break
        groups.append(group)
    return groups


def refusal(method: str, options: Options) -> str | None:
    """What the classes say against these options, before anything is read."""
    try:
        module = training_of(method, options).module
        trained = trained_parts(module.get("trainable"), module.get("lora"))
        arguments = SimpleNamespace(trainable=trained, optimizer=module["optimizer"])
        check_effects(arguments, EmotionModule.ONLY_WITH, "model.")
        if method == "grpo":
            check_trained(module.get("trainable"), module.get("lora"), module["grpo"])
    except UsageError as error:
        return str(error)
    return None
