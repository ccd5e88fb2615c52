"""What some work costs in counts, which are the same on every machine: read from torch's profiler.

Products are told by their shapes, whoever computes them: so one count serves this package, a model
of transformers and TRL alike. `expected.py` has what the counts should be.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

import r1omni.kernels  # noqa: F401 - registers the operators that are counted below
from r1omni.models.omni import OmniModel

# What makes, names or looks at memory, and computes nothing.
_FREE = {
    "as_strided", "view", "_unsafe_view", "_reshape_alias", "detach", "detach_", "alias",
    "view_as_real", "view_as_complex", "resolve_conj", "resolve_neg", "empty", "empty_strided",
    "empty_like", "new_empty", "resize_", "set_", "lift_fresh", "item", "_local_scalar_dense",
    "result_type", "can_cast", "is_same_size", "_has_compatible_shallow_copy_type",
}  # fmt: skip
_COPIES = {"copy_", "cat"}
_ITEM_BYTES = {"float": 4, "double": 8, "c10::BFloat16": 2, "c10::Half": 2, "long int": 8,
               "int": 4, "bool": 1, "unsigned char": 1, "c10::complex<float>": 8}  # fmt: skip
# How torch names what autograd runs.
_BACKWARD = "autograd::engine::evaluate_function"
# Where the factors of a product stand among an operator's inputs.
_PRODUCTS = {"mm": 0, "bmm": 0, "addmm": 1, "addmm_": 1, "baddbmm": 1, "baddbmm_": 1}


@dataclass(frozen=True)
class Counts:
    """What was counted while some work ran.

    Attributes:
        launches: operators that compute something, as the program calls them.
        copies: how often numbers were copied or joined, inside other operators too.
        copied_bytes: that were written so.
        joins: of the copies, those that join tensors (`cat`).
        allocations: pieces of memory that were taken, one after the other.
        allocated_bytes: all of them together.
        peak_bytes: most that was held at a time, beyond what was held at the start.
        products: (batch, m, k, n) of matrix products, and how often each was computed; without
            those of backward passes.
    """

    launches: int
    copies: int
    copied_bytes: int
    joins: int
    allocations: int
    allocated_bytes: int
    peak_bytes: int
    products: Counter[tuple[int, int, int, int]]

    def rows_through(self, inner: int, outer: int) -> int:
        """Rows that were multiplied by a matrix [outer, inner], not counting backward passes."""
        rows = 0
        for (batch, m, k, n), times in self.products.items():
            if k != inner:
                continue
            if n == outer:
                rows += times * batch * m
            elif batch * m == outer:  # the matrix in front, whole or in blocks
                rows += times * n
        return rows


@dataclass(frozen=True)
class _Event:
    name: str
    start: int
    end: int
    shapes: list[list[int]]
    types: list[str]


class Counting:
    """Counts what runs inside its block, which runs slowly; `counts` is there after it.

    Args:
        device: whose memory is counted.
    """

    counts: Counts

    def __init__(self, device: str = "cpu") -> None:
        self._device = device.upper()
        self._profiler = profile(
            activities=[ProfilerActivity.CPU], record_shapes=True, profile_memory=True,
            acc_events=True,
        )  # fmt: skip

    def __enter__(self) -> Counting:
        self._profiler.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._profiler.__exit__(*error)
        if error[0] is None:
            raw: Any = self._profiler.profiler
            self.counts = self._counted(raw.kineto_results.events())

    def _counted(self, raw: Sequence[Any]) -> Counts:
        threads: dict[int, list[_Event]] = {}
        memory: list[tuple[int, int]] = []
        for event in raw:
            name, start = event.name(), event.start_ns()
            if name == "[memory]":
                if event.device_type().name == self._device:
                    memory.append((start, event.nbytes()))
            elif name.startswith(("aten::", _BACKWARD)):
                end = start + event.duration_ns()
                own = _Event(name.removeprefix("aten::"), start, end, event.shapes(),
                             event.dtypes())  # fmt: skip
                threads.setdefault(event.start_thread_id(), []).append(own)
        products: Counter[tuple[int, int, int, int]] = Counter()
        for own_events in threads.values():
            products.update(map(_sides, _products_forward(own_events)))
        events = [event for own_events in threads.values() for event in own_events]
        memory.sort(key=lambda entry: entry[0])
        taken = [entry for entry in memory if entry[1] > 0]
        copied = [event for event in events if event.name == "copy_"]
        joined = [event for event in events if event.name == "cat"]
        return Counts(
            launches=sum(map(_launches, threads.values())),
            copies=len(copied) + len(joined),
            copied_bytes=sum(map(_bytes, copied)) + _taken_in(joined, taken),
            joins=len(joined),
            allocations=len(taken),
            allocated_bytes=sum(num_bytes for _, num_bytes in taken),
            peak_bytes=_peak(num_bytes for _, num_bytes in memory),
            products=products,
        )


def count(work: Callable[[], object], device: str = "cpu") -> Counts:
    """The counts of some work."""
    with Counting(device) as counting:
        work()
    return counting.counts


def _products_forward(events: Sequence[_Event]) -> Iterator[_Event]:
    """Products of a thread that stand in no function of a backward pass."""
    end = -1
    for event in sorted(events, key=lambda event: (event.start, -event.end)):
        if event.name.startswith(_BACKWARD):
            end = max(end, event.end)
        elif event.name in _PRODUCTS and event.start >= end:
            yield event


def _sides(event: _Event) -> tuple[int, int, int, int]:
    first, second = event.shapes[_PRODUCTS[event.name] :][:2]
    batch = first[0] if len(first) == 3 else 1
    return batch, first[-2], first[-1], second[-1]


def _launches(events: Sequence[_Event]) -> int:
    """Outermost operators of a thread in which something is computed."""
    launches, end, computes = 0, -1, False
    for event in sorted(events, key=lambda event: (event.start, -event.end)):
        if event.name.startswith(_BACKWARD):
            continue
        if event.start >= end:
            launches += computes
            end, computes = event.end, False
        # One that calls others computes what they do, or has a kernel of its own.
        computes |= event.name in _COPIES or event.name not in _FREE | _CALLERS
    return launches + computes


# Names that stand for views and copies, whichever it takes: what they call decides.
_CALLERS = {
    "t", "transpose", "permute", "expand", "expand_as", "slice", "select", "narrow", "unsqueeze",
    "squeeze", "unflatten", "flatten", "reshape", "view_as", "chunk", "split", "unbind", "mT",
    "numpy_T", "to", "contiguous", "_to_copy", "clone", "split_with_sizes", "tensor_split",
    "unsafe_split", "swapaxes", "movedim", "diagonal", "type_as", "float", "conj", "new_tensor",
    "is_nonzero", "new_empty_strided", "unfold", "real", "T",
}  # fmt: skip


def _bytes(event: _Event) -> int:
    """Written by a copy."""
    size = _ITEM_BYTES.get(event.types[0], 4) if event.shapes else 0
    for side in event.shapes[0] if event.shapes else ():
        size *= side
    return size


def _taken_in(events: Sequence[_Event], taken: Sequence[tuple[int, int]]) -> int:
    """Bytes taken while some operators ran: what `cat` writes, whose inputs are not told."""
    starts = [start for start, _ in taken]
    total = 0
    for event in events:
        inside = slice(bisect_left(starts, event.start), bisect_left(starts, event.end))
        total += sum(num_bytes for _, num_bytes in taken[inside])
    return total


def _peak(changes: Iterator[int]) -> int:
    now = most = 0
    for change in changes:
        now += change
        most = max(most, now)
    return most


# Clips through the towers, and operations -----------------------------------------------------


class TowerCounts:
    """Clips that passed through the towers of some models, counted by hooks while it is entered.

    Attributes:
        video, audio: clips through the vision and the audio tower.
        text: instructions through the text tower.
    """

    def __init__(self, *models: OmniModel) -> None:
        self.models = models
        self.video = self.audio = self.text = 0
        self._hooks: list[Any] = []

    def __enter__(self) -> TowerCounts:
        for model in self.models:
            frames = model.config.media.num_frames
            for name, per_clip in (("vision", frames), ("audio", 1), ("text", 1)):
                tower: nn.Module = getattr(model, f"{name}_tower")
                hook = self._hook("video" if name == "vision" else name, per_clip)
                self._hooks.append(tower.register_forward_hook(hook))
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def _hook(self, name: str, per_clip: int) -> Callable[..., None]:
        def seen(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            setattr(self, name, getattr(self, name) + len(args[0]) // per_clip)

        return seen


class Operations:
    """Counts floating-point operations inside its block: products, convolutions and attention.

    It is torch's own counter, which counts attention as if nothing were masked; the operators that
    it does not know are added by their sizes.
    """

    def __init__(self) -> None:
        own, aten = torch.ops.r1omni, torch.ops.aten
        attention = aten._scaled_dot_product_flash_attention_for_cpu
        attention_backward = aten._scaled_dot_product_flash_attention_for_cpu_backward
        self._counter = FlopCounterMode(
            display=False,
            custom_mapping={
                own.linear_logprob: _of_head(lambda *_: 1),
                own.linear_logprob_backward: _of_head(lambda *rest: 1 + sum(map(bool, rest[7:9]))),
                own.linear_grpo_loss: _of_head(lambda *rest: 1 + sum(map(bool, rest[13:15]))),
                # Forward two products, backward five; key heads may be fewer.
                attention: lambda q, k, *_, **__: 2 * _pairs(q, k),
                attention_backward: lambda _, q, k, *__, **___: 5 * _pairs(q, k),
            },
        )  # fmt: skip

    def __enter__(self) -> Operations:
        self._counter.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._counter.__exit__(*error)

    @property
    def total(self) -> int:
        """So far."""
        return int(self._counter.get_total_flops())


def _pairs(query: Any, key: Any) -> int:
    """Operations of one product over all pairs of [B, H, Lq, d] and [B, Hkv, Lk, d]."""
    batch, heads, length, width = query
    return 2 * batch * heads * length * width * key[2]


def _of_head(times: Callable[..., int]) -> Callable[..., int]:
    """Of an operator that multiplies [T, D] by a head [V, D], and its gradients likewise."""

    def flops(hidden: Any, head: Any, *rest: Any, **_: Any) -> int:
        return 2 * hidden[0] * hidden[1] * head[0] * times(hidden, head, *rest)

    return flops
