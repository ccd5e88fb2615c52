"""Time to first token, tokens per second and peak memory of one answer, on a CPU or a GPU.

Random weights of the released sizes, so nothing is downloaded: speed does not depend on what the
weights are. Writes JSON with the machine beside the figures.

    python scripts/benchmark_inference.py --out docs/benchmarks/inference_cpu.json
    python scripts/benchmark_inference.py --device cuda --dtype bfloat16
"""

from __future__ import annotations

import json
import os
import platform
import resource
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
from script_options import ScriptParser, file_to_write, model_sizes
from tqdm import tqdm

from r1omni.models.checkpoint import cast_weights
from r1omni.models.omni import OmniModel
from r1omni.models.sampler import Sampling, generate
from r1omni.text.prompt import AUDIO_PLACEHOLDER, VIDEO_PLACEHOLDER
from r1omni.types import ClipMedia, PromptInputs

SIZES = Path(__file__).resolve().parents[1] / "configs" / "r1omni_0.5b" / "model.yaml"
# Tokens of the chat template and of R1-Omni's question in Qwen2's tokenizer, about.
NUM_TEXT_TOKENS = 80
NUM_INSTRUCTION_TOKENS = 56


@dataclass(frozen=True)
class Timing:
    """Seconds of one answer: towers and prompt with the first token, then each further token."""

    first_token_s: float
    further_token_s: float


def prompt(model: OmniModel, modality: str) -> PromptInputs:
    """A prompt as long as the released model's, about noise and silence."""
    media = model.config.media
    generator = torch.Generator().manual_seed(0)
    shape = (media.num_frames, 3, media.image_size, media.image_size)
    frames = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    mel = torch.zeros(model.config.audio.num_mel_bins, 2 * model.config.audio.max_source_positions)
    words = torch.randint(0, 1000, (NUM_TEXT_TOKENS,), generator=generator)
    placeholders = {"video": VIDEO_PLACEHOLDER, "audio": AUDIO_PLACEHOLDER}
    given = [placeholders[name] for name in modality.split("_")]
    return PromptInputs(
        token_ids=(torch.cat([words[:20], torch.tensor(given), words[20:]]),),
        instruction_ids=(torch.randint(0, 1000, (NUM_INSTRUCTION_TOKENS,), generator=generator),),
        media=(
            ClipMedia(
                frames if "video" in modality else None, mel if "audio" in modality else None
            ),
        ),
    )


@torch.no_grad()
def answer(model: OmniModel, inputs: PromptInputs, num_tokens: int) -> Timing:
    """One greedy answer about a decoded clip that never ends early.

    Further tokens are timed apart from the towers, in whose noise they would drown.
    """
    device = model.device

    def since(started: float) -> float:
        synchronize(device)
        return time.perf_counter() - started

    synchronize(device)
    started = time.perf_counter()
    prompts = model.embed_prompts(inputs)
    generate(model, prompts, Sampling(1, 0.0, (), 0))
    first_token_s = since(started)

    started = time.perf_counter()
    generate(model, prompts, Sampling(1, 0.0, (), 0))
    prompt_s = since(started)
    started = time.perf_counter()
    generate(model, prompts, Sampling(num_tokens, 0.0, (), 0))
    return Timing(first_token_s, (since(started) - prompt_s) / (num_tokens - 1))


def synchronize(device: torch.device) -> None:
    """Wait for the GPU: its work is only queued when a call returns."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measure(model: OmniModel, modality: str, num_tokens: int, repeats: int) -> Timing:
    """Medians over repeats, after one run to warm up."""
    inputs = prompt(model, modality)
    answer(model, inputs, 2)
    runs = [answer(model, inputs, num_tokens) for _ in tqdm(range(repeats), desc=modality)]
    return Timing(median(r.first_token_s for r in runs), median(r.further_token_s for r in runs))


def peak_memory_gib(device: torch.device) -> float:
    """Highest memory so far: of the GPU, or resident memory of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def machine(device: torch.device) -> dict[str, object]:
    """What the figures were measured on."""
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {
        "device": gpu or platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def main() -> None:
    """Build the model, time each modality, print and write the figures."""
    parser = ScriptParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=model_sizes, default=str(SIZES), help="YAML of model sizes")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--tokens", type=int, default=64, help="tokens of an answer, 2 or more")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=file_to_write, default=None, help="JSON file to write")
    options = parser.parse_args()
    if options.tokens < 2 or options.repeats < 1:
        parser.error("--tokens must be at least 2 and --repeats at least 1")
    device = torch.device(options.device)

    torch.manual_seed(0)
    config = options.sizes
    model = cast_weights(OmniModel(config), getattr(torch, options.dtype)).to(device).eval()
    weights_gib = sum(p.numel() * p.element_size() for p in model.parameters()) / 2**30
    figures = {}
    for modality in ("video_audio", "video", "audio"):
        timing = measure(model, modality, options.tokens, options.repeats)
        figures[modality] = {
            "time_to_first_token_s": round(timing.first_token_s, 4),
            "tokens_per_second": round(1 / timing.further_token_s, 2),
        }
    result = {
        "sizes": options.sizes.parent.name,
        "parameters": sum(p.numel() for p in model.parameters()),
        "dtype": options.dtype,
        "tokens": options.tokens,
        "repeats": options.repeats,
        "weights_gib": round(weights_gib, 3),
        "peak_memory_gib": round(peak_memory_gib(device), 3),
        "modalities": figures,
        "machine": machine(device),
    }
    text = json.dumps(result, indent=2) + "\n"
    print(text)
    if options.out is not None:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
