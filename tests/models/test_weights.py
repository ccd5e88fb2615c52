"""Forms that weights come in, and files that are not what they should be."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from r1omni.models import R1Omni
from r1omni.models.checkpoint import load_model
from r1omni.models.folders import find_model_folder
from r1omni.models.weights import Weights, quick_digest, weight_files
from r1omni.types import R1OmniError

Tensors = dict[str, Tensor]
WEIGHTS = "model.safetensors"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 2052740\n"


def whole(folder: Path) -> Tensors:
    tensors = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    return tensors


def shards(tensors: Tensors, suffix: str) -> dict[str, Tensors]:
    names = sorted(tensors)
    return {
        f"{suffix.split('.')[0]}-0000{i + 1}-of-00003.{suffix.split('.')[1]}": {
            name: tensors[name] for name in names[i::3]
        }
        for i in range(3)
    }


def write_index(folder: Path, name: str, files: dict[str, Tensors]) -> None:
    weight_map = {tensor: file for file, tensors in files.items() for tensor in tensors}
    text = json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map})
    (folder / name).write_text(text, encoding="utf-8")


def as_shards(folder: Path) -> None:
    files = shards(whole(folder), WEIGHTS)
    for name, tensors in files.items():
        save_file(tensors, folder / name)
    write_index(folder, f"{WEIGHTS}.index.json", files)


def as_bin(folder: Path) -> None:
    torch.save(whole(folder), folder / "pytorch_model.bin")


def as_old_bin(folder: Path) -> None:
    torch.save(whole(folder), folder / "pytorch_model.bin", _use_new_zipfile_serialization=False)


def as_bin_shards(folder: Path) -> None:
    files = shards(whole(folder), "pytorch_model.bin")
    for name, tensors in files.items():
        torch.save(tensors, folder / name)
    write_index(folder, "pytorch_model.bin.index.json", files)


def with_other_copies(folder: Path) -> None:
    # As openai/whisper-large-v3 has them: the same weights once more, in float32 and pickled.
    tensors = load_file(folder / WEIGHTS)
    wrong = {name: torch.zeros_like(tensor) for name, tensor in tensors.items()}
    save_file(wrong, folder / "model.fp32-00001-of-00001.safetensors")
    torch.save(wrong, folder / "pytorch_model.bin")


@pytest.mark.parametrize("form", [as_shards, as_bin, as_old_bin, as_bin_shards, with_other_copies])
@pytest.mark.parametrize("where", ["R1-Omni-tiny", "whisper-tiny"])
def test_forms(copied: Path, tiny: R1Omni, form: Callable[[Path], None], where: str) -> None:
    if where == "whisper-tiny":  # whose weights count when the main file has none
        tensors = load_file(copied / WEIGHTS)
        kept = {n: t for n, t in tensors.items() if not n.startswith("model.audio_tower.")}
        save_file(kept, copied / WEIGHTS)
    form(copied.parent / where)
    wanted = tiny.model.state_dict()
    loaded = load_model(find_model_folder(copied)).state_dict()
    assert all(torch.equal(loaded[name], wanted[name]) for name in wanted)


def refusal(folder: Path) -> str:
    with pytest.raises(R1OmniError) as caught:
        load_model(find_model_folder(folder))
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_shard_is_missing(copied: Path) -> None:
    as_shards(copied)
    (copied / "model-00002-of-00003.safetensors").unlink()
    message = refusal(copied)
    assert "1 of 3" in message and "model-00002-of-00003.safetensors" in message


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"weight_map": 3}', '{"weight_map": []}'])
def test_a_broken_index(copied: Path, content: str) -> None:
    as_shards(copied)
    index = copied / f"{WEIGHTS}.index.json"
    index.write_text(content, encoding="utf-8")
    assert str(index) in refusal(copied)


def test_an_index_leads_nowhere_else(copied: Path, tmp_path: Path) -> None:
    tensors = whole(copied)
    outside = tmp_path / "outside.safetensors"
    save_file(tensors, outside)
    write_index(copied, f"{WEIGHTS}.index.json", {"../outside.safetensors": tensors})
    assert outside.name in refusal(copied)
    write_index(copied, f"{WEIGHTS}.index.json", {str(outside): tensors})
    assert outside.name in refusal(copied)


@pytest.mark.parametrize("name", [WEIGHTS, "pytorch_model.bin"])
def test_a_git_lfs_pointer(copied: Path, name: str) -> None:
    (copied / WEIGHTS).unlink()
    (copied / name).write_bytes(POINTER)
    message = refusal(copied)
    assert str(copied / name) in message and "git lfs pull" in message


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.5, 0.99])
@pytest.mark.parametrize("form", [as_bin, as_old_bin])
def test_a_truncated_bin(copied: Path, form: Callable[[Path], None], share: float) -> None:
    form(copied)
    file = copied / "pytorch_model.bin"
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * share)])
    assert str(file) in refusal(copied)


class _Payload:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[..., None], tuple[str]]:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_bin_does_not_run(copied: Path, tmp_path: Path, zipped: bool) -> None:
    tensors = dict(whole(copied)) | {"payload": _Payload(tmp_path / "broken in")}
    file = copied / "pytorch_model.bin"
    torch.save(tensors, file, _use_new_zipfile_serialization=zipped)
    assert str(file) in refusal(copied)
    assert not (tmp_path / "broken in").exists()


@pytest.mark.parametrize("content", [[torch.ones(1)], {"a": "text"}, torch.ones(2)])
def test_a_bin_of_other_things(copied: Path, content: object) -> None:
    (copied / WEIGHTS).unlink()
    torch.save(content, copied / "pytorch_model.bin")
    assert "named tensors" in refusal(copied)


def test_files_of_which_none_is_the_one(copied: Path) -> None:
    tensors = whole(copied)
    save_file(tensors, copied / "a.safetensors")
    assert weight_files(copied) == [copied / "a.safetensors"]
    save_file(tensors, copied / "b.safetensors")
    message = refusal(copied)
    assert "a.safetensors, b.safetensors" in message


def test_names_are_known_without_reading(copied: Path) -> None:
    weights = Weights(copied)
    assert weights.names == {name for name, _ in weights} == set(load_file(copied / WEIGHTS))


def test_a_change_of_a_model_changes_its_digest(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {quick_digest(copied)}
    file = copied / "model.safetensors"
    size = file.stat().st_size
    places = range(0, size - size // 10, size // 7)
    for name, place in [("tokenizer.json", 50), *((file.name, place) for place in places)]:
        data = bytearray((copied / name).read_bytes())
        data[place] ^= 1
        (copied / name).write_bytes(data)
        found.add(quick_digest(copied))
    assert len(found) == 2 + len(places)
    # Of a large file a sixteenth is read; a layer of it that was trained is seen wherever it is.
    monkeypatch.setattr("r1omni.models.weights._DIGEST_BLOCK", size // 256)
    monkeypatch.setattr("r1omni.models.weights._DIGEST_BLOCKS", 16)
    found = {quick_digest(copied)}
    for place in places:
        layer = bytes(byte ^ 1 for byte in file.read_bytes()[place : place + size // 10])
        with file.open("r+b") as stream:
            stream.seek(place)
            stream.write(layer)
        found.add(quick_digest(copied))
    assert len(found) == 1 + len(places)
