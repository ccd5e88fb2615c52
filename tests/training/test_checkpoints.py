"""Checkpoints by name and by content: which one is meant, what it records, what it becomes.

The checkpoints are those that a version of r1omni has left, see `tests/test_artefacts.py`.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from r1omni.models import R1Omni
from r1omni.models.omni import OmniModel
from r1omni.training.checkpoints import (
    frozen_fingerprint,
    newest_checkpoint,
    read_checkpoint,
    resolve_checkpoint,
    saved_checkpoints,
    start_fingerprint,
    trained_state,
)
from r1omni.training.export import export_checkpoint
from r1omni.types import R1OmniError, UsageError

VERSION = Path(__file__).parents[1] / "fixtures" / "v0_1_0"
MODEL = str(VERSION / "model")
STEP = "step_000002.ckpt"


def checkpoint(run: str) -> Path:
    return VERSION / run / "checkpoints" / STEP


def weights(folder: Path | str) -> dict[str, Tensor]:
    return load_file(Path(folder) / "model.safetensors")


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A run with three checkpoints, of which the newest names the best."""
    folder = tmp_path / "run" / "checkpoints"
    folder.mkdir(parents=True)
    for name in ("step_000009.ckpt", "step_000100.ckpt", "step_last.ckpt", "other.ckpt"):
        (folder / name).touch()
    write(folder / "step_1000000.ckpt", best=9)
    return folder.parent


def write(file: Path, best: int | None) -> None:
    """A checkpoint that names a best step, or none."""
    run = {"best": None if best is None else {"step": best}}
    torch.save({"r1omni": {}, "run": run}, file)


# Which one is meant --------------------------------------------------------------------------


def test_checkpoints_are_ordered_by_their_steps(run_dir: Path, tmp_path: Path) -> None:
    found = saved_checkpoints(run_dir)
    assert list(found) == [9, 100, 1000000]  # as texts, the last would come first
    assert found[9] == run_dir / "checkpoints" / "step_000009.ckpt"
    assert newest_checkpoint(run_dir) == found[1000000]
    assert saved_checkpoints(tmp_path) == {} and newest_checkpoint(tmp_path) is None


def test_last_best_or_a_path(run_dir: Path, tmp_path: Path) -> None:
    folder = run_dir / "checkpoints"
    newest = folder / "step_1000000.ckpt"
    assert resolve_checkpoint("last", run_dir) == newest
    assert resolve_checkpoint("best", run_dir) == folder / "step_000009.ckpt"
    for path in (folder / "other.ckpt", checkpoint("sharded")):
        assert resolve_checkpoint(str(path), run_dir) == path
    for path in (folder, tmp_path / "nothing.ckpt"):
        with pytest.raises(UsageError, match=rf"{path}: there is no such checkpoint"):
            resolve_checkpoint(str(path), run_dir)
    for name in ("last", "best"):
        with pytest.raises(UsageError, match=rf"{name}: {tmp_path}/checkpoints holds no checkp"):
            resolve_checkpoint(name, tmp_path)
    write(newest, best=8)
    with pytest.raises(UsageError, match="the checkpoint of step 8 is gone"):
        resolve_checkpoint("best", run_dir)
    write(newest, best=None)
    with pytest.raises(UsageError, match=r"step_1000000\.ckpt names no best step"):
        resolve_checkpoint("best", run_dir)


def test_what_is_no_checkpoint_of_ours(tmp_path: Path) -> None:
    file = tmp_path / "step_000001.ckpt"
    for content in ([1, 2], {"state_dict": {}}):
        torch.save(content, file)
        with pytest.raises(R1OmniError, match=r"step_000001\.ckpt was not written by r1omni"):
            read_checkpoint(file)


# What it records -----------------------------------------------------------------------------


@pytest.fixture
def model() -> OmniModel:
    """A model of which the towers and the gate are frozen."""
    made = R1Omni.from_pretrained(MODEL).model
    made.requires_grad_(True)
    for part in (made.vision_tower, made.audio_tower, made.text_tower, made.gate):
        part.requires_grad_(False)
    return made


def change(parameter: Tensor, place: int) -> None:
    with torch.no_grad():
        parameter.view(-1)[place] += 1


def test_fingerprints_tell_frozen_weights_and_the_start_apart(model: OmniModel) -> None:
    frozen, start = frozen_fingerprint(model), start_fingerprint(model)
    parts = [entry.partition("=")[0] for entry in frozen.split(",")]
    assert parts == ["vision_tower", "audio_tower", "text_tower", "gate"]
    change(model.language_model.embed_tokens.weight, 0)
    assert frozen_fingerprint(model) == frozen
    assert start_fingerprint(model) != start
    start = start_fingerprint(model)
    change(model.gate[0].weight, 0)
    changed = frozen_fingerprint(model).split(",")
    assert changed[:3] == frozen.split(",")[:3] and changed[3] != frozen.split(",")[3]
    assert start_fingerprint(model) == start
    # Adapters begin at random: they are no part of the start.
    adapter = torch.nn.Parameter(torch.zeros(2))
    model.language_model.layers[0].self_attn.register_module("lora_A", torch.nn.Module())
    model.language_model.layers[0].self_attn.lora_A.register_parameter("default", adapter)
    assert start_fingerprint(model) == start


