"""What is trained, and the optimizer: groups, AdamW, warm-up and schedule."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn.utils import clip_grad_norm_
from torch.optim.lr_scheduler import LambdaLR

from r1omni.extras import require
from r1omni.models.adapters import LoRAConfig, add_adapters
from r1omni.models.omni import OmniModel
from r1omni.models.parallelize import full_tensor
from r1omni.options import (
    SHARE,
    Conditions,
    OnlyWith,
    Range,
    Ranges,
    at_least,
    check_choice,
    check_options,
)
from r1omni.types import R1OmniError, UsageError

Part = Literal["vision_tower", "audio_tower", "text_tower", "projectors", "language_model"]
# Part of the shared model -> the modules it stands for.
PARTS: dict[Part, tuple[str, ...]] = {
    "vision_tower": ("vision_tower",),
    "audio_tower": ("audio_tower",),
    "text_tower": ("text_tower",),
    "projectors": ("video_projector", "audio_projector", "gate"),
    "language_model": ("language_model", "lm_head"),
}

DEFAULT_PARTS: tuple[Part, ...] = ("projectors", "language_model")
OptimizerKind = Literal["adamw", "adamw_8bit"]
Schedule = Literal["cosine", "linear", "constant"]


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW with warm-up, then a falling or a constant rate.

    Attributes:
        learning_rate: peak rate; None is the module's own, 2e-5 for supervised training and 1e-6
            for GRPO.
        weight_decay: on matrices only, never on biases and norms.
        adam_betas: decay of the two moments.
        warmup_ratio: share of all optimizer steps over which the rate rises from 0.
        schedule: "cosine" or "linear" (to `min_lr_ratio` of the peak), or "constant".
        min_lr_ratio: rate at the last step over the peak rate, for those that fall.
        projector_lr_scale: factor on the rate of projectors and gate.
        tower_lr_scale: factor on the rate of towers, where they are trained.
        kind: "adamw" keeps its two moments in float32; "adamw_8bit" keeps them in 8 bits a number,
            those of the embedding and of small weights in float32 (arXiv 2110.02861, by
            bitsandbytes, the extra `memory`). For one device and DDP; a run cannot change it.

    Raises:
        UsageError: an unknown schedule, or a number out of its range.
    """

    learning_rate: float | None = None
    weight_decay: float = 0.0
    adam_betas: tuple[float, float] = (0.9, 0.999)
    warmup_ratio: float = 0.03
    schedule: Schedule = "cosine"
    min_lr_ratio: float = 0.0
    projector_lr_scale: float = 1.0
    tower_lr_scale: float = 1.0
    kind: OptimizerKind = "adamw"

    RANGES: ClassVar[Ranges] = {
        "learning_rate": SHARE,
        "weight_decay": at_least(0, 100),
        "adam_betas": Range(0, 1, below=True),
        "warmup_ratio": SHARE,
        "min_lr_ratio": SHARE,
        "projector_lr_scale": at_least(0, 10_000),
        "tower_lr_scale": at_least(0, 10_000),
    }
    ONLY_WITH: ClassVar[Conditions] = {
        "min_lr_ratio": OnlyWith(
            "schedule", "cosine or linear", lambda c: c.schedule != "constant"
        ),
    }

    def __post_init__(self) -> None:
        check_options(self, "optimizer.")


def check_parts(trainable: Sequence[str] | None) -> None:
    """Refuse an unknown part of the model.

    Raises:
        UsageError: naming it and the known ones.
    """
    if trainable != []:  # with adapters nothing beside them is trained
        check_choice("model.trainable", trainable, list[Part] | None)


def trained_parts(trainable: Sequence[str] | None, lora: Any) -> Sequence[str]:
    """The parts that are trained; where none are named, those of `choose_trained`."""
    if trainable is None:
        return () if lora else DEFAULT_PARTS
    return trainable


