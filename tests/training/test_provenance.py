"""What is recorded of the trainings that led to a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from r1omni.data.registry import DatasetSpec, dataset_names, options_in_force
from r1omni.models.sizes import config_from_sizes
from r1omni.training.stages import stages, with_data_sets
from r1omni.types import R1OmniError

SIZES = Path(__file__).parents[2] / "configs" / "mini" / "model.yaml"


def write_stage(run: Path, start: Path, **changes: Any) -> Path:
    """A run folder that records a training from `start`."""
    config = {
        "seed_everything": 3,
        "run": {"name": run.name},
        "trainer": {"max_steps": 7},
        "model": {
            "class_path": "r1omni.training.SFTModule",
            "init_args": {"init_from": str(start)},
        },
        "data": {"train": [{"name": "own", "split": "all", "sampling": "all", "options": {}}]},
        **changes,
    }
    (run / "model").mkdir(parents=True)
    (run / "config_fit.yaml").write_text(yaml.safe_dump(config))
    return run


def test_stages_are_followed_to_the_first_that_is_recorded(tmp_path: Path) -> None:
    first = write_stage(tmp_path / "first", tmp_path / "downloaded")
    second = write_stage(tmp_path / "second", first / "model")
    found = stages(second)
    assert [(stage["name"], stage["init_from"]) for stage in found] == [
        ("second", str(first / "model")),
        ("first", str(tmp_path / "downloaded")),
    ]
    assert found[0]["method"] == "SFT" and found[0]["rewards"] == []
    assert stages(tmp_path / "downloaded") == stages(None) == []


def test_a_model_keeps_the_data_sets_of_all_its_stages(tmp_path: Path) -> None:
    (tmp_path / "world").mkdir()
    (tmp_path / "world" / "world.json").write_text("{}")
    spec = {"split": "train", "sampling": "all", "options": {}}
    data = {name: {"root": str(tmp_path / root), "train": [{"name": name, **spec}]}
            for name, root in (("mafw", "real"), ("dfew", "world"))}  # fmt: skip
    first = write_stage(tmp_path / "first", tmp_path / "downloaded", data=data["mafw"])
    second = write_stage(tmp_path / "second", first / "model", data=data["dfew"])
    config = with_data_sets(config_from_sizes(SIZES), second)
    assert config.released["trained_on"] == ["drawn world", "mafw"]
    again = with_data_sets(config, write_stage(tmp_path / "third", tmp_path / "copied"))
    assert again.released["trained_on"] == ["drawn world", "mafw", "own"]


def test_a_circle_of_stages_ends(tmp_path: Path) -> None:
    write_stage(tmp_path / "a", tmp_path / "b" / "model")
    write_stage(tmp_path / "b", tmp_path / "a" / "model")
    assert [stage["name"] for stage in stages(tmp_path / "a")] == ["a", "b"]


@pytest.mark.parametrize("text", ["", "- 1", "model: {}", "model: [", "model: 5\ndata: 5", "\x00"])
def test_a_record_that_is_none_is_named(text: str, tmp_path: Path) -> None:
    write_stage(tmp_path / "run", tmp_path)
    (tmp_path / "run" / "config_fit.yaml").write_text(text)
    with pytest.raises(R1OmniError, match=r"run/config_fit\.yaml is no configuration") as caught:
        stages(tmp_path / "run")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", dataset_names())
def test_options_of_every_data_set_are_recorded_with_their_defaults(name: str) -> None:
    plain = options_in_force(DatasetSpec(name, "data"))
    assert json.loads(json.dumps(plain)) == plain
    first = next(iter(plain), None)
    if first is not None:
        assert options_in_force(DatasetSpec(name, "data", options={first: 5})) == {
            **plain, first: 5,
        }  # fmt: skip
    assert not plain.keys() & {"root", "split", "instruction", "modality"}
    assert {"dfew": 1, "mafw": 1}.get(name, plain.get("fold")) == plain.get("fold")
