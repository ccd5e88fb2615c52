"""The step that every arm makes: one model, the same prompts, completions and rewards.

Weights are random and clips are noise: what a step costs depends on sizes alone. Every arm samples
its completions, all of the full length, and then goes on with the same given ones, so that all arms
have the same loss and the same gradient, and no arm is spared by an early end.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "scripts" / "gpu_parts")]

import noise  # noqa: E402
import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from r1omni.models.checkpoint import load_tokenizers  # noqa: E402
from r1omni.models.config import OmniConfig  # noqa: E402
from r1omni.models.folders import find_model_folder  # noqa: E402
from r1omni.models.omni import CLIP_TOWERS, OmniModel  # noqa: E402
from r1omni.models.pipeline import R1Omni  # noqa: E402
from r1omni.text.prompt import encode_prompt  # noqa: E402
from r1omni.types import ClipFeatures, ClipMedia, PromptInputs, Sample  # noqa: E402

Size = Literal["mini", "middle", "0.5b"]
SIZES: tuple[Size, ...] = get_args(Size)
# Words that a longer prompt's instruction has at its end.
_WORD = " again"
LEARNING_RATE = 1e-6
BETA = 0.04
MAX_GRAD_NORM = 1.0


@dataclass(frozen=True)
class Case:
    """The sizes of a step.

    Attributes:
        size: of the model.
        prompts: B, of a step.
        group_size: G.
        completion: C, tokens of each completion.
        more_words: by which the instruction is longer than the usual one.
        device: "cpu" (float32) or "cuda" (bfloat16 autocast).
    """

    size: Size
    prompts: int = 1
    group_size: int = 8
    completion: int = 64
    more_words: int = 0
    device: str = "cpu"

    @property
    def rows(self) -> int:
        """N = B * G."""
        return self.prompts * self.group_size

    def autocast(self) -> Any:
        """What the step computes in."""
        return torch.autocast(self.device, torch.bfloat16, enabled=self.device == "cuda")


def instruction(case: Case) -> str:
    """What every prompt of a case asks."""
    return noise.R1OMNI_INSTRUCTION + _WORD * case.more_words


def prompt_length(case: Case, config: OmniConfig, tokenizers: Path) -> int:
    """P of a case, by a model folder of any size: those of `noise` share their tokenizers."""
    tokenizer, _ = load_tokenizers(find_model_folder(tokenizers))
    return _with_media(encode_prompt(tokenizer, instruction(case), "video_audio"), config)


def _with_media(ids: Tensor, config: OmniConfig) -> int:
    return int((ids >= 0).sum()) + config.num_video_tokens + config.num_audio_tokens


def by_place(completions: list[Any], **_: Any) -> list[float]:
    """Rewards that depend on nothing but the row: every third completion is right."""
    return [float(place % 3 == 0) for place in range(len(completions))]


class Materials:
    """Model, prompts and completions of a case.

    Args:
        case: the sizes.
        folder: model folder of `noise.model_folder`.
        with_features: clips are given as the towers' features, not as frames and spectrograms.
        omni: the model, where it is loaded already.
    """

    def __init__(
        self, case: Case, folder: Path, with_features: bool, omni: R1Omni | None = None
    ) -> None:
        self.case, self.folder = case, folder
        self.omni = omni or R1Omni.from_pretrained(folder, device=case.device)
        self.model.eval()
        self.clips: list[ClipMedia | ClipFeatures] = [
            noise.noise(self.model.config, index) for index in range(case.prompts)
        ]
        if with_features:
            with torch.no_grad(), case.autocast():
                self.clips = list(self.model.encode_media(self.clips))

    @property
    def model(self) -> OmniModel:
        return self.omni.model

    @cached_property
    def samples(self) -> list[Sample]:
        """One a prompt."""
        return [
            replace(sample, instruction=instruction(self.case))
            for sample in noise.samples(self.case.prompts)
        ]

    @cached_property
    def prompts(self) -> PromptInputs:
        """B prompts about the clips."""
        made = [
            self.omni.prompt(clip, sample.instruction, "video_audio")  # type: ignore[arg-type]
            for clip, sample in zip(self.clips, self.samples, strict=True)
        ]
        return PromptInputs(
            tuple(ids for prompt in made for ids in prompt.token_ids),
            tuple(ids for prompt in made for ids in prompt.instruction_ids),
            tuple(self.clips),
        )

    @cached_property
    def prompt_length(self) -> int:
        """P, tokens of a prompt, media tokens included; all have the same."""
        return _with_media(self.prompts.token_ids[0], self.model.config)

    @cached_property
    def completions(self) -> Tensor:
        """Long [N, C], random tokens; none is the last of the vocabulary."""
        generator = torch.Generator().manual_seed(7)
        shape = (self.case.rows, self.case.completion)
        vocabulary = self.model.config.language.vocab_size
        return torch.randint(0, vocabulary - 1, shape, generator=generator).to(self.case.device)


class Phases:
    """Seconds by phase of one step, and what else is known of it.

    Args:
        device: whose work is waited for.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        self.seconds: dict[str, float] = {}

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Add the seconds of a block to a phase; what is timed inside it is its own."""
        synchronize(self.device)
        started, inner = time.perf_counter(), sum(self.seconds.values())
        yield
        synchronize(self.device)
        spent = time.perf_counter() - started - (sum(self.seconds.values()) - inner)
        self.seconds[name] = self.seconds.get(name, 0.0) + spent

    @contextmanager
    def towers(self, *models: OmniModel) -> Iterator[None]:
        """Time what towers for clips take within a block, as the phase "towers"."""
        started = 0.0

        def before(*_: Any) -> None:
            nonlocal started
            synchronize(self.device)
            started = time.perf_counter()

        def after(*_: Any) -> None:
            synchronize(self.device)
            spent = time.perf_counter() - started
            self.seconds["towers"] = self.seconds.get("towers", 0.0) + spent

        hooks = []
        for model in models:
            for name in CLIP_TOWERS:
                tower: nn.Module = getattr(model, name)
                hooks += [tower.register_forward_pre_hook(before)]
                hooks += [tower.register_forward_hook(after)]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()


def synchronize(device: str) -> None:
    """Wait for the GPU: its work is only queued when a call returns."""
    if device == "cuda":
        torch.cuda.synchronize()
