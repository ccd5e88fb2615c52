"""Files that want to run code: none may, whichever way it comes in."""

from __future__ import annotations

import json
import os
import pickle
import runpy
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, load_file

from r1omni.cli import main

REPOSITORY = Path(__file__).parents[1]
TINY = REPOSITORY / "tests" / "fixtures" / "humanomni_tiny"


class Payload:
    """What makes a folder when a careless reader opens the file that it is pickled into."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., None], tuple[str]]:
        return os.mkdir, (str(self.mark),)


def as_zip(content: Any, file: Path) -> None:
    torch.save(content, file)


def as_old_file(content: Any, file: Path) -> None:
    torch.save(content, file, _use_new_zipfile_serialization=False)


def as_bare_pickle(content: Any, file: Path) -> None:
    file.write_bytes(pickle.dumps(content, protocol=2))


FORMS = [as_zip, as_old_file, as_bare_pickle]


@pytest.fixture
def mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that a payload would make."""
    monkeypatch.chdir(REPOSITORY)
    return tmp_path / "broken in"


def refused(
    words: list[object], file: Path, mark: Path, capsys: pytest.CaptureFixture[str], status: int = 1
) -> str:
    """Run a command, which must end in one line that names the file, and run no payload."""
    capsys.readouterr()
    assert main([str(word) for word in words]) == status
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.startswith("r1omni: error:")
    assert str(file) in message
    assert "weights_only" not in message  # torch advises to open the file all the same
    assert not mark.exists()
    return message


def training(tmp_path: Path, *more: object) -> list[object]:
    return [
        "--config", "configs/mini/emer_sft.yaml",
        "--trainer.default_root_dir", tmp_path / "run",
        "--trainer.enable_progress_bar", "false",
        "--trainer.max_steps", 1,
        "--data.loader.cache_dir", tmp_path / "cache",
        "--data.loader.batch_size", 2, "--data.loader.decode_workers", 0,
        "--run.tracking_uri", f"sqlite:///{tmp_path / 'mlflow.db'}", *more,
    ]  # fmt: skip


@pytest.mark.parametrize("save", FORMS)
def test_a_careless_reader_runs_the_payload(tmp_path: Path, save: Callable[..., None]) -> None:
    mark, file = tmp_path / "broken in", tmp_path / "file"
    save({"payload": Payload(mark)}, file)
    if save is as_bare_pickle:
        pickle.loads(file.read_bytes())
    else:
        torch.load(file, weights_only=False)
    assert mark.exists()


@pytest.mark.parametrize("save", FORMS)
@pytest.mark.parametrize("command", ["fit", "validate", "test", "predict", "export"])
def test_a_training_checkpoint(
    mark: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, save: Any
) -> None:
    file = tmp_path / "step_000001.ckpt"
    save({"state_dict": {}, "r1omni": {}, "payload": Payload(mark)}, file)
    words = ["--out", tmp_path / "out"] if command == "export" else training(tmp_path)
    message = refused([command, *words, "--ckpt_path", file], file, mark, capsys)
    assert "posix.mkdir, which was not run" in message
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "run").exists()  # refused before anything was prepared


@pytest.mark.parametrize("save", FORMS)
@pytest.mark.parametrize("command", ["fit", "export"])
def test_a_training_checkpoint_in_shares(
    mark: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, save: Any
) -> None:
    folder = tmp_path / "step_000001.ckpt"
    folder.mkdir()
    file = folder / "values.pt"
    save({"state_dict": {}, "r1omni": {}, "payload": Payload(mark)}, file)
    words = ["--out", tmp_path / "out"] if command == "export" else training(tmp_path)
    message = refused([command, *words, "--ckpt_path", folder], file, mark, capsys)
    assert "posix.mkdir, which was not run" in message


@pytest.mark.parametrize("save", FORMS)
def test_a_kept_batch(
    mark: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any, save: Any
) -> None:
    file = tmp_path / "step_000001_rank_0.pt"
    save({"prompts": {}, "payload": Payload(mark)}, file)
    script = str(REPOSITORY / "scripts" / "replay_batch.py")
    monkeypatch.setattr(sys, "argv", [script, str(file)])
    monkeypatch.setattr(sys, "path", list(sys.path))  # the script puts src/ first
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(script, run_name="__main__")
    assert ended.value.code == 1
    message = capsys.readouterr().err
    assert message.startswith("replay_batch: error:") and message.count("\n") == 1
    assert str(file) in message
    assert not mark.exists()


def analyze(model: Path, *more: object) -> list[object]:
    return ["analyze", TINY / "clip.mp4", "--model", model, "--max-new-tokens", 2, *more]


