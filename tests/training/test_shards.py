"""Shares of a checkpoint on one rank; `test_sharded.py` has several."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from r1omni.training import shards
from r1omni.training.shards import PLAIN_VALUES, check_shards, fill_shards, join_shards
from r1omni.types import R1OmniError

WEIGHT, BIAS, MOMENT = torch.arange(6.0).reshape(3, 2), torch.tensor([7.0, 8.0]), torch.ones(2, 2)


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[DeviceMesh]:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'r'}", rank=0, world_size=1)
    try:
        yield init_device_mesh("cpu", (1,))
    finally:
        dist.destroy_process_group()


def checkpoint(mesh: DeviceMesh) -> dict[str, Any]:
    """A tied head, a tensor without elements, and tensors in a list and under numbers."""

    def share(tensor: Tensor) -> DTensor:
        return distribute_tensor(tensor.clone(), mesh, [Shard(0)])

    tied = share(WEIGHT)
    return {
        "state_dict": {"embed": tied, "bias": share(BIAS), "head": tied, "plain": torch.ones(3)},
        "none": {"one": share(torch.empty(0)), "two": share(torch.empty(0))},
        "optimizer_states": [{"state": {0: {"moment": share(MOMENT), "step": 3}}}],
        "epoch": 2,
    }


@pytest.fixture
def folder(mesh: DeviceMesh, tmp_path: Path) -> Path:
    """A checkpoint that was written."""
    made = tmp_path / "step_000001.ckpt"
    made.mkdir()
    shards.write_shards(checkpoint(mesh), made)
    return made


def values(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(folder / PLAIN_VALUES, weights_only=True)
    return content


def test_what_was_written_is_read_whole_and_in_its_place(folder: Path) -> None:
    found = join_shards(folder, values(folder))
    assert found.keys() == {"state_dict", "none", "optimizer_states", "epoch"}
    state = found["state_dict"]
    assert torch.equal(state["embed"], WEIGHT) and torch.equal(state["head"], WEIGHT)
    assert torch.equal(state["bias"], BIAS) and torch.equal(state["plain"], torch.ones(3))
    assert all(tensor.shape == (0,) for tensor in found["none"].values())
    assert found["none"].keys() == {"one", "two"}
    [optimizer] = found["optimizer_states"]
    assert torch.equal(optimizer["state"][0]["moment"], MOMENT)
    assert (optimizer["state"][0]["step"], found["epoch"]) == (3, 2)
    [file] = folder.glob("*.safetensors")
    assert load_file(file).keys() == {  # a tied head is written once
        "state_dict/embed",
        "state_dict/bias",
        "none/one",
        "none/two",
        "optimizer_states/0/state/0/moment",
    }


def test_tensors_are_filled_in_place(folder: Path, mesh: DeviceMesh) -> None:
    empty = checkpoint(mesh)
    places = [empty["state_dict"][name] for name in ("embed", "bias")]
    places.append(empty["optimizer_states"][0]["state"][0]["moment"])
    for tensor in places:
        tensor.to_local().zero_()
    fill_shards(folder, empty)
    for tensor, wanted in zip(places, (WEIGHT, BIAS, MOMENT), strict=True):
        assert torch.equal(tensor.to_local(), wanted)


@pytest.mark.parametrize("rank", [0, 1])
def test_one_rank_writes_the_plain_values(
    rank: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards.dcp, "save", lambda *a, **k: None)
    monkeypatch.setattr(dist, "get_rank", lambda: rank)
    shards.write_shards({"epoch": 2}, tmp_path)
    assert (tmp_path / PLAIN_VALUES).exists() == (rank == 0)


def test_a_folder_that_cannot_be_written(mesh: DeviceMesh, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RuntimeError, match="file") as caught:
        shards.write_shards(checkpoint(mesh), tmp_path / "file")
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_not_whole(folder: Path, tmp_path: Path) -> None:
    check_shards(folder, values(folder))
    check_shards(tmp_path, {})  # an earlier version listed no files
    [file] = folder.glob("*.safetensors")
    whole = file.read_bytes()
    for content in (whole[:-1], whole + b"x", None):
        if content is None:
            file.unlink()
        else:
            file.write_bytes(content)
        for read in (check_shards, join_shards):
            with pytest.raises(R1OmniError, match=rf"not whole: {file.name} is missing or cut"):
                read(folder, values(folder))
    # As long as it was, but something else.
    file.write_bytes(b"\xff" * len(whole))
    with pytest.raises(R1OmniError, match=rf"{folder.name} cannot be read \(.*\); it is not whole"):
        join_shards(folder, values(folder))


def test_a_checkpoint_of_other_tensors(folder: Path, mesh: DeviceMesh) -> None:
    other = checkpoint(mesh)
    other["state_dict"] |= {
        f"{'long' * 20}{index}": distribute_tensor(torch.ones(1), mesh, [Shard(0)])
        for index in range(20)
    }
    with pytest.raises(R1OmniError, match=r"does not fit this model, .*; resume with") as caught:
        fill_shards(folder, other)
    said = str(caught.value)
    assert "\n" not in said and "Missing key" in said and "longlong" in said
    # The reason is cut, so that the remedy is seen.
    assert len(said) < len(str(folder)) + 500
