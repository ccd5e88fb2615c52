"""What the machine has: GPU, cores, memory, shared memory and room on its disks."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from r1omni.doctor.checks import Finding

GIB = 2**30
_GB = 10**9
_DRIVER = re.compile(r"\b\d{3}\.\d+(?:\.\d+)?\b")
_NEEDS_NO_GPU = "the mini-world needs none; training the released sizes does (docs/reproduce.md)"


def check_gpu(devices: Path = Path("/dev")) -> Iterator[Finding]:
    """Each GPU that torch sees, with a small product on it; or why torch sees none.

    Args:
        devices: folder of device files, where the driver puts `nvidia0` and so on.
    """
    import torch

    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            yield _gpu(index)
    elif not any(devices.glob("nvidia[0-9]*")):
        yield Finding("GPU", "note", "none; the CPU is used", _NEEDS_NO_GPU)
    elif os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        yield Finding(
            "GPU", "note", "hidden by CUDA_VISIBLE_DEVICES; the CPU is used",
            "unset CUDA_VISIBLE_DEVICES to use the GPU",
        )  # fmt: skip
    elif torch.version.cuda is None:
        yield Finding(
            "GPU", "fails", f"there is one, but torch {torch.__version__} is built for the CPU",
            "install torch, torchvision and torchaudio with CUDA, together, from pytorch.org's "
            "index; or hide the GPU with CUDA_VISIBLE_DEVICES=-1",
        )  # fmt: skip
    else:
        yield Finding(
            "GPU", "fails", f"there is one, but torch cannot use it ({_cuda_error()})",
            f"see whether `nvidia-smi` lists it; install a driver for CUDA {torch.version.cuda} "
            "or newer, and in a container give it the GPU (docker run --gpus all)",
        )  # fmt: skip


def _cuda_error() -> str:
    import torch

    try:
        torch.empty(0, device="cuda")
    except (RuntimeError, AssertionError) as error:  # torch names no better type
        return str(error).splitlines()[0]
    return "it sees no device"


def _gpu(index: int) -> Finding:
    import torch

    device = torch.device("cuda", index)
    subject = f"GPU {index}"
    name = torch.cuda.get_device_name(device)
    with torch.cuda.device(device):
        bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    try:
        free, total = torch.cuda.mem_get_info(device)
        ones = torch.ones(64, 64, device=device, dtype=torch.bfloat16 if bf16 else torch.float32)
        product = (ones @ ones).float().mean().item()
    except RuntimeError as error:  # no kernels for this card, no memory left, a faulty card
        reason = str(error).splitlines()[0]
        return Finding(
            subject, "fails", f"{name} cannot compute ({reason})",
            f"see `nvidia-smi` for who uses it; CUDA_VISIBLE_DEVICES can hide GPU {index}",
        )  # fmt: skip
    found = (
        f"{name}, {total / GIB:.0f} GiB of which {free / GIB:.0f} free, "
        f"{'bf16' if bf16 else 'no bf16'}, driver {_driver()}, CUDA {torch.version.cuda}"
    )
    if product != 64:
        return Finding(
            subject, "fails", f"{found}; a product of ones gave {product} instead of 64",
            f"the card is faulty: hide GPU {index} with CUDA_VISIBLE_DEVICES",
        )  # fmt: skip
    if not bf16:
        return Finding(subject, "note", found, "run with --trainer.precision 32-true")
    return Finding(subject, "ok", found)


def _driver(version_file: Path = Path("/proc/driver/nvidia/version")) -> str:
    try:
        found = _DRIVER.search(version_file.read_text(encoding="utf-8").splitlines()[0])
    except (OSError, IndexError):
        found = None
    return found[0] if found else "unknown"


def check_cores() -> Iterator[Finding]:
    """Cores this process may use."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield Finding("cores", "ok", f"{usable} of {os.cpu_count()}")


