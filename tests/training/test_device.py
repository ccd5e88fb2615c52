"""`trainer.precision`: what is accepted computes right, all else is refused; a CPU's memory."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import lightning as L
import pytest
import torch
from lightning.fabric.connector import _PRECISION_INPUT
from lightning.pytorch.plugins.precision import HalfPrecision
from small_training import BASE, fit, logged, short_grpo, short_sft

from r1omni.cli import main
from r1omni.models.sampler import Sampled, generate
from r1omni.training import SFTModule, module, policy
from r1omni.training.device import PRECISIONS, check_precision, warn_of_slow_bfloat16
from r1omni.types import UsageError

REPOSITORY = Path(__file__).parents[2]
OVERLAY = "configs/overlay/bf16_cpu.yaml"


def _names(annotation: Any) -> set[Any]:
    """Every value of a union of literals."""
    parts = get_args(annotation)
    return set().union(*map(_names, parts)) if parts else {annotation}


# All that Lightning takes, now and in a later version.
OF_LIGHTNING = sorted(_names(_PRECISION_INPUT), key=str)
ACCEPTED = ("32-true", "bf16-mixed", "32", 32, "bf16")
REFUSED = [name for name in OF_LIGHTNING if name not in ACCEPTED]


@pytest.fixture(autouse=True)
def _rewards_of_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))


def test_only_what_is_tested_is_accepted() -> None:
    assert len(REFUSED) >= 9 and set(PRECISIONS) < set(OF_LIGHTNING)
    for name in ACCEPTED:
        check_precision(name)
    for name in REFUSED:
        with pytest.raises(UsageError, match=rf"^trainer\.precision {name} .* bf16-mixed .*$"):
            check_precision(name)


@pytest.mark.parametrize("command", ["fit", "validate", "test", "predict"])
def test_refused_before_anything_is_loaded(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(REPOSITORY)
    words = ["--config", "configs/mini/r1omni.yaml", "--trainer.precision", "bf16-true",
             *short_grpo(tmp_path, tmp_path / "run", "length")]  # fmt: skip
    # There is neither a model nor data; both would be other errors.
    assert main([command, *map(str, words)]) == 2
    error = capsys.readouterr().err
    assert "trainer.precision bf16-true" in error and error.strip().count("\n") == 0
    assert not (tmp_path / "run").exists()


def test_a_plugin_in_its_place_is_refused(mini_world: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"trainer\.precision bf16-true"):
        fit(mini_world, tmp_path, None, plugins=[HalfPrecision("bf16-true")])

    class Own(L.pytorch.plugins.precision.Precision):
        """Says that it is 32-true, as that of bitsandbytes does."""

    with pytest.raises(UsageError, match=r"trainer\.precision Own"):
        fit(mini_world, tmp_path, plugins=[Own()])


@pytest.mark.parametrize("grpo", [None, BASE])
def test_mixed_precision_trains_float32_weights(
    mini_world: Path, tmp_path: Path, grpo: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Roundoff may turn a token of GRPO, after which there is nothing to compare: the second run
    # learns from the completions of the first.
    drawn: list[Sampled] = []

    def recorded(*args: Any, **options: Any) -> Sampled:
        drawn.append(generate(*args, **options))
        return drawn[-1]

    monkeypatch.setattr(policy, "generate", recorded)
    plain = fit(mini_world, tmp_path, grpo, steps=2, precision=PRECISIONS[0])
    again = iter(drawn)
    monkeypatch.setattr(policy, "generate", lambda *_, **__: next(again))
    mixed = fit(mini_world, tmp_path, grpo, steps=2, precision=PRECISIONS[1])
    assert next(again, None) is None and bool(drawn) == (grpo is not None)
    kept = [*mixed.model.parameters(), *mixed.model.buffers()]
    assert {tensor.dtype for tensor in kept if tensor.is_floating_point()} == {torch.float32}
    state = mixed.trainer.optimizers[0].state_dict()["state"]
    assert {entry["exp_avg"].dtype for entry in state.values()} == {torch.float32}
    assert 0 < abs(logged(mixed)["loss"] - logged(plain)["loss"]) < 2e-2
    start = SFTModule(str(mini_world / "init")).model
    moved = [
        torch.cat([(p - q).flatten() for p, q in zip(m.model.parameters(), start.parameters(),
                                                     strict=True)]) for m in (plain, mixed)
    ]  # fmt: skip
    same_way = torch.nn.functional.cosine_similarity(*moved, dim=0)
    assert same_way > 0.95


@pytest.mark.parametrize("own", ["", "_is_avx512_bf16_supported", "_is_amx_tile_supported"])
def test_a_cpu_without_bfloat16_is_warned_of(
    own: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda name=name: name == own)
    cpu = torch.device("cpu")
    for precision, device in (("32-true", cpu), (None, cpu), ("bf16-mixed", torch.device("cuda"))):
        warn_of_slow_bfloat16(precision, device)
    assert not caplog.messages
    for precision in ("bf16-mixed", "bf16"):
        warn_of_slow_bfloat16(precision, cpu)
    assert len(caplog.messages) == (0 if own else 2)
    assert all("avx512_bf16" in line and "\n" not in line for line in caplog.messages)


def test_the_overlay_trains_in_bfloat16(
    mini_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    """By the command line; the gradient is not that of float32, and a slow CPU is told of."""
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    first = {}
    for name, overlay in (("plain", []), ("mixed", ["--config", OVERLAY])):
        caplog.clear()
        assert main(["fit", *short_sft(mini_world, tmp_path / name), *overlay]) == 0
        # jsonargparse logs the overlay's text as well, below warnings.
        warned = [r for r in caplog.records if r.levelname == "WARNING" and "avx512" in r.message]
        assert len(warned) == (name == "mixed")
        lines = (tmp_path / name / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        figures = [json.loads(line)["metrics"] for line in lines]
        first[name] = next(f["grad_norm"] for f in figures if "grad_norm" in f)
    assert first["mixed"] != first["plain"]
    assert first["mixed"] == pytest.approx(first["plain"], rel=0.1)


GIVEN_BACK = """
import json, os, sys, torch
from pathlib import Path
from r1omni.training.device import keep_freed_memory
SIZE = 24 * 2**20
def mapped():
    return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGESIZE")
