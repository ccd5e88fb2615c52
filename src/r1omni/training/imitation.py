"""The supervised half of an update with CHORD (`r1omni.ops.chord`): samples of `data.expert`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from r1omni.data.batch import Batch
from r1omni.ops import GRPOLoss, StepTotals, imitation_loss
from r1omni.training.nonfinite import sft_batch, stop_unless_finite

if TYPE_CHECKING:
    from r1omni.training.grpo import GRPOModule


def imitate(module: GRPOModule, totals: StepTotals) -> None:
    """Add the gradient of the supervised term, if the optimizer step has one.

    All ranks call this together; each has its share of the samples, in micro-batches of as many
    prompts as a rollout's. The optimizer step names the draw, so a resumed run goes on with it.

    Args:
        module: within an update, its gradients those of the rollout.
        totals: of the step.
    """
    chord = module.grpo.chord
    mu = chord.mu(module.global_step)
    if chord.mu_peak:
        module.step_log.add("chord/mu", mu)
    if not mu:
        return
    stream = ("expert", module.grpo.seed, module.global_step)
    batch = module.datamodule.draw_expert(chord.num_samples, stream)
    _, mask = module.targets(batch)
    num_tokens = float(module.sum_over_ranks(mask.sum())) / totals.world_size
    size = module.grpo.micro_batch_size or len(batch)
    for start in range(0, len(batch), size):
        part = Batch(batch.samples[start : start + size], batch.media[start : start + size])
        prompts, (ids, mask) = module.encoded_prompts(part), module.targets(part)
        logps, _ = module.model.completion_logps(prompts, ids, mask)
        term = imitation_loss(logps, mask, num_tokens, chord.phi)
        names = [sample.sample_id for sample in part.samples]
        kept = partial(sft_batch, names, prompts, ids, mask)
        stop_unless_finite(module, "loss on data.expert", term, kept)
        module.manual_backward(mu * term)
        figures = {"chord/sft_loss": term.detach()}
        result = GRPOLoss(mu * term, figures, step_metrics=frozenset(figures))
        module.step_log.add_loss(result, mask, totals)
