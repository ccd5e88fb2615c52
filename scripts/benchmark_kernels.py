"""Time and memory of the kernels beside plain torch, torch.compile, TRL and Liger, with floors.

    python scripts/benchmark_kernels.py                       # CPU: small sizes, a minute or two
    python scripts/benchmark_kernels.py --device cuda         # the sizes of docs/kernels.md

liger-kernel is no dependency of r1omni: install it to have its rows, some of which need CUDA. On a
CPU each implementation runs in a process of its own, so its highest memory is its own; on a GPU the
allocator tells memory and events tell time, in one process. Floors come from the same run: a copy
on the device for what only moves memory, a matrix product for what multiplies.
Writes docs/benchmarks/kernels_<device>.json and a plot beside it.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))

import torch  # noqa: E402
from script_options import ScriptParser  # noqa: E402
from torch import Tensor  # noqa: E402
from tqdm import tqdm  # noqa: E402

from r1omni import kernels  # noqa: E402
from r1omni.kernels import reference  # noqa: E402

Step = Callable[["Inputs"], Any]
MIB = 2**20
# Larger than the last cache of any device this runs on.
FLUSH_BYTES = 256 * MIB


@dataclass(frozen=True)
class Sizes:
    """T tokens, a vocabulary of V, hidden states of D, and the precision."""

    tokens: int
    vocabulary: int
    hidden: int
    dtype: str


@dataclass(frozen=True)
class Inputs:
    """What every implementation is given."""

    logits: Tensor
    hidden: Tensor
    weight: Tensor
    ids: Tensor
    ones: Tensor
    rewards: Tensor


def trl_logprob(logits: Tensor, ids: Tensor) -> Tensor:
    """The log-probabilities as TRL's documentation describes them: a log-sum-exp row by row."""
    if logits.dtype in (torch.float32, torch.float64):
        chosen = logits.gather(-1, ids[:, None]).squeeze(-1)
        return chosen - torch.stack([row.logsumexp(dim=-1) for row in logits])
    pairs = zip(logits, ids, strict=True)
    return torch.stack([row.log_softmax(dim=-1)[index] for row, index in pairs])


def fused_grpo(inputs: Inputs) -> Tensor:
    tensors = (inputs.logits, inputs.ids, inputs.ones, inputs.ones)
    return kernels.grpo_loss(*tensors, inplace_grad=True)[0]


def eager_grpo(inputs: Inputs) -> Tensor:
    return reference.grpo_loss(inputs.logits, inputs.ids, inputs.ones, inputs.ones)


def eager_linear_grpo(inputs: Inputs) -> Tensor:
    logits = inputs.hidden @ inputs.weight.T
    return reference.grpo_loss(logits, inputs.ids, inputs.ones, inputs.ones)


def fused_linear_grpo(inputs: Inputs) -> Tensor:
    tensors = (inputs.hidden, inputs.weight, inputs.ids, inputs.ones, inputs.ones)
    return kernels.linear_grpo_loss(*tensors, inplace_grad=True)[0]


# Liger takes sequences; tokens are dealt to this many.
_SEQUENCES = 8


def liger_logprob(inputs: Inputs) -> Tensor:
    """Forward only. Liger leaves out the last logits of each sequence."""
    from liger_kernel.ops.grpo_loss import fused_selective_log_softmax

    logits = inputs.logits.view(_SEQUENCES, -1, inputs.logits.shape[-1])
    return fused_selective_log_softmax(logits, inputs.ids.view(_SEQUENCES, -1), 1.0)


def liger_grpo(inputs: Inputs) -> Tensor:
    from liger_kernel.transformers.grpo_loss import triton_grpo_loss

    logits = inputs.logits.view(_SEQUENCES, -1, inputs.logits.shape[-1])
    ids = inputs.ids.view(_SEQUENCES, -1)[:, 1:].contiguous()
    ones = torch.ones_like(ids[:, 0], dtype=torch.float32)
    settings = {"temperature": 1.0, "beta": 0.0, "eps_low": 0.2, "eps_high": 0.2}
    loss, _ = triton_grpo_loss(
        logits, None, None, ids, ones, torch.ones_like(ids), reduce=True, **settings
    )
    return loss


