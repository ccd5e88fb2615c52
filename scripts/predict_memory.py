"""The memory of a training step on paper, for docs/memory.md and the overlays gpu_*.yaml.

    python scripts/predict_memory.py --tables                         # those of the page
    python scripts/predict_memory.py --micro-batch 1 --checkpointing  # another step; see --help

Parameters are counted on models that have shapes but no memory, and so is what the projector of
pictures keeps; the rest is the arithmetic that docs/memory.md explains. One device, without
sharding; scripts/scaling_table.py has several.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))

import torch  # noqa: E402
from script_options import ScriptParser, model_sizes  # noqa: E402
from torch import nn  # noqa: E402
from torch._subclasses.fake_tensor import FakeTensorMode  # noqa: E402

from r1omni.models.checkpoint import unfilled  # noqa: E402
from r1omni.models.config import OmniConfig  # noqa: E402
from r1omni.models.omni import CLIP_TOWERS  # noqa: E402
from r1omni.models.projector import VideoProjector  # noqa: E402
from r1omni.models.sizes import config_from_sizes  # noqa: E402

GIB = 2**30
BF16, FP32 = 2, 4
# Tokens of the fused loss's chunk on a GPU (`r1omni.kernels.linear`).
_CHUNK = 2048
# Tokens of R1-Omni's question with 8 frames and 30 s of sound, at 0.5B.
PROMPT = 969
PARTS = ("language_model", "gate", "video_projector", "audio_projector")


@dataclass(frozen=True)
class Step:
    """A training step.

    Attributes:
        prompts: of a batch; in GRPO of a rollout.
        micro_batch: prompts that go forward and backward at once.
        group: completions of a prompt; 0 is SFT, which has one target a prompt.
        prompt: tokens of a prompt.
        completion: of the longest completion, or of a target.
        mixed: products in bfloat16 (bf16-mixed), otherwise all in float32.
        checkpointing: `model.activation_checkpointing`.
        lora: rank of adapters on every matrix of the layers, in place of whole weights; 0 is none.
        fused: the loss never holds its logits as a whole.
        eight_bit: `optimizer.kind` adamw_8bit.
        on_gpu: sampling keeps its buffers and weights from one rollout to the next.
        copied_keys: attention lays keys out once a query head and keeps what it laid out, as it did
            when the files of `MEASURED` were made.
    """

    prompts: int = 4
    micro_batch: int = 2
    group: int = 8
    prompt: int = PROMPT
    completion: int = 256
    mixed: bool = True
    checkpointing: bool = False
    lora: int = 0
    fused: bool = True
    eight_bit: bool = False
    on_gpu: bool = True
    copied_keys: bool = False

    @property
    def rows(self) -> int:
        """Completions that go forward and backward at once."""
        return self.micro_batch * max(1, self.group)

    @property
    def tokens(self) -> int:
        """Of a pass."""
        return self.micro_batch * self.prompt + self.rows * self.completion

    @property
    def width(self) -> int:
        """Bytes of a number in a product."""
        return BF16 if self.mixed else FP32


class Memory:
    """Bytes by what takes them, for a model of some sizes.

    Args:
        config: the sizes.
        step: what is trained.

    Attributes:
        always: between two passes, from the second step on.
        update: where a pass holds most, besides: as its backward pass begins, or within it.
    """

    def __init__(self, config: OmniConfig, step: Step) -> None:
        self.config, self.step = config, step
        language = config.language
        self.layers, self.vocabulary = language.num_hidden_layers, language.vocab_size
        self.hidden, self.inner = language.hidden_size, language.intermediate_size
        head = self.hidden // language.num_attention_heads
        self.queries, self.keys = self.hidden, language.num_key_value_heads * head
        with torch.device("meta"):
            self.model = unfilled(config)
        self.total = _count(self.model)
        matrices = [m for m in self._part("language_model.layers.0").modules() if _is_linear(m)]
        self.products = sum(m.weight.numel() for m in matrices)  # of a layer
        inner = sum(m.in_features + m.out_features for m in matrices)
        whole = sum(_count(self._part(name)) for name in PARTS)
        self.trained = self.layers * step.lora * inner if step.lora else whole
        self.always, self.update = self._always(), self._update()

    def _part(self, name: str) -> nn.Module:
        return self.model.get_submodule(name)

    # What is always there -------------------------------------------------------------------

    def _always(self) -> dict[str, float]:
        adapters = self.trained if self.step.lora else 0
        return {
            "weights": FP32 * (self.total + adapters),
            "gradients": FP32 * self.trained,
            "moments": self._moments(),
            "reference": self._reference(),
            "kept by sampling": self._sampler() if self.step.on_gpu else 0,
        }

    def _moments(self) -> float:
        if not self.step.eight_bit:
            return 2 * FP32 * self.trained
        # Embeddings keep float32; of the others 2 bytes, and two float32 a block of 256.
        embedding = 0 if self.step.lora else self.vocabulary * self.hidden
        return 2 * FP32 * embedding + (2 + 2 * FP32 / 256) * (self.trained - embedding)

    def _reference(self) -> float:
        if self.step.lora or not self.step.group:
            return 0
        tied = self.model.language_model.embed_tokens.weight
        halved = sum(
            p.numel()
            for name, module in self.model.named_modules()
            if isinstance(module, nn.Linear | nn.Conv2d | nn.Conv3d)
            and not name.startswith(CLIP_TOWERS)
            for p in module.parameters(recurse=False)
            if p is not tied
        )
        whole = self.total - sum(_count(self._part(name)) for name in CLIP_TOWERS)
        return FP32 * whole - (FP32 - self.step.width) * halved

    def _sampler(self) -> float:
        if not self.step.group:
            return 0
        step, rows = self.step, self.step.prompts * self.step.group
        products = self.layers * self.products + self.vocabulary * self.hidden
        prompt = -(-step.prompt // 128) * 128
        columns = step.prompts * prompt + rows * step.completion
        own = rows * step.completion * (8 + 8 + 4)  # random numbers, ids, log-probabilities
        logits = rows * self.vocabulary * (step.width + FP32)
        return step.width * (products + 2 * self.layers * self.keys * columns) + own + logits

    # The update -----------------------------------------------------------------------------

    def _update(self) -> dict[str, float]:
        step = self.step
        kept = self.kept_by_a_layer()
        inputs = FP32 * self.hidden * step.tokens
        video = self._projector()
        return {
            "kept by layers": self.layers * (inputs if step.checkpointing else kept),
            "which tokens see which": self._bias(),
            "kept by the projector": 0 if step.checkpointing else video,
            # It waits for that of the embedding, which is the same weight.
            "gradient of the head": 0 if step.lora else FP32 * self.vocabulary * self.hidden,
            "loss, or a layer at work": max(
                self._loss(), self._at_work() + (kept if step.checkpointing else 0)
            ),
        }

    def kept_by_a_layer(self) -> float:
        """What a decoder layer keeps for the backward pass."""
        step, width = self.step, self.step.width
        d, tokens, rows = self.hidden, step.tokens, step.rows
        # Inputs of the norms and what they normed; with the norms frozen, the inputs alone.
        norms = (8 if step.lora else 16) * d
        factors = width * ((6 if step.mixed else 3) * d + 4 * self.inner)
        turned = FP32 * (self.queries + self.keys) + width * self.keys if step.copied_keys else 0
        # Keys and values that completions see, laid side by side, and those of prompts; queries of
        # both, and what is found.
        seen = 2 * rows * (step.prompt + step.completion) + 2 * step.micro_batch * step.prompt
        asked = 2 * rows * step.completion + 2 * step.micro_batch * step.prompt
        keys = self.queries if step.copied_keys else self.keys
        attention = width * (keys * seen + self.queries * asked)
        weights = width * self.products if step.mixed else 0
        return tokens * (norms + factors + turned) + attention + weights

    def _bias(self) -> float:
        """What is added to the scores of completions, once for heads of queries that share keys."""
        step = self.step
        shared = 1 if step.copied_keys else self.config.heads_per_key
        written = step.rows * step.completion if step.group else 0
        return step.width * shared * written * (step.prompt + step.completion)

    def _at_work(self) -> float:
        """Gradients within a layer: of the parts of its MLP, of its input, of its weights."""
        step = self.step
        of_weights = (FP32 + step.width) * self.inner * self.hidden
        return step.tokens * (2 * step.width * self.inner + FP32 * self.hidden) + of_weights

    def _loss(self) -> float:
        """Logits and their gradient, or a chunk of them; and the head in bfloat16."""
        step, width = self.step, self.step.width
        written = step.rows * step.completion
        copy = width * self.vocabulary * self.hidden if step.mixed else 0
        if step.group and step.fused:
            return copy + width * min(_CHUNK, written) * self.vocabulary
        return copy + 2 * width * written * self.vocabulary

    def _projector(self) -> float:
        """What the projector of pictures keeps of a pass, counted on tensors without memory."""
        if self.step.lora:
            return 0
        media, vision = self.config.media, self.config.vision
        patches = (vision.image_size // vision.patch_size) ** 2
        kept: dict[int, int] = {}
        alive: list[torch.Tensor] = []  # whose numbers are not given to others

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            alive.append(tensor)
            kept[tensor.untyped_storage()._cdata] = tensor.untyped_storage().nbytes()
            return tensor

        with FakeTensorMode():
            projector = VideoProjector(vision.hidden_size, self.hidden)
            shape = (self.step.micro_batch, media.num_frames, patches, vision.hidden_size)
            features, mix = torch.empty(shape), torch.empty(shape[0], 3)
            own = {p.untyped_storage()._cdata for p in projector.parameters()}
            with (
                torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
                torch.autocast("cpu", torch.bfloat16, self.step.mixed, cache_enabled=False),
            ):
                projector(features, mix)
            return sum(size for key, size in kept.items() if key not in own)

    # The peak -------------------------------------------------------------------------------

    def optimizer_step(self) -> float:
        """What AdamW holds besides, on a GPU: one number for each of its largest group."""
        if self.step.lora or not self.step.on_gpu or self.step.eight_bit:
            return 0
        return FP32 * _count(self._part("language_model"))

    def sampling(self) -> float:
        """While the prompts of a rollout are encoded and read, all at once and without a gradient.

        What is kept of it is counted as `kept by sampling`.
        """
        step, width, audio, vision = self.step, self.step.width, *self._towers()
        if not step.group:
            return 0
        tokens = step.prompts * step.prompt
        keys = self.layers * self.keys * (FP32 + width)  # turned by positions in float32, values
        read = tokens * (keys + _layer(self.hidden, self.inner, width))
        return max(read, step.prompts * audio, step.prompts * vision)

    def _towers(self) -> tuple[float, float]:
        """What the encoders of a clip's sound and pictures hold."""
        audio, vision, media = self.config.audio, self.config.vision, self.config.media
        patches = media.num_frames * (vision.image_size // vision.patch_size) ** 2
        width = self.step.width
        sound = audio.max_source_positions * _layer(audio.d_model, audio.encoder_ffn_dim, width)
        pictures = patches * _layer(vision.hidden_size, vision.intermediate_size, width)
        return sound, pictures

    def peak(self) -> float:
        """Bytes at the highest point of a step."""
        more = (sum(self.update.values()), self.sampling(), self.optimizer_step())
        return sum(self.always.values()) + max(more)


def _layer(hidden: int, inner: int, width: int) -> float:
    """Bytes a token of a transformer layer that keeps nothing: its stream, and its MLP."""
    return 4 * FP32 * hidden + 3 * width * inner


def _is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear)


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


