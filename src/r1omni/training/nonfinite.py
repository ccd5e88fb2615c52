"""A batch whose numbers went wrong: the run stops, it is kept, and can be computed again.

A file holds all that the loss was computed from, the trained weights included, so it can be looked
at on another machine that has the folder the run started from. It is a plain dictionary of numbers
and tensors, and is opened without running anything in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from r1omni.models.parallelize import full_tensor
from r1omni.models.pipeline import R1Omni
from r1omni.ops import GRPOLossConfig, MaskedModality, StepTotals, part_loss
from r1omni.training.batch import RolloutBatch
from r1omni.training.checkpoints import adapters_of, read_plain, trained_state
from r1omni.training.grpo_config import GRPOConfig
from r1omni.training.optimization import choose_trained
from r1omni.types import ClipFeatures, PromptInputs, R1OmniError

if TYPE_CHECKING:
    from r1omni.training.module import EmotionModule

FOLDER = "nonfinite"


@dataclass(frozen=True)
class Finding:
    """What computing a kept batch again shows.

    Attributes:
        weights: trained weights that hold a value that is not finite.
        inputs: tensors of the batch that do.
        samples: samples with a log-probability that is not finite.
        loss: the loss.
        gradients: weights whose gradient is not finite.
        largest_gradient: the largest finite entry of a gradient.
    """

    weights: tuple[str, ...]
    inputs: tuple[str, ...]
    samples: tuple[str, ...]
    loss: float
    gradients: tuple[str, ...]
    largest_gradient: float


def grpo_batch(part: RolloutBatch, config: GRPOConfig, totals: StepTotals) -> dict[str, Any]:
    """What the loss of GRPO is computed from."""
    rollout = part.rollout
    return {
        "sample_ids": [sample.sample_id for sample in part.samples],
        "prompts": _plain_prompts(rollout.prompts),
        "completion_ids": rollout.completion_ids.cpu(),
        "mask": rollout.mask.cpu(),
        "temperature": config.temperature,
        "grpo": {
            "config": asdict(config.loss_in_force),
            "totals": asdict(totals),
            "loss_mask": part.loss_mask.cpu(),
            "advantages": part.advantages.cpu(),
            "old_logps": _cpu(part.old_logps),
            "ref_logps": _cpu(part.ref_logps),
            "importance_weights": _cpu(part.importance_weights),
            "entropy_mask": _cpu(part.entropy_mask),
            "evidence": _cpu(part.evidence),
            "masked_media": [_plain_media(clips) for clips in part.masked_media],
            "masked_modality": asdict(config.masked_modality),
        },
        "texts": list(rollout.texts),
    }


def sft_batch(
    sample_ids: Sequence[str], prompts: PromptInputs, target_ids: Tensor, mask: Tensor
) -> dict[str, Any]:
    """What the loss of supervised training is computed from; clips are encoded."""
    return {
        "sample_ids": list(sample_ids),
        "prompts": _plain_prompts(prompts),
        "completion_ids": target_ids.cpu(),
        "mask": mask.cpu(),
        "temperature": 1.0,
        "grpo": None,
    }


def keep_batch(
    run_dir: Path,
    step: int,
    rank: int,
    batch: Mapping[str, Any],
    weights: Mapping[str, Tensor],
    origin: Mapping[str, Any],
) -> Path:
    """Write a batch with the weights it was computed with.

    Args:
        run_dir: folder of the run.
        step: optimizer steps done.
        rank: of this process.
        batch: from `grpo_batch` or `sft_batch`.
        weights: the trained weights, whole.
        origin: `init_from`, `trainable` and `lora` of the run.

    Returns:
        `<run_dir>/nonfinite/step_NNNNNN_rank_R.pt`.
    """
    path = run_dir / FOLDER / f"step_{step:06d}_rank_{rank}.pt"
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = {name: tensor.detach().cpu() for name, tensor in weights.items()}
    torch.save({"step": step, "rank": rank, "weights": kept, **origin, **batch}, path)
    return path


def stop_unless_finite(
    module: EmotionModule, what: str, value: Tensor, kept: Callable[[], Mapping[str, Any]]
) -> None:
    """End the run, on all ranks together, before the weights take in what is not finite.

    Args:
        module: under its trainer.
        what: name of the value in the message.
        value: float [...].
        kept: the batch that it came from, as `keep_batch` takes it.

    Raises:
        R1OmniError: naming step, rank and samples, and the file that holds the batch.
    """
    finite = bool(value.detach().isfinite().all())
    if module.trainer.strategy.reduce_boolean_decision(finite, all=True):
        return
    place = f"step {module.global_step}, rank {module.global_rank}"
    # All ranks take part in what a sharded model has to gather.
    weights = {name: full_tensor(weight) for name, weight in trained_state(module.model).items()}
    batch = kept()
    if finite:
        raise R1OmniError(f"{place}: stopped with another rank, whose message says why")
    origin = {"init_from": module.init_from, **module.chosen}
    path = keep_batch(
        module.run_dir, module.global_step, module.global_rank, batch, weights, origin
    )
    names = ", ".join(batch["sample_ids"])
    raise R1OmniError(
        f"{place}: the {what} is {float(value.detach().sum())} on {names}; nothing was "
        f"changed. `python scripts/replay_batch.py {path}` shows where it comes from; lower "
        "the rate or leave these clips out, and resume from the last checkpoint"
    )


def replay(path: Path, model: str | None = None) -> Finding:
    """Compute the loss and the gradients of a kept batch again, on the CPU in float32.

    Args:
        path: from `keep_batch`.
        model: folder or repository the run started from, where it is not where it was.

    Raises:
        R1OmniError: the file or the model cannot be read.
    """
    kept = read_plain(path)
    omni = R1Omni.from_pretrained(model or kept["init_from"])
    choose_trained(omni.model, kept["trainable"], adapters_of(kept))
    omni.model.load_state_dict(kept["weights"], strict=False)
    score = partial(
        omni.model.completion_logps, completion_ids=kept["completion_ids"], mask=kept["mask"],
        temperature=kept["temperature"],
    )  # fmt: skip
    logps, entropies = score(_prompts(kept["prompts"]), with_entropy=True)
    # Files of earlier versions have no masked media.
    masked = [
        score(_prompts({**kept["prompts"], **media}))[0]
        for media in (kept["grpo"] or {}).get("masked_media", [])
    ]
    loss = _loss(kept, logps, entropies, torch.stack(masked, dim=-1) if masked else None)
    if loss.requires_grad:
        loss.backward()
    gradients = {name: p.grad for name, p in omni.model.named_parameters() if p.grad is not None}
    broken_rows = ~logps.detach().isfinite().all(dim=1)
    group_size = len(logps) // len(kept["sample_ids"])
    finite = [g[g.isfinite()].abs().max() for g in gradients.values() if g.isfinite().any()]
    return Finding(
        weights=_not_finite(kept["weights"]),
        inputs=_not_finite(_tensors(kept["prompts"], "prompts") | _tensors(kept["grpo"], "grpo")),
        samples=tuple(
            name
            for index, name in enumerate(kept["sample_ids"])
            if broken_rows[index * group_size : (index + 1) * group_size].any()
        ),
        loss=float(loss.detach()),
        gradients=_not_finite(gradients),
        largest_gradient=float(torch.stack(finite).max()) if finite else 0.0,
    )


def _loss(
    kept: Mapping[str, Any], logps: Tensor, entropies: Tensor | None, masked_logps: Tensor | None
) -> Tensor:
    mask, grpo = kept["mask"], kept["grpo"]
    if grpo is None:
        return -logps.sum() / mask.sum()
    return part_loss(
        logps,
        grpo["advantages"],
        grpo["loss_mask"],
        old_logps=grpo["old_logps"],
        ref_logps=grpo["ref_logps"],
        entropies=entropies,
        importance_weights=grpo["importance_weights"],
        entropy_mask=grpo["entropy_mask"],
        evidence=grpo.get("evidence"),
        masked_logps=masked_logps,
        masked_modality=None if masked_logps is None else MaskedModality(**grpo["masked_modality"]),
        config=GRPOLossConfig(**grpo["config"]),
        totals=StepTotals(**grpo["totals"]),
    ).loss


def _plain_prompts(prompts: PromptInputs) -> dict[str, Any]:
    features = [item for item in prompts.media if isinstance(item, ClipFeatures)]
    assert len(features) == len(prompts.media), "encode the clips first"
    return {
        "token_ids": [ids.cpu() for ids in prompts.token_ids],
        "instruction_ids": [ids.cpu() for ids in prompts.instruction_ids],
        **_plain_media(features),
    }


def _plain_media(features: Sequence[ClipFeatures]) -> dict[str, list[Tensor | None]]:
    return {
        "video": [_cpu(item.video) for item in features],
        "audio": [_cpu(item.audio) for item in features],
    }


def _prompts(plain: Mapping[str, Any]) -> PromptInputs:
    media = zip(plain["video"], plain["audio"], strict=True)
    return PromptInputs(
        tuple(plain["token_ids"]),
        tuple(plain["instruction_ids"]),
        tuple(ClipFeatures(video, audio) for video, audio in media),
    )


def _cpu(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.detach().cpu()


def _tensors(content: Any, name: str) -> dict[str, Tensor]:
    """All tensors within dictionaries and lists, by a path of keys and places."""
    if isinstance(content, Tensor):
        return {name: content}
    found: dict[str, Tensor] = {}
    if isinstance(content, Mapping):
        entries: Iterable[tuple[Any, Any]] = content.items()
    elif isinstance(content, list):
        entries = enumerate(content)
    else:
        return found
    for key, value in entries:
        found |= _tensors(value, f"{name}.{key}")
    return found


def _not_finite(tensors: Mapping[str, Tensor]) -> tuple[str, ...]:
    return tuple(
        name
        for name, tensor in tensors.items()
        if tensor.is_floating_point() and not bool(tensor.isfinite().all())
    )
