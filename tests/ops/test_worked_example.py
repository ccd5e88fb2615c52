"""One group by hand, from rewards to gradients.

Four completions of one prompt, of 2, 1, 1 and 2 tokens, with rewards for accuracy and format:

    accuracy 1 0 0 1, format 1 1 0 1        totals 2 1 0 2, mean 5/4
    squared distances 9/16 1/16 25/16 9/16  unbiased variance (44/16) / 3 = 11/12, std 0.957427
    advantage = (total - 5/4) / (0.957427 + 0.0001) = 0.783268 -0.261089 -1.305446 0.783268

A token adds -min(r A, clip(r, 0.8, 1.2) A) + 0.04 (q - ln q - 1), where r is its probability over
that under the policy that sampled, and q the reference's probability over its own:

    completion A          r    q    policy term                   q - ln q - 1  sum
    1          0.783268   1.5  1    -1.2 x 0.783268  (clipped)    0             -0.939921
                          1    2    -0.783268                     0.306853      -0.770994
    2          -0.261089  1.5  1    1.5 x 0.261089   (not: A < 0) 0              0.391634
    3          -1.305446  0.5  1/2  0.8 x 1.305446   (clipped)    0.193147       1.052083
    4          0.783268   0.5  1    -0.5 x 0.783268  (not: A > 0) 0             -0.391634
                          2    1    -1.2 x 0.783268  (clipped)    0             -0.939921

    means over tokens  -0.855457  0.391634  1.052083  -0.665777     loss, their mean: -0.019380

The gradient of a token that is not clipped is -r A, that of its KL 0.04 (1 - q), both over its
completion's tokens and over 4:

    1: 0, (-0.783268 - 0.04) / 8 = -0.102908     2: 0.391634 / 4 = 0.097908
    3: 0.04 / 2 / 4 = 0.005                      4: -0.391634 / 8 = -0.048954, 0
"""

import math

import torch

from r1omni.ops import GRPOLossConfig, group_advantages, grpo_loss

ADVANTAGES = [0.783268, -0.261089, -1.305446, 0.783268]
MASK = torch.tensor([[1, 1], [1, 0], [1, 0], [1, 1]])
RATIOS = torch.tensor([[1.5, 1.0], [1.5, 9.0], [0.5, 9.0], [0.5, 2.0]])
REFERENCE = torch.tensor([[1.0, 2.0], [1.0, 9.0], [0.5, 9.0], [1.0, 1.0]])
LOSS = -0.019380
GRADIENT = [[0.0, -0.102908], [0.097908, 0.0], [0.005, 0.0], [-0.048954, 0.0]]


def test_advantages():
    rewards = torch.tensor([[1.0, 1.0], [0.0, 1.0], [0.0, 0.0], [1.0, 1.0]])
    found = group_advantages(rewards, 4)
    torch.testing.assert_close(found, torch.tensor(ADVANTAGES), atol=1e-6, rtol=0)


def test_loss_and_gradient():
    logps = torch.full((4, 2), math.log(0.1)).requires_grad_()
    result = grpo_loss(
        logps,
        torch.tensor(ADVANTAGES),
        MASK,
        old_logps=logps.detach() - RATIOS.log(),
        ref_logps=logps.detach() + REFERENCE.log(),
        config=GRPOLossConfig(beta=0.04),
    )
    assert abs(float(result.loss.detach()) - LOSS) < 1e-6
    (gradient,) = torch.autograd.grad(result.loss, logps)
    torch.testing.assert_close(gradient, torch.tensor(GRADIENT), atol=1e-6, rtol=0)
    # A mean over tokens, for the metrics: 3 of 6 tokens are held back, and so on.
    assert abs(float(result.metrics["kl"]) - (0.306853 + 0.193147) / 6) < 1e-6
    assert abs(float(result.metrics["clip_ratio/region_mean"]) - 3 / 6) < 1e-6