def in_one_file(folder: Path, tensors: dict[str, Any], save: Callable[..., None]) -> Path:
    file = folder / "pytorch_model.bin"
    save(tensors, file)
    return file


def in_a_shard(folder: Path, tensors: dict[str, Any], save: Callable[..., None]) -> Path:
    names = ["payload", *sorted(tensors.keys() - {"payload"})]
    files = {"pytorch_model-1.bin": names[::2], "pytorch_model-2.bin": names[1::2]}
    for file, held in files.items():
        save({name: tensors[name] for name in held}, folder / file)
    weight_map = {name: file for file, held in files.items() for name in held}
    index = folder / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}), encoding="utf-8")
    return folder / weight_map["payload"]


@pytest.mark.parametrize("save", FORMS)
@pytest.mark.parametrize("place", [in_one_file, in_a_shard])
@pytest.mark.parametrize("part", ["R1-Omni-tiny", "whisper-tiny"])
def test_weights(
    mark: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], part: str, place: Any, save: Any
) -> None:
    models = tmp_path / "models"
    shutil.copytree(TINY, models)
    if part == "whisper-tiny":  # read only if the main folder has no weights of the tower
        main_weights = models / "R1-Omni-tiny" / "model.safetensors"
        tensors = load_file(main_weights)
        kept = {n: t for n, t in tensors.items() if not n.startswith("model.audio_tower.")}
        main_weights.unlink()
        torch.save(kept, main_weights.with_name("pytorch_model.bin"))
    weights = models / part / "model.safetensors"
    tensors = {"payload": Payload(mark)} | dict(load_file(weights))
    weights.unlink()
    file = place(models / part, tensors, save)
    message = refused(analyze(models / "R1-Omni-tiny"), file, mark, capsys)
    assert "posix.mkdir, which was not run" in message


def test_code_beside_a_model(
    mark: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder that names classes of its own is read as the layout it has; its code is not."""
    models = tmp_path / "models"
    shutil.copytree(TINY, models)
    code = f"import os\nos.mkdir({str(mark)!r})\nclass Own: ...\n"
    for folder in (path for path in models.iterdir() if path.is_dir()):
        (folder / "own.py").write_text(code, encoding="utf-8")
        for name in ("config.json", "tokenizer_config.json"):
            file = folder / name
            settings = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
            kinds = ("AutoConfig", "AutoModel", "AutoModelForCausalLM", "AutoTokenizer")
            settings["auto_map"] = {kind: "own.Own" for kind in kinds}
            if name == "config.json" or file.is_file():
                file.write_text(json.dumps(settings), encoding="utf-8")
    assert main([str(word) for word in analyze(models / "R1-Omni-tiny")]) == 0
    assert "text" in json.loads(capsys.readouterr().out)
    assert not mark.exists()


def test_caches_are_made_anew(mark: Path, tmp_path: Path, mini_world: Path) -> None:
    """An entry of the cache that cannot be read counts as absent."""
    words = training(
        tmp_path,
        "--model.init_args.init_from", mini_world / "init", "--data.root", mini_world / "world",
        "--data.train", "[{name: mafw, root: MAFW, sampling: 'first:4', options: {fold: 1}}]",
    )  # fmt: skip
    assert main([str(word) for word in ("fit", *words)]) == 0
    entries = sorted((tmp_path / "cache").rglob("*.safetensors"))
    assert {entry.relative_to(tmp_path / "cache").parts[0] for entry in entries} == {
        "features",
        "media",
    }
    model = tmp_path / "run" / "model" / "model.safetensors"
    # Read, not mapped: the files are written over.
    wanted = [load(file.read_bytes()) for file in (*entries, model)]
    for index, entry in enumerate(entries):
        FORMS[index % len(FORMS)]({"payload": Payload(mark)}, entry)
    shutil.rmtree(tmp_path / "run")
    assert main([str(word) for word in ("fit", *words)]) == 0
    assert not mark.exists()
    for file, tensors in zip((*entries, model), wanted, strict=True):
        found = load(file.read_bytes())
        assert found.keys() == tensors.keys()
        assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())


@pytest.mark.parametrize("command", ["fit", "create"])
def test_a_yaml_file(
    mark: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(f"language: !!python/object/apply:os.mkdir ['{mark}']\n", encoding="utf-8")
    words = {
        "fit": ["fit", "--config", file],
        "create": ["create", "--sizes", file, "--texts", file, "--out", tmp_path / "out"],
    }[command]
    capsys.readouterr()
    assert main([str(word) for word in words]) in (1, 2)
    message = capsys.readouterr().err.strip().splitlines()
    assert len(message) == 1 and "python/object/apply" in message[0]
    assert not mark.exists()
