"""Writing model folders: what is replaced, what stays, and what a process that is killed leaves."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from r1omni.models import R1Omni, saving
from r1omni.models.folders import WRITING
from r1omni.types import R1OmniError

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
TOWERS = {"siglip-tiny-patch16-64", "whisper-tiny", "bert-tiny"}
OTHERS = ("README.md", "results.json", "notes.txt", "whisper-tiny/model.safetensors", "plots/a.png")


def put(folder: Path, names: tuple[str, ...] = OTHERS) -> None:
    """Put files of somebody else into a folder."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"mine")


def names_in(folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}


def test_a_new_folder_holds_the_model_alone(tiny: R1Omni, tmp_path: Path) -> None:
    out = tmp_path / "run" / "model"
    put(out.with_name(f".{out.name}{WRITING}"))  # of a process that was killed
    tiny.save_pretrained(out)
    assert [path.name for path in out.parent.iterdir()] == ["model"]
    assert [path.name for path in out.rglob("*.safetensors")] == [WEIGHTS]
    assert not {Path(name).name for name in OTHERS} & {path.name for path in out.rglob("*.json")}


def test_saving_replaces_the_model_and_nothing_else(tiny: R1Omni, tmp_path: Path) -> None:
    out = tmp_path / "model"
    tiny.save_pretrained(out)
    alone = names_in(out)
    put(out)
    put(out, (f"{WRITING}/half.json",))  # of a process that was killed
    # What an older model may have had; read with the new one it would be another model.
    put(out, ("generation_config.json", "added_tokens.json", "bert-tiny/tokenizer.json"))
    tiny.save_pretrained(out)
    assert names_in(out) == alone | {*OTHERS}
    assert all((out / name).read_bytes() == b"mine" for name in OTHERS)
    R1Omni.from_pretrained(out)


