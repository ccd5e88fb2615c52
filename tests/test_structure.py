"""The rules of docs/architecture.md that a machine can check, read from the source itself."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tokenize
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from tokenize import COMMENT

import pytest
from script_options import ScriptParser

from r1omni.extras import EXTRAS

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "r1omni"
MAX_LINES = 350

# A part of the package -> the parts it may import. A part that is not named here fails the test,
# so that a new folder is placed on purpose.
_BASE = {"types", "streams", "options", "extras", "text", "media"}
_MODEL = {"kernels", "ops", "models"}
_ALL = {*_BASE, *_MODEL, "data", "world", "judging", "rewards", "metrics"}
ALLOWED: dict[str, set[str]] = {
    "types": set(),
    "streams": set(),
    "options": {"types"},
    "extras": {"types"},
    "pages": set(),
    "kernels": set(),
    "ops": {"types", "options", "kernels"},
    "text": {"types"},
    "media": {"types", "options", "text"},
    "data": _BASE,
    "voices": {*_BASE, "data"},
    "world": {"types", "options", "extras", "text"},
    "judging": {"types", "options", "text"},
    "rewards": {"types", "options", "text", "judging"},
    "metrics": {"types", "extras", "text"},
    "models": {*_BASE, "kernels", "ops"},
    "recordings": {*_BASE, *_MODEL, "metrics", "pages"},
    "serving": {*_BASE, "models", "recordings"},
    "demo": {*_BASE, "models", "recordings", "pages", "serving"},
    "training": _ALL,
    "analysis": {*_ALL, "training", "pages"},
    "studies": {*_ALL, "training", "analysis"},
    "doctor": {*_ALL, "training", "analysis"},
    "parser_lines": {"options"},
    "commands": {
        *_ALL,
        "voices",
        "recordings",
        "training",
        "analysis",
        "studies",
        "doctor",
        "serving",
        "demo",
        "parser_lines",
    },
    "cli": {
        *_ALL,
        "voices",
        "recordings",
        "serving",
        "demo",
        "training",
        "analysis",
        "studies",
        "doctor",
        "commands",
        "parser_lines",
    },
    "__main__": {"cli"},
    "__init__": _ALL,
}

# They come with fastapi, and are in its extra with bounds of their own.
_WITH_FASTAPI = ("starlette", "pydantic", "anyio")
# Heavy or special libraries -> the parts that may import them.
LIBRARY_HOMES: dict[str, set[str]] = {
    "triton": {"kernels"},
    "lightning": {"training", "data"},
    "mlflow": {"training"},
    "bitsandbytes": {"training"},
    "av": {"media", "world", "analysis", "doctor"},
    "parselmouth": {"voices"},
    "httpx2": {"judging"},
    "jinja2": {"pages"},
    "markupsafe": {"pages"},
    "praatio": {"recordings"},
    "pympi": {"recordings"},
    "pyarrow": {"recordings"},
    "webvtt": {"recordings"},
    "fastapi": {"serving", "demo"},
    "starlette": {"serving"},
    "pydantic": {"serving"},
    "anyio": {"serving"},
    "uvicorn": {"serving"},
    "python_multipart": {"serving"},
    "prometheus_client": {"serving"},
    "scipy": {"world", "voices"},
    "threadpoolctl": {"world"},
    "openpyxl": {"world", "metrics"},
    "matplotlib": {"metrics"},
}


def source_files() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def name_of(path: Path) -> str:
    return str(path.relative_to(SOURCE))


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def part_of(path: Path) -> str:
    """The part of the package that a file belongs to."""
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported_modules(path: Path, tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Every import of a file with its line, lazy ones and those for type hints included."""
    package = ["r1omni", *path.relative_to(SOURCE).parts[:-1]]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            parents = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*parents, *([node.module] if node.module else [])])
            if module == "r1omni":  # from r1omni import commands
                for alias in node.names:
                    yield node.lineno, f"r1omni.{alias.name}"
            else:
                yield node.lineno, module


