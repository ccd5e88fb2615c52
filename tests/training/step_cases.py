"""Combinations of GRPO's options, one of each loss, that `test_ranks.py` trains on real ranks.

Every option by itself, in any division, is in `option_matrix.py`, which derives them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from small_training import BASE

from r1omni.ops import Chord, GRPOLossConfig, MaskedModality
from r1omni.rewards import RewardGate, RewardSchedule, RewardSpec
from r1omni.training import GRPOConfig, GRPOModule
from r1omni.training.adaptive_entropy import AdaptiveEntropy

# One of each loss, so that the others' options meet all of them, and GSPO by token.
COMBINATIONS: dict[str, GRPOConfig] = {
    "grpo": replace(
        BASE, scale_rewards="batch", num_iterations=2, ref_sync_steps=1, ref_mixup_alpha=0.5,
        temperature=0.8,
        loss=GRPOLossConfig(
            beta=0.1, epsilon=0.1, epsilon_high=0.3, delta=1.6, use_bias_correction_kl=True,
            off_policy_mask_threshold=0.001, temperature=0.8,
        ),
    ),
    "bnpo": replace(
        BASE, baseline="leave_one_out", steps_per_generation=2, mask_truncated_completions=True,
        importance_correction="token_truncate", importance_cap=0.5,
        loss=GRPOLossConfig(
            loss_type="bnpo", kl_estimator="k2", dual_clip=2.0, entropy_coef=0.05,
        ),
    ),
    "dr_grpo": replace(
        BASE, scale_rewards="none", max_refills=2, groups_across_ranks=True,
        masked_modality=MaskedModality(0.5, modalities=["audio"]),
        rewards=[RewardSpec("rewards_of_tests:coarse")],  # some groups are alike, others are not
        loss=GRPOLossConfig(
            loss_type="dr_grpo", beta=0.0, max_completion_length=8, top_entropy_quantile=0.3,
        ),
    ),
    "dapo": replace(
        BASE, aggregation="normalize_then_sum", steps_per_generation=2, max_grad_norm=0.02, seed=3,
        # Two that differ within a group: alone, a reward is the same either way.
        rewards=[RewardSpec("rewards_of_tests:length"), RewardSpec("rewards_of_tests:coarse")],
        loss=GRPOLossConfig(
            loss_type="dapo", beta=0.0, epsilon_high=0.28, top_entropy_quantile=0.4,
            entropy_coef=0.05,
        ),
    ),
    "cispo": replace(
        BASE, kl_in_reward=0.5, num_iterations=2, importance_correction="sequence_truncate",
        masked_modality=MaskedModality(0.5, margin=0.05),
        # One that asks the policy for more than completions.
        rewards=[RewardSpec("rewards_of_tests:length"), RewardSpec("rewards_of_tests:sure")],
        loss=GRPOLossConfig(
            loss_type="cispo", beta=0.0, epsilon_high=5.0, top_entropy_quantile=0.5,
            entropy_coef=0.02,
        ),
    ),
    "sapo": replace(
        BASE, steps_per_generation=2,
        loss=GRPOLossConfig(
            loss_type="sapo", sapo_temperature_pos=0.5, sapo_temperature_neg=2.0, entropy_coef=0.1,
        ),
    ),
    "luspo": replace(
        BASE,
        rewards=[  # the second one weighs from the second rollout on
            RewardSpec("rewards_of_tests:length"),
            RewardSpec(
                "rewards_of_tests:coarse", 4.0,
                schedule=RewardSchedule(gate=RewardGate("rewards_of_tests:length", 0.0, 0.5)),
            ),
        ],
        loss=GRPOLossConfig(
            loss_type="luspo", importance_sampling_level="sequence", top_entropy_quantile=0.6,
        ),
    ),
    "gmpo": replace(
        BASE, steps_per_generation=2, chord=Chord(0.4, 0.2, 1, 2, num_samples=4),
        loss=GRPOLossConfig(
            loss_type="gmpo", epsilon=0.001, epsilon_high=0.002, off_policy_mask_threshold=0.01,
        ),
    ),
    "vespo": replace(
        BASE, num_iterations=2, importance_correction="token_truncate", importance_cap=0.9,
        # Entropies of fresh weights are below the target, so that the second step has a bonus.
        adaptive_entropy=AdaptiveEntropy(9.0, coef_delta=0.1, coef_max=0.5),
        loss=GRPOLossConfig(
            loss_type="vespo", beta=0.0, vespo_k_pos=1.0, vespo_lambda_pos=2.0, vespo_k_neg=2.0,
            vespo_lambda_neg=1.0,
        ),
    ),
    "gspo_token": replace(
        BASE, steps_per_generation=2,
        loss=GRPOLossConfig(
            beta=0.0, importance_sampling_level="sequence_token", epsilon=0.001,
            top_entropy_quantile=0.6,
        ),
    ),
}  # fmt: skip


def halves(text: str, ended: bool) -> list[tuple[str, int, int]]:
    """Fresh weights describe nothing: in place of `r1omni.training.evidence.described`.

    The first half of any text is of the picture, the second of the voice.
    """
    half = (len(text) + 1) // 2
    return [("video", 0, half), ("audio", half, len(text))] if text else []


def num_steps(grpo: GRPOConfig) -> int:
    """Optimizer steps that a combination needs to show itself: one rollout, or two.

    Only in the second does the policy differ from the reference that is moved or paid for.
    """
    rollouts = 2 if grpo.ref_sync_steps or grpo.kl_in_reward else 1
    return grpo.num_iterations * grpo.steps_per_generation * rollouts


class EndsEarly(GRPOModule):
    """Every third token ends a completion, so lengths differ."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.omni.end_ids = tuple(range(0, len(self.omni.tokenizer), 3))
