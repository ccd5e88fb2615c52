"""Without any extra the package imports and works, and what needs one names it in one line."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import pkgutil
import sys
from pathlib import Path

import pytest

from processes import REPOSITORY, Running
from r1omni.extras import EXTRAS, missing, require
from r1omni.types import UsageError

MODEL = str(REPOSITORY / "examples" / "mini-model")
CLIP = str(REPOSITORY / "examples" / "clips" / "a.mp4")


def block() -> None:
    """From here on this process finds no library of any extra, as where none is installed."""
    blocked = {library for libraries in EXTRAS.values() for library in libraries}
    for name in [name for name in sys.modules if name.partition(".")[0] in blocked]:
        del sys.modules[name]
    sys.modules.update(dict.fromkeys(blocked))  # None: an import of it fails
    assert missing(*blocked)


def import_all() -> None:
    block()
    import r1omni
    from r1omni.recordings.formats import FORMATS

    # What runs a command, and the writers of formats that have a library of an extra.
    left_out = {f.function.rpartition(".")[0] for f in FORMATS.values() if f.library}
    left_out.add("r1omni.__main__")
    names = {
        m.name for m in pkgutil.walk_packages(r1omni.__path__, "r1omni.", onerror=lambda _: None)
    }
    assert left_out < names and len(left_out) < 6
    # Imported by the commands serve and demo, which look first.
    served = {name for name in names if name.split(".")[1] in ("serving", "demo")}
    for name in sorted(names - left_out - served):
        importlib.import_module(name)
    print(len(names))


def commands_that_need_none(mini_world: Path, folder: Path) -> None:
    block()
    from r1omni.cli import main

    run, model = folder / "run", str(folder / "model")
    data = [
        "--data.root", str(mini_world / "world"),
        "--data.test", "[{name: ravdess, root: RAVDESS, split: test, sampling: 'first:2'}]",
        "--data.loader.cache_dir", str(mini_world / "cache"),
        "--data.loader.decode_workers", "0", "--trainer.default_root_dir", str(run),
        "--run.tracking_uri", f"sqlite:///{folder}/mlflow.db",
        "--model.init_args.max_new_tokens", "4",
        "--model.init_args.init_from", str(mini_world / "init"),
    ]  # fmt: skip
    config = ["--config", "configs/mini/emer_sft.yaml"]
    train = "[{name: mafw, root: MAFW, sampling: 'first:4', options: {fold: 1}}]"
    fit = ["--trainer.max_steps", "1", "--data.train", train]
    assert main(["--help"]) == 0
    assert main(["fit", *config, *data, *fit]) == 0
    assert main(["export", "--ckpt_path", str(run), "--out", model]) == 0
    assert main(["test", *config, *data, "--ckpt_path", "last"]) == 0
    out = ["--format", "html", "--out", str(folder / "out")]
    assert main(["analyze", CLIP, "--model", model, *out]) == 0


def refusals(folder: Path) -> None:
    block()
    from r1omni.cli import main

    out = str(folder / "out")
    wanted = {
        "world": (
            ["synthesize", "--out", out],
            ["pretrain-towers", "--model", MODEL, "--out", out],
        ),
        "voices": (["describe-voices", "--dataset", "ravdess", "--root", ".", "--out", out],),
        "serve": (["serve", "--model", MODEL],),
        "demo": (["demo", "--model", MODEL],),
        "memory": (
            (
                "fit",
                "--config",
                "configs/mini/emer_sft.yaml",
                "--model.init_args.init_from",
                MODEL,
                "--model.init_args.optimizer.kind",
                "adamw_8bit",
                "--trainer.default_root_dir",
                out,
            ),
        ),
        "formats": (["analyze", CLIP, "--model", MODEL, "--format", "eaf", "--out", out],),
    }
    for extra, uses in wanted.items():
        for words in uses:
            told = io.StringIO()
            with contextlib.redirect_stderr(told):
                assert main(words) == 2, words
            assert told.getvalue().count("\n") == 1, told.getvalue()
            assert f"not installed; run pip install 'r1omni[{extra}]'" in told.getvalue()
    left = [str(path) for path in folder.rglob("*")]
    assert not left, left


def test_every_module_imports_without_extras() -> None:
    process = Running(import_all, cwd=REPOSITORY, env=os.environ)
    assert process.wait() == 0, process.stderr
    assert int(process.stdout.split()[-1]) > 150


def test_what_needs_no_extra_works(mini_world: Path, tmp_path: Path) -> None:
    process = Running(commands_that_need_none, mini_world, tmp_path, cwd=REPOSITORY, env=os.environ)
    assert process.wait() == 0, process.stderr


def test_what_needs_one_names_it_before_it_begins(tmp_path: Path) -> None:
    process = Running(refusals, tmp_path, cwd=REPOSITORY, env=os.environ)
    assert process.wait() == 0, process.stderr


def test_all_that_lacks_is_named() -> None:
    require("x", "world")
    with pytest.raises(UsageError, match=r"^x: needs no_such and nor_this, which are not "):
        require("x", "reports", "no_such", "nor_this", "matplotlib")