def liger_linear_grpo(inputs: Inputs) -> Tensor:
    from liger_kernel.chunked_loss import LigerFusedLinearGRPOLoss

    hidden = inputs.hidden.view(_SEQUENCES, -1, inputs.hidden.shape[-1])
    ids = inputs.ids.view(_SEQUENCES, -1)
    loss = LigerFusedLinearGRPOLoss(beta=0.0, use_ref_model=False)
    return loss(hidden, inputs.weight, ids, torch.ones_like(ids), inputs.ones[:_SEQUENCES])[0]


def eager_logprob(inputs: Inputs) -> Tensor:
    return reference.selective_logprob(inputs.logits, inputs.ids)


def one_kernel_logprob(inputs: Inputs) -> Tensor:
    """The kernel that `kernels.linear_logprob` does not call yet; see docs/kernels.md."""
    from r1omni.kernels.experimental import triton_linear

    return triton_linear.forward(inputs.hidden, inputs.weight, inputs.ids, 1.0)


def eager_advantages(inputs: Inputs) -> Tensor:
    total = inputs.rewards.nansum(dim=1).view(-1, 8)
    centred = total - total.mean(dim=1, keepdim=True)
    return (centred / (total.std(dim=1, keepdim=True) + 1e-4)).flatten()


# case -> implementation -> what it computes; with a gradient where the name says so.
CASES: dict[str, dict[str, Step]] = {
    "log-probabilities": {
        "eager": eager_logprob,
        "compile": eager_logprob,
        "TRL": lambda i: trl_logprob(i.logits, i.ids),
        "Liger": liger_logprob,
        "ours": lambda i: kernels.selective_logprob(i.logits, i.ids),
    },
    "log-probabilities, gradient": {
        "eager": eager_logprob,
        "compile": eager_logprob,
        "TRL": lambda i: trl_logprob(i.logits, i.ids),
        "ours": lambda i: kernels.selective_logprob(i.logits, i.ids),
    },
    "GRPO on logits, gradient": {
        "eager": eager_grpo,
        "compile": eager_grpo,
        "Liger": liger_grpo,
        "ours": fused_grpo,
    },
    "log-probabilities from hidden states": {
        "eager": lambda i: reference.selective_logprob(i.hidden @ i.weight.T, i.ids),
        "ours": lambda i: kernels.linear_logprob(i.hidden, i.weight, i.ids),
        "one kernel": one_kernel_logprob,
    },
    "GRPO from hidden states, gradient": {
        "eager": eager_linear_grpo,
        "compile": eager_linear_grpo,
        "Liger": liger_linear_grpo,
        "ours": fused_linear_grpo,
    },
    "advantages of 1,000 groups": {
        "eager": eager_advantages,
        "ours": lambda i: kernels.group_advantages(i.rewards, 8),
    },
}

IMPLEMENTATIONS = list(dict.fromkeys(name for choices in CASES.values() for name in choices))


def floor_s(case: str, sizes: Sizes, bytes_s: float, flops_s: float) -> float | None:
    """The least seconds a case can take, by what it must move or multiply; None for advantages."""
    logits = sizes.tokens * sizes.vocabulary * getattr(torch, sizes.dtype).itemsize
    product = 2 * sizes.tokens * sizes.vocabulary * sizes.hidden
    return {
        "log-probabilities": logits / bytes_s,
        "log-probabilities, gradient": 3 * logits / bytes_s,
        "GRPO on logits, gradient": 2 * logits / bytes_s,
        "log-probabilities from hidden states": product / flops_s,
        "GRPO from hidden states, gradient": 3 * product / flops_s,
    }.get(case)


# One implementation, in its own process --------------------------------------------------------


def inputs_of(sizes: Sizes, device: torch.device, case: str) -> Inputs:
    """Random inputs; only what the case needs is large."""
    generator = torch.Generator(device).manual_seed(0)
    dtype = getattr(torch, sizes.dtype)

    def random(*shape: int) -> Tensor:
        made = torch.empty(*shape, dtype=dtype, device=device).normal_(generator=generator)
        return made.requires_grad_("gradient" in case)

    from_hidden, small = "hidden" in case, "advantages" in case
    return Inputs(
        logits=random(1, 1) if from_hidden or small else random(sizes.tokens, sizes.vocabulary),
        hidden=random(sizes.tokens, sizes.hidden) if from_hidden else random(1, 1),
        weight=random(sizes.vocabulary, sizes.hidden) if from_hidden else random(1, 1),
        ids=torch.randint(0, sizes.vocabulary, (sizes.tokens,), generator=generator, device=device),
        ones=torch.ones(sizes.tokens, device=device),
        rewards=torch.rand(8000, 2, generator=generator, device=device),
    )


