"""What the Triton kernels become on an H100 or H200, read from their machine code; no GPU needed.

`pytest -s` prints registers, shared memory and the programs that fit on a multiprocessor.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch
from hopper import Binary, Launch, ghost, recorded

from r1omni.kernels import (
    triton_advantages,
    triton_choice,
    triton_decoding,
    triton_grpo,
    triton_scaling,
    triton_selective,
)
from r1omni.kernels.experimental import triton_linear
from r1omni.kernels.triton_tables import row_config

ROWS, WIDTH = 4096, 151_936
DTYPES = (torch.bfloat16, torch.float16, torch.float32)
# Registers, threads and bytes of shared memory of a multiprocessor.
REGISTERS, THREADS, SHARED = 65_536, 2048, 227 * 1024


def _forward(dtype: torch.dtype, width: int, with_entropy: bool, rows: int = ROWS) -> Launch:
    logits, ids = ghost(rows, width, dtype=dtype), ghost(rows, dtype=torch.long)
    with recorded(triton_selective, "forward_kernel") as launches:
        triton_selective.forward(logits, ids, 0.7, with_entropy)
    return launches[0]


def _backward(dtype: torch.dtype, width: int, with_entropy: bool, rows: int = ROWS) -> Launch:
    logits, ids = ghost(rows, width, dtype=dtype), ghost(rows, dtype=torch.long)
    line = ghost(rows)
    grad_entropy = line if with_entropy else None
    with recorded(triton_selective, "backward_kernel") as launches:
        triton_selective.backward(logits, ids, line, line, line, grad_entropy, 0.7, logits)
    return launches[0]


def _objective(dtype: torch.dtype, width: int, everything: bool, rows: int = ROWS) -> Launch:
    logits, ids = ghost(rows, width, dtype=dtype), ghost(rows, dtype=torch.long)
    line = ghost(rows)
    known = line if everything else None
    with recorded(triton_grpo, "loss_kernel") as launches:
        triton_grpo.loss_and_grad(
            logits, ids, line, line, known, known, 0.7, 0.2, 0.28, 0.04, logits
        )
    return launches[0]


def _advantages(group_size: int) -> Launch:
    with recorded(triton_advantages, "advantages_kernel") as launches:
        triton_advantages.group_advantages(
            ghost(1000 * group_size, 5), ghost(5), group_size, "group", "leave_one_out"
        )
    return launches[0]


def _linear(dtype: torch.dtype, rows: int = ROWS) -> list[Launch]:
    hidden, weight = ghost(rows, 896, dtype=dtype), ghost(WIDTH, 896, dtype=dtype)
    with (
        recorded(triton_linear, "sections_kernel") as sections,
        recorded(triton_linear, "join_kernel") as joins,
    ):
        triton_linear.forward(hidden, weight, ghost(rows, dtype=torch.long), 0.7)
    return [*sections, *joins]


def _decoding(dtype: torch.dtype, width: int, members: int) -> list[Launch]:
    """All small steps of one layer: 14 heads over 2, three prompts of 1,026 tokens."""
    batch, kv_heads, repeats, length, columns = 3, 2, 7, 1026, 128
    rows, heads = batch * members, kv_heads * repeats
    own = ghost(2, batch, kv_heads, members, columns, width, dtype=dtype)
    query = ghost(batch, kv_heads, members, repeats, width, dtype=dtype)
    kernels = ("norm_kernel", "rotate_kernel", "prompt_kernel", "own_kernel", "gated_kernel")
    with ExitStack() as stack:
        made = [stack.enter_context(recorded(triton_decoding, name)) for name in kernels]
        for delta in (None, ghost(rows, 896, dtype=dtype)):
            triton_decoding.norm(ghost(rows, 896), delta, ghost(896), 1e-6, dtype)
        triton_decoding.rotate(
            ghost(rows, (heads + 2 * kv_heads) * width, dtype=dtype),
            ghost(rows, width // 2, dtype=torch.complex64), own, ghost(1, dtype=torch.long), heads,
        )  # fmt: skip
        prompt = ghost(2, batch, kv_heads, length, width, dtype=dtype)
        bias = ghost(batch, length + columns, dtype=dtype)
        triton_decoding.attend(query, prompt, own[..., :64, :], bias[:, : length + 64])
        triton_decoding.gated(ghost(rows, 2 * 4864, dtype=dtype))
    launches = [launch for launches in made for launch in launches]
    assert len(launches) == 6
    return launches


ROW_KERNELS: dict[str, Callable[..., Launch]] = {
    "forward": _forward,
    "backward": _backward,
    "grpo": _objective,
}


@pytest.fixture(autouse=True, scope="module")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Kernels are compiled here and now, not found in a cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_CACHE_DIR", str(tmp_path_factory.mktemp("triton")))
        patch.delenv("TRITON_INTERPRET", raising=False)
        yield


def _report(name: str, launch: Launch, binary: Binary) -> int:
    """Print what a program takes; returns how many fit on a multiprocessor."""
    threads = 32 * launch.options["num_warps"]
    # Registers are dealt out in eights; a program's shared memory has 1 KiB of the system's.
    fitting = min(
        REGISTERS // (-(-binary.registers // 8) * 8 * threads),
        THREADS // threads,
        SHARED // (binary.shared + 1024),
    )
    print(
        f"\n{name}: {binary.registers} registers x {threads} threads, "
        f"{binary.shared} bytes shared, {fitting} programs a multiprocessor",
        end="",
    )
    return fitting


def _check_clean(binary: Binary) -> None:
    assert binary.stack == 0
    assert binary.instructions("LDL|STL") == [], "registers are spilled"
    assert ".f64" not in binary.ptx, "float64 costs 64 times float32"


@pytest.mark.parametrize("extra", [False, True], ids=["plain", "extra"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kernel", ROW_KERNELS)
def test_row_kernels(kernel: str, dtype: torch.dtype, extra: bool, tmp_path: Path) -> None:
    launch = ROW_KERNELS[kernel](dtype, WIDTH, extra)
    binary = launch.compile(tmp_path)
    fitting = _report(f"{kernel} {dtype}{' with all options' if extra else ''}", launch, binary)
    _check_clean(binary)
    # One starts while another ends. Timed, the loss in half precision was faster with one alone.
    assert fitting >= (1 if kernel == "grpo" and dtype.itemsize == 2 else 2)
    depth = row_config(kernel, dtype, WIDTH).depth
    wide, loads = binary.instructions(r"LDG.*\.128"), binary.instructions("LDG")
    assert len(wide) >= depth
    # One value a row each: id, logit, log-sum-exp, entropy and their like.
    assert len(loads) - len(wide) <= 7
    if kernel != "forward":
        assert len(binary.instructions(r"STG.*\.128")) >= depth
    # Lanes meet once a row, for a maximum and up to two sums of two barriers each, and a few to
    # hand the results around; one in a loop would be far more.
    assert len(binary.instructions(r"BAR\.")) <= 8


def test_the_gradient_is_rounded_as_the_forward_pass_was(tmp_path: Path) -> None:
    """x / T - lse fused into one operation leaves a certain token the gradient of a roundoff."""
    fused = _backward(torch.float32, WIDTH, True)
    fused.options.pop("enable_fp_fusion")
    assert fused.compile(tmp_path).instructions("FFMA")
    assert not _backward(torch.float32, WIDTH, True).compile(tmp_path).instructions("FFMA")


@pytest.mark.parametrize("kernel", ROW_KERNELS)
def test_rows_of_other_widths_compile(kernel: str, tmp_path: Path) -> None:
    for width in (1, 1000, WIDTH + 1):
        binary = ROW_KERNELS[kernel](torch.bfloat16, width, True).compile(tmp_path)
        _check_clean(binary)


def test_one_row_compiles(tmp_path: Path) -> None:
    """Triton makes a constant of every argument that is 1, and a constant has no methods."""
    launches = [kernel(torch.bfloat16, 1, True, rows=1) for kernel in ROW_KERNELS.values()]
    for launch in [*launches, *_linear(torch.bfloat16, rows=1)]:
        _check_clean(launch.compile(tmp_path, aligned=False))


@pytest.mark.parametrize("group_size", [8, 13])
def test_advantages(group_size: int, tmp_path: Path) -> None:
    launch = _advantages(group_size)
    binary = launch.compile(tmp_path)
    _report(f"advantages of groups of {group_size}", launch, binary)
    _check_clean(binary)
    assert launch.num_programs * 128 >= 1000 * group_size


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_scaling(dtype: torch.dtype, tmp_path: Path) -> None:
    with recorded(triton_scaling, "scale_kernel") as launches:
        triton_scaling.scale(ghost(ROWS, WIDTH, dtype=dtype), ghost(1))
    binary = launches[0].compile(tmp_path)
    _report(f"scaling {dtype}", launches[0], binary)
    _check_clean(binary)
    assert binary.instructions(r"LDG.*\.128") and binary.instructions(r"STG.*\.128")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_linear(dtype: torch.dtype, tmp_path: Path) -> None:
    for launch in _linear(dtype):
        binary = launch.compile(tmp_path)
        fitting = _report(f"{launch.kernel.__name__} {dtype}", launch, binary)
        _check_clean(binary)
        if launch.kernel.__name__ == "sections_kernel":
            assert fitting >= 2, "one multiplies while the other takes exponentials"
            half = dtype != torch.float32
            assert bool(binary.instructions("HGMMA")) == half, "tensor cores for half precision"
            assert len(binary.instructions(r"LDGSTS\.E.*\.128")) > 0


@pytest.mark.parametrize(("dtype", "members"), [(torch.bfloat16, 8), (torch.float32, 1)], ids=str)
def test_decoding(dtype: torch.dtype, members: int, tmp_path: Path) -> None:
    for launch in _decoding(dtype, 64, members):
        binary = launch.compile(tmp_path)
        _report(f"{launch.kernel.__name__} {dtype} {members}", launch, binary)
        _check_clean(binary)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_choice(dtype: torch.dtype, tmp_path: Path) -> None:
    with (
        recorded(triton_choice, "sums_kernel") as sums,
        recorded(triton_choice, "pick_kernel") as picks,
    ):
        uniform = ghost(128, dtype=torch.float64)
        triton_choice.choose(ghost(128, WIDTH, dtype=dtype), 0.7, uniform)
    binary = sums[0].compile(tmp_path)
    _report(f"sums {dtype}", sums[0], binary)
    _check_clean(binary)
    assert binary.instructions(r"LDG.*\.128")
    pick = picks[0].compile(tmp_path)
    _report(f"pick {dtype}", picks[0], pick)
    assert pick.stack == 0  # float64 is meant here: a few thousand numbers a row


@pytest.mark.parametrize("kernel", ROW_KERNELS)
def test_rows_are_addressed_in_int64(kernel: str, tmp_path: Path) -> None:
    """14,134 rows of this width are 2^31 elements: row times stride must be a product of int64."""
    code = ROW_KERNELS[kernel](torch.bfloat16, WIDTH, True).compile(tmp_path).ttir
    for tensor in ("logits",) if kernel == "forward" else ("logits", "out"):
        offsets = re.findall(rf"tt\.addptr %{tensor}, (%\w+) : !tt\.ptr<bf16>, i64", code)
        assert offsets and len(offsets) == len(re.findall(rf"tt\.addptr %{tensor},", code))
        for offset in offsets:
            # Widened afterwards, it would be the result of an extsi.
            assert re.search(rf"{offset} = arith\.(muli|addi) .* : i64", code), offset


def test_the_checks_see_what_they_look_for(tmp_path: Path) -> None:
    unaligned = _forward(torch.bfloat16, WIDTH, False).compile(tmp_path, aligned=False)
    assert unaligned.instructions(r"LDG.*\.128") == []
    crowded = _forward(torch.float32, WIDTH, False)
    crowded.options["num_warps"], crowded.arguments["DEPTH"] = 1, 8
    spilled = crowded.compile(tmp_path)
    assert spilled.stack > 0 and spilled.instructions("LDL") and spilled.instructions("STL")
