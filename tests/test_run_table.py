"""scripts/run_table.py: what is left to do, and what happens when a command fails."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
from omegaconf import OmegaConf

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "run_table.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("run_table", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_what_is_done_is_not_done_again(script: ModuleType, tmp_path: Path) -> None:
    table = script.Table(tmp_path, seed=7, clips=100)
    (fresh,) = table.fit(script.GRPO)
    assert fresh.name == "fit R1-Omni" and "--ckpt_path" not in fresh.args
    assert fresh.args[fresh.args.index("--model.init_args.grpo.seed") + 1] == "7"
    assert "--model.init_args.grpo.seed" not in table.fit(script.BASE)[0].args

    (tmp_path / "r1omni/checkpoints").mkdir(parents=True)
    (tmp_path / "r1omni/checkpoints/step_000100.ckpt").touch()
    (resumed,) = table.fit(script.GRPO)
    assert resumed.args[-2:] == ("--ckpt_path", "last")

    (tmp_path / "r1omni/model").mkdir()
    assert table.fit(script.GRPO) == [resumed]  # a model folder whose writing was cut off
    (tmp_path / "r1omni/model/config.json").touch()
    assert table.fit(script.GRPO) == []
    assert len(table.test(script.GRPO)) == 1
    (tmp_path / "r1omni/test").mkdir()
    (tmp_path / "r1omni/test/results.json").touch()
    assert table.test(script.GRPO) == []
    table.run(*table.fit(script.GRPO), *table.test(script.GRPO))
    assert not table.costs_file.exists()


def test_a_failing_command_stops_the_table_with_its_status(
    script: ModuleType, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    table = script.Table(tmp_path, seed=0, clips=100)
    good, bad = script.Command("good one", ("--help",)), script.Command("bad one", ("nonsense",))
    with pytest.raises(SystemExit) as stopped:
        table.run(good, bad)
    assert stopped.value.code == 2
    assert "unknown command 'nonsense'" in (tmp_path / "bad_one.log").read_text()
    assert "bad one failed with status 2" in capfd.readouterr().err
    costs = json.loads((tmp_path / "costs.json").read_text())
    assert list(costs["seconds"]) == ["good one"]
    assert costs["elapsed_seconds"] > 0 and costs["peak_memory_gib"] > 0.01

    table.run(good)
    again = json.loads((tmp_path / "costs.json").read_text())
    for key in ("elapsed_seconds", "peak_memory_gib"):
        assert again[key] >= costs[key]
    assert again["seconds"]["good one"] > costs["seconds"]["good one"]


def test_every_stage_has_its_configs_and_what_it_starts_from(
    script: ModuleType, tmp_path: Path
) -> None:
    table = script.Table(tmp_path, seed=3, clips=100)
    made = {"towers", *(f"{stage.folder}/model" for stage in script.STAGES)}
    for stage in script.STAGES:
        words = [str(word) for word in table.settings(stage)]
        files = [words[i + 1] for i, word in enumerate(words) if word == "--config"]
        assert files and all((script.ROOT / file).is_file() for file in files)
        run = OmegaConf.merge(*(OmegaConf.load(script.ROOT / file) for file in files))
        assert words[words.index("--run.name") + 1] == stage.model
        assert run.run.name == stage.model or stage.overlays
        assert stage.starts_from in made
        seeded = "--model.init_args.grpo.seed" in words
        assert seeded == run.model.class_path.endswith("GRPOModule")
        (test,) = table.test(stage)
        assert ("both" in test.args) == (stage in script.REASONING)
