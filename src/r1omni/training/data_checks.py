"""Whether samples can be trained on: what would stop a run, or make it vain, is found at setup."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache, partial

from lightning.pytorch.utilities import rank_zero_only

from r1omni.data import EmotionDataModule
from r1omni.judging.questions import needed_of_sample
from r1omni.models.pipeline import R1Omni
from r1omni.rewards import RewardSpec, get_reward, needs_labels
from r1omni.rewards.balanced_accuracy import balanced_accuracy
from r1omni.rewards.judge import judge
from r1omni.rewards.spec import asks_for
from r1omni.text.emotions import EVERY_CLASS
from r1omni.text.prompt import encode_prompt, encode_target
from r1omni.training.advantages import reference_of
from r1omni.types import NUM_EXAMPLES, Modality, Sample, UsageError

_logger = logging.getLogger(__name__)


def check_targets(
    data: EmotionDataModule,
    omni: R1Omni,
    max_target_tokens: int,
    split: str = "train",
    limited_by: str = "max_target_tokens",
) -> None:
    """Refuse training samples without a target, or with one that is too long.

    Args:
        data: set up.
        omni: tokenizer, and how many tokens can be read.
        max_target_tokens: longest target.
        split: which samples.
        limited_by: the option that is the limit, for the message.

    Raises:
        UsageError: naming the first of them with their data set, and how many there are.
    """
    samples = _trained(data, split)
    bare = [(place, s) for place, s in samples if s.target is None]
    if bare:
        raise UsageError(
            f"data.{split}: {_some(bare, samples)} have no target text; supervised training needs "
            "a label or a reasoning for every sample: complete these rows, or take them out"
        )
    context = omni.model.config.language.max_position_embeddings
    num_prompt_tokens = lru_cache(partial(_num_prompt_tokens, omni))
    long = []
    for place, sample in samples:
        target = str(sample.target)
        room = context - num_prompt_tokens(sample.instruction, sample.modality)
        # No token is shorter than a byte, so that most texts need not be tokenized.
        if len(target.encode()) < min(max_target_tokens, room):
            continue
        tokens = len(encode_target(omni.tokenizer, target))
        if tokens > max_target_tokens:
            long.append((f"{place}, {tokens:,} tokens", sample))
        elif tokens > room:
            raise UsageError(
                f"data.{split}: prompt and target of {sample.sample_id} ({place}) take more "
                f"than the {context:,} tokens that the model can read; shorten the text"
            )
    if long:
        raise UsageError(
            f"data.{split}: {_some(long, samples)} have a target of more than "
            f"{max_target_tokens:,} tokens; shorten them, or raise model.init_args.{limited_by}, "
            "which costs memory and time"
        )


def _num_prompt_tokens(omni: R1Omni, instruction: str, modality: Modality) -> int:
    config = omni.model.config
    media = config.num_video_tokens * ("video" in modality)
    media += config.num_audio_tokens * ("audio" in modality)
    return len(encode_prompt(omni.tokenizer, instruction, modality)) + media


def check_labels(data: EmotionDataModule, rewards: Sequence[RewardSpec]) -> None:
    """Refuse training samples of which none has a label, or one that a reward does not know.

    Raises:
        UsageError: naming the first of them with their data set and the rewards, or the classes
            that are not in `class_counts`, with the counts of the training samples; or no sample
            has what a reward compares the reasoning with.
    """
    _check_class_counts(data, rewards)
    _check_references(data, rewards)
    _check_judge(data, rewards)
    needing = [spec.name for spec in rewards if spec.weight and needs_labels(spec.name)]
    samples = _trained(data)
    bare = [(place, s) for place, s in samples if s.label is None and not s.open_labels]
    if not needing or not bare:
        return
    found = f"data.train: {_some(bare, samples)} have no label, which {', '.join(needing)} needs"
    if len(bare) == len(samples):
        raise UsageError(f"{found}; give labels, or rewards that need none")
    _warn(f"{found}: these say nothing of them")


def _check_references(data: EmotionDataModule, rewards: Sequence[RewardSpec]) -> None:
    """A reward that no sample has a reference for would never say anything."""
    for spec in rewards:
        if not spec.weight or not asks_for(spec, "references", needed=True):
            continue
        by_truth = spec.options.get("against") == "known_cues"
        if not any(s.cues if by_truth else reference_of(s) for _, s in _trained(data)):
            lacking = (
                "known cues (cues.jsonl)" if by_truth else "a reasoning or caption to compare with"
            )
            raise UsageError(
                f"data.train: no sample has {lacking}, which {spec.name} needs; train on such "
                "clips as well (emer, humanomni with captions, or own with the column reasoning), "
                "or leave the reward out"
            )
        if by_truth:
            _warn(
                f"{spec.name} is paid by what clips are known to show (cues.jsonl), by which "
                "evaluation measures explanations: say so beside the figures"
            )


def _check_judge(data: EmotionDataModule, rewards: Sequence[RewardSpec]) -> None:
    """A judge that is shown what no sample has would never be asked."""
    for spec in rewards:
        if not spec.weight or get_reward(spec.name) is not judge:
            continue
        known = {
            "label": lambda sample: sample.label,
            "open_labels": lambda sample: sample.open_labels,
            "reference": reference_of,
            "modality": lambda sample: sample.modality,
        }
        for name in needed_of_sample(spec.options["judge"]["template"]):
            if not any(known[name](sample) for _, sample in _trained(data)):
                raise UsageError(
                    f"data.train: no sample has what {{{name}}} in the template of {spec.name} "
                    "stands for, so the judge would never be asked; take it out of the template, "
                    "or train on clips that have it"
                )


def _check_class_counts(data: EmotionDataModule, rewards: Sequence[RewardSpec]) -> None:
    """Counts that are written beside the data they count: a class they lack would end the run."""
    counted = Counter(sample.label for _, sample in _trained(data) if sample.label is not None)
    for spec in rewards:
        if "class_counts" not in spec.options or get_reward(spec.name) is not balanced_accuracy:
            continue
        known = {EVERY_CLASS.counted(str(name)) for name in spec.options["class_counts"]}
        lacking = [label for label in counted if EVERY_CLASS.counted(label) not in known]
        if lacking:
            counts = ", ".join(f"{label}: {count}" for label, count in sorted(counted.items()))
            raise UsageError(
                f"grpo.rewards: class_counts of {spec.name} lacks {', '.join(sorted(lacking))}; "
                f"the training samples are {{{counts}}}"
            )


@rank_zero_only
def _warn(message: str) -> None:
    _logger.warning("%s", message)


def _trained(data: EmotionDataModule, split: str = "train") -> list[tuple[str, Sample]]:
    """Each training sample and where it comes from."""
    return [
        (sample.place or f"{spec.name} in {data.root / spec.root}", sample)
        for spec, samples in zip(data.specs[split], data.samples[split], strict=True)
        for sample in samples
    ]


def _some(found: Sequence[tuple[str, Sample]], samples: Sequence[tuple[str, Sample]]) -> str:
    """How many of the samples these are, and the first of them."""
    named = ", ".join(f"{s.sample_id} ({place})" for place, s in found[:NUM_EXAMPLES])
    more = ", ..." if len(found) > NUM_EXAMPLES else ""
    return f"{len(found)} of {len(samples)} samples ({named}{more})"
