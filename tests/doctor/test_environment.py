"""Checks of the machine: this one, and what broken ones look like."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest
import torch
from packaging.requirements import Requirement

from r1omni.doctor import decoders, machine, packages
from r1omni.doctor.checks import Finding
from r1omni.doctor.environment import check_environment
from r1omni.extras import EXTRAS
from r1omni.types import R1OmniError

SOURCE = Path(__file__).parents[2] / "src"
Usage = namedtuple("Usage", "total used free")


def only(findings: list[Finding]) -> Finding:
    (finding,) = findings
    return finding


# Python and packages --------------------------------------------------------------------------


def test_this_environment_is_sound() -> None:
    found = {finding.subject: finding for finding in check_environment()}
    for subject in (
        "Python",
        "packages",
        "extras",
        "torch family",
        "decoders",
        "decoding",
        "cores",
    ):
        assert found[subject].status == "ok", found[subject]
    assert {"memory", "shared memory", "disk"} <= {name.rstrip(" 0123456789") for name in found}
    assert any(name.startswith("GPU") for name in found)
    assert torch.__version__.split("+")[0] in found["torch family"].found
    assert "8x3x224x224" in found["decoding"].found and "128x3000" in found["decoding"].found


def test_python_out_of_range() -> None:
    assert only(list(packages.check_python(">=3.11,<3.14"))).status == "ok"
    finding = only(list(packages.check_python("<3.2")))
    assert finding.status == "fails"
    assert "<3.2" in finding.found and "scripts/setup.sh" in finding.remedy


def test_what_is_declared(tmp_path: Path) -> None:
    wanted = packages.declared()
    assert wanted.python == ">=3.11,<3.14"
    assert "torch>=2.10,<2.12" in wanted.requirements
    project = '[project]\nname = "r1omni"\nrequires-python = ">=3"\ndependencies = ["numpy"]\n'
    (tmp_path / "pyproject.toml").write_text(project)
    assert packages.declared(tmp_path) == packages.Declared(
        ">=3", ("numpy",), dict.fromkeys(EXTRAS, ())
    )


def test_neither_checkout_nor_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise packages.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(packages.metadata, "metadata", absent)
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "another"\n')
    with pytest.raises(R1OmniError, match="pip install -e"):
        packages.declared(tmp_path)


@pytest.mark.parametrize(
    ("requirement", "version", "words"),
    [
        ("no-such-package>=1", None, ("not installed", 'pip install "no-such-package>=1"')),
        ("av==18.1.*", "19.0.0", ("19.0.0 is installed", 'pip install "av==18.1.*"')),
        ("timm==1.0.31", "1.0.30", ("1.0.30 is installed", "timm==1.0.31")),
        ("lightning>=2.6.4,<2.7", "2.6.3", ("compromised", "renew the passwords")),
        ("torch==2.11.*", "2.15.0+cpu", ("2.15.0+cpu is installed", "from one index")),
    ],
)
def test_a_bad_package(requirement: str, version: str | None, words: tuple[str, str]) -> None:
    asked = ("numpy>=2.0", requirement)
    versions = {"numpy": "2.1.0"}
    bad, good = packages.check_packages(asked, lambda name: versions.get(name, version))
    assert bad.subject == f"package {requirement.split('>')[0].split('=')[0]}"
    assert bad.status == "fails"
    assert words[0] in bad.found and words[1] in bad.remedy
    assert good == Finding("packages", "ok", "1 installed and in range")


def test_good_packages_with_tags_and_markers() -> None:
    asked = ("torch==2.11.*", 'colorama ; sys_platform == "win32"', "pytest ; extra == 'dev'")
    finding = only(list(packages.check_packages(asked, lambda name: "2.11.0+cu130")))
    assert finding.found.startswith("1 installed")


def test_extras_may_be_absent_and_not_out_of_range() -> None:
    extras = packages.declared().extras
    assert set(extras) == set(EXTRAS) and all(extras.values())
    installed = {"scipy": "1.13.0", "threadpoolctl": "3.5", "openpyxl": "3.1.5"}
    old, told = packages.check_extras(extras, installed.get)
    assert old.status == "fails" and "1.13.0 is installed, scipy>=1.14.1 is needed" in old.found
    absent = ", ".join(extra for extra in EXTRAS if extra != "world")
    assert (told.status, told.found) == ("note", f"installed: world; not: {absent}")
    assert "pip install 'r1omni[formats]'" in told.remedy
    # `demo` asks for r1omni[serve]: for what that asks for, not for r1omni in the environment.
    served = {Requirement(text).name: "99" for text in extras["serve"]}
    *_, told = packages.check_extras(extras, served.get)
    assert told.found == "installed: serve, demo; not: world, reports, voices, formats, memory"
    of_metadata = ("numpy>=2", "scipy>=1.14; extra == 'world'", "pytest; extra == 'dev'")
    assert packages._asked_by(of_metadata, "world") == ("scipy>=1.14",)


def test_what_an_extra_asks_for_is_checked() -> None:
    names: list[str] = []

    def version(name: str) -> None:
        names.append(name)

    list(packages.check_packages(("jsonargparse[signatures]",), version))
    assert "docstring-parser" in names
    names.clear()
    list(packages.check_packages(("jsonargparse",), version))
    assert names == ["jsonargparse"]


def test_a_torch_family_that_does_not_import(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ("numpy", "torch==2.11.*", "torchvision==0.26.*")
    monkeypatch.setitem(sys.modules, "torchvision", None)
    finding = only(list(packages.check_torch_family(asked)))
    assert finding.status == "fails"
    assert f"torch {torch.__version__.split('+')[0]}" in finding.found
    assert finding.remedy.endswith('--force-reinstall "torch==2.11.*" "torchvision==0.26.*"')


@pytest.mark.parametrize("missing", ["torch", "packaging"])
def test_the_command_runs_without_a_package(missing: str, tmp_path: Path) -> None:
    """In a process of its own: here the package is long imported."""
    code = (
        f"import sys; sys.modules[{missing!r}] = None; from r1omni.cli import main\n"
        "sys.exit(main(['doctor', '--model', 'x/y/z', '--data', '.']))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert result.returncode == 1, result.stderr
    assert "Traceback" not in result.stderr
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("r1omni: error: doctor: ") and last.endswith("model, data")
    assert ("torch family" if missing == "torch" else "packages") in last
    assert "decoding" not in result.stdout  # left out, not reported as good
    assert "memory" in result.stdout


# GPU ------------------------------------------------------------------------------------------


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return monkeypatch


def test_no_gpu(no_gpu: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "nvidiactl").touch()  # the driver's file, no device
    finding = only(list(machine.check_gpu(tmp_path)))
    assert finding.status == "note" and "CPU is used" in finding.found


def test_a_gpu_that_torch_does_not_see(no_gpu: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "nvidia0").touch()
    no_gpu.setattr(torch.version, "cuda", "13.0")
    no_gpu.setattr(machine, "_cuda_error", lambda: "the driver is too old")
    finding = only(list(machine.check_gpu(tmp_path)))
    assert finding.status == "fails"
    assert "the driver is too old" in finding.found and "CUDA 13.0" in finding.remedy
    no_gpu.setattr(torch.version, "cuda", None)
    finding = only(list(machine.check_gpu(tmp_path)))
    assert finding.status == "fails" and "built for the CPU" in finding.found
    no_gpu.setenv("CUDA_VISIBLE_DEVICES", "")
    finding = only(list(machine.check_gpu(tmp_path)))
    assert finding.status == "note" and "CUDA_VISIBLE_DEVICES" in finding.found


def test_the_driver_is_read_from_its_file(tmp_path: Path) -> None:
    file = tmp_path / "version"
    assert machine._driver(file) == "unknown"
    file.write_text("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release\n")
    assert machine._driver(file) == "580.65.06"


@pytest.mark.gpu
def test_a_gpu() -> None:
    findings = list(machine.check_gpu())
    assert len(findings) == torch.cuda.device_count()
    assert findings[0].subject == "GPU 0" and findings[0].status == "ok"
    assert torch.cuda.get_device_name(0) in findings[0].found and "bf16" in findings[0].found


# Memory and disks -----------------------------------------------------------------------------

MEMINFO = "MemTotal:  16777216 kB\nMemFree: 100 kB\nMemAvailable:  {} kB\n"


@pytest.mark.parametrize(
    ("available_gib", "limit", "status", "found"),
    [
        (12.0, None, "ok", "12.0 GiB available of 16.0"),
        (12.0, "max", "ok", "12.0 GiB available of 16.0"),
        (4.0, None, "note", "4.0 GiB available of 16.0"),
        (0.5, None, "fails", "0.5 GiB available of 16.0"),
        (12.0, str(4 * 2**30), "note", "3.0 GiB available of 4.0"),  # a container, 1 GiB in use
    ],
)
def test_memory(
    available_gib: float, limit: str | None, status: str, found: str, tmp_path: Path
) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text(MEMINFO.format(int(available_gib * 2**20)))
    if limit is not None:
        (tmp_path / "memory.max").write_text(f"{limit}\n")
        (tmp_path / "memory.current").write_text(f"{2**30}\n")
    finding = only(list(machine.check_memory(meminfo, tmp_path)))
    assert (finding.status, finding.found) == (status, found)
    assert bool(finding.remedy) == (status != "ok")


def test_memory_that_the_system_does_not_tell(tmp_path: Path) -> None:
    assert only(list(machine.check_memory(tmp_path / "none"))).status == "note"


def test_shared_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no " in only(list(machine.check_shared_memory(tmp_path / "none"))).found
    for size, status in ((64 * 2**20, "note"), (2**30, "ok")):
        monkeypatch.setattr(machine.shutil, "disk_usage", lambda _, size=size: Usage(size, 0, size))
        finding = only(list(machine.check_shared_memory(tmp_path)))
        assert finding.status == status
    assert "MiB" not in finding.found


@pytest.mark.parametrize(("free_gb", "status"), [(0.9, "fails"), (19, "note"), (21, "ok")])
def test_disk(free_gb: float, status: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = Usage(100 * 10**9, 0, int(free_gb * 10**9))
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _: usage)
    places = {"outputs": tmp_path / "not" / "yet", "temporary files": tmp_path}
    finding = only(list(machine.check_disk(places)))
    assert finding.status == status and finding.subject == "disk"
    assert f"{free_gb:.1f} GB free of 100.0 (outputs, temporary files)" in finding.found


def test_a_disk_that_may_not_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # By mode it could not be tested as root.
    monkeypatch.setattr(machine.os, "access", lambda path, mode: False)
    finding = only(list(machine.check_disk({"outputs": tmp_path / "outputs"})))
    assert finding.status == "fails" and f"{tmp_path} may not be written" in finding.found


# Decoders -------------------------------------------------------------------------------------


def test_missing_decoders() -> None:
    finding = only(list(decoders.check_codecs(("h264",), ("opus", "no_such_codec"))))
    assert finding.status == "note" and finding.found.endswith("for no_such_codec")
    finding = only(list(decoders.check_codecs(("no_such_codec",), ("opus",))))
    assert finding.status == "fails" and "pip install" in finding.remedy


@pytest.mark.parametrize(
    ("constant", "value", "complaint"),
    [
        ("_GREY", 240, "grey 128 came back as 2"),
        ("_NUM_FRAMES", 4, "black frames fill up"),
    ],
)
def test_a_clip_that_comes_back_wrong(
    constant: str, value: int, complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = decoders.write_clip

    def write_another(path: Path) -> str:
        with monkeypatch.context() as patch:
            patch.setattr(decoders, constant, value)
            return write(path)

    monkeypatch.setattr(decoders, "write_clip", write_another)
    finding = only(list(decoders.check_decoding()))
    assert finding.status == "fails" and complaint in finding.found


def test_without_x264_another_encoder_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoders, "_ENCODERS", ("no_such_encoder", "mpeg4"))
    finding = only(list(decoders.check_decoding()))
    assert finding.status == "ok" and finding.found.startswith("a clip of mpeg4")
