"""GRPO from top to bottom: one file, one loop, no trainer.

    python examples/grpo_minimal.py outputs/quickstart/emer_sft/model outputs/quickstart/world

It trains what `python -m r1omni fit` trains, by the same steps: the first three updates are equal
(tests/test_examples.py). It leaves out what a long run needs, and what the paper does not use.

Sources: GRPO is arXiv 2402.03300, section 4.1; R1-Omni's recipe is arXiv 2503.05379.
Shapes: B prompts, G completions each, N = B * G of them side by side, C tokens of a completion,
L tokens of a prompt (media tokens included), D width of the model, K rewards.
"""

import argparse
import copy
import math
from collections.abc import Iterator, Sequence
from itertools import count, islice
from pathlib import Path

import torch

from r1omni import R1Omni
from r1omni.commands.arguments import Number
from r1omni.data import DatasetSpec, load_dataset
from r1omni.data.sampler import LengthGroupedSampler
from r1omni.models.sampler import generate
from r1omni.ops import GRPOLossConfig, group_advantages, grpo_loss
from r1omni.options import at_least
from r1omni.rewards import RewardSpec, score
from r1omni.streams import stream_seed
from r1omni.text.prompt import encode_prompt
from r1omni.training import GRPOConfig, OptimizerConfig
from r1omni.types import PromptInputs, R1OmniError, Sample, UsageError


def batches(samples: Sequence[Sample], size: int) -> Iterator[list[Sample]]:
    """Batches without end: every epoch in an order of its own, texts of like length together."""
    lengths = [len(s.instruction) + len(s.target or "") for s in samples]
    sampler = LengthGroupedSampler(lengths, size, drop_last=len(samples) >= size, seed=0)
    for epoch in count():
        yield from ([samples[i] for i in indices] for indices in sampler.batches(epoch))


def encode(omni: R1Omni, batch: Sequence[Sample]) -> PromptInputs:
    """B prompts: the clip's file -> frames and log-mel -> features of the frozen towers."""
    media = [omni.processor.load(s.clip, s.modality) for s in batch]
    return PromptInputs(
        # long [L_text] each; a negative id stands where the tokens of a medium go.
        token_ids=tuple(encode_prompt(omni.tokenizer, s.instruction, s.modality) for s in batch),
        # long [L] each, for the gate, which mixes the video projector's branches by the question.
        instruction_ids=tuple(omni.encode_instruction(s.instruction) for s in batch),
        media=tuple(omni.model.encode_media(media)),
    )


