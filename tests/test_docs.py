"""What pages say of the code is there: links, names, sizes, and the picture of a step."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from r1omni.models.sizes import config_from_sizes

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
STEP = ROOT / "docs" / "one_step.md"
_LINK = re.compile(r"\]\(([^)\s#:]+)(?:#([^)\s]+))?\)")


def is_defined(name: str, source: str) -> bool:
    """Whether a module defines `name`, or `Class.name`, at its top."""
    body: list[ast.stmt] = ast.parse(source).body
    for part in name.split("."):
        kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        found = [node for node in body if isinstance(node, kinds) and node.name == part]
        if not found:
            return False
        body = found[0].body
    return True


def broken_links(page: Path, text: str) -> list[str]:
    """Links of a page to files that are not there, or to names that a Python file does not define.

    A link to code is `[name](../src/.../file.py#name)`.
    """
    broken = []
    for file, name in _LINK.findall(text):
        target = page.parent / file
        if not target.exists():
            broken.append(f"{page.name}: {file} is not there")
        elif name and target.suffix == ".py" and not is_defined(name, target.read_text("utf-8")):
            broken.append(f"{page.name}: {file} defines no {name}")
    return broken


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_links_of_a_page_lead_somewhere(page: Path) -> None:
    assert broken_links(page, page.read_text(encoding="utf-8")) == []


def test_the_walk_through_a_step_names_its_code() -> None:
    linked = [name for _, name in _LINK.findall(STEP.read_text(encoding="utf-8")) if name]
    assert len(linked) > 25 and "GRPOModule.training_step" in linked
    code = "../src/r1omni/ops/losses.py"
    for wrong in (f"{code}#no_loss", f"{code}#GRPOLoss.nothing", "../src/r1omni/nowhere.py#x"):
        assert len(broken_links(STEP, f"see [it]({wrong})")) == 1
    assert broken_links(STEP, f"see [it]({code}#part_loss)") == []


def test_sizes_of_the_step_are_those_of_the_models() -> None:
    rows = re.findall(r"^\| (\w+) \| [^|]+ \| (\d+) \| (\d+) \|$", STEP.read_text("utf-8"), re.M)
    stated = {letter: [int(mini), int(released)] for letter, mini, released in rows}
    configs = [
        config_from_sizes(ROOT / "configs" / name / "model.yaml")
        for name in ("mini", "r1omni_0.5b")
    ]
    assert stated == {
        "T": [c.media.num_frames for c in configs],
        "P": [c.grid**2 for c in configs],
        "Dv": [c.vision.hidden_size for c in configs],
        "Da": [c.audio.d_model for c in configs],
        "Lv": [c.num_video_tokens for c in configs],
        "La": [c.num_audio_tokens for c in configs],
        "D": [c.language.hidden_size for c in configs],
        "V": [c.language.vocab_size for c in configs],
    }


def test_the_worked_group_comes_out_as_printed() -> None:
    [(code, printed)] = re.findall(
        r"```python\n(.*?)```\n\n```text\n(.*?)```", STEP.read_text(encoding="utf-8"), re.DOTALL
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(ROOT / "src")}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == printed


def load(script: str) -> ModuleType:
    """A script as a module."""
    spec = importlib.util.spec_from_file_location(script, ROOT / "scripts" / f"{script}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_tables_of_performance_are_those_of_their_files() -> None:
    for page, tables in load("performance_tables").PAGES.items():
        text = (ROOT / "docs" / page).read_text(encoding="utf-8")
        for table in tables:
            assert table() in text, f"{page}: see scripts/performance_tables.py ({table.__name__})"


def test_the_picture_is_what_its_script_draws(tmp_path: Path) -> None:
    script = load("one_step_picture")
    script.draw(tmp_path / "drawn.svg")
    # Places of a letter may differ with the version of matplotlib; what is said may not.
    words = [
        re.findall(r"<text[^>]*>([^<]+)", path.read_text(encoding="utf-8"))
        for path in (tmp_path / "drawn.svg", script.PICTURE)
    ]
    assert words[0] == words[1]
    assert len(words[0]) > 40