# The tables ---------------------------------------------------------------------------------

RELEASED = ROOT / "configs" / "r1omni_0.5b" / "model.yaml"
# Files of docs/benchmarks/gpu and the steps that they measured; the SFT target has 42 tokens.
MEASURED: Mapping[str, Step] = {
    "grpo": Step(copied_keys=True),
    "grpo_gathered": Step(fused=False, copied_keys=True),
    "grpo_lora": Step(lora=16, fused=False, copied_keys=True),
    "sft": Step(group=0, completion=42, micro_batch=4, copied_keys=True),
}
# R1-Omni's own batch, and the two stages before it with the targets of EMER.
PAPER = Step(prompts=16, completion=512)
# The least of every number of a step; group 0 is SFT.
LEAST = {"prompts": 1, "micro_batch": 1, "group": 0, "prompt": 1, "completion": 1, "lora": 0}
OVERLAYS: Mapping[str, Step] = {
    "gpu_24gb.yaml": replace(PAPER, checkpointing=True),
    "gpu_24gb.yaml, optimizer_8bit.yaml": replace(PAPER, checkpointing=True, eight_bit=True),
    "gpu_48gb.yaml": PAPER,
    "gpu_80gb.yaml": replace(PAPER, micro_batch=4),
}


def measured() -> str:
    """Predicted peaks beside those of docs/benchmarks/gpu."""
    config = config_from_sizes(RELEASED)
    lines = ["| step | predicted, GiB | measured, GiB | off by |", "|---|---|---|---|"]
    for name, step in MEASURED.items():
        file = ROOT / "docs" / "benchmarks" / "gpu" / f"{name}.json"
        found = json.loads(file.read_text(encoding="utf-8"))["steps"][-1]["peak_gib"]
        peak = Memory(config, step).peak() / GIB
        lines.append(f"| {name} | {peak:.1f} | {found:.1f} | {peak / found - 1:+.0%} |")
    return "\n".join(lines)


