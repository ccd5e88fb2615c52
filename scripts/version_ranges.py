"""The suite with the lowest and with the newest versions that pyproject.toml allows.

    python scripts/version_ranges.py                            # both, with this Python
    python scripts/version_ranges.py --only newest --python ~/.pyenv/versions/3.13.0/bin/python
    python scripts/version_ranges.py --wheel                    # the wheel, in a fresh environment

The lowest versions are the lower bounds of pyproject.toml, each exactly; the newest are what pip
takes. Tools of development are the newest in both. What came out goes into
docs/benchmarks/versions.json and docs/versions.md; an environment that cannot be installed is
entered with pip's reason. An environment takes 7 GB and stays in --folder, where the next call
with the same requirements finds it.
"""

from __future__ import annotations

import csv
import datetime
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args
from xml.etree import ElementTree

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from script_options import ScriptParser
from versions_page import write_versions

from r1omni.types import UsageError

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "benchmarks" / "versions.json"
PAGE = ROOT / "docs" / "versions.md"
Which = Literal["lowest", "newest"]
# Tools of a checkout, which nobody needs who uses the package.
_TOOLS = ("dev", "docs", "mutation")
_REASON_LINES = 4
# Prints the version of Python, and name==version of each distribution.
_DESCRIBE = """
import platform
from importlib.metadata import distributions
print(platform.python_version(), *(f"{d.name}=={d.version}" for d in distributions()))
"""


def main() -> int:
    parser = ScriptParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", type=Path, default=Path(sys.executable), help="interpreter")
    parser.add_argument("--only", choices=get_args(Which), help="one of the two")
    parser.add_argument("--tests", nargs="+", default=["tests"], metavar="PATH", help="a part")
    parser.add_argument("--processes", type=int, default=2, help="of pytest; 0 for none of its own")
    parser.add_argument("--wheel", action="store_true", help="try the wheel, not the suite")
    parser.add_argument("--folder", type=Path, default=ROOT / "outputs" / "versions")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--page", type=Path, default=PAGE)
    options = parser.parse_args()
    if not options.python.is_file():
        parser.error(f"--python {options.python}: there is no such interpreter")
    if options.wheel and (options.only or options.tests != ["tests"]):
        parser.error("--wheel installs the newest and runs no tests; leave --only and --tests out")
    folder = options.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        if options.wheel:
            found = [try_wheel(options.python, folder)]
        else:
            chosen = (options.only,) if options.only else get_args(Which)
            found = [
                try_suite(options.python, which, options.tests, options.processes, folder)
                for which in chosen
            ]
    except UsageError as error:
        parser.error(str(error))
    for entry in found:
        write_versions(options.results, options.page, entry)
        print(json.dumps({k: v for k, v in entry.items() if k != "versions"}, indent=2))
    print(f"wrote {options.results} and {options.page}")
    return int(any(not entry["passed"] for entry in found))


# What is asked for ---------------------------------------------------------------------------


def requirements(project: dict[str, Any], extra: str | None = None) -> list[str]:
    """A project's dependencies, or those of an extra and of the extras that it names."""
    if extra is None:
        return list(project["dependencies"])
    found = []
    for line in project["optional-dependencies"][extra]:
        requirement = Requirement(line)
        own = requirement.name == project["name"]
        named = sorted(requirement.extras) if own else []
        found += [line] if not own else [r for name in named for r in requirements(project, name)]
    return list(dict.fromkeys(found))


def for_users(project: dict[str, Any]) -> list[str]:
    """What somebody installs who uses the package: all but the tools of a checkout."""
    extras = [extra for extra in project["optional-dependencies"] if extra not in _TOOLS]
    lines = [*requirements(project), *(r for e in extras for r in requirements(project, e))]
    return list(dict.fromkeys(lines))


def lowest(line: str) -> str:
    """A requirement's lowest version as a constraint of pip.

    Raises:
        UsageError: it has no lower bound.
    """
    requirement = Requirement(line)
    for part in requirement.specifier:
        if part.operator in (">=", "=="):
            return f"{requirement.name}=={part.version.removesuffix('.*')}"
    raise UsageError(f"pyproject.toml: {line!r} has no lowest version; give it one with >=")


# Environments --------------------------------------------------------------------------------