def run_one(case: str, name: str, sizes: Sizes, device: torch.device, repeats: int) -> dict:
    """Median and lowest and highest seconds, and the most memory beyond the inputs, in MiB."""
    inputs = inputs_of(sizes, device, case)
    step = CASES[case][name]
    if name == "compile":
        step = torch.compile(step)

    def once() -> None:
        if "gradient" in case:
            step(inputs).sum().backward()
        else:
            with torch.no_grad():
                step(inputs)

    def forget() -> None:
        for tensor in (inputs.logits, inputs.hidden, inputs.weight):
            tensor.grad = None

    timed = Stopwatch(device)
    for _ in range(3):  # compiles, perhaps again, and touches memory for the first time
        forget()
        timed(once)
    forget()
    before = _restart_peak(device)
    once()
    peak = _memory_peak(device)
    times = []
    for _ in range(repeats):
        forget()
        times.append(timed(once))
    return {
        "median_s": statistics.median(times),
        "range_s": [min(times), max(times)],
        "peak_mib": round((peak - before) / MIB, 1),
    }


class Stopwatch:
    """Seconds that a device takes for some work, with cold caches.

    On a GPU the work is queued behind writes of a few milliseconds that also empty its caches, so
    that what the host takes to queue it does not count; on a CPU it does.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        size = FLUSH_BYTES if device.type == "cuda" else 1
        self._flush = torch.empty(size, dtype=torch.int8, device=device)

    def __call__(self, work: Callable[[], Any]) -> float:
        if self.device.type != "cuda":
            started = time.perf_counter()
            work()
            return time.perf_counter() - started
        torch.cuda.synchronize(self.device)
        for _ in range(40):
            self._flush.zero_()
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        work()
        end.record()
        torch.cuda.synchronize(self.device)
        return start.elapsed_time(end) / 1e3


def _restart_peak(device: torch.device) -> float:
    """Forget the highest memory so far; returns the bytes in use now."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    Path("/proc/self/clear_refs").write_text("5")
    return _memory_peak(device)


