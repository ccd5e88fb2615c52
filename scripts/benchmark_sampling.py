"""Tokens per second of sampling: ours, transformers' `generate`, and a loop over its forward pass.

Random weights and random prompts: speed does not depend on what they are. No completion ends early.
All ways have the same weights and the same prompts, and their runs alternate, so that what else the
machine does meets all of them. Writes JSON with the machine beside the figures.

    python scripts/benchmark_sampling.py --size middle
    python scripts/benchmark_sampling.py --size 0.5b --device cuda
"""

from __future__ import annotations

import json
import os
import resource
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import torch
from script_options import ScriptParser, file_to_write
from torch import Tensor
from tqdm import tqdm
from transformers import DynamicCache, GenerationConfig, Qwen2Config, Qwen2ForCausalLM

from r1omni.kernels import use
from r1omni.kernels.choice import choose
from r1omni.models.checkpoint import cast_weights
from r1omni.models.omni import OmniModel
from r1omni.models.packed import Embedded, pad_embeds
from r1omni.models.sampler import Sampling, generate
from r1omni.models.sizes import config_from_sizes
from r1omni.streams import stream_seed, uniform_streams
from r1omni.types import R1OmniError

ROOT = Path(__file__).resolve().parents[1]
# Towers are not used: they are the mini model's whatever the language model's size.
TOWERS = ROOT / "configs" / "mini" / "model.yaml"
LANGUAGE = {
    "mini": None,
    "middle": {
        "vocab_size": 32_000, "hidden_size": 256, "intermediate_size": 1024,
        "num_hidden_layers": 6, "num_attention_heads": 4, "num_key_value_heads": 2,
        "max_position_embeddings": 4096, "rms_norm_eps": 1e-6, "tie_word_embeddings": True,
    },
    "0.5b": {
        "vocab_size": 151_936, "hidden_size": 896, "intermediate_size": 4864,
        "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2,
        "max_position_embeddings": 32_768, "rms_norm_eps": 1e-6, "tie_word_embeddings": True,
    },
}  # fmt: skip
PROMPT_LENGTH = {"mini": 130, "middle": 969, "0.5b": 1026}
GROUP_SIZE = 8
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "mixed": torch.float32}


@dataclass(frozen=True)
class Work:
    """What every way is asked to do: `rows` completions of `tokens` tokens, in groups."""

    model: OmniModel
    library: Qwen2ForCausalLM | None
    prompts: list[Tensor]
    tokens: int
    autocast: Callable[[], AbstractContextManager[object]]
    group_size: int = GROUP_SIZE

    @property
    def rows(self) -> int:
        return len(self.prompts) * self.group_size

    def shorter(self, tokens: int) -> Work:
        return replace(self, tokens=tokens)


Way = Callable[[Work], Tensor]


def ours(work: Work, *, cuda_graphs: bool = True, kernels: str = "auto") -> Tensor:
    """Completions [N, C] by this package."""
    sampling = Sampling(work.tokens, 1.0, (), 0, cuda_graphs=cuda_graphs)
    seeds = [stream_seed(row) for row in range(work.rows)]
    with use(kernels):
        found = generate(
            work.model, work.prompts, sampling, group_size=work.group_size, seeds=seeds
        )
    return found.ids


def loop(work: Work) -> Tensor:
    """Completions by one forward pass of the library a token, its cache copied at every token."""
    model = work.model
    seeds = [stream_seed(row) for row in range(work.rows)]
    uniforms = uniform_streams(seeds, work.tokens).to(model.device)
    embedded = pad_embeds(work.prompts, side="left")
    cache = DynamicCache(config=model.config.language)
    hidden = model.hidden_states(embedded, cache=cache)[:, -1]
    cache.batch_repeat_interleave(work.group_size)
    hidden = hidden.repeat_interleave(work.group_size, dim=0)
    keys = embedded.mask.repeat_interleave(work.group_size, dim=0)
    position = embedded.mask.sum(dim=1).repeat_interleave(work.group_size)[:, None]
    ids = []
    for step in range(work.tokens):
        if step:
            keys = torch.cat([keys, keys.new_ones(len(keys), 1)], dim=1)
            new = Embedded(model.embed_tokens(ids[-1][:, None]), keys, position)
            hidden = model.hidden_states(new, cache=cache)[:, -1]
            position = position + 1
        ids.append(choose(model.lm_head(hidden), 1.0, uniforms[:, step])[0])
    return torch.stack(ids, dim=1)


