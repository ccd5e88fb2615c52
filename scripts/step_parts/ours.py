"""Our own step under Lightning's Trainer, and the same with one of its parts switched off.

Where the package has no switch for a part, the plain way is written here and put in its place, for
the whole process.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import lightning as L
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from step_parts.watch import Watch
from step_parts.work import BETA, LEARNING_RATE, MAX_GRAD_NORM, ROOT, Case, Materials, by_place

sys.path.append(str(ROOT / "scripts"))

import noise
from benchmark_sampling import Work, loop

from r1omni import kernels
from r1omni.data.batch import Batch, collate
from r1omni.models.flex import Attention
from r1omni.models.omni import OmniModel
from r1omni.models.packed import pack, pad_embeds
from r1omni.models.sampler import Sampled, Sampling, beside, generate
from r1omni.ops import GRPOLossConfig, selective_logprob, selective_logprob_and_entropy
from r1omni.rewards import RewardSpec
from r1omni.training import GRPOConfig, GRPOModule, OptimizerConfig
from r1omni.training import module as training_module
from r1omni.training import policy as training_policy
from r1omni.types import PromptInputs

Patches = Iterator[None]


SAMPLED_AHEAD = "sampled_ahead"


class _Data(noise.NoiseData):
    """The same prompts at every step."""

    def __init__(self, materials: Materials, num_steps: int) -> None:
        super().__init__(materials.model.config, materials.case.prompts, num_steps)
        self.pairs = list(zip(materials.samples, materials.clips, strict=True)) * num_steps

    def setup(self, stage: str) -> None:
        samples = [sample for sample, _ in self.pairs]
        self.samples |= {"train": [samples], "val": [], "expert": []}

    def train_dataloader(self) -> DataLoader[Batch]:
        pairs: Any = self.pairs
        return DataLoader(pairs, batch_size=self.loader.batch_size, collate_fn=collate)

    def following(self) -> Batch:
        return collate(self.pairs[: self.loader.batch_size])


class _Steps(L.Callback):
    """Tells the watch when a step begins and ends; the first `unwatched` are not looked at."""

    def __init__(self, watch: Watch, unwatched: int) -> None:
        self.watch = watch
        self.unwatched = unwatched

    def on_train_batch_start(self, trainer: L.Trainer, module: Any, batch: Any, index: int) -> None:
        if index >= self.unwatched:
            self.watch.begin()

    def on_train_batch_end(
        self, trainer: L.Trainer, module: Any, outputs: Any, batch: Any, index: int
    ) -> None:
        if index < self.unwatched:
            return
        named = {"generate": "sampling"}
        found = {name: float(value) for name, value in trainer.callback_metrics.items()}
        seconds = {
            named.get(name[5:], name[5:]): value
            for name, value in found.items()
            if name.startswith("time/")
        }
        seconds.pop("sampling_ahead", None)  # beside the update
        # Clips are encoded while sampling is timed.
        seconds["sampling"] -= self.watch.phases.seconds.get("towers", 0.0)
        self.watch.phases.seconds |= seconds
        self.watch.end({name: found[name] for name in ("loss", "grad_norm")})


def run(case: Case, folder: Path, switched: str, watch: Watch) -> dict[str, Any]:
    """The steps that a watch asks for, with a part switched off or put in another's place, or "".

    Returns:
        what the step was made of.
    """
    fused = {"fused_always": "always", "fused_never": "never", "full_logits": "never"}
    grpo = GRPOConfig(
        group_size=case.group_size, max_new_tokens=case.completion, log_completions_every=0,
        rewards=[RewardSpec(f"{by_place.__module__}:{by_place.__name__}")],
        max_grad_norm=MAX_GRAD_NORM, loss=GRPOLossConfig(beta=BETA),
        fused_loss=fused.get(switched, "auto"),  # type: ignore[arg-type]
        overlap_sampling=switched == SAMPLED_AHEAD,
    )  # fmt: skip
    rate = OptimizerConfig(LEARNING_RATE, schedule="constant", warmup_ratio=0.0)
    attention: Attention = "flex" if switched == "flex" else "sdpa"
    module = GRPOModule(str(folder), grpo=grpo, optimizer=rate, attention=attention)
    module.omni.end_ids = ()
    module.model.to(case.device)
    materials = Materials(case, folder, switched != "towers_each_step", module.omni)
    sampled_as = module.policy.rollout

    def sampled_then_given(*sampled: Any) -> Any:
        rollout = sampled_as(*sampled)
        assert rollout.completion_ids.shape == materials.completions.shape
        return replace(rollout, completion_ids=materials.completions)

    module.policy.rollout = sampled_then_given  # type: ignore[method-assign]
    unwatched = int(switched == SAMPLED_AHEAD)
    num_steps = watch.num_steps + unwatched
    trainer = L.Trainer(
        accelerator="gpu" if case.device == "cuda" else "cpu", devices=1, logger=False,
        precision="bf16-mixed" if case.device == "cuda" else "32-true",
        max_steps=num_steps, max_epochs=1, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, use_distributed_sampler=False,
        callbacks=[_Steps(watch, unwatched)], default_root_dir=folder.parent,
    )  # fmt: skip
    watch.models = (module.model,)
    with SWITCHES[switched]() if switched in SWITCHES else ExitStack() as stack:
        if unwatched:
            stack.enter_context(always_beside(module, watch))
        trainer.fit(module, _Data(materials, num_steps))
    return {"prompt_tokens": materials.prompt_length}


# Sampling beside the update --------------------------------------------------------------------


@contextmanager
def always_beside(module: GRPOModule, watch: Watch) -> Patches:
    """Every watched step updates on what was sampled before, and samples for the next meanwhile.

    The first step samples and learns nothing, so that the next one begins with the weights that
    the other arms have. Where operations are counted, which is done in one thread, sampling comes
    before the update.
    """
    update, given = module.update, module.policy.rollout

    def but_at_first(rollouts: Any, step: Any) -> None:
        if hasattr(watch, "kind"):
            update(rollouts, step)

    recorded: list[Tensor] = []

    def as_recorded(*sampled: Any) -> Any:
        rollout = given(*sampled)
        if not recorded:
            recorded.append(module.policy.logps(rollout))
        return replace(rollout, logps=recorded[0])

    def pool(*words: Any, **named: Any) -> Any:
        is_counted = getattr(watch, "kind", "warm") in ("counts", "operations")
        return _AtOnce() if is_counted else ThreadPoolExecutor(*words, **named)

    with (
        patch.object(module, "update", but_at_first),
        patch.object(module.policy, "rollout", as_recorded),
        patch.object(beside, "ThreadPoolExecutor", pool),
    ):
        yield


class _AtOnce(Executor):
    """Work is done when it is submitted."""

    def submit(self, work: Callable[..., Any], /, *given: Any, **named: Any) -> Any:
        future: Future[Any] = Future()
        future.set_result(work(*given, **named))
        return future


# Parts switched off ---------------------------------------------------------------------------


@contextmanager
def library_cache() -> Patches:
    """Sampling by the library's forward pass, its cache copied at every token."""

    def by_library(
        model: OmniModel, prompts: Sequence[Tensor], sampling: Sampling, group_size: int, seeds: Any
    ) -> Sampled:
        length = sampling.max_new_tokens
        ids = loop(Work(model, None, list(prompts), length, ExitStack, group_size))
        return Sampled(ids, torch.ones_like(ids, dtype=torch.bool), torch.zeros(ids.shape).to(ids))

    with patch.object(training_policy, "generate", by_library):
        yield


