"""Which tokens of a rollout describe a medium, and what its clips are without it.

The masked-modality term of the loss (`r1omni.ops.masked_modality`) is made of both: evidence, the
tokens of a good completion that say what the picture shows or how the voice sounds, and clips where
that medium is black frames or silence, as in evaluation under blanked and muted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from r1omni.media.taken_away import is_given, without
from r1omni.text.cues import cue_spans
from r1omni.text.prompt import token_spans
from r1omni.text.tags import parse_completion
from r1omni.training.batch import RolloutBatch
from r1omni.training.policy import Policy
from r1omni.training.ranks import RankLayout
from r1omni.types import ClipFeatures, PromptInputs

# Siblings that earn the same differ by roundoff of their rewards (1e-7), over a standard deviation
# of 0 plus 1e-4: such an advantage is none.
_POSITIVE = 1e-3


def with_evidence(
    step: RolloutBatch, policy: Policy, neutral: ClipFeatures, layout: RankLayout
) -> RolloutBatch:
    """The step with its evidence and with its clips as they are without each medium.

    All ranks call this together. A medium that no rank has any evidence of is left out, so that no
    pass is spent on it.

    Args:
        step: what an optimizer step learns from, with advantages.
        policy: what is trained, with the options of the run.
        neutral: the features of black frames and of silence.
        layout: of the ranks.
    """
    media = policy.config.masked_modality.modalities
    evidence = evidence_tokens(step, policy.omni.tokenizer, media)
    counts = layout.gather(evidence.sum(dim=(0, 1))).sum(dim=0).tolist()
    described = [index for index, count in enumerate(counts) if count]
    masked = tuple(_without(step.rollout.prompts, media[index], neutral) for index in described)
    return replace(step, evidence=evidence[..., described], masked_media=masked)


def evidence_tokens(
    batch: RolloutBatch, tokenizer: PreTrainedTokenizerBase, media: Sequence[str]
) -> Tensor:
    """bool [N, C, M]: the tokens that describe each of M media.

    They are of completions with a positive advantage, that are learned from, and of media that the
    clip has itself: of one that was not asked for, or that silence stands in for, nothing is
    evidence. Whether what they say is true is not asked; the advantage stands for that.

    Args:
        batch: with advantages.
        tokenizer: of the language model.
        media: "video" and "audio", or one of them.
    """
    rollout = batch.rollout
    marks = torch.zeros(*rollout.mask.shape, len(media), dtype=torch.bool)
    ended, lengths = rollout.ended.tolist(), rollout.mask.sum(dim=1).tolist()
    for row in torch.nonzero(batch.advantages > _POSITIVE).flatten().tolist():
        clip = rollout.prompts.media[row // rollout.group_size]
        assert isinstance(clip, ClipFeatures)  # a rollout is of encoded prompts
        given = [medium for medium in media if is_given(clip, medium)]
        found = [span for span in described(rollout.texts[row], ended[row]) if span[0] in given]
        if not found:
            continue
        ids = rollout.completion_ids[row, : lengths[row]].tolist()
        places = token_spans(tokenizer, ids, rollout.end_ids)
        assert places[-1][1] == len(rollout.texts[row])  # or spans would name other tokens
        for medium, start, end in found:
            touched = [
                at for at, (first, last) in enumerate(places) if first < end and start < last
            ]
            marks[row, touched, media.index(medium)] = True
    return marks.to(rollout.mask.device) & batch.loss_mask[..., None]


def described(text: str, ended: bool) -> list[tuple[str, int, int]]:
    """Where the reasoning of a completion describes a medium: medium, start and end in the text.

    A completion that is not of the answer format has no reasoning, as for every reader of it.

    Args:
        text: a completion with its special tokens, but without the end token.
        ended: whether an end token closed it.
    """
    reasoning = parse_completion(text).reasoning if ended else ""
    if not reasoning:
        return []
    start = text.index(reasoning, text.index("<think>") + len("<think>"))
    return [(medium, start + first, start + last) for medium, first, last in cue_spans(reasoning)]


def _without(prompts: PromptInputs, medium: str, neutral: ClipFeatures) -> tuple[ClipFeatures, ...]:
    """The clips of prompts, without a medium."""
    clips = []
    for clip in prompts.media:
        assert isinstance(clip, ClipFeatures)
        clips.append(without(clip, medium, neutral))
    return tuple(clips)
