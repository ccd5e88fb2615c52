"""Compiles the Triton kernels for an H100 or H200 (sm_90) on any machine, and reads the result.

What a launcher would launch is recorded and compiled as Triton's run time would: the arguments,
the specialisation on divisibility by 16, the configuration from the table.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import mangle_type

TARGET = GPUTarget("cuda", 90, 32)
TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"


@dataclass
class Launch:
    """What a launcher asked for: a kernel, its arguments by name, its options."""

    kernel: Any
    arguments: dict[str, Any]
    options: dict[str, int]
    num_programs: int

    def compile(self, folder: Path, aligned: bool = True) -> Binary:
        """The binary; `aligned` False takes away what is known of addresses and strides."""
        signature: dict[str, str] = {}
        constants: dict[tuple[int], Any] = {}
        attributes: dict[tuple[int], list[list[object]]] = {}
        for position, parameter in enumerate(self.kernel.params):
            value = self.arguments[parameter.name]
            if parameter.is_constexpr or value is None or (isinstance(value, int) and value == 1):
                signature[parameter.name] = "constexpr"
                constants[position,] = value
                continue
            signature[parameter.name] = mangle_type(value)
            if aligned and (isinstance(value, Tensor) or value % 16 == 0):
                attributes[position,] = [["tt.divisibility", 16]]
        source = ASTSource(self.kernel, signature, constants, attributes)
        compiled = triton.compile(source, target=TARGET, options=self.options)
        path = folder / f"{self.kernel.__name__}.cubin"
        path.write_bytes(compiled.asm["cubin"])
        sass, usage = (_dump(option, path) for option in ("-sass", "-res-usage"))
        asm, shared = compiled.asm, compiled.metadata.shared
        return Binary(asm["ttir"], asm["ptx"], sass, usage, shared)


@dataclass
class Binary:
    """A compiled kernel as text: Triton's own form, PTX, machine code, resources.

    `shared` is the shared memory of a program in bytes.
    """

    ttir: str
    ptx: str
    sass: str
    usage: str
    shared: int

    @property
    def registers(self) -> int:
        return self._used("REG")

    @property
    def stack(self) -> int:
        return self._used("STACK")

    def _used(self, name: str) -> int:
        found = re.findall(rf"\b{name}:(\d+)", self.usage)
        assert len(found) == 1, self.usage
        return int(found[0])

    def instructions(self, pattern: str) -> list[str]:
        """The opcodes of the machine code that match a pattern, from their beginning."""
        opcodes = re.findall(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)", self.sass)
        assert len(opcodes) > 20, self.sass
        return [opcode for opcode in opcodes if re.match(pattern, opcode)]


def _dump(option: str, path: Path) -> str:
    command = [str(TOOLS / "cuobjdump"), option, str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


class _Recorder:
    """In a kernel's place: takes the launch and does nothing."""

    def __init__(self, kernel: Any, launches: list[Launch]) -> None:
        self._kernel = kernel
        self._launches = launches

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
        assert len(grid) == 1, "the second and third axis of a grid end at 65,535"

        def record(*arguments: Any, **keywords: Any) -> None:
            names = [parameter.name for parameter in self._kernel.params]
            named = dict(zip(names, arguments, strict=False))
            named |= {name: value for name, value in keywords.items() if name in names}
            options = {name: value for name, value in keywords.items() if name not in names}
            self._launches.append(Launch(self._kernel, named, options, grid[0]))

        return record


@contextmanager
def recorded(module: ModuleType, kernel: str) -> Iterator[list[Launch]]:
    """Launches of a kernel inside the block, none of which happens."""
    launches: list[Launch] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, kernel, _Recorder(getattr(module, kernel), launches))
        yield launches


def ghost(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """A tensor without memory: launchers look at shapes, strides and dtypes only."""
    return torch.empty(*shape, dtype=dtype, device="meta")
