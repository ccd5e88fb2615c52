"""Tensor names: ours, those of the released checkpoints, and those of public tower downloads.

Ours differ from the released ones in two places only: the release keeps its parts under `model.`,
and transformers no longer has the `vision_model.` level inside SigLIP.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from r1omni.models.adapters import base_state, merged_state
from r1omni.models.folders import ModelFolder
from r1omni.models.omni import OmniModel
from r1omni.models.parallelize import own_shard, shard_like
from r1omni.models.weights import Weights
from r1omni.types import R1OmniError

# Ours to released, first match wins.
_RENAMES = (
    ("vision_tower.vision_tower.", "model.vision_tower.vision_tower.vision_model."),
    ("audio_tower.", "model.audio_tower."),
    ("text_tower.bert_model.", "model.bert_model."),
    ("gate.", "model.bert_gate."),
    ("video_projector.", "model.mm_projector."),
    ("audio_projector.", "model.audio_projector."),
    ("language_model.", "model."),
    ("lm_head.", "lm_head."),
)
_EMBEDDING = "language_model.embed_tokens.weight"
# Buffers that old releases wrote and nobody reads.
_IGNORED_SUFFIXES = ("rotary_emb.inv_freq", "embeddings.position_ids")


@dataclass(frozen=True)
class _TowerNames:
    """How a tower is called in a released checkpoint and in its public download.

    Attributes:
        prefix: of the tower's tensors in a released checkpoint.
        level: what the public names begin with inside the tower, as the release has it.
        renames: beginnings or endings of public names, and what they become.
        ignored: beginnings of public names the model has no use for.
        optional: beginnings of what never runs, and so may be missing: names as the release has
            them inside the tower.
    """

    prefix: str
    level: str = ""
    renames: tuple[tuple[str, str], ...] = ()
    ignored: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()

    def released(self, name: str) -> str | None:
        """The released name of a public one, or None for what is not needed."""
        for old, new in self.renames:
            if name.startswith(old):
                name = new + name.removeprefix(old)
            elif name.endswith(old):
                name = name.removesuffix(old) + new
        if name.startswith(self.ignored):
            return None
        known = name.startswith((self.level, *self.optional))
        return self.prefix + (name if known else self.level + name)


_TOWERS = {
    "vision_tower": _TowerNames(
        "model.vision_tower.vision_tower.",
        level="vision_model.",
        ignored=("text_model.", "logit_scale", "logit_bias"),
        optional=("vision_model.head.", "vision_model.post_layernorm."),
    ),
    "audio_tower": _TowerNames(
        "model.audio_tower.audio_tower.",
        level="encoder.",
        renames=(("model.encoder.", "encoder."),),
        ignored=("model.decoder.", "decoder.", "proj_out."),
        optional=("projector.", "classifier.", "layer_weights"),
    ),
    "text_tower": _TowerNames(
        "model.bert_model.",
        renames=(
            ("bert.", ""),
            ("LayerNorm.gamma", "LayerNorm.weight"),
            ("LayerNorm.beta", "LayerNorm.bias"),
        ),
        ignored=("cls.",),
        optional=("pooler.",),
    ),
}
_OPTIONAL = tuple(tower.prefix + name for tower in _TOWERS.values() for name in tower.optional)


def released_name(name: str) -> str:
    """The name a tensor of `OmniModel` has in a released checkpoint."""
    for ours, theirs in _RENAMES:
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    raise KeyError(name)


def released_state(model: OmniModel) -> dict[str, Tensor]:
    """The model's tensors under their released names, on CPU.

    Adapters are merged, and a tied head is left out.
    """
    tied = model.config.language.tie_word_embeddings
    return {
        released_name(name): tensor.detach().cpu().contiguous()
        for name, tensor in merged_state(model).items()
        if not (tied and name == "lm_head.weight")
    }


def fill(model: OmniModel, folder: ModelFolder) -> None:
    """Copy every tensor of a checkpoint into the model, one at a time.

    The model may be on any device, be sharded, and have adapters, which stay as they are. Weights
    of a tower that the main folder lacks are read from the tower's own folder.

    Raises:
        R1OmniError: tensors are missing, unexpected, or of another shape; the message lists them.
    """
    own = {released_name(name): tensor for name, tensor in base_state(model).items()}
    _fill(model, own, _all_tensors(folder), folder.main)


def fill_part(model: OmniModel, part: str, folder: Path) -> None:
    """Copy the weights of one pretrained part from its own folder into the model.

    They may have any dtype, and names as transformers writes them for the part alone or for the
    whole model that it is taken from; what the model has no use for (a decoder, a text model) is
    left out.

    Args:
        model: gets the weights, in its own dtype.
        part: "language_model", "vision_tower", "audio_tower" or "text_tower".
        folder: holds the weights.

    Raises:
        R1OmniError: as `fill`.
    """
    beginnings = ("language_model.", "lm_head.") if part == "language_model" else f"{part}."
    own = {
        released_name(name): tensor
        for name, tensor in base_state(model).items()
        if name.startswith(beginnings)
    }
    _fill(model, own, _own_tensors(part, folder), folder)


@torch.no_grad()
def _fill(
    model: OmniModel, own: Mapping[str, Tensor], tensors: Iterable[tuple[str, Tensor]], source: Path
) -> None:
    """Copy tensors by their released names; all of `own` have to be there, and no others."""
    tied = model.config.language.tie_word_embeddings
    # As the files have them: mapped, so they take no memory.
    head: Tensor | None = None
    embedding: Tensor | None = None
    filled: set[str] = set()
    unexpected: list[str] = []
    wrong_shape: list[str] = []
    for name, tensor in tensors:
        target = own.get(name)
        if target is None:
            if not name.endswith(_IGNORED_SUFFIXES):
                unexpected.append(name)
        elif target.shape != tensor.shape:
            wrong_shape.append(f"{name} {list(tensor.shape)} instead of {list(target.shape)}")
        elif tied and name == "lm_head.weight":  # the same tensor as the embedding
            head = tensor
        else:
            own_shard(target).copy_(shard_like(target, tensor))
            embedding = tensor if name == released_name(_EMBEDDING) else embedding
        filled.add(name)
    missing = [name for name in own if name not in filled]
    if tied:
        missing = [name for name in missing if name != "lm_head.weight"]
    # Parts that never run: zeros stand for what the download does not have.
    for name in [name for name in missing if name.startswith(_OPTIONAL)]:
        own_shard(own[name]).zero_()
        missing.remove(name)
    dtype = model.dtype
    if (
        head is not None
        and embedding is not None
        and not torch.equal(embedding.to(dtype), head.to(dtype))
    ):
        raise R1OmniError(
            f"{source}: lm_head.weight is not the embedding, though config.json says "
            "tie_word_embeddings; set it to false there"
        )
    _report(source, {"missing": missing, "unexpected": unexpected, "of another shape": wrong_shape})


def _all_tensors(folder: ModelFolder) -> Iterator[tuple[str, Tensor]]:
    main = Weights(folder.with_weights("main"))
    yield from main
    for part, names in _TOWERS.items():
        if not any(name.startswith(names.prefix) for name in main.names):
            yield from _own_tensors(part, folder.with_weights(part))


def _own_tensors(part: str, folder: Path) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a part's own folder, under their released names."""
    for name, tensor in Weights(folder):
        released = (
            _language_name(name) if part == "language_model" else _TOWERS[part].released(name)
        )
        if released is not None:
            yield released, tensor


def _language_name(name: str) -> str:
    """Of a tensor of `Qwen2ForCausalLM`, whose names the release has, or of `Qwen2Model`."""
    return name if name.startswith(("model.", "lm_head.")) else f"model.{name}"


def _report(source: Path, problems: dict[str, Iterable[str]]) -> None:
    listed = [
        f"{kind}: {', '.join(names[:5])}{' ...' if len(names) > 5 else ''} ({len(names)})"
        for kind, names in ((kind, sorted(names)) for kind, names in problems.items())
        if names
    ]
    if listed:
        raise R1OmniError(
            f"{source}: its weights do not fit its config.json; {'; '.join(listed)}; "
            "give a checkpoint of the same architecture"
        )