def environment(
    python: Path, folder: Path, lines: Sequence[str], constraints: Sequence[str]
) -> tuple[Path, str | None]:
    """An environment with what `lines` ask for; one that is there and was made so is taken.

    Args:
        python: interpreter that it is made of.
        folder: where it lies.
        lines: requirements of pip.
        constraints: exact versions.

    Returns:
        its interpreter, and why pip failed, or None.
    """
    own = folder / "bin" / "python"
    version = subprocess.run([python, "-VV"], check=True, capture_output=True, text=True).stdout
    made_of = "\n".join([version, *lines, "", *constraints])
    stamp = folder / "made_of.txt"
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == made_of:
        return own, None
    subprocess.run([python, "-m", "venv", "--clear", folder], check=True)
    (folder / "requirements.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "constraints.txt").write_text("\n".join(constraints) + "\n", encoding="utf-8")
    print(f"installing into {folder}: several GB, some minutes", file=sys.stderr)
    pip = subprocess.run(
        [own, "-m", "pip", "--disable-pip-version-check", "install", "--progress-bar", "off",
         "-r", folder / "requirements.txt", "-c", folder / "constraints.txt"],
        capture_output=True, text=True,
    )  # fmt: skip
    (folder / "pip.log").write_text(pip.stdout + pip.stderr, encoding="utf-8")
    if pip.returncode:
        told = [line for line in pip.stderr.splitlines() if line.startswith("ERROR: ")]
        return own, " ".join(line.removeprefix("ERROR: ") for line in told[:_REASON_LINES])
    stamp.write_text(made_of, encoding="utf-8")
    return own, None


def described(python: Path, kind: str, lines: Sequence[str], failed: str | None) -> dict[str, Any]:
    """What every entry says: of what it is, and which of the direct dependencies it had."""
    words = [python, "-c", _DESCRIBE]
    told = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    version, *distributions = told.split()
    has = dict(line.split("==") for line in distributions)
    names = sorted({Requirement(line).name for line in lines})
    known = {} if failed is not None else {canonicalize_name(n): v for n, v in has.items()}
    return {
        "kind": kind,
        "python": version,
        "date": datetime.date.today().isoformat(),
        "not_installed": failed,
        "versions": {name: known[canonicalize_name(name)] for name in names if known},
    }


# The suite -----------------------------------------------------------------------------------


def try_suite(
    python: Path, which: Which, tests: Sequence[str], processes: int, folder: Path
) -> dict[str, Any]:
    """Run tests with the lowest or the newest versions."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    users = for_users(project)
    lines = list(dict.fromkeys([*users, *requirements(project, "dev")]))
    constraints = [lowest(line) for line in users] if which == "lowest" else []
    place = folder / f"{which}-{minor_of(python)}"
    own, failed = environment(python, place, lines, constraints)
    entry = described(own, which, users, failed)
    if failed is not None:
        return {**entry, "passed": False}
    report = place / "tests.xml"
    report.unlink(missing_ok=True)
    environ = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "MLFLOW_DISABLE_TELEMETRY": "true"}
    environ.setdefault("OMP_NUM_THREADS", "1")
    words = [own, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", *tests]
    parallel = ["-n", str(processes), "--dist", "loadfile", "--no-loadscope-reorder"]
    words += parallel if processes else []
    begun_s = time.monotonic()
    status = subprocess.run(words, cwd=ROOT, env=environ).returncode
    entry["minutes"] = round((time.monotonic() - begun_s) / 60, 1)
    if not report.is_file():
        raise UsageError(f"pytest ended with status {status} before it wrote {report}")
    return {**entry, "tests": list(tests), **counted(report), "passed": status == 0}


def minor_of(python: Path) -> str:
    """Such as 3.13."""
    words = [python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()


def counted(report: Path) -> dict[str, Any]:
    """Tests of a report of pytest's by outcome, and the names of those that failed."""
    cases = ElementTree.parse(report).getroot().findall(".//testcase")
    failed = [case for case in cases if any(case.find(t) is not None for t in ("failure", "error"))]
    skipped = [case for case in cases if case.find("skipped") is not None]
    return {
        "num_passed": len(cases) - len(failed) - len(skipped),
        "num_failed": len(failed),
        "num_skipped": len(skipped),
        "failed": sorted({f"{case.get('classname')}::{case.get('name')}" for case in failed}),
    }


# The wheel -----------------------------------------------------------------------------------


def try_wheel(python: Path, folder: Path) -> dict[str, Any]:
    """Build the wheel, install it without extras where nothing else is, and use it elsewhere."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    builder, failed = environment(python, folder / f"build-{minor_of(python)}", ["build"], [])
    if failed is not None:
        raise UsageError(f"`build` cannot be installed: {failed}")
    with tempfile.TemporaryDirectory() as place:
        wheel = build_wheel(builder, Path(place))
        own = folder / f"wheel-{minor_of(python)}"
        shutil.rmtree(own, ignore_errors=True)  # fresh each time
        interpreter, failed = environment(
            python, own, [f"{project['name']} @ {wheel.as_uri()}"], []
        )
        entry = described(interpreter, "wheel", requirements(project), failed)
        entry |= {"file": wheel.name, "kib": round(wheel.stat().st_size / 1024)}
        if failed is not None:
            return {**entry, "passed": False}
        return {**entry, **used(own / "bin" / project["name"], Path(place))}


def build_wheel(builder: Path, place: Path) -> Path:
    """`python -m build` of a copy of the checkout, since setuptools writes beside what it reads."""
    source = place / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    leave = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(ROOT / "src", source / "src", ignore=leave)
    words = [builder, "-m", "build", "--outdir", place / "dist", source]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise UsageError(f"the wheel cannot be built: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    (wheel,) = (place / "dist").glob("*.whl")
    return wheel


def used(command: Path, place: Path) -> dict[str, Any]:
    """How `--help` and `analyze` of an installed package go, from a folder without the checkout."""
    environ = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
    examples = ROOT / "examples"
    out = place / "out"
    runs = {
        "help_first_s": [command, "--help"],  # compiles what it imports
        "help_s": [command, "--help"],
        "analyze_s": [command, "analyze", examples / "clips", "--model", examples / "mini-model",
                      "--format", "csv", "--out", out],
    }  # fmt: skip
    found: dict[str, Any] = {}
    for name, words in runs.items():
        begun_s = time.monotonic()
        done = subprocess.run(words, cwd=place, env=environ, capture_output=True, text=True)
        found[name] = round(time.monotonic() - begun_s, 2)
        if done.returncode:
            return {
                **found,
                "passed": False,
                "failed": [done.stderr.strip().splitlines()[-1][:300]],
            }
    with (out / "records.csv").open(encoding="utf-8", newline="") as file:
        labels = [row["label"] for row in csv.DictReader(file)]
    clips = len(list((examples / "clips").iterdir()))
    wrong = [] if len(labels) == clips and all(labels) else [f"records.csv has labels {labels}"]
    return {**found, "labels": labels, "passed": not wrong, "failed": wrong}


if __name__ == "__main__":
    sys.exit(main())