def choose_trained(
    model: OmniModel, trainable: Sequence[str] | None, lora: LoRAConfig | None = None
) -> None:
    """Let gradients flow into the named parts only, or into adapters on the language model.

    Args:
        model: changed in place.
        trainable: parts; None trains projectors and language model, and with `lora` nothing
            beside the adapters.
        lora: adapters that are put into the language model, or None.

    Raises:
        UsageError: an unknown part, nothing to train, or a language model that would be trained
            beside its adapters.
    """
    check_parts(trainable)
    trainable = trained_parts(trainable, lora)
    if not (trainable or lora):
        raise UsageError(f"model.trainable is empty; use any of {', '.join(PARTS)}")
    if lora and "language_model" in trainable:
        raise UsageError(
            "model.trainable names language_model, but model.lora trains adapters in its place; "
            "leave one of them out"
        )
    for part, modules in PARTS.items():
        for name in modules:
            model.get_submodule(name).requires_grad_(part in trainable)
    if "audio_tower" in trainable:
        # Whisper's positions are fixed sinusoids; transformers marks them so too.
        audio = model.get_submodule("audio_tower.audio_tower.encoder.embed_positions")
        audio.requires_grad_(False)
    if lora:
        add_adapters(model, lora)


def parameter_groups(model: nn.Module, config: OptimizerConfig) -> list[dict]:
    """Trainable parameters by part and by whether they decay.

    Raises:
        UsageError: a configuration without a rate, which a module fills in.
    """
    if config.learning_rate is None:
        raise UsageError("optimizer.learning_rate is None; give a rate")
    scales = {
        "projectors": config.projector_lr_scale,
        "language_model": 1.0,
    }
    groups = []
    for part, modules in PARTS.items():
        rate = config.learning_rate * scales.get(part, config.tower_lr_scale)
        chosen = [p for p in _parameters(model, modules) if p.requires_grad]
        for decays in (True, False):
            members = [p for p in chosen if (p.dim() >= 2) is decays]
            if members:
                decay = config.weight_decay if decays else 0.0
                name = part if decays else f"{part}_no_decay"
                groups.append({"params": members, "lr": rate, "weight_decay": decay, "name": name})
    return groups


def _parameters(model: nn.Module, modules: tuple[str, ...]) -> Iterator[nn.Parameter]:
    seen: set[int] = set()  # the tied head is the embedding
    for name in modules:
        for parameter in model.get_submodule(name).parameters():
            if id(parameter) not in seen:
                seen.add(id(parameter))
                yield parameter


def build_optimizer(
    model: nn.Module, config: OptimizerConfig, total_steps: int, *, mixed: bool = False
) -> tuple[torch.optim.Optimizer, LambdaLR]:
    """AdamW and its schedule over `total_steps` optimizer steps.

    Args:
        model: its parameters lie on the device that trains them.
        config: rates, decay and kind.
        total_steps: of the whole run.
        mixed: products are in another dtype than weights, for which Lightning does not clip
            gradients of a fused optimizer.

    Raises:
        UsageError: as `check_kind`.
    """
    is_sharded = any(isinstance(p, DTensor) for p in model.parameters())
    check_kind(config.kind, is_sharded)
    groups, betas = parameter_groups(model, config), config.adam_betas
    if config.kind == "adamw_8bit":
        embedded = {m.weight for m in model.modules() if isinstance(m, nn.Embedding)}
        optimizer = _adamw_8bit(groups, betas, embedded)
    else:
        # One pass over a CPU's memory in place of six; it reads weights as if they were contiguous.
        # On a GPU it was never measured.
        simple = all(p.is_cpu and p.is_contiguous() for p in model.parameters())
        fused = simple and not (mixed or is_sharded)
        optimizer = torch.optim.AdamW(groups, betas=betas, fused=fused or None)
    return optimizer, LambdaLR(optimizer, rate_factor(config, total_steps))


