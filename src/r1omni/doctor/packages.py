"""Python and the packages that r1omni declares: there, in range, and importable together."""

from __future__ import annotations

import platform
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import cast

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from r1omni.doctor.checks import Finding
from r1omni.extras import EXTRAS, Extra, how_to_install
from r1omni.types import R1OmniError

_CHECKOUT = Path(__file__).parents[3]
# Releases that ran foreign code.
_COMPROMISED = {"lightning": ("2.6.2", "2.6.3")}
# Their compiled parts fit one another only as a set.
_TORCH_FAMILY = ("torch", "torchvision", "torchaudio")
_NO_MARKER = {"extra": ""}
_PROJECT = "r1omni"


@dataclass(frozen=True)
class Declared:
    """What the project asks for.

    Attributes:
        python: versions of Python, as a specifier.
        requirements: packages, as in pyproject.toml.
        extras: what each extra of `EXTRAS` adds to them.
    """

    python: str
    requirements: tuple[str, ...]
    extras: Mapping[Extra, tuple[str, ...]]


def declared(checkout: Path = _CHECKOUT) -> Declared:
    """From pyproject.toml of the checkout that runs, else from the installed distribution.

    The metadata of an editable installation are as old as the installation.

    Raises:
        R1OmniError: neither is there.
    """
    file = checkout / "pyproject.toml"
    if file.is_file():
        project = tomllib.loads(file.read_text(encoding="utf-8"))["project"]
        if project["name"] == _PROJECT:
            of_extras = project.get("optional-dependencies", {})
            return Declared(
                project["requires-python"],
                tuple(project["dependencies"]),
                {extra: tuple(of_extras.get(extra, ())) for extra in EXTRAS},
            )
    try:
        python = metadata.metadata(_PROJECT)["Requires-Python"]
        asked = tuple(metadata.requires(_PROJECT) or ())
        return Declared(python, asked, {extra: _asked_by(asked, extra) for extra in EXTRAS})
    except metadata.PackageNotFoundError:
        raise R1OmniError(
            "r1omni is neither a checkout nor installed, so what it needs is not known; install "
            "it with `pip install -e .` in the repository"
        ) from None


def _asked_by(requirements: tuple[str, ...], extra: Extra) -> tuple[str, ...]:
    """Of an installed distribution's requirements, those that it has for an extra alone."""
    found = []
    for requirement in map(Requirement, requirements):
        marker = requirement.marker
        if marker and not marker.evaluate(_NO_MARKER) and marker.evaluate({"extra": extra}):
            requirement.marker = None
            found.append(str(requirement))
    return tuple(found)


def check_python(python: str) -> Iterator[Finding]:
    """The interpreter's version against the declared ones, and the operating system."""
    version = platform.python_version()
    if not SpecifierSet(python).contains(version, prereleases=True):
        yield Finding(
            "Python", "fails", f"{version}, but {python} is needed",
            "install Python 3.11, 3.12 or 3.13 and run `PYTHON=/path/to/python scripts/setup.sh`",
        )  # fmt: skip
    else:
        yield Finding("Python", "ok", f"{version} (needed: {python})")
    if platform.system() != "Linux":
        yield Finding(
            "operating system", "note", f"{platform.system()}: r1omni is tested on Linux only",
            "use Linux where something behaves oddly",
        )  # fmt: skip


def installed_version(name: str) -> str | None:
    """Version of an installed distribution, or None."""
    try:
        # Damaged metadata have no version.
        return metadata.version(name) or None
    except metadata.PackageNotFoundError:
        return None


def check_packages(
    requirements: tuple[str, ...], version_of: Callable[[str], str | None] = installed_version
) -> Iterator[Finding]:
    """One finding for all packages that are there and in range, and one for each other."""
    num_good = 0
    asked = [part for text in requirements for part in _with_extras(Requirement(text))]
    for requirement in asked:
        if requirement.marker is not None and not requirement.marker.evaluate(_NO_MARKER):
            continue
        problem = _problem(requirement, version_of(requirement.name))
        if problem is None:
            num_good += 1
        else:
            yield problem
    if num_good:
        yield Finding("packages", "ok", f"{num_good} installed and in range")