def train(omni: R1Omni, samples: Sequence[Sample], args: argparse.Namespace) -> Iterator[dict]:
    """Change the model by `args.steps` updates, and say of each what it did."""
    policy, group_size = omni.model, args.group_size
    # The reference, which the KL term keeps the policy near, is the policy as it starts.
    reference = copy.deepcopy(policy).requires_grad_(False)
    # Towers stay as they are; projectors, gate and language model learn.
    for name, parameter in policy.named_parameters():
        parameter.requires_grad_("_tower" not in name)
    trained = [p for p in policy.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=args.learning_rate, weight_decay=0.0)
    rise = max(1, round(args.warmup_ratio * args.steps))  # then half a cosine down

    def rate(step: int) -> float:
        progress = max(0, step - rise) / max(1, args.steps - rise)
        return min((step + 1) / rise, 0.5 * (1 + math.cos(math.pi * progress)))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    sampling = omni.sampling(args.max_new_tokens, args.temperature)
    specs, config = [RewardSpec(name) for name in args.rewards], GRPOLossConfig(beta=args.beta)

    for step, batch in enumerate(islice(batches(samples, args.prompts), args.steps)):
        # 1. Roll out: G completions of every prompt, each fixed by these four names alone.
        seeds = [stream_seed(0, step, s.sample_id, g) for s in batch for g in range(group_size)]
        with torch.no_grad():
            prompts = encode(omni, batch)
            embedded = policy.embed_prompts(prompts)  # B of float [L, D]
            # .ids long [N, C], .mask bool [N, C]: True up to and including the end token.
            sampled = generate(policy, embedded, sampling, group_size=group_size, seeds=seeds)
        texts, ended = omni.completions(sampled)  # N texts; did an end token close them?

        # 2. Score: K functions of texts and labels; R1-Omni's accuracy and format are 0 or 1.
        rows = [s for s in batch for _ in range(group_size)]
        facts = {"ended": ended, "label_set": [s.label_set for s in rows]}
        rewards = score(specs, texts, [s.label for s in rows], **facts)  # float [N, K]

        # 3. Compare within the group, which stands in for a value model (2402.03300, 4.1.2):
        # A_i = (r_i - mean of the group) / (standard deviation of the group + 1e-4).
        advantages = group_advantages(rewards, group_size)  # float [N]

        # 4. Update. Prompts are embedded again: projectors and gate learn through them.
        tokens, temperature = (sampled.ids, sampled.mask), args.temperature
        with torch.no_grad():
            read = reference.embed_prompts(prompts)
            ref_logps, _ = reference.completion_logps(read, *tokens, temperature=temperature)
        read = policy.embed_prompts(prompts)
        logps, _ = policy.completion_logps(read, *tokens, temperature=temperature)
        # 2402.03300, eq. 3 and 4, with one update a rollout: the policy that sampled is the one
        # that learns, so the ratio r = exp(logp - logp.detach()) is 1 and only its gradient counts.
        # L = mean over N of mean over a completion's tokens of -(r A - beta KL),
        # KL = exp(ref - logp) - (ref - logp) - 1.
        result = grpo_loss(logps, advantages, sampled.mask, ref_logps=ref_logps, config=config)
        optimizer.zero_grad()
        result.loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(trained, args.max_grad_norm)  # before clipping
        optimizer.step()
        schedule.step()
        yield {
            "step": step, "reward": float(rewards.nansum(dim=1).mean()),
            "loss": float(result.loss.detach()), "grad_norm": float(norm),
            "kl": float(result.metrics["kl"]), "label": batch[0].label, "text": texts[0],
        }  # fmt: skip


def main(argv: Sequence[str] | None = None) -> list[dict]:
    """Train, and print what `train` says of each step."""
    parser = argparse.ArgumentParser(description="GRPO in one file, on MAFW's clips.")
    parser.add_argument("model", type=Path, help="model folder, such as a cold start's")
    parser.add_argument("data", type=Path, help="folder that holds MAFW/, such as a mini-world")
    allowed = {**GRPOConfig.RANGES, **OptimizerConfig.RANGES, **GRPOLossConfig.RANGES}
    allowed |= dict.fromkeys(("steps", "prompts"), at_least(1))
    for name, default in {
        "steps": 3, "prompts": 4, "group_size": 8, "max_new_tokens": 64, "temperature": 1.0,
        "learning_rate": 1e-4, "warmup_ratio": 0.1, "beta": 0.04, "max_grad_norm": 1.0,
    }.items():  # fmt: skip
        parser.add_argument(f"--{name}", type=Number(allowed[name], type(default)), default=default)
    parser.add_argument("--rewards", nargs="+", default=["accuracy", "format"])
    parser.add_argument("--sampling", default="all", help="which clips, such as first:8")
    parser.add_argument("--out", type=Path, help="write the trained model folder here")
    args = parser.parse_args(argv)
    clips = load_dataset(DatasetSpec("mafw", str(args.data / "MAFW"), sampling=args.sampling))
    omni, steps = R1Omni.from_pretrained(args.model), []
    form = "step {step}: reward {reward:.2f}, loss {loss:.5f}, KL {kl:.5f}, norm {grad_norm:.3f}"
    for step in train(omni, clips, args):
        print(form.format(**step), f"  a clip of {step['label']}: {step['text']!r}", sep="\n")
        steps.append(step)
    if args.out:
        omni.save_pretrained(args.out)
    return steps


if __name__ == "__main__":
    try:
        main()
    except R1OmniError as error:
        argparse.ArgumentParser().exit(1 + isinstance(error, UsageError), f"error: {error}\n")
