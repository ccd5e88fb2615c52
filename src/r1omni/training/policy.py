"""A policy: what completes prompts, and how probable it finds completions.

The model that is trained is one; so is each of the references it is held to (`reference.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from r1omni.models.omni import OmniModel
from r1omni.models.pipeline import R1Omni
from r1omni.models.sampler import Sampled, Sampling, generate
from r1omni.training.grpo_config import GRPOConfig
from r1omni.types import PromptInputs, Rollout


class Policy:
    """A model with its tokenizer and the sampler (`r1omni.models.sampler`).

    A sharded one is asked by all ranks together, for `sample` inside `parallelize.gathered`.

    Args:
        omni: model and tokenizer.
        config: temperature and length of completions, and the prompts of a micro-batch.
        model: takes the place of omni's.
    """

    def __init__(self, omni: R1Omni, config: GRPOConfig, model: OmniModel | None = None) -> None:
        self.omni = omni
        self.config = config
        self.model = omni.model if model is None else model

    @contextmanager
    def active(self) -> Iterator[OmniModel]:
        """The model with the policy's weights, for the length of a block."""
        yield self.model

    @property
    def sampling(self) -> Sampling:
        """How completions are drawn."""
        return self.omni.sampling(self.config.max_new_tokens, self.config.temperature)

    @torch.no_grad()
    def sample(self, prompts: PromptInputs, seeds: Sequence[int]) -> Rollout:
        """Completions of every prompt, each from the random stream of its own seed.

        Args:
            prompts: B prompts.
            seeds: N = B * G seeds of `r1omni.streams.stream_seed`, group members side by side.
        """
        size = len(seeds) // len(prompts)
        with self.active() as model:
            embedded = model.embed_prompts(prompts)
            sampled = generate(model, embedded, self.sampling, group_size=size, seeds=seeds)
        return self.rollout(prompts, tuple(map(len, embedded)), sampled)

    def rollout(self, prompts: PromptInputs, lengths: tuple[int, ...], sampled: Sampled) -> Rollout:
        """Completions of prompts of these lengths in tokens."""
        texts, size = tuple(self.omni.completions(sampled)[0]), len(sampled.ids) // len(prompts)
        drawn = sampled.ids, sampled.mask, sampled.logps, texts, size
        return Rollout(prompts, *drawn, self.sampling.end_ids, lengths)

    def logps(self, rollout: Rollout) -> Tensor:
        """Log-probabilities of the completions, float32 [N, C], without a gradient."""
        return self._scored(rollout, with_entropy=False)[0]

    def entropies(self, rollout: Rollout) -> Tensor:
        """Entropies of what predicts each token, in nats, float32 [N, C], without a gradient."""
        return self._scored(rollout, with_entropy=True)[1]

    @torch.no_grad()
    def _scored(self, rollout: Rollout, *, with_entropy: bool) -> list[Tensor]:
        """As many prompts at a time as in a micro-batch of the update."""
        size, members = self.config.micro_batch_size or len(rollout.prompts), rollout.group_size
        parts = []
        with self.active() as model:
            embedded = model.embed_prompts(rollout.prompts)
            for start in range(0, len(embedded), size):
                rows = slice(start * members, (start + size) * members)
                scored = model.completion_logps(
                    embedded[start : start + size],
                    rollout.completion_ids[rows], rollout.mask[rows],
                    temperature=self.config.temperature, with_entropy=with_entropy,
                )  # fmt: skip
                parts.append([tensor for tensor in scored if tensor is not None])
        return [torch.cat(column) for column in zip(*parts, strict=True)]