for device, environment in json.loads(sys.argv[1]):
    if not os.fork():  # what malloc was told stays for the life of a process
        os.environ.update(environment)
        if device:
            keep_freed_memory(torch.device(device))
        before = mapped()
        torch.empty(SIZE, dtype=torch.uint8)  # only the first: then malloc adapts by itself
        print(1 - (mapped() - before) / SIZE, flush=True)
        os._exit(0)
    os.wait()
"""
ANEW: list[tuple[str, dict[str, str]]] = [
    ("", {}),  # nothing asked for
    ("cuda", {}),
    ("cpu", {"MALLOC_TRIM_THRESHOLD_": "131072"}),  # a user's own choice
    ("cpu", {"MALLOC_MMAP_THRESHOLD_": "131072"}),
    ("cpu", {"GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=131072"}),
    ("cpu", {"GLIBC_TUNABLES": "glibc.pthread.rseq=1:glibc.malloc.trim_threshold=131072"}),
]
KEPT: list[tuple[str, dict[str, str]]] = [
    ("cpu", {}),
    ("cpu", {"GLIBC_TUNABLES": "glibc.rtld.optional_static_tls=512"}),
]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another malloc")
def test_freed_memory_is_used_again() -> None:
    """By the size of the process: a block that is freed stays with it, or goes to the kernel."""
    words = [sys.executable, "-c", GIVEN_BACK, json.dumps([*ANEW, *KEPT])]
    tuned = ("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD")
    env = {name: value for name, value in os.environ.items() if not name.startswith(tuned)}
    done = subprocess.run(words, env=env, capture_output=True, text=True, check=True)
    shares = [float(line) for line in done.stdout.splitlines()]
    assert len(shares) == len(ANEW) + len(KEPT)
    assert min(shares[: len(ANEW)]) > 0.9 and max(shares[len(ANEW) :]) < 0.1


def test_a_run_keeps_freed_memory_of_the_device_that_computes(
    mini_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[torch.device] = []
    monkeypatch.setattr(module, "keep_freed_memory", asked.append)
    fit(mini_world, tmp_path, steps=1)
    assert asked == [torch.device("cpu")]