def imported_parts(path: Path, tree: ast.Module) -> Iterator[tuple[int, str]]:
    """The parts of r1omni that a file imports, those named by a string included."""
    for line, module in imported_modules(path, tree):
        if module.startswith("r1omni."):
            yield line, module.split(".")[1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found = re.fullmatch(r"r1omni\.(\w+)(\.\w+)*", node.value)
            if found:
                yield node.lineno, found[1]


def calls(tree: ast.Module) -> Iterator[tuple[ast.Call, str]]:
    """Every call with the dotted name of what is called, "" where it has none."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield node, ast.unparse(node.func) if _is_dotted(node.func) else ""


def _is_dotted(node: ast.expr) -> bool:
    while isinstance(node, ast.Attribute):
        node = node.value
    return isinstance(node, ast.Name)


def upward_imports(path: Path, tree: ast.Module) -> list[str]:
    part = part_of(path)
    allowed = ALLOWED.get(part)
    if allowed is None:
        return [f"{name_of(path)}: {part!r} has no place in ALLOWED of {Path(__file__).name}"]
    return [
        f"{name_of(path)}:{line}: {part} imports {other}; it may import "
        f"{', '.join(sorted(allowed)) or 'nothing of r1omni'}"
        for line, other in imported_parts(path, tree)
        if other not in allowed | {part}
    ]


@pytest.fixture(scope="module")
def sources() -> list[tuple[Path, ast.Module]]:
    parsed = [(path, parse(path)) for path in source_files()]
    assert SOURCE / "types.py" in dict(parsed)
    return parsed


def test_scripts_refuse_words_that_they_do_not_know() -> None:
    """One that reads no words would also take `--help` for nothing, and work."""
    texts = {path: path.read_text(encoding="utf-8") for path in (ROOT / "scripts").glob("*.py")}
    run = [path for path, text in texts.items() if "__main__" in text]
    assert len(run) > 10
    assert [path.name for path in run if ".parse_args(" not in texts[path]] == []


def test_scripts_refuse_wrong_use_in_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    texts = {path: path.read_text(encoding="utf-8") for path in (ROOT / "scripts").glob("*.py")}
    others = [path.name for path, text in texts.items() if "argparse.ArgumentParser(" in text]
    # It counts the lines of another checkout, so nothing of this one may be imported before.
    assert others == ["step_lines.py"], "read words by script_options.ScriptParser"
    parser = ScriptParser(prog="x.py", description="Do something.")
    parser.add_argument("--steps", type=int)
    for words in (["--nope"], ["--steps", "x"], ["--steps", "1", "--steps", "2"], ["--steps="]):
        with pytest.raises(SystemExit) as ended:
            parser.parse_args(words)
        told = capfd.readouterr().err
        assert ended.value.code == 2 and told.startswith("x.py: error: ")
        assert told.count("\n") == 1


def test_imports_point_one_way(sources: list[tuple[Path, ast.Module]]) -> None:
    assert [line for path, tree in sources for line in upward_imports(path, tree)] == []


def test_kernels_say_nothing_of_the_project(sources: list[tuple[Path, ast.Module]]) -> None:
    """In docstrings and comments; names of modules, operators and the variable are code."""
    told = []
    for path, tree in sources:
        if part_of(path) == "kernels":
            nodes = (ast.Module, ast.ClassDef, ast.FunctionDef)
            texts = [ast.get_docstring(n) or "" for n in ast.walk(tree) if isinstance(n, nodes)]
            with path.open("rb") as file:
                texts += [t.string for t in tokenize.tokenize(file.readline) if t.type == COMMENT]
            told += [f"{path.name}: {t}" for t in texts if re.search(r"r1.?omni", t, re.IGNORECASE)]
    assert not told


def test_special_libraries_stay_at_home(sources: list[tuple[Path, ast.Module]]) -> None:
    strays = [
        f"{name_of(path)}:{line}: {module} belongs to {', '.join(sorted(homes))}"
        for path, tree in sources
        for line, module in imported_modules(path, tree)
        for homes in [LIBRARY_HOMES.get(module.split(".")[0])]
        if homes is not None and part_of(path) not in homes
    ]
    assert strays == []


def test_slow_libraries_are_imported_where_they_are_used(
    sources: list[tuple[Path, ast.Module]],
) -> None:
    slow = {"mlflow", "torchmetrics", "torchvision", "matplotlib"}
    found = []
    for path, tree in sources:
        for node in tree.body:  # what stands below `if TYPE_CHECKING` is never run
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            found += [f"{path}: {name}" for name in names if name.partition(".")[0] in slow]
    assert found == []


def test_imported_libraries_are_declared(sources: list[tuple[Path, ast.Module]]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    requirements = (re.match(r"[\w.-]+", entry) for entry in project["dependencies"])
    declared = {_canonical(found[0]) for found in requirements if found}
    # triton comes with torch's CUDA builds, and the kernels do without it elsewhere.
    declared.add("triton")
    of_extras: dict[str, list[str]] = {}
    for extra, modules in {**EXTRAS, "serve": (*EXTRAS["serve"], *_WITH_FASTAPI)}.items():
        if extra == "demo":  # it is that of serve
            continue
        entries = [_canonical(entry) for entry in project["optional-dependencies"][extra]]
        for module in modules:
            assert module in LIBRARY_HOMES
            assert any(_canonical(module) in entry for entry in entries)
            of_extras[module] = [module]
    declared.update(map(_canonical, of_extras))
    distributions = {**packages_distributions(), **of_extras}
    undeclared = [
        f"{name_of(path)}:{line}: {module} is not among the dependencies in pyproject.toml"
        for path, tree in sources
        for line, module in imported_modules(path, tree)
        for top in [module.split(".")[0]]
        if top != "r1omni" and top not in sys.stdlib_module_names
        if declared.isdisjoint(_canonical(name) for name in distributions.get(top, [top]))
    ]
    assert undeclared == []


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


# What only a command calls may name its options.
_OF_A_COMMAND = {
    "models": ("fresh.py", "parts.py", "sizes.py", "card.py"),  # create and export
    "recordings": ("finding.py", "intervals.py", "given_intervals.py", "running.py", "output.py",
                   "log.py", "formats/__init__.py"),  # analyze
}  # fmt: skip


def test_messages_of_the_library_name_no_option_of_a_command(
    sources: list[tuple[Path, ast.Module]],
) -> None:
    """Python and HTTP reach it as well, and have keywords and fields."""
    told = []
    for path, tree in sources:
        part = part_of(path)
        is_of_a_command = str(path).endswith(_OF_A_COMMAND.get(part, ()))
        if part in ("media", "text", "models", "recordings") and not is_of_a_command:
            told += [f"{name_of(path)}:{line}: {text}" for line, text in texts_naming_options(tree)]
    assert told == []


def texts_naming_options(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Texts that are no docstrings and have an option of the command line in them."""
    nodes = list(ast.walk(tree))
    docstrings = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    for node in nodes:
        text = node.value if isinstance(node, ast.Constant) and id(node) not in docstrings else None
        if isinstance(text, str) and re.search(r"(?<![-\w])--[a-z]", text):
            yield node.lineno, text


def test_the_walk_sees_texts_that_name_options() -> None:
    code = '"""Of --x."""\ndef f(a):\n    """Of --y."""\n    return f"{a}: give --modality audio"'
    assert [line for line, _ in texts_naming_options(ast.parse(code))] == [4]


def test_files_are_short() -> None:
    lengths = {
        name_of(path): len(path.read_text(encoding="utf-8").splitlines()) for path in source_files()
    }
    assert {name: length for name, length in lengths.items() if length > MAX_LINES} == {}


def test_no_failure_is_swallowed(sources: list[tuple[Path, ast.Module]]) -> None:
    bare = [
        f"{name_of(path)}:{node.lineno}: name the exceptions"
        for path, tree in sources
        for node in ast.walk(tree)
        if isinstance(node, ast.ExceptHandler) and node.type is None
    ]
    assert bare == []


def test_files_are_never_trusted_as_code(sources: list[tuple[Path, ast.Module]]) -> None:
    scripts = [(path, parse(path)) for path in sorted((ROOT / "scripts").glob("*.py"))]
    assert scripts
    found = [line for path, tree in [*sources, *scripts] for line in unsafe_calls(path, tree)]
    assert found == []


# What runs code, or makes objects of any kind, from the text or the file it is given.
_UNSAFE = {
    "eval", "exec", "marshal.load", "marshal.loads", "shelve.open", "joblib.load", "torch.jit.load",
    "yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.unsafe_load_all", "yaml.full_load",
}  # fmt: skip
_PICKLES = {"pickle", "dill", "cloudpickle"}


def unsafe_calls(path: Path, tree: ast.Module) -> Iterator[str]:
    """Calls that would run code from a model folder, a checkpoint or a data file."""
    place = f"{path.relative_to(ROOT)}"
    for node, name in calls(tree):
        keywords = {keyword.arg: keyword.value for keyword in node.keywords}
        for flag in ("trust_remote_code", "allow_pickle"):
            if flag in keywords and not _is_literal(keywords[flag], False):
                yield f"{place}:{node.lineno}: {flag} runs code of a file"
        if name == "torch.load" and not _is_literal(keywords.get("weights_only"), True):
            yield f"{place}:{node.lineno}: torch.load needs weights_only=True"
        if name in _UNSAFE:
            yield f"{place}:{node.lineno}: {name} runs code of what it is given"
    for line, used in pickle_uses(tree):
        yield f"{place}:{line}: pickle's {used} runs code of a file"


def pickle_uses(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """What is used of pickle and its likes, but for the name of its error."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "pickle":
            used = [node.attr]
        elif isinstance(node, ast.ImportFrom) and node.module in _PICKLES:
            used = [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):  # under another name it would not be found above
            named = [alias for alias in node.names if alias.name in _PICKLES]
            used = [a.name for a in named if a.asname or a.name != "pickle"]
        else:
            continue
        yield from ((node.lineno, name) for name in used if name != "UnpicklingError")


def _is_literal(node: ast.expr | None, value: bool) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def test_importing_r1omni_is_light() -> None:
    code = (
        "import sys, r1omni\n"
        "heavy = {'triton', 'mlflow', 'lightning', 'transformers'} & set(sys.modules)\n"
        "print(*sorted(heavy))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(SOURCE.parent)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == []


@pytest.mark.parametrize(
    ("file", "code", "complaint"),
    [
        ("kernels/x.py", "from r1omni.types import Clip", "kernels imports types"),
        ("data/x.py", "def f():\n    import r1omni.world.face", "data imports world"),
        ("models/x.py", "from ..training import sft", "models imports training"),
        ("training/x.py", "from r1omni import cli", "training imports cli"),
        ("text/x.py", "importlib.import_module('r1omni.data.dfew')", "text imports data"),
        ("novel/x.py", "", "has no place"),
    ],
)
def test_the_walk_sees_every_form_of_import(file: str, code: str, complaint: str) -> None:
    found = upward_imports(SOURCE / file, ast.parse(code))
    assert len(found) == 1
    assert complaint in found[0]


@pytest.mark.parametrize(
    ("code", "num_complaints"),
    [
        ("torch.load(path)", 1),
        ("torch.load(path, weights_only=False)", 1),
        ("torch.load(path, weights_only=True)", 0),
        ("AutoModel.from_pretrained(path, trust_remote_code=True)", 1),
        ("AutoModel.from_pretrained(path, trust_remote_code=flag)", 1),
        ("AutoModel.from_pretrained(path, trust_remote_code=False)", 0),
        ("np.load(path)", 0),
        ("np.load(path, allow_pickle=True)", 1),
        ("pickle.load(file)", 1),
        ("pickle.Unpickler(file).load()", 1),
        ("from pickle import loads", 1),
        ("import pickle as p", 1),
        ("try: f()\nexcept pickle.UnpicklingError: g()", 0),
        ("import dill", 1),
        ("yaml.load(text, Loader=yaml.SafeLoader)", 1),
        ("yaml.safe_load(text)", 0),
        ("eval(text)", 1),
        ("model.eval()", 0),
        ("exec(text)", 1),
    ],
)
def test_the_walk_sees_unsafe_calls(code: str, num_complaints: int) -> None:
    assert len(list(unsafe_calls(SOURCE / "models/x.py", ast.parse(code)))) == num_complaints


def test_the_version_is_in_the_changelog() -> None:
    """With its date, below what is not released."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## \[(.+?)\](?: - (\d{4}-\d\d-\d\d))?$", text, re.MULTILINE)
    assert headings[0] == ("Unreleased", "")
    assert dict(headings[1:]).get(version), f"CHANGELOG.md has no dated entry of {version}"


def test_a_step_of_grpo_is_read_in_two_files() -> None:
    files = [SOURCE / "training" / name for name in ("grpo.py", "policy.py")]
    assert sum(len(file.read_text(encoding="utf-8").splitlines()) for file in files) <= 300


def test_no_two_test_files_have_one_name() -> None:
    """Without packages, one would be imported for the other."""
    names = [file.name for file in (ROOT / "tests").rglob("test_*.py")]
    assert [name for name in names if names.count(name) > 1] == []