def _memory_peak(device: torch.device) -> float:
    """Highest bytes since `_restart_peak`: allocated on the GPU, or resident in this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def rates(device: torch.device, dtype: torch.dtype, repeats: int) -> tuple[float, float]:
    """Bytes a second of a copy (read and write counted), and operations a second of a product."""
    # As large as what the kernels read: a short copy is slower a byte.
    num_bytes = (8 if device.type == "cuda" else 1) * FLUSH_BYTES
    source = torch.empty(num_bytes, dtype=torch.int8, device=device)
    target = torch.empty_like(source)
    side = 8192 if device.type == "cuda" else 1024
    factor = torch.randn(side, side, device=device).to(dtype)
    timed = Stopwatch(device)

    def median(work: Callable[[], Any]) -> float:
        timed(work)
        return statistics.median(timed(work) for _ in range(repeats))

    copied = 2 * num_bytes / median(lambda: target.copy_(source))
    return copied, 2 * side**3 / median(lambda: factor @ factor)


# All of them -----------------------------------------------------------------------------------


def measure_all(
    sizes: Sizes, device: torch.device, repeats: int, implementations: Sequence[str]
) -> list[dict[str, Any]]:
    """One row an implementation; one that fails says why."""
    bytes_s, flops_s = rates(device, getattr(torch, sizes.dtype), repeats)
    rows: list[dict[str, Any]] = [
        {"case": "rates", "implementation": "torch", "bytes_s": bytes_s, "flops_s": flops_s}
    ]
    pairs = [(case, name) for case, choices in CASES.items() for name in choices]
    pairs = [pair for pair in pairs if pair[1] in implementations]
    # What takes long to compile comes last: the others are there if time runs out.
    for case, name in tqdm(sorted(pairs, key=lambda p: p[1] == "compile"), unit="implementation"):
        row: dict[str, Any] = {"case": case, "implementation": name}
        try:
            row |= _measured(case, name, sizes, device, repeats)
        except Exception as error:  # another's failure is a finding, and the rest goes on
            row["error"] = (str(error).strip().splitlines() or [type(error).__name__])[-1][:200]
        else:
            floor = floor_s(case, sizes, bytes_s, flops_s)
            row["of_floor"] = None if floor is None else round(floor / row["median_s"], 3)
        rows.append(row)
        print(json.dumps(row), flush=True)
    return rows


def _measured(
    case: str, name: str, sizes: Sizes, device: torch.device, repeats: int
) -> dict[str, Any]:
    if device.type == "cuda":
        found = run_one(case, name, sizes, device, repeats)
        torch.cuda.empty_cache()
        return found
    words = [sys.executable, __file__, "--device", str(device), "--repeats", str(repeats)]
    words += ["--sizes", json.dumps(vars(sizes)), "--only", case, name]
    done = subprocess.run(words, capture_output=True, text=True, env=dict(os.environ))
    if done.returncode:
        raise RuntimeError(done.stderr.strip() or "no message")
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return measured


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Time and memory of every implementation, relative to eager torch."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    cases = list(dict.fromkeys(row["case"] for row in rows if "bytes_s" not in row))
    figure, panels = plt.subplots(1, 2, figsize=(12, 1 + 0.75 * len(cases)), layout="constrained")
    colors = {"eager": "0.6", "compile": "tab:blue", "TRL": "tab:orange"}
    colors |= {"Liger": "tab:red", "ours": "tab:green", "one kernel": "tab:olive"}
    for panel, key, title in zip(
        panels, ("median_s", "peak_mib"), ("time over eager torch", "memory over eager torch"),
        strict=True,
    ):  # fmt: skip
        for place, case in enumerate(cases):
            given = {r["implementation"]: r for r in rows if r["case"] == case and key in r}
            base = given.get("eager", {}).get(key) or 1.0
            for offset, (name, row) in enumerate(given.items()):
                panel.barh(place + 0.16 * offset, row[key] / base, 0.15, color=colors[name])
        panel.set_yticks([place + 0.3 for place in range(len(cases))], cases)
        panel.axvline(1.0, color="0.3", linewidth=0.8)
        panel.set_title(title)
        panel.invert_yaxis()
    panels[1].set_yticklabels([])
    handles = [plt.Rectangle((0, 0), 1, 1, color=color) for color in colors.values()]
    panels[0].legend(handles, colors, loc="lower right")
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = ScriptParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=None, help="20 on a GPU, else 5")
    parser.add_argument("--sizes", type=json.loads, default=None, help="JSON of T, V, D and dtype")
    parser.add_argument("--implementations", nargs="+", choices=IMPLEMENTATIONS,
                        default=IMPLEMENTATIONS, help="default: all")  # fmt: skip
    parser.add_argument("--only", nargs=2, default=None, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=ROOT / "outputs" / "benchmarks")
    options = parser.parse_args()
    device = torch.device(options.device)
    options.repeats = options.repeats or (20 if device.type == "cuda" else 5)
    usual = Sizes(4096, 151936, 896, "bfloat16")
    if device.type != "cuda":
        usual = Sizes(1024, 50257, 256, "float32")
    sizes = Sizes(**options.sizes) if options.sizes else usual
    if options.only:
        print(json.dumps(run_one(*options.only, sizes, device, options.repeats)))
        return
    rows = measure_all(sizes, device, options.repeats, options.implementations)
    on_gpu = device.type == "cuda"
    report = {
        "device": torch.cuda.get_device_name(device) if on_gpu else platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "liger_kernel": _version("liger_kernel"),
        "sizes": vars(sizes),
        "rows": rows,
    }
    options.out.mkdir(parents=True, exist_ok=True)
    name = "kernels_" + (report["device"].replace(" ", "_").lower() if on_gpu else "cpu")
    (options.out / f"{name}.json").write_text(json.dumps(report, indent=2) + "\n")
    draw(rows, options.out / f"{name}.png")
    print(f"written: {options.out / name}.json and .png")


if __name__ == "__main__":
    main()