def check_extras(
    extras: Mapping[Extra, tuple[str, ...]],
    version_of: Callable[[str], str | None] = installed_version,
) -> Iterator[Finding]:
    """Which extras are there, and each package of one that is there and out of range."""
    requirements = {extra: [*_of_extra(extra, extras)] for extra in extras}
    there = {r: version_of(r.name) for asked in requirements.values() for r in asked}
    for requirement, version in there.items():
        problem = None if version is None else _problem(requirement, version)
        if problem is not None:
            yield problem
    absent = [e for e, asked in requirements.items() if any(there[r] is None for r in asked)]
    installed = ", ".join(e for e in requirements if e not in absent) or "none"
    if absent:
        yield Finding(
            "extras", "note", f"installed: {installed}; not: {', '.join(absent)}",
            f"{', '.join(map(how_to_install, absent))}, where you need them",
        )  # fmt: skip
    else:
        yield Finding("extras", "ok", installed)


def _of_extra(extra: Extra, extras: Mapping[Extra, tuple[str, ...]]) -> Iterator[Requirement]:
    """What an extra asks for, and for an extra of r1omni that it names what that does.

    Whether r1omni itself is installed is another question: a checkout runs without.
    """
    for requirement in map(Requirement, extras[extra]):
        if requirement.name == _PROJECT:
            for name in sorted(requirement.extras):
                yield from _of_extra(cast(Extra, name), extras)
        else:
            yield requirement


def _problem(requirement: Requirement, version: str | None) -> Finding | None:
    name = requirement.name
    subject = f"package {name}"
    wanted = f"{name}{requirement.specifier}"
    install = f'python -m pip install "{wanted}"'
    if name in _TORCH_FAMILY:
        install += " (torch, torchvision and torchaudio together, from one index)"
    if version is None:
        return Finding(subject, "fails", f"not installed, {wanted} is needed", install)
    if version in _COMPROMISED.get(name, ()):
        return Finding(
            subject, "fails", f"{version} is a compromised release",
            f"{install}, and renew the passwords and keys that this machine holds",
        )  # fmt: skip
    if not requirement.specifier.contains(version, prereleases=True):
        return Finding(subject, "fails", f"{version} is installed, {wanted} is needed", install)
    return None


def _with_extras(requirement: Requirement) -> Iterator[Requirement]:
    """The requirement, and what the extras it names ask for."""
    yield requirement
    try:
        parts = [Requirement(text) for text in metadata.requires(requirement.name) or ()]
    except metadata.PackageNotFoundError:
        return
    for part in parts:
        marker = part.marker
        if marker is None or marker.evaluate(_NO_MARKER):
            continue  # asked for in any case
        if any(marker.evaluate({"extra": extra}) for extra in requirement.extras):
            part.marker = None
            yield part


def check_torch_family(requirements: tuple[str, ...]) -> Iterator[Finding]:
    """torch, torchvision and torchaudio import and compute together.

    A CPU wheel of one beside a CUDA wheel of another is in range, and does not import.
    """
    versions = ", ".join(f"{name} {installed_version(name)}" for name in _TORCH_FAMILY)
    try:
        import torch
        import torchaudio
        import torchvision

        boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0]])
        torchvision.ops.nms(boxes, torch.ones(1), 0.5)  # an operator compiled for one torch
        torchaudio.functional.resample(torch.zeros(16), 2, 1)
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        wanted = " ".join(
            f'"{text}"' for text in requirements if Requirement(text).name in _TORCH_FAMILY
        )
        yield Finding(
            "torch family", "fails", f"{versions} do not work together ({reason})",
            "install the three anew from one index, all with CUDA or all without: "
            f"python -m pip install --force-reinstall {wanted}",
        )  # fmt: skip
        return
    yield Finding("torch family", "ok", f"{versions} work together")