def overlays() -> str:
    """What the overlays are predicted to take of R1-Omni's own step."""
    config = config_from_sizes(RELEASED)
    return _columns({name: Memory(config, step) for name, step in OVERLAYS.items()})


def _columns(memories: Mapping[str, Memory]) -> str:
    lines = ["| GiB |" + "".join(f" {name} |" for name in memories)]
    lines.append("|---|" + "---|" * len(memories))
    every = list(memories.values())

    def row(title: str, values: Sequence[float]) -> None:
        lines.append(f"| {title} |" + "".join(f" {value / GIB:.1f} |" for value in values))

    for name in every[0].always:
        row(name, [memory.always[name] for memory in every])
    for name in every[0].update:
        row(f"update: {name}", [memory.update[name] for memory in every])
    row("or, while sampling", [memory.sampling() for memory in every])
    row("or, in the optimizer's step", [memory.optimizer_step() for memory in every])
    row("**peak**", [memory.peak() for memory in every])
    return "\n".join(lines)


def main(args: Sequence[str] | None = None) -> None:
    parser = ScriptParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--sizes", type=model_sizes, default=str(RELEASED), help="sizes of a model, YAML"
    )
    parser.add_argument("--tables", action="store_true", help="the tables of docs/memory.md")
    for name, default in vars(PAPER).items():
        flag = f"--{name.replace('_', '-')}"
        if isinstance(default, bool):
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=default)
        else:
            parser.add_argument(flag, type=int, default=default)
    given = vars(parser.parse_args(args))
    config, tables = given.pop("sizes"), given.pop("tables")
    for name, least in LEAST.items():
        if given[name] < least:
            parser.error(f"--{name.replace('_', '-')} is {given[name]}; it must be {least} or more")
    if given["micro_batch"] > given["prompts"]:
        parser.error(f"--micro-batch {given['micro_batch']} is more than --prompts "
                     f"{given['prompts']}: a pass has no more prompts than a step")  # fmt: skip
    if tables:
        print(f"{measured()}\n\n{overlays()}")
        return
    print(_columns({"this step": Memory(config, Step(**given))}))


if __name__ == "__main__":
    main()
