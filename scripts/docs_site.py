"""What mkdocs needs beside docs/: pages that live elsewhere, and links that lead out of docs/.

mkdocs runs it as a hook (mkdocs.yml). README.md is the first page, CHANGELOG.md and CONTRIBUTING.md
are pages, and api.md is made of what the packages name in `__all__`. A link to a source file leads
to the object's entry in the API reference where it has one; otherwise its text alone stays.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "r1omni"
# Files at the root -> the page that each becomes.
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
}
_LINK = re.compile(r"(!?)\[([^\]]+)\]\(([^)\s]+)\)")


def exported() -> Iterator[tuple[str, str, str]]:
    """(package, name, module that defines it) of every name in the `__all__` of a package."""
    for file in sorted(SOURCE.rglob("__init__.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        package = ".".join(("r1omni", *file.relative_to(SOURCE).parts[:-1]))
        homes = {
            alias.asname or alias.name: node.module
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        for node in tree.body:
            targets = getattr(node, "targets", [])
            if targets and getattr(targets[0], "id", "") == "__all__":
                for name in ast.literal_eval(node.value):
                    yield package, name, homes.get(name) or package


def has_docstring(file: Path, name: str, member: str) -> bool:
    """Whether the reference has an entry of a class's member: of those that say what they do."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    owner = next((n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == name), None)
    return any(
        isinstance(node, ast.FunctionDef) and node.name == member and bool(ast.get_docstring(node))
        for node in (owner.body if owner else [])
    )


def api_page() -> str:
    """The page that names every exported object; mkdocstrings fills it from the docstrings."""
    lines = ["# Python API", "", "What the packages export. Other names may change without notice."]
    last = ""
    for package, name, _ in exported():
        if package != last:
            lines += ["", f"## {package}"]
        lines += ["", f"::: {package}.{name}"]
        last = package
    return "\n".join(lines) + "\n"


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are not in docs/."""
    for name, page in PAGES.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=text))
    files.append(File.generated(config, "api.md", content=api_page()))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Have links lead to pages of the site."""
    homes = {(home, name) for _, name, home in exported()}
    names = {uri: name for name, uri in PAGES.items()}
    here = ROOT / names.get(page.file.src_uri, f"docs/{page.file.src_uri}")

    def led(match: re.Match[str]) -> str:
        mark, text, target = match.groups()
        path, _, anchor = target.partition("#")
        if not path or "://" in path:
            return match[0]
        file = (here.parent / path).resolve()
        if file.suffix == ".py" and file.is_relative_to(SOURCE):
            module = ".".join(("r1omni", *file.relative_to(SOURCE).with_suffix("").parts))
            name, _, member = anchor.partition(".")
            if (module, name) not in homes:
                return text
            shown = f"{name}.{member}" if has_docstring(file, name, member) else name
            return f"[{text}][{module}.{shown}]"
        known = file.relative_to(ROOT).as_posix() if file.is_relative_to(ROOT) else ""
        uri = PAGES.get(known, known.removeprefix("docs/") if known.startswith("docs/") else "")
        if not uri or file.suffix in (".json", ".jsonl") or file.is_dir():
            return text
        return f"{mark}[{text}]({uri}{'#' if anchor else ''}{anchor})"

    return _LINK.sub(led, markdown)