def read_memory(
    meminfo: Path = Path("/proc/meminfo"), control_group: Path = Path("/sys/fs/cgroup")
) -> tuple[int, int]:
    """Bytes of memory in all and available, within the limit of a container.

    Raises:
        OSError: the system does not say.
    """
    lines = dict(
        line.split(":", 1) for line in meminfo.read_text(encoding="utf-8").splitlines() if line
    )
    total, available = (int(lines[name].split()[0]) * 1024 for name in ("MemTotal", "MemAvailable"))
    try:
        limit = int((control_group / "memory.max").read_text(encoding="utf-8"))
        used = int((control_group / "memory.current").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # no limit: no such file, or the word "max"
        return total, available
    return min(total, limit), max(min(available, limit - used), 0)


def check_memory(
    meminfo: Path = Path("/proc/meminfo"), control_group: Path = Path("/sys/fs/cgroup")
) -> Iterator[Finding]:
    """Memory for a model and for the processes that decode."""
    try:
        total, available = read_memory(meminfo, control_group)
    except OSError:
        yield Finding("memory", "note", "this system does not say how much there is")
        return
    found = f"{available / GIB:.1f} GiB available of {total / GIB:.1f}"
    if available < GIB:
        yield Finding("memory", "fails", found, "end other programs; 1 GiB is the least")
    elif available < 8 * GIB:
        yield Finding(
            "memory", "note", found,
            "enough for the mini-world; the released models take about 6 GiB in float32, half of "
            "it with --dtype bfloat16",
        )  # fmt: skip
    else:
        yield Finding("memory", "ok", found)


def check_shared_memory(folder: Path = Path("/dev/shm")) -> Iterator[Finding]:
    """The processes that load batches hand tensors over in shared memory."""
    if not folder.is_dir():
        yield Finding("shared memory", "note", f"there is no {folder}", "set num_workers to 0")
        return
    size = shutil.disk_usage(folder).total
    if size < GIB:
        yield Finding(
            "shared memory", "note", f"{folder} holds only {size / 2**20:.0f} MiB",
            "give a container more (docker run --shm-size 8g), or set num_workers to 0 should "
            "loading end with a bus error",
        )  # fmt: skip
    else:
        yield Finding("shared memory", "ok", f"{folder}: {size / GIB:.1f} GiB")


def run_places() -> dict[str, Path]:
    """Where runs write by default, and where downloads and temporary files go."""
    from huggingface_hub.constants import HF_HUB_CACHE

    return {
        "outputs": Path("outputs"),
        "clip cache": Path("outputs", "cache"),
        "downloads": Path(HF_HUB_CACHE),
        "temporary files": Path(tempfile.gettempdir()),
    }


def check_disk(places: Mapping[str, Path]) -> Iterator[Finding]:
    """Room, and the right to write, on every disk that the places lie on.

    Args:
        places: what is written -> its folder, which need not be there yet.
    """
    disks: dict[int, dict[str, Path]] = {}
    for what, place in places.items():
        present = _present(place)
        disks.setdefault(present.stat().st_dev, {})[what] = present
    for number, folders in enumerate(disks.values(), start=1):
        subject = "disk" if len(disks) == 1 else f"disk {number}"
        yield _disk(subject, folders)


def _present(place: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    absolute = place.absolute()
    return next(path for path in (absolute, *absolute.parents) if path.exists())


def _disk(subject: str, folders: Mapping[str, Path]) -> Finding:
    usage = shutil.disk_usage(next(iter(folders.values())))
    found = f"{usage.free / _GB:.1f} GB free of {usage.total / _GB:.1f} ({', '.join(folders)})"
    closed = {str(folder) for folder in folders.values() if not os.access(folder, os.W_OK)}
    if closed:
        names = ", ".join(sorted(closed))
        return Finding(
            subject, "fails", f"{names} may not be written; {found}",
            "make it writable, or start from a folder that is",
        )  # fmt: skip
    if usage.free < _GB:
        return Finding(subject, "fails", found, "make room: a run writes more than 1 GB")
    if usage.free < 20 * _GB:
        return Finding(
            subject, "note", found,
            "enough for the mini-world; released weights, cached clips and checkpoints take more "
            "than 20 GB",
        )  # fmt: skip
    return Finding(subject, "ok", found)
