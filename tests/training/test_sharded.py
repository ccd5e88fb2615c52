"""Checkpoints of a sharded run: resumed on other numbers of ranks, exported, and refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from sharded_job import CUT, STEPS, resume, start, train

from processes import ranks
from r1omni.training.checkpoints import read_checkpoint
from r1omni.training.export import export_checkpoint
from r1omni.training.shards import PLAIN_VALUES
from r1omni.types import R1OmniError

TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def runs(small_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of two ranks that write shares and files, and what three ranks made of the shares."""
    out = tmp_path_factory.mktemp("sharded")
    ranks(2, start, small_world, out)
    ranks(3, resume, small_world, out)
    return out


def _checkpoint(runs: Path, name: str, step: int) -> Path:
    return runs / name / "checkpoints" / f"step_{step:06d}.ckpt"


def _same_model(one: Path, other: Path, tolerance: float) -> bool:
    first, second = (load_file(folder / "model.safetensors") for folder in (one, other))
    assert first.keys() == second.keys()
    apart = sum(float((first[n] - second[n]).square().sum()) for n in first) ** 0.5
    size = sum(float(first[n].square().sum()) for n in first) ** 0.5
    return apart <= tolerance * size


@pytest.mark.parametrize("kind", ["", "lora_"])
def test_more_ranks_go_on_where_two_stopped(runs: Path, kind: str) -> None:
    assert _same_model(runs / f"{kind}shares" / "model", runs / f"{kind}on_3" / "model", 1e-6)
    start = runs / f"{kind}cut"
    export_checkpoint(_checkpoint(runs, f"{kind}shares", CUT), start)
    assert not _same_model(start, runs / f"{kind}shares" / "model", 1e-4)


@pytest.mark.parametrize("name", ["lora_shares", "lora_file"])
def test_a_checkpoint_of_adapters_holds_nothing_else(runs: Path, name: str) -> None:
    """Not the frozen embedding under the name of the tied head either."""
    kept = read_checkpoint(_checkpoint(runs, name, STEPS))["state_dict"]
    assert kept and all(".lora_" in key for key in kept)


def test_one_process_without_sharding_goes_on_from_the_file(
    runs: Path, small_world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(TESTS))
    train(small_world, runs / "plain", 1, ckpt_path=_checkpoint(runs, "file", CUT))
    assert _same_model(runs / "shares" / "model", runs / "plain" / "model", 1e-6)


def test_shares_and_file_hold_the_same(runs: Path) -> None:
    shares, file = (read_checkpoint(_checkpoint(runs, n, STEPS)) for n in ("shares", "file"))
    assert shares.keys() == file.keys()
    assert shares["state_dict"].keys() == file["state_dict"].keys()
    for name, tensor in file["state_dict"].items():
        assert torch.equal(shares["state_dict"][name], tensor), name
    one, other = (kept["optimizer_states"][0] for kept in (shares, file))
    assert one["param_groups"] == other["param_groups"]
    for number, entry in other["state"].items():
        for name, value in entry.items():
            assert torch.equal(one["state"][number][name], value), (number, name)
    assert shares["r1omni"]["reference"].keys() == file["r1omni"]["reference"].keys()


def test_the_model_folder_is_the_last_checkpoint(runs: Path, tmp_path: Path) -> None:
    for name in ("shares", "file"):
        export_checkpoint(_checkpoint(runs, name, STEPS), tmp_path / name)
        assert _same_model(tmp_path / name, runs / "shares" / "model", 0.0)


@pytest.mark.parametrize("which", [0, -1])
def test_shares_that_are_not_whole(runs: Path, tmp_path: Path, which: int) -> None:
    whole = _checkpoint(runs, "shares", CUT)
    lacking, torn = tmp_path / "lacking.ckpt", tmp_path / "torn.ckpt"
    for copy in (lacking, torn):
        shutil.copytree(whole, copy)
    sorted(lacking.glob("*.safetensors"))[which].unlink()
    share = sorted(torn.glob("*.safetensors"))[which]
    share.write_bytes(share.read_bytes()[:1000])
    for copy in (lacking, torn):
        with pytest.raises(R1OmniError, match=rf"{copy.name}.* not whole") as caught:
            export_checkpoint(copy, tmp_path / "model")
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "model").exists()


def test_there_is_no_code_in_a_folder_of_shares(runs: Path) -> None:
    folder = _checkpoint(runs, "shares", CUT)
    suffixes = {path.suffix for path in folder.iterdir() if path.name != PLAIN_VALUES}
    assert suffixes == {".safetensors"}
    torch.load(folder / PLAIN_VALUES, weights_only=True)
