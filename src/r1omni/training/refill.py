"""Sampling again where all completions of a prompt earn the same (DAPO, arXiv 2503.14476).

Such a group has no advantages: nothing is learned from it. `grpo.max_refills` replaces it by
another prompt, round after round.
"""

from __future__ import annotations

from collections.abc import Callable

from r1omni.training.advantages import useful_prompts
from r1omni.training.batch import RolloutBatch
from r1omni.training.grpo_config import GRPOConfig
from r1omni.training.ranks import RankLayout


def refilled(
    first: RolloutBatch,
    sample_more: Callable[[int, int], RolloutBatch | None],
    config: GRPOConfig,
    layout: RankLayout,
) -> tuple[RolloutBatch, float]:
    """As many prompts as in `first`, or fewer, whose groups have advantages.

    All ranks call this together. They learn from as many prompts as the poorest of them, since all
    take as many steps; where that one has none, from the first groups, useful or not.

    Args:
        first: what was sampled.
        sample_more: samples and scores so many other prompts in a round, counted from 1; where it
            is asked for none, other ranks sample.
        config: the most rounds, and how advantages are made of rewards.
        layout: what other ranks have of the groups.

    Returns:
        the batch, and the share of sampled prompts that was dropped.
    """

    def useful(scored: RolloutBatch) -> RolloutBatch:
        group_rewards, _ = layout.whole_groups(scored.rewards)
        return scored.select(useful_prompts(group_rewards, config))

    wanted = num_sampled = len(first)
    rounds = [useful(first)]
    for round_index in range(1, config.max_refills + 1):
        lacking = max(wanted - sum(map(len, rounds)), 0)
        if layout.fewest(-lacking) == 0:  # no rank lacks any
            break
        more = sample_more(lacking, round_index)
        if more is not None:
            rounds.append(useful(more))
            num_sampled += lacking
    num_useful = sum(map(len, rounds))
    dropped = 1 - num_useful / num_sampled
    shared = layout.fewest(num_useful)
    if shared == 0:
        return first, dropped
    return RolloutBatch.joined([part for part in rounds if len(part)]).select(
        range(shared)
    ), dropped
