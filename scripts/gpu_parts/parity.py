"""The model on a device against the same model on the CPU in float32, and Triton against torch.

    python scripts/gpu_parts/parity.py --size 0.5b --device cuda --scratch DIR --out FILE

Features, logits, log-probabilities of sampled completions, and completions, in float32 and in
bfloat16; and on each device the sampler against the scorer. Fails where anything is further off
than sums in another order explain.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import noise
import torch
from torch import Tensor

from r1omni import R1Omni, kernels
from r1omni.models.sampler import generate
from r1omni.text.prompt import R1OMNI_INSTRUCTION, encode_prompt
from r1omni.types import ClipMedia, PromptInputs

# Largest differences over the largest value of the CPU's. Sums of 5,000 products in another order
# are 1e-6 off in float32, and 24 layers add up; bfloat16 has 8 bits.
LIMITS = {"float32": 2e-4, "bfloat16": 8e-2}
# Largest differences of two ways on one device, in log-probabilities.
NATS = {"float32": 1e-4, "bfloat16": 0.1}
NUM_TOKENS, GROUP = 32, 4


def prompts(omni: R1Omni) -> PromptInputs:
    """Two prompts of different lengths about noise: with both media, and with the sound alone."""
    both = noise.noise(omni.model.config, 0)
    sound = ClipMedia(None, noise.noise(omni.model.config, 1).mel)
    given = [("video_audio", both), ("audio", sound)]
    return PromptInputs(
        tuple(encode_prompt(omni.tokenizer, R1OMNI_INSTRUCTION, name) for name, _ in given),
        tuple(omni.encode_instruction(R1OMNI_INSTRUCTION) for _ in given),
        tuple(media for _, media in given),
    )


@torch.no_grad()
def outputs(omni: R1Omni, completions: Tensor | None) -> dict[str, Tensor]:
    """What the model makes of the prompts; log-probabilities are of `completions`, if given."""
    model, inputs = omni.model, prompts(omni)
    features = model.encode_media(inputs.media)
    embedded = model.embed_prompts(inputs)
    sampling = omni.sampling(NUM_TOKENS, temperature=0.0)
    found = {
        "video features": features[0].video, "sound features": features[0].audio,
        "prompt embeddings": embedded[0], "logits": model.logits(inputs),
        "greedy tokens": generate(model, embedded, sampling).ids,
    }  # fmt: skip
    sampling = omni.sampling(NUM_TOKENS, temperature=1.0)
    seeds = list(range(2 * GROUP))
    sampled = generate(model, embedded, sampling, group_size=GROUP, seeds=seeds)
    found |= {"sampled tokens": sampled.ids, "mask": sampled.mask, "sampler's": sampled.logps}
    ids = sampled.ids if completions is None else completions.to(model.device)
    # Completions of every length, one of a single token: the trunk reads them without padding.
    lengths = torch.linspace(1, ids.shape[1], len(ids)).long()
    mask = (torch.arange(ids.shape[1]) < lengths[:, None]).to(ids.device)
    found["log-probabilities"] = model.completion_logps(embedded, ids, mask)[0]
    with kernels.use("torch"):
        found["log-probabilities by torch"] = model.completion_logps(embedded, ids, mask)[0]
    if completions is None:
        both = mask & sampled.mask  # what is scored and what was sampled
        own = found["log-probabilities"][both] - sampled.logps[both]
        found["sampler against scorer"] = own.abs().max()
    return {name: value.detach().float().cpu() for name, value in found.items()}


def compared(found: dict[str, Tensor], right: dict[str, Tensor]) -> dict[str, Any]:
    """Differences over the largest value, and shares of equal tokens."""
    figures: dict[str, Any] = {}
    for name, value in right.items():
        if name in ("mask", "sampler's", "sampler against scorer"):
            continue
        other = found[name]
        if "tokens" in name:
            longest = min(value.shape[1], other.shape[1])
            same = (value[:, :longest] == other[:, :longest]).float().mean()
            figures[f"{name}, equal"] = round(float(same), 4)
        else:
            figures[name] = float((value - other).abs().max() / value.abs().max())
    both = found["log-probabilities"] - found["log-probabilities by torch"]
    figures["Triton against torch, nats"] = float(both.abs().max())
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=noise.SIZES, default="0.5b")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    parser.add_argument("--scratch", type=Path, required=True, help="folder for the model")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    given = parser.parse_args()
    folder = noise.model_folder(given.size, given.scratch / given.size, given.device)
    # cuDNN's convolutions round float32 to 10 bits unless told otherwise.
    torch.backends.cudnn.allow_tf32 = False
    omni = R1Omni.from_pretrained(folder, device="cpu", dtype="float32")
    right = outputs(omni, None)
    completions = right["sampled tokens"].long()
    figures: dict[str, Any] = {}
    failed = []
    for dtype, limit in LIMITS.items():
        omni = R1Omni.from_pretrained(folder, device=given.device, dtype=dtype)
        found = outputs(omni, None)
        own = float(found["sampler against scorer"])
        figures[dtype] = compared(outputs(omni, completions), right)
        figures[dtype]["sampler against scorer, nats"] = own
        figures[dtype]["limit"] = limit
        failed += [
            f"{dtype}: {name} {value:.2g}"
            for name, value in figures[dtype].items()
            if (name in right and value > limit) or (name.endswith("nats") and value > NATS[dtype])
        ]
        del omni
    figures["failed"] = failed
    given.out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    if failed:
        raise SystemExit("; ".join(failed))
    print("largest: " + ", ".join(f"{name} {largest(figures[name]):.2g}" for name in LIMITS))


def largest(figures: dict[str, Any]) -> float:
    """Difference of one precision, over the largest value."""
    kinds = ("nats", "equal", "limit")
    return max(value for name, value in figures.items() if not name.endswith(kinds))


if __name__ == "__main__":
    main()