@contextmanager
def prompt_per_completion() -> Patches:
    """Every completion reads a prompt of its own, in sampling and in scoring."""

    def alone(
        model: OmniModel, prompts: Sequence[Tensor], sampling: Sampling, group_size: int, seeds: Any
    ) -> Sampled:
        return generate(model, _repeated(prompts, group_size), sampling, seeds=seeds)

    def predicting(self: OmniModel, prompts: Any, ids: Tensor, mask: Tensor) -> Any:
        embedded = self._embedded(prompts) if isinstance(prompts, PromptInputs) else prompts
        rows = _repeated(embedded, len(mask) // len(embedded))
        packed = pack(rows, self.embed_tokens(ids[mask]), mask, self.config.heads_per_key)
        return packed.predicting(self._hidden(packed.embedded, packed.rows)), ids[mask]

    with (
        patch.object(training_policy, "generate", alone),
        patch.object(OmniModel, "_predicting", predicting),
    ):
        yield


@contextmanager
def plain_rows() -> Patches:
    """Scoring over padded rows of a prompt and one completion, the head at the completion."""

    def predicting(self: OmniModel, prompts: Any, ids: Tensor, mask: Tensor) -> Any:
        embedded = self._embedded(prompts) if isinstance(prompts, PromptInputs) else prompts
        members = len(mask) // len(embedded)
        lengths = mask.sum(dim=1).tolist()
        starts = [len(embedded[row // members]) - 1 for row in range(len(mask))]
        rows = [
            torch.cat([embedded[row // members], self.embed_tokens(ids[row, :length])])
            for row, length in enumerate(lengths)
        ]
        hidden = self._hidden(pad_embeds(rows))
        places = enumerate(zip(starts, lengths, strict=True))
        read = [hidden[row, start : start + length] for row, (start, length) in places]
        return torch.cat(read), ids[mask]

    with patch.object(OmniModel, "_predicting", predicting):
        yield


@contextmanager
def full_logits() -> Patches:
    """Scoring makes the logits of every token, those of prompts too."""

    def completion_logps(
        self: OmniModel, prompts: Any, completion_ids: Tensor, mask: Tensor, *,
        temperature: float = 1.0, with_entropy: bool = False,
    ) -> tuple[Tensor, Tensor | None]:  # fmt: skip
        embedded = self._embedded(prompts) if isinstance(prompts, PromptInputs) else prompts
        ids = completion_ids[mask]
        packed = pack(embedded, self.embed_tokens(ids), mask, self.config.heads_per_key)
        logits = self.lm_head(self._hidden(packed.embedded, packed.rows))
        score = selective_logprob_and_entropy if with_entropy else selective_logprob
        found = score(packed.predicting(logits), ids, temperature)
        blank = torch.zeros(mask.shape, dtype=torch.float32, device=mask.device)
        parts = [blank.masked_scatter(mask, x) for x in (found if with_entropy else (found,))]
        return parts[0], parts[1] if with_entropy else None

    with patch.object(OmniModel, "completion_logps", completion_logps):
        yield


@contextmanager
def memory_given_back() -> Patches:
    """On a CPU, freed memory goes back to the kernel, and is had from it anew."""
    with patch.object(training_module, "keep_freed_memory", lambda device: None):
        yield


@contextmanager
def without_graphs() -> Patches:
    """On CUDA, every operation of every token is started by the host."""

    def without(*given: Any, **named: Any) -> Sampled:
        model, prompts, sampling = given
        return generate(model, prompts, replace(sampling, cuda_graphs=False), **named)

    with patch.object(training_policy, "generate", without):
        yield


def _repeated(rows: Sequence[Tensor], times: int) -> list[Tensor]:
    return [row for row in rows for _ in range(times)]


SWITCHES: dict[str, Callable[[], Any]] = {
    "library_cache": library_cache,
    "prompt_per_completion": prompt_per_completion,
    "plain_rows": plain_rows,
    "full_logits": full_logits,
    "memory_given_back": memory_given_back,
    "without_triton": lambda: kernels.use("torch"),
    "without_graphs": without_graphs,
}
