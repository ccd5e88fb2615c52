"""The term of the loss that has explanations depend on what they describe.

For a token t of a completion that describes a medium m, with x all that the prompt holds and x \\ m
the same without m (silence for the sound, black frames for the picture), in nats,

    gap_{t,m} = stopgrad(log p(t | x)) - log p(t | x \\ m)
    term      = weight / E * sum over evidence (t, m) of max(0, margin - gap_{t,m})

Evidence are the pairs (t, m) of completions with a positive advantage, and E is their number in the
optimizer step, over all micro-batches and ranks. p is the policy.

The gradient goes into the masked side alone: what a good completion says of a medium becomes less
likely where that medium is missing, until the margin is reached. So the policy is trained on the
very inputs that evaluation asks about (muted, blanked). Into the full side it would raise whatever
the policy chose to say below the margin, true or not: the mean of grad log p(t | x) over words
drawn from p is 0, so that it teaches nothing of the medium. What is said with the medium is left to
the advantages.

The two papers that the idea is from do otherwise. OPPO (arXiv 2606.25325) compares the policy on
the full and the masked input by a KL at evidence tokens. MAPO (arXiv 2605.27741) concentrates the
policy gradient on tokens whose entropy with and without the sound differs. Here it is the
probability of the token that was sampled, and a margin bounds it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from r1omni.ops.step_totals import StepTotals
from r1omni.options import Conditions, OnlyWith, Ranges, at_least, check_options
from r1omni.types import Medium, UsageError

_WITH_A_WEIGHT = OnlyWith("weight", "above 0", lambda c: c.weight > 0)


@dataclass(frozen=True)
class MaskedModality:
    """How much a description should depend on the medium that it describes.

    Attributes:
        weight: of the term in the loss; 0 computes nothing of it.
        margin: nats by which the medium should raise the log-probability of a word that describes
            it.
        modalities: which media are taken away, each by itself.
        every: optimizer steps from one that has the term to the next; the others cost nothing.

    Raises:
        UsageError: a number out of range, an unknown medium or one named twice, or an option that
            has no effect.
    """

    weight: float = 0.0
    margin: float = 1.0
    modalities: list[Medium] = field(default_factory=lambda: ["video", "audio"])
    every: int = 1

    RANGES: ClassVar[Ranges] = {"weight": at_least(0), "margin": at_least(0), "every": at_least(1)}
    ONLY_WITH: ClassVar[Conditions] = dict.fromkeys(
        ("margin", "modalities", "every"), _WITH_A_WEIGHT
    )

    def is_due(self, step: int) -> bool:
        """Whether an optimizer step, counted from 0, has the term."""
        return self.weight > 0 and step % self.every == 0

    def __post_init__(self) -> None:
        check_options(self, "grpo.masked_modality.")
        if len(set(self.modalities)) < len(self.modalities):
            raise UsageError(
                f"grpo.masked_modality.modalities is {self.modalities}; name each medium once"
            )


def masked_modality_term(
    logps: Tensor,
    masked_logps: Tensor,
    evidence: Tensor,
    config: MaskedModality,
    totals: StepTotals,
) -> tuple[Tensor, dict[str, Tensor]]:
    """What a part of an optimizer step adds to the step's loss.

    Args:
        logps: float [N, C], log-probabilities of the sampled tokens under the policy; no gradient
            goes into them.
        masked_logps: float [N, C, M], those without each of M media.
        evidence: bool [N, C, M], the tokens that describe each medium, of completions that are to
            be learned from; what stands elsewhere, NaN included, has no effect.
        config: weight and margin.
        totals: counts of the whole step.

    Returns:
        The term, 0-dimensional and differentiable in `masked_logps`, and detached figures that add
        up over the parts: the term itself, the mean gap in nats, the share of evidence below the
        margin, and the number of pairs of evidence in the step.

    Raises:
        UsageError: shapes that do not fit.
    """
    if evidence.shape != masked_logps.shape or evidence.shape[:2] != logps.shape:
        raise UsageError(
            f"evidence has shape {list(evidence.shape)} and masked_logps "
            f"{list(masked_logps.shape)}; expected [N, C, M] with logps' {list(logps.shape)}"
        )
    own = torch.where(evidence, logps.detach()[..., None], 0.0)
    gap = own - torch.where(evidence, masked_logps.to(own.dtype), 0.0)
    missing = torch.where(evidence, (config.margin - gap).relu(), 0.0)
    divisor = totals.evidence_divisor
    term = config.weight * missing.sum() / divisor
    figures = {
        "loss": term,
        "gap": gap.sum() / divisor,
        "below_margin": (missing > 0).sum() / divisor,
        "tokens": evidence.sum() * totals.world_size,
    }
    return term, {f"masked_modality/{name}": value.detach() for name, value in figures.items()}