def test_the_start_is_told_by_the_first_values_of_each_weight() -> None:
    """How many they are belongs to the format: earlier checkpoints have the digest of as many."""
    layer: Any = torch.nn.Linear(2_000, 1, bias=False)
    start = start_fingerprint(layer)
    change(layer.weight, 1_024)
    assert start_fingerprint(layer) == start
    change(layer.weight, 1_023)
    assert start_fingerprint(layer) != start


def test_what_training_changes(model: OmniModel) -> None:
    parts = {name.split(".")[0] for name in trained_state(model)}
    assert parts == {"language_model", "lm_head", "video_projector", "audio_projector"}
    model.language_model.requires_grad_(False)  # the tied head with it, under its own name
    parts = {name.split(".")[0] for name in trained_state(model)}
    assert parts == {"video_projector", "audio_projector"}


# What it becomes -----------------------------------------------------------------------------


@pytest.mark.parametrize("run", ["sft", "sharded", "grpo_lora"])
def test_export(run: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export_checkpoint(VERSION / run, out, MODEL)  # a run, for its newest
    start, found = weights(MODEL), weights(out)
    assert found.keys() == start.keys()
    assert json.loads((out / "config.json").read_text())["trained_on"] == ["own"]
    changed = {name for name in start if not torch.equal(found[name], start[name])}
    kept = read_checkpoint(checkpoint(run))["state_dict"]
    if run == "grpo_lora":
        assert changed and all(name.startswith("model.layers.") for name in changed)
        return
    names = {name.removeprefix("model.language_model.") for name in kept}
    assert {name.removeprefix("model.") for name in changed if ".layers." in name} <= names
    embedding = found["model.embed_tokens.weight"]
    assert torch.equal(embedding, kept["model.language_model.embed_tokens.weight"])
    assert not torch.equal(embedding, start["model.embed_tokens.weight"])
    export_checkpoint(checkpoint(run), tmp_path / "half", MODEL, "bfloat16")
    half = weights(tmp_path / "half")["model.embed_tokens.weight"]
    assert embedding.dtype == torch.float32 and half.dtype == torch.bfloat16
    assert torch.equal(half, embedding.to(torch.bfloat16))


def edited(run: str, file: Path, **changed: Any) -> Path:
    """A checkpoint in which some of what it records is changed."""
    content = torch.load(checkpoint(run), weights_only=True)
    content["r1omni"].update(changed.pop("r1omni", {}))
    torch.save({**content, **changed}, file)
    return file


def test_the_model_a_run_started_from_is_named_or_recorded(tmp_path: Path) -> None:
    file = edited("sft", tmp_path / "moved.ckpt", r1omni={"init_from": MODEL})
    export_checkpoint(file, tmp_path / "out")
    export_checkpoint(checkpoint("sft"), tmp_path / "again", MODEL)
    one, other = weights(tmp_path / "out"), weights(tmp_path / "again")
    assert all(torch.equal(one[name], other[name]) for name in one)
    file = edited("sft", tmp_path / "nameless.ckpt", r1omni={"init_from": None})
    with pytest.raises(R1OmniError, match=r"does not say which model .* give --model"):
        export_checkpoint(file, tmp_path / "none")


def test_what_cannot_be_exported(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(UsageError, match="--dtype 'int8' is unknown"):
        export_checkpoint(checkpoint("sft"), out, MODEL, "int8")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="holds no checkpoint"):
        export_checkpoint(tmp_path, out, MODEL)
    with pytest.raises(UsageError, match="there is no such checkpoint"):
        export_checkpoint(tmp_path / "nothing.ckpt", out, MODEL)

    state = read_checkpoint(checkpoint("grpo"))["state_dict"]
    lacking = sorted(state)[:7]
    few = {name: tensor for name, tensor in state.items() if name not in lacking}
    with pytest.raises(R1OmniError) as caught:
        export_checkpoint(edited("grpo", tmp_path / "few.ckpt", state_dict=few), out, MODEL)
    shown = ", ".join(name.removeprefix("model.") for name in lacking[:5])
    assert f"few.ckpt lacks 7 weights of the model ({shown}); it is" in str(caught.value)

    # A start that has the architecture, but not the frozen weights; their digests may sort
    # either way.
    recorded = read_checkpoint(checkpoint("grpo"))["r1omni"]["frozen"]
    for frozen in (f"a{recorded}", f"z{recorded}"):
        file = edited("grpo", tmp_path / "other.ckpt", r1omni={"frozen": frozen})
        with pytest.raises(R1OmniError, match=r"other\.ckpt was trained on other frozen weights"):
            export_checkpoint(file, out, MODEL)
    assert not out.exists()


def test_a_run_with_a_folder_of_shares_and_a_file(tmp_path: Path) -> None:
    """The newest decides, whichever form it has."""
    folder = tmp_path / "run" / "checkpoints"
    folder.mkdir(parents=True)
    shutil.copytree(checkpoint("sharded"), folder / "step_000003.ckpt")
    shutil.copy(checkpoint("grpo"), folder / STEP)
    export_checkpoint(tmp_path / "run", tmp_path / "out", MODEL)
    kept = read_checkpoint(checkpoint("sharded"))["state_dict"]
    found = weights(tmp_path / "out")["model.embed_tokens.weight"]
    assert torch.equal(found, kept["model.language_model.embed_tokens.weight"])