def check_kind(kind: OptimizerKind, is_sharded: bool) -> None:
    """Refuse an optimizer that this machine or this strategy does not have.

    Raises:
        UsageError: naming what to install, or to use instead.
    """
    if kind == "adamw":
        return
    option = f"model.optimizer.kind {kind}"
    require(option, "memory")
    if is_sharded:
        raise UsageError(
            f"{option} has no state of sharded weights; use adamw with FSDP2, which shards its "
            "state, or train by DDP"
        )


def _adamw_8bit(
    groups: list[dict], betas: tuple[float, float], in_float32: Collection[Tensor]
) -> torch.optim.Optimizer:
    # Here, not at the top: an extra installs it.
    from bitsandbytes.optim import AdamW8bit

    class MixedAdamW8bit(AdamW8bit):
        """Keeps moments of some weights in float32, as the library's own list of them would.

        That list is one for the whole process, and knows weights by numbers that others get later.
        """

        def get_config(self, group_index: int, index: int, group: dict) -> dict[str, Any]:
            config: dict[str, Any] = super().get_config(group_index, index, group)
            if group["params"][index] in in_float32:
                config["optim_bits"] = 32
            return config

    optimizer: torch.optim.Optimizer = MixedAdamW8bit(groups, betas=betas)
    return optimizer


def apply_settings(
    optimizer: torch.optim.Optimizer, schedule: LambdaLR, model: nn.Module, config: OptimizerConfig
) -> None:
    """Put a configuration's rates, decay and betas in place of those that a checkpoint brought.

    The moments and the place in the schedule stay. How the update is computed is this machine's.

    Raises:
        R1OmniError: the checkpoint's moments are those of another kind of optimizer.
    """
    moment = "exp_avg" if config.kind == "adamw" else "state1"
    if not all(moment in entry for entry in optimizer.state.values()):
        raise R1OmniError(
            f"the checkpoint has the state of another optimizer than {config.kind}; give the "
            "model.optimizer.kind that the run was started with"
        )
    wanted = parameter_groups(model, config)
    for group, new in zip(optimizer.param_groups, wanted, strict=True):
        group |= {"weight_decay": new["weight_decay"], "betas": config.adam_betas}
        group["initial_lr"] = new["lr"]
    if config.kind == "adamw":
        fused = optimizer.defaults["fused"]
        for group in optimizer.param_groups:
            group["fused"] = fused
        # A fused one's checkpoint brings its counts to the device, where each would be waited for.
        for entry in () if fused else optimizer.state.values():
            entry["step"] = entry["step"].cpu()
    schedule.base_lrs = [new["lr"] for new in wanted]
    factors = [factor(schedule.last_epoch) for factor in schedule.lr_lambdas]
    rates = [base * factor for base, factor in zip(schedule.base_lrs, factors, strict=True)]
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    schedule._last_lr = rates


def rate_factor(config: OptimizerConfig, total_steps: int) -> Callable[[int], float]:
    """The factor on the peak rate at each step (the first step is 0)."""
    warmup = max(1, round(config.warmup_ratio * total_steps))

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        if config.schedule == "constant":
            return 1.0
        progress = min(1.0, (step - warmup) / max(1, total_steps - warmup))
        left = 1 - progress
        if config.schedule == "cosine":
            left = 0.5 * (1 + math.cos(math.pi * progress))
        return config.min_lr_ratio + (1 - config.min_lr_ratio) * left

    return factor


def clip_gradients(parameters: Iterable[nn.Parameter], limit: float | None) -> Tensor:
    """The norm of the gradients over all ranks, before they are scaled down to `limit`, if any.

    Args:
        parameters: those that have a gradient count.
        limit: the largest norm, or None.

    Returns:
        0-dimensional.
    """
    trained = [p for p in parameters if p.grad is not None]
    return full_tensor(clip_grad_norm_(trained, math.inf if limit is None else limit))
