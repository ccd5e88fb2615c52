"""R1-Omni's published training step, written from its description.

For each prompt: the clip is encoded once to generate, and once for every completion in the pass of
the policy and in that of the reference, 2 G + 1 passes through the towers; every completion stands
in a row with its own copy of the prompt; logits are made of all positions; transformers generates.
The reference is a second model with towers of its own. Prompts go one at a time. The release
also decodes the video anew for each row, and cuts a prompt's text to 512 tokens; that is left out.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig

from r1omni.training.optimization import OptimizerConfig, build_optimizer
from step_parts.peers import PeerModel, rows_of
from step_parts.watch import Watch
from step_parts.work import BETA, LEARNING_RATE, MAX_GRAD_NORM, Case, Materials, by_place


def run(case: Case, folder: Path, watch: Watch) -> dict[str, Any]:
    """The steps that a watch asks for; returns what the step was made of."""
    materials = Materials(case, folder, with_features=False)
    policy = PeerModel(materials).train()
    reference = copy.deepcopy(policy).requires_grad_(False).eval()
    rate = OptimizerConfig(LEARNING_RATE, schedule="constant", warmup_ratio=0.0)
    optimizer, _ = build_optimizer(policy.omni, rate, watch.num_steps)
    watch.models = (policy.omni, reference.omni)
    for _ in range(watch.num_steps):
        watch.begin()
        losses = []
        for index, prompt in enumerate(rows_of(materials)):
            policy.first_row = index * case.group_size
            with case.autocast():
                losses.append(_prompt(case, policy, reference, prompt, watch))
        with watch.phases.timed("update"):
            trained = [p for p in policy.parameters() if p.requires_grad]
            norm = torch.nn.utils.clip_grad_norm_(trained, MAX_GRAD_NORM)
            optimizer.step()
            optimizer.zero_grad()
        watch.end({"loss": sum(losses) / case.prompts, "grad_norm": float(norm)})
    return {"prompt_tokens": materials.prompt_length}


def _prompt(
    case: Case, policy: PeerModel, reference: PeerModel, prompt: Tensor, watch: Watch
) -> float:
    """Sample, score and differentiate the completions of one prompt [P]; returns its loss."""
    phases, length = watch.phases, len(prompt)
    with phases.timed("sampling"):
        with torch.no_grad():
            embeds = policy.model.embed_rows(prompt[None])
        completions = policy.generate(
            inputs_embeds=embeds, attention_mask=embeds.new_ones(embeds.shape[:2]).long(),
            generation_config=_settings(case),
        )  # fmt: skip
    rows = torch.cat([prompt.expand(len(completions), -1), completions], dim=1)
    with phases.timed("update"):
        logps = _logps(policy, rows)[:, length - 1 :]
    with torch.inference_mode(), phases.timed("reference"):
        wanted = _logps(reference, rows)[:, length - 1 :]
    with phases.timed("update"):
        rewards = torch.tensor(by_place(completions.tolist()), device=logps.device)
        advantages = (rewards - rewards.mean()) / (rewards.std() + 1e-4)
        difference = wanted.clone() - logps
        kl = difference.exp() - difference - 1
        terms = (logps - logps.detach()).exp() * advantages[:, None] - BETA * kl
        loss = -terms.mean(dim=1).mean()
        (loss / case.prompts).backward()
    return float(loss.detach())


def _logps(model: PeerModel, rows: Tensor) -> Tensor:
    """Log-probabilities [G, P + C - 1] of rows, a row at a time as the release has it."""
    logits = model(input_ids=rows, attention_mask=torch.ones_like(rows)).logits[:, :-1]
    pairs = zip(logits, rows[:, 1:], strict=True)
    return torch.stack(
        [row.log_softmax(dim=-1).gather(1, ids[:, None]).squeeze(1) for row, ids in pairs]
    )


def _settings(case: Case) -> GenerationConfig:
    return GenerationConfig(
        max_new_tokens=case.completion, do_sample=True, temperature=1.0, top_k=0, top_p=1.0,
        num_return_sequences=case.group_size, pad_token_id=0, eos_token_id=None, bos_token_id=None,
    )  # fmt: skip
