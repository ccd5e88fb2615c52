"""Sampling one batch ahead, while the update runs (`grpo.overlap_sampling`).

While the policy is updated on batch t, a thread samples the completions of batch t + 1 from the
policy as it was before this update, so they are learned from one rollout later than they were
sampled (one step off policy, as in arXiv 2410.18252). Batch 0 has nothing to be sampled beside: it
is sampled in place and learned from at once. Nothing is sampled ahead beside the update that the
training ends with. Batches, optimizer steps and validations are those of a training without.

A thread reads copies of the weights, and prompts that were read before the update. So a completion
depends on these weights and on its seed, which names the optimizer step it is learned from at, and
not on when the thread runs. It has no part in what ranks tell each other. Rewards are given when
the batch is learned from.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from r1omni.data.batch import Batch
from r1omni.data.ranks import gathered_objects
from r1omni.models.packed import pad_ids
from r1omni.models.sampler import Sampled, SamplerMemory, WritingBeside, begun
from r1omni.models.sampler.writer import Writer
from r1omni.training.batch import RolloutBatch
from r1omni.training.policy import Policy
from r1omni.types import PromptInputs, R1OmniError, Rollout

if TYPE_CHECKING:
    from r1omni.training.grpo import GRPOModule


@dataclass(frozen=True)
class _Waiting:
    """Completions that are not learned from yet.

    Attributes:
        rows: sample and member of each of the N completions.
        sampled: the completions.
        lengths: tokens of the prompt of each sample.
        prompts: encoded, in the order of the rows; None after a resume.
    """

    rows: list[tuple[str, int]]
    sampled: Sampled
    lengths: dict[str, int]
    prompts: PromptInputs | None


class SamplesAhead:
    """Samples for the next batch while a policy is updated, and keeps it for that batch.

    Args:
        policy: that samples, and is updated.
    """

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        # Until the batch has been learned from: an update may be thrown away (`termination.py`).
        self._waiting: _Waiting | None = None
        self._memory: SamplerMemory | None = None

    @contextmanager
    def sampling(self, module: GRPOModule, rollouts: RolloutBatch) -> Iterator[None]:
        """Sample for the next batch for the length of a block, which updates on this one.

        Args:
            module: at the last moment before the update.
            rollouts: what the update learns from.
        """
        config, log = self.policy.config, module.step_log
        step = module.global_step + rollouts.num_updates(config)
        if not config.overlap_sampling or step >= module.trainer.max_steps:
            yield
            self._waiting = None
            return
        with log.timed("generate"):
            batch = module.datamodule.following()
            prompts = module.encoded_prompts(batch)
            lengths, writer = self._begun(prompts, module.seeds(batch, step))
        with WritingBeside(writer) as beside:
            yield
            with log.timed("generate"):
                sampled = beside.result()
        log.add("time/sampling_ahead", beside.seconds)  # beside the others
        ids = [sample.sample_id for sample in batch.samples]
        rows, of_prompts = module.layout.rows(batch.samples), dict(zip(ids, lengths, strict=True))
        self._waiting = _Waiting(rows, sampled, of_prompts, prompts)

    @torch.no_grad()
    def _begun(self, prompts: PromptInputs, seeds: Sequence[int]) -> tuple[list[int], Writer]:
        with self.policy.active() as model:
            if self._memory is None:
                # What is sampled in place on a GPU uses it, too: never at the same time.
                self._memory = model.sampler_memory = SamplerMemory(copy_all=True)
            embedded = model.embed_prompts(prompts)
            size = len(seeds) // len(prompts)
            writer = begun(model, embedded, self.policy.sampling, size, seeds, self._memory)
        return [len(prompt) for prompt in embedded], writer

    def rollout_of(self, module: GRPOModule, batch: Batch) -> Rollout | None:
        """What was sampled ahead for a batch; None where nothing was.

        Raises:
            R1OmniError: it was sampled for another batch.
        """
        waiting = self._waiting
        if waiting is None:
            return None
        rows, prompts, sampled = (
            module.layout.rows(batch.samples), waiting.prompts, waiting.sampled,
        )  # fmt: skip
        if prompts is None or rows != waiting.rows:  # from a checkpoint, maybe of other ranks
            places = {row: place for place, row in enumerate(waiting.rows)}
            if lacking := [name for name, member in rows if (name, member) not in places]:
                raise R1OmniError(
                    f"completions were sampled ahead for another batch than the one that came "
                    f"({lacking[0]} is not in it); resume with the data and the batch size of the "
                    "run, or from an earlier checkpoint"
                )
            sampled = _rows_of(sampled, [places[row] for row in rows], module.device)
            prompts = module.encoded_prompts(batch)
        lengths = tuple(waiting.lengths[sample.sample_id] for sample in batch.samples)
        return self.policy.rollout(prompts, lengths, sampled)

    # Checkpoints --------------------------------------------------------------------------------

    def state(self, trained: Sequence[str]) -> list[dict[str, Any]] | None:
        """What all ranks have sampled ahead; they call this together."""
        waiting = self._waiting
        if waiting is None:
            return None
        sampled = waiting.sampled
        lengths = sampled.mask.sum(dim=1).tolist()
        return gathered_objects(
            {
                "rows": [list(row) for row in waiting.rows],
                "ids": [row[:n].cpu() for row, n in zip(sampled.ids, lengths, strict=True)],
                "logps": [row[:n].cpu() for row, n in zip(sampled.logps, lengths, strict=True)],
                "prompt_lengths": waiting.lengths,
            }
        )

    def load(self, state: list[dict[str, Any]] | None) -> None:
        """Take up what a checkpoint's run had sampled ahead, or nothing.

        Raises:
            R1OmniError: this run samples in place.
        """
        self._waiting = None
        if state is None:
            return
        if not self.policy.config.overlap_sampling:
            raise R1OmniError(
                "the checkpoint has completions that were sampled ahead, which would be lost; "
                "resume with grpo.overlap_sampling, as the run was started"
            )
        rows = [(str(name), int(member)) for part in state for name, member in part["rows"]]
        ids = [row for part in state for row in part["ids"]]
        logps = [row for part in state for row in part["logps"]]
        lengths = {name: n for part in state for name, n in part["prompt_lengths"].items()}
        padded, mask = pad_ids(ids, torch.device("cpu"), self.policy.sampling.pad_id)
        recorded = torch.zeros(mask.shape).masked_scatter(mask, torch.cat(logps))
        self._waiting = _Waiting(rows, Sampled(padded, mask, recorded), lengths, None)


def _rows_of(sampled: Sampled, places: Sequence[int], device: torch.device) -> Sampled:
    """Some completions, padded to the longest of them."""
    longest = int(sampled.mask[list(places)].sum(dim=1).max())

    def of(tensor: Tensor) -> Tensor:
        return tensor[list(places), :longest].to(device)

    return Sampled(of(sampled.ids), of(sampled.mask), of(sampled.logps))