def test_weights_in_several_files_are_replaced(
    tiny: R1Omni, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "model"
    tiny.save_pretrained(out)
    alone = names_in(out)
    monkeypatch.setattr(saving, "_MAX_SHARD_SIZE", "100KB")
    tiny.save_pretrained(out)
    assert not (out / WEIGHTS).exists() and len(list(out.glob("model-*"))) > 3
    wanted = tiny.model.state_dict()
    found = R1Omni.from_pretrained(out).model.state_dict()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    put(out, ("model-of-mine.safetensors",))  # the index does not name it
    index = json.loads((out / INDEX).read_text(encoding="utf-8"))
    index["weight_map"]["lost"] = "../outside.safetensors"
    (out / INDEX).write_text(json.dumps(index), encoding="utf-8")
    put(tmp_path, ("outside.safetensors",))
    monkeypatch.setattr(saving, "_MAX_SHARD_SIZE", "5GB")
    tiny.save_pretrained(out)
    assert names_in(out) == alone | {"model-of-mine.safetensors"}
    assert (tmp_path / "outside.safetensors").exists()


class Killed:
    """Stands for a function of files; the call of the given number kills the process instead."""

    calls = 0

    def __init__(self, function: Any, number: int) -> None:
        self.function, self.number = function, number

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        Killed.calls += 1
        if Killed.calls == self.number:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.function(*arguments, **named)


def save_and_be_killed(omni: R1Omni, out: Path, number: int) -> None:
    """Runs in a process of its own: save, and be killed before a change of the files."""
    torch.set_num_threads(1)
    # What is written before is written beside the older model, to a folder of its own.
    for owner, name in (
        (saving, "save_torch_state_dict"), (os, "replace"), (Path, "unlink"), (Path, "rename"),
        (saving.shutil, "rmtree"),
    ):  # fmt: skip
        killed = Killed(getattr(owner, name), number)
        # A function of a class has to be bound to its object.
        setattr(owner, name, (lambda k: lambda *a, **n: k(*a, **n))(killed))
    saving._MAX_SHARD_SIZE = "400KB"
    omni.save_pretrained(out)


@pytest.mark.parametrize("place", ["a new folder", "an older model"])
def test_a_process_killed_at_any_file_leaves_a_whole_model_or_a_line(
    place: str, tiny: R1Omni, copied: Path, tmp_path: Path
) -> None:
    out = tmp_path / "model"
    newer = R1Omni.from_pretrained(copied)
    with torch.no_grad():
        newer.model.gate[2].bias += 1.0
    bias = {
        "old": tiny.model.gate[2].bias.detach(),
        "new": newer.model.gate[2].bias.detach(),
    }
    older = tmp_path / "older"
    tiny.save_pretrained(older)
    stale = {"processor_config.json", "bert-tiny/normalizer.json"}
    put(older, (*OTHERS, *stale))
    seen: list[str] = []
    number = 0
    while not seen or seen[-1] != "done":
        number += 1
        if place == "an older model":
            shutil.rmtree(out, ignore_errors=True)
            shutil.copytree(older, out)
        process = multiprocessing.get_context("fork").Process(
            target=save_and_be_killed, args=(newer, out, number)
        )
        process.start()
        process.join(60)
        assert process.exitcode in (0, -signal.SIGKILL)
        seen.append("done" if process.exitcode == 0 else state_of(out, bias))
        if place == "an older model":
            assert all((out / name).read_bytes() == b"mine" for name in OTHERS)
        if seen[-1] == "refused" and number % 10 == 0:
            tiny.save_pretrained(out)
            assert names_in(out) == names_in(older) - stale and state_of(out, bias) == "old"
    assert state_of(out, bias) == "new"
    order = list(dict.fromkeys(seen))
    if place == "a new folder":
        assert order in (["none", "done"], ["none", "new", "done"])
    else:
        assert order == ["old", "refused", "new", "done"]
        assert seen.count("refused") > 12


def state_of(out: Path, bias: dict[str, Tensor]) -> str:
    """Which model a folder holds: the old, the new, or one that is refused in one line."""
    if not out.exists():
        return "none"
    try:
        omni = R1Omni.from_pretrained(out)
    except R1OmniError as error:
        line = str(error)
    else:
        (found,) = [k for k, b in bias.items() if torch.equal(omni.model.gate[2].bias, b)]
        return found
    assert "\n" not in line and str(out) in line and "write the model there again" in line
    return "refused"


@pytest.mark.parametrize("place", ["a new folder", "an older model"])
def test_a_full_disk_leaves_the_older_model(
    place: str, tiny: R1Omni, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "model"
    if place == "an older model":
        tiny.save_pretrained(out)

    def full(state: Any, folder: Path, **options: Any) -> None:
        (folder / WEIGHTS).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(saving, "save_torch_state_dict", full)
    with pytest.raises(R1OmniError, match=rf"{out}: .*\(No space left on device\)"):
        tiny.save_pretrained(out)
    monkeypatch.undo()
    if place == "an older model":
        R1Omni.from_pretrained(out)
    tiny.save_pretrained(out)
    assert [path.name for path in out.parent.iterdir()] == ["model"]
    assert not (out / WRITING).exists()


@pytest.mark.parametrize("content", ["a file", "other things", "another model"])
def test_a_place_that_is_no_model_folder_is_refused(
    content: str, tiny: R1Omni, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    if content == "a file":
        out.write_text("mine")
    else:
        put(out)
        kind = {} if content == "other things" else {"model_type": "qwen2"}
        (out / "config.json").write_text(json.dumps(kind))
    before = [out, *out.rglob("*")]
    with pytest.raises(R1OmniError, match=f"{out} exists and is no model folder"):
        tiny.save_pretrained(out)
    assert [out, *out.rglob("*")] == before


def test_saving_over_the_source(copied: Path, expected: dict[str, Tensor]) -> None:
    omni = R1Omni.from_pretrained(copied)
    with torch.no_grad():
        omni.model.gate[2].bias += torch.tensor([9.0, 0.0, 0.0])
    omni.save_pretrained(copied)
    again = R1Omni.from_pretrained(copied)
    inputs = omni.prepare(video=expected["pixel_values_squash"], modality="video")
    assert torch.equal(again.logits(inputs), omni.logits(inputs))
    assert again.folder.text_tower == copied / "bert-tiny"


def test_saving_keeps_settings_that_are_not_used(
    tiny: R1Omni, tiny_dir: Path, tmp_path: Path
) -> None:
    tiny.save_pretrained(tmp_path / "out")
    before = json.loads((tiny_dir / "R1-Omni-tiny" / "config.json").read_text(encoding="utf-8"))
    after = json.loads((tmp_path / "out" / "config.json").read_text(encoding="utf-8"))
    towers = {"mm_vision_tower", "mm_audio_tower", "mm_text_tower"}
    assert {k: v for k, v in after.items() if k not in towers} == {
        k: v for k, v in before.items() if k not in towers
    }
    assert {after[name] for name in towers} == TOWERS  # no path of one's own disk