def library(work: Work) -> Tensor:
    """Completions by transformers' own `generate`, the prompt read once a completion."""
    assert work.library is not None
    embedded = pad_embeds(work.prompts, side="left")
    settings = GenerationConfig(
        max_new_tokens=work.tokens, do_sample=True, temperature=1.0, top_k=0, top_p=1.0,
        num_return_sequences=work.group_size, pad_token_id=0, eos_token_id=None, bos_token_id=None,
    )  # fmt: skip
    ids: Tensor = work.library.generate(
        inputs_embeds=embedded.embeds,
        attention_mask=embedded.mask.long(),
        generation_config=settings,
    )
    return ids


WITH_GRAPHS = ("ours", "ours_without_triton")


def ways(device: torch.device) -> dict[str, Way]:
    """Every way by its name."""
    if device.type != "cuda":
        return {"ours": ours, "loop": loop, "transformers": library}
    return {
        "ours": ours,
        "ours_without_triton": lambda work: ours(work, kernels="torch"),
        "ours_without_graphs": lambda work: ours(work, cuda_graphs=False),
        "loop": loop,
        "transformers": library,
    }


# Measuring ----------------------------------------------------------------------------------


def synchronize(device: torch.device) -> None:
    """Wait for the GPU: its work is only queued when a call returns."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed(way: Way, work: Work) -> tuple[float, Tensor]:
    """Seconds of one run, and its completions."""
    device = work.model.device
    synchronize(device)
    started = time.perf_counter()
    with torch.no_grad(), work.autocast():
        found = way(work)
    synchronize(device)
    assert found.shape == (work.rows, work.tokens)
    return time.perf_counter() - started, found


def seconds(way: Way, work: Work) -> float:
    """Of one run."""
    return timed(way, work)[0]


def best(run: Callable[[], object], device: torch.device, repeats: int = 10) -> float:
    """Shortest seconds of some runs, after one to warm up."""
    times = []
    for _ in range(repeats + 1):
        synchronize(device)
        started = time.perf_counter()
        run()
        synchronize(device)
        times.append(time.perf_counter() - started)
    return min(times[1:])


def machine_limits(device: torch.device, dtype: torch.dtype) -> dict[str, float]:
    """Measured bytes a second of reading, and operations a second of a square product."""
    on_cuda = device.type == "cuda"
    size = 8192 if on_cuda else 1536
    square = torch.randn(size, size, device=device).to(dtype)
    operations = 2 * size**3 / best(lambda: square @ square, device)
    source = torch.ones(2**29 if on_cuda else 2**26, device=device)
    target = torch.empty_like(source)
    copied = 2 * source.nbytes / best(lambda: target.copy_(source), device)
    read = source.nbytes / best(source.sum, device)
    return {"bytes_per_s": max(copied, read), "operations_per_s": operations}


def least_seconds(work: Work, dtype: torch.dtype, limits: dict[str, float]) -> dict[str, float]:
    """What prompt and further tokens take at least: weights and keys read, products computed.

    A token of a row needs 2 operations a weight, and 4 d a pair of query and key and head; the
    head of the language model only where a token is predicted. Reading and computing may overlap.
    """
    config = work.model.config.language
    in_layers = sum(p.numel() for p in work.model.language_model.layers.parameters())
    in_head = work.model.lm_head.weight.numel()
    length, steps, batch = len(work.prompts[0]), work.tokens - 1, len(work.prompts)
    width = config.hidden_size
    pairs = config.num_hidden_layers * 4 * width
    prompt = batch * (2 * in_layers * length + pairs * length * length / 2 + 2 * in_head)
    seen = length + work.tokens / 2
    step = work.rows * (2 * (in_layers + in_head) + pairs * seen)
    key_bytes = 2 * width * config.num_key_value_heads / config.num_attention_heads
    key_bytes *= config.num_hidden_layers * dtype.itemsize
    read = (in_layers + in_head) * dtype.itemsize
    read += key_bytes * (batch * length + work.rows * work.tokens / 2)
    by_work, by_reading = step / limits["operations_per_s"], read / limits["bytes_per_s"]
    return {
        "prefill_s": prompt / limits["operations_per_s"],
        "step_s_by_operations": by_work,
        "step_s_by_reading": by_reading,
        "decode_s": steps * max(by_work, by_reading),
        "all_s_by_operations_alone": prompt / limits["operations_per_s"] + steps * by_work,
    }


def spread(values: Sequence[float], digits: int = 4) -> dict[str, float]:
    """Smallest, median and largest."""
    kinds = {"min": min, "median": median, "max": max}
    return {name: round(kind(values), digits) for name, kind in kinds.items()}  # type: ignore[operator]


def measure(
    work: Work, dtype: torch.dtype, limits: dict[str, float], repeats: int, wanted: Sequence[str]
) -> dict[str, object]:
    """Figures of the wanted ways for one number of rows."""
    device = work.model.device
    every = {name: way for name, way in ways(device).items() if name in wanted}
    peaks: dict[str, float] = {}
    failures: dict[str, str] = {}
    found: dict[str, Tensor] = {}
    for name, way in list(every.items()):
        work.model.sampler_memory = None
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
        try:
            found[name] = timed(way, work)[1]
        except (RuntimeError, R1OmniError) as error:  # the others are worth knowing all the same
            failures[name] = " ".join(str(error).split())[:2000]
            del every[name]
            print(f"{name} failed: {failures[name]}")
            continue
        if device.type == "cuda":
            peaks[name] = torch.cuda.max_memory_allocated(device) / 2**30
    for name, way in every.items():
        if name in WITH_GRAPHS and device.type == "cuda":
            seconds(way, work)  # which went with the memory
    rounds: dict[str, list[tuple[float, float]]] = {name: [] for name in every}
    for _ in tqdm(range(repeats), desc=f"{work.rows} rows"):
        for name, way in every.items():
            rounds[name].append((seconds(way, work.shorter(1)), seconds(way, work)))
    least = least_seconds(work, dtype, limits)
    figures: dict[str, object] = {name: {"failed": text} for name, text in failures.items()}
    first_way = next(iter(rounds.values()), [])
    for name, times in rounds.items():
        decode = [whole - prefill for prefill, whole in times]
        whole = [whole for _, whole in times]
        further = work.rows * (work.tokens - 1)
        figures[name] = {
            "all_s": spread(whole),
            "prefill_s": spread([prefill for prefill, _ in times]),
            "ms_per_step": spread([1000 * s / (work.tokens - 1) for s in decode]),
            "decode_tokens_per_s": spread([further / s for s in decode], 1),
            "tokens_per_s": spread([work.rows * work.tokens / s for s in whole], 1),
            "decode_times_least": round(min(decode) / least["decode_s"], 2),
            "all_times_least": round(min(whole) / (least["prefill_s"] + least["decode_s"]), 2),
            "all_times_least_operations": round(min(whole) / least["all_s_by_operations_alone"], 2),
            "seconds_relative_to_the_first": spread(
                [own / first for own, (_, first) in zip(whole, first_way, strict=True)], 2
            ),
            "fastest_relative_to_the_first": round(min(whole) / min(w for _, w in first_way), 2),
            **({"peak_memory_gib": round(peaks[name], 3)} if peaks else {}),
        }
    right = found.get("loop")
    same = {
        name: (ids == right).float()
        for name, ids in found.items()
        if "ours" in name and right is not None
    }
    return {
        "prompts": len(work.prompts),
        "prompt_tokens": len(work.prompts[0]),
        "tokens": work.tokens,
        "least": {name: float(f"{value:.4g}") for name, value in least.items()},
        "tokens_equal_to_the_loop": {
            name: {
                "first_8": round(equal[:, :8].mean().item(), 4),
                "all": round(equal.mean().item(), 4),
            }
            for name, equal in same.items()
        },
        "ways": figures,
    }


def main() -> None:
    """Build the model, time every way, print and write the figures."""
    parser = ScriptParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="middle", choices=[*LANGUAGE])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--dtype", default=None, choices=[*DTYPES],
                        help="mixed is float32 weights inside bfloat16 autocast; default: "
                        "bfloat16 on cuda, float32 on cpu")  # fmt: skip
    parser.add_argument("--rows", type=int, nargs="+", default=[8, 128], help="multiples of 8")
    parser.add_argument("--tokens", type=int, default=None, help="of a completion; 64, on cuda 100")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--ways", nargs="+", default=None, help="default: all of the device")
    parser.add_argument(
        "--out", type=file_to_write, default=None, help="JSON file, added to by size"
    )
    options = parser.parse_args()
    if options.repeats < 1 or any(rows < 1 or rows % GROUP_SIZE for rows in options.rows):
        parser.error(f"--rows must be multiples of {GROUP_SIZE}, and --repeats at least 1")
    if options.tokens is not None and options.tokens < 2:
        parser.error("--tokens must be at least 2")
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch sees no GPU; `python -m r1omni doctor` says why")
    wanted = options.ways or [*ways(device)]
    if unknown := {*wanted} - {*ways(device)}:
        known_ways = ", ".join(ways(device))
        parser.error(f"--ways: {', '.join(sorted(unknown))} is none of {known_ways}")
    name = options.dtype or ("bfloat16" if device.type == "cuda" else "float32")
    dtype = torch.bfloat16 if name == "mixed" else DTYPES[name]
    tokens = options.tokens or (100 if device.type == "cuda" else 64)
    out = options.out or ROOT / "docs" / "benchmarks" / f"sampling_{device.type}.json"

    torch.manual_seed(0)
    config = config_from_sizes(TOWERS)
    sizes = LANGUAGE[options.size]
    if sizes is not None:
        config = replace(config, language=Qwen2Config(**sizes))
    with device:  # random numbers of a large model take a CPU long
        model = cast_weights(OmniModel(config), DTYPES[name]).eval()
    settings = Qwen2Config(**{**config.language.to_dict(), "use_cache": True})
    settings._attn_implementation = "sdpa"
    with device:
        hf = Qwen2ForCausalLM(settings).to(DTYPES[name]).eval()
    hf.model.load_state_dict(model.language_model.state_dict())
    hf.lm_head.load_state_dict(model.lm_head.state_dict())

    def autocast() -> AbstractContextManager[object]:
        return torch.autocast(device.type, torch.bfloat16) if name == "mixed" else nullcontext()

    limits = machine_limits(device, dtype)
    result = {
        "dtype": name,
        "language_parameters": sum(p.numel() for p in model.language_model.parameters()),
        "repeats": options.repeats,
        "limits": {key: float(f"{value:.4g}") for key, value in limits.items()},
        "rows": {},
        "machine": {
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "load_average": [round(load, 1) for load in os.getloadavg()],
        },
    }
    known = json.loads(out.read_text(encoding="utf-8")) if out.is_file() else {}
    known[f"{options.size} {name}"] = result
    out.parent.mkdir(parents=True, exist_ok=True)
    for count in options.rows:
        length, width = PROMPT_LENGTH[options.size], config.language.hidden_size
        prompts = torch.randn(count // GROUP_SIZE, length, width, device=device) * 0.02
        work = Work(model, hf, list(prompts.to(DTYPES[name])), tokens, autocast)
        found = measure(work, dtype, limits, options.repeats, wanted)
        result["rows"][str(count)] = found
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        result["machine"]["peak_resident_gib"] = round(peak / 2**20, 3)
        print(json.dumps({"rows": count, **found}), flush=True)
        # At once: a run that is stopped has told what it knows.
        out.write_text(json.dumps(known, indent=2) + "\n", encoding="utf-8")
    print(f"written: {out}")


if __name__ == "__main__":
    main()
