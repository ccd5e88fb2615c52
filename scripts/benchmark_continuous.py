"""What it brings to begin the next prompt where an answer has ended, by how even answers are.

    python scripts/benchmark_continuous.py --out docs/benchmarks/continuous_cpu.json

Random weights of the mini sizes; completions are drawn, and which seed each prompt has is chosen so
that their lengths are of a kind: even (all about as long), spread (from a fifth to nearly twice
the mean), few_long (one of eight is several times as long). The same prompts are answered in
batches, one after the other, and in a stream with as many rows; runs alternate, every token is the
same, and ratios are of neighbouring runs. Then the clips of examples/ in short windows, by
examples/mini-model, with towers and scores. Seconds are of a core (`time.process_time`): run it
with OMP_NUM_THREADS=1; what else the machine does then hardly matters.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import mean, median
from typing import Any

from script_options import ScriptParser, file_to_write  # first: it finds the package

import torch  # isort: skip
from benchmark_inference import machine
from torch import Tensor

from r1omni.media.windows import Window
from r1omni.models import R1Omni
from r1omni.models.answering import Question
from r1omni.models.omni import OmniModel
from r1omni.models.sampler import Sampling, generate, generate_each
from r1omni.models.sizes import config_from_sizes
from r1omni.models.spans import analyze_windows
from r1omni.streams import stream_seed
from r1omni.types import Analysis

ROOT = Path(__file__).resolve().parents[1]
SIZES = ROOT / "configs" / "mini" / "model.yaml"
EXAMPLES = ROOT / "examples"
PROMPT_LENGTH = 130
# Of a completion; the longest may have three times as many tokens.
MEAN_LENGTH = 40
LONGEST = 3
# Seeds among which that of a prompt is chosen.
CANDIDATES = 16
KINDS: dict[str, Callable[[int, int], float]] = {
    "even": lambda place, count: 1.0,
    "spread": lambda place, count: 0.2 + 1.6 * ((7 * place) % count) / count,
    "few_long": lambda place, count: 2.8 if place % 8 == 3 else 0.7,
}


def lengths_of(found: Sequence[Sequence[int]], rows: int) -> dict[str, float]:
    """Mean length, and the mean of the longest of each batch."""
    lengths = [len(ids) for ids in found]
    batches = [max(lengths[i : i + rows]) for i in range(0, len(lengths), rows)]
    return {"mean": round(mean(lengths), 1), "longest_of_a_batch": round(mean(batches), 1)}


def lengths_by_seed(model: OmniModel, prompts: Sequence[Tensor], sampling: Sampling) -> Tensor:
    """Lengths of the completions of every prompt, long [N, CANDIDATES]."""
    rows = []
    for place, prompt in enumerate(prompts):
        seeds = [stream_seed(place, i) for i in range(CANDIDATES)]
        found = generate(model, [prompt], sampling, group_size=CANDIDATES, seeds=seeds)
        rows.append(found.mask.sum(dim=1))
    return torch.stack(rows)


def alternated(ways: dict[str, Callable[[], Any]], repeats: int) -> dict[str, list[float]]:
    """Seconds of a core of every way, after a first run that warms up and is compared."""
    first = [way() for way in ways.values()]
    if any(one != first[0] for one in first):
        raise SystemExit("error: the ways do not give the same answers")
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            started = time.process_time()
            way()
            seconds[name].append(time.process_time() - started)
    return seconds


def ratios(seconds: dict[str, list[float]]) -> dict[str, Any]:
    """Seconds of the batches over those of the stream: median, lowest and highest."""
    found = [a / b for a, b in zip(seconds["batches"], seconds["stream"], strict=True)]
    told = {name: round(median(times), 3) for name, times in seconds.items()}
    return {"core_s": told, "batches_over_stream": round(median(found), 2),
            "lowest": round(min(found), 2), "highest": round(max(found), 2)}  # fmt: skip


def sampled(model: OmniModel, rows: int, num_batches: int, repeats: int) -> dict[str, Any]:
    """Every kind of lengths, from embedded prompts to tokens."""
    count, width = rows * num_batches, model.config.language.hidden_size
    prompts = list(torch.randn(count, PROMPT_LENGTH, width) * 0.02)
    ends = tuple(range(0, model.config.language.vocab_size, MEAN_LENGTH))
    sampling = Sampling(LONGEST * MEAN_LENGTH, 1.0, ends, 0)
    lengths = lengths_by_seed(model, prompts, sampling)
    figures = {}
    for kind, wanted in KINDS.items():
        targets = torch.tensor([wanted(place, count) * MEAN_LENGTH for place in range(count)])
        best = (lengths - targets[:, None]).abs().argmin(dim=1).tolist()
        seeds = [stream_seed(place, i) for place, i in enumerate(best)]

        def batches(seeds: list[int] = seeds) -> list[list[int]]:
            ids = []
            for start in range(0, count, rows):
                part = slice(start, start + rows)
                found = generate(model, prompts[part], sampling, seeds=seeds[part])
                masked = zip(found.ids, found.mask.sum(dim=1).tolist(), strict=True)
                ids += [row[:length].tolist() for row, length in masked]
            return ids

        def stream(seeds: list[int] = seeds) -> list[list[int]]:
            left, ids = iter(prompts), {}

            def more(number: int) -> tuple[list[Tensor], bool]:
                taken = list(islice(left, number))
                return taken, len(taken) == number

            for ended in generate_each(model, more, sampling, rows, seed_of=seeds.__getitem__):
                if ended is not None:
                    ids.update(zip(ended.places, ended.ids, strict=True))
            return [ids[place] for place in range(count)]

        seconds = alternated({"batches": batches, "stream": stream}, repeats)
        figures[kind] = {
            "lengths": lengths_of(batches(), rows),
            **ratios(seconds),
        }
        print(rows, kind, json.dumps(figures[kind]), flush=True)
    return figures


def example_windows(omni: R1Omni, count: int) -> list[Window]:
    """Windows of half a second of the clips in examples/, decoded."""
    found: list[Window] = []
    for clip in sorted((EXAMPLES / "clips").glob("*.mp4")):
        found += omni.processor.load_windows(clip, 0.5, 0.05, "video_audio", None)
    return found[:: max(1, len(found) // count)][:count]


def analyzed(rows: int, num_batches: int, repeats: int) -> dict[str, Any]:
    """Spans of real clips by a trained model: towers, prompts, answers and scores."""
    omni = R1Omni.from_pretrained(EXAMPLES / "mini-model")
    windows = example_windows(omni, rows * num_batches)
    question = Question(max_new_tokens=128)

    def texts(found: Sequence[Analysis]) -> list[str]:
        return [analysis.text for analysis in found]

    def batches() -> list[str]:
        parts = [windows[i : i + rows] for i in range(0, len(windows), rows)]
        return [t for p in parts for t in texts([*analyze_windows(omni, p, question, rows)])]

    def stream() -> list[str]:
        return texts([*analyze_windows(omni, windows, question, rows)])

    seconds = alternated({"batches": batches, "stream": stream}, repeats)
    ids = [omni.tokenizer.encode(text, add_special_tokens=False) for text in stream()]
    return {"windows": len(windows), "lengths": lengths_of(ids, rows), **ratios(seconds)}


def main() -> None:
    parser = ScriptParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[8, 64], help="at once")
    parser.add_argument("--batches", type=int, default=6, help="of prompts")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=file_to_write, default=None, help="JSON file, added to")
    options = parser.parse_args()
    if min(options.rows) < 1 or options.batches < 2 or options.repeats < 1:
        parser.error("--rows and --repeats must be at least 1, --batches at least 2")
    torch.manual_seed(0)
    model = OmniModel(config_from_sizes(SIZES)).eval()
    known: dict[str, Any] = {}
    if options.out is not None and options.out.is_file():
        known = json.loads(options.out.read_text(encoding="utf-8"))
    told = {"batches": options.batches, "repeats": options.repeats}
    works: dict[str, Callable[[], dict[str, Any]]] = {
        f"{rows} rows": partial(sampled, model, rows, options.batches, options.repeats)
        for rows in options.rows
    }
    works["examples, 8 rows"] = partial(analyzed, 8, options.batches, options.repeats)
    for name, work in works.items():
        known[name] = {**told, **work()}
        known["machine"] = machine(torch.device("cpu"))
        if options.out is not None:  # at once: a run that is stopped has told what it knows
            options.out.write_text(json.dumps(known, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(known, indent=2))


if __name__ == "__main__":
    main()
