"""A run that is cut and resumed is the unbroken run, bit for bit.

`cut_points_job.py` cuts three trainings at 27 places through the command line, by SIGKILL, by
SIGTERM and by Ctrl-C: between the batches of an accumulated step, inside a window of reuse, at the
end of an epoch, before and while a checkpoint is written. Every checkpoint of the cut run is
compared with that of the unbroken run at the same step, so a cut that changed anything is seen by
itself.
"""

from __future__ import annotations

import json
import os
import signal
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import torch
from compared import differences, position
from cut_points_job import RUNS, run_and_cut
from mlflow.tracking import MlflowClient
from safetensors.torch import load_file

from processes import Running

# What the clock decides.
_CLOCKED = ("time/", "tokens_per_second")


@pytest.fixture(scope="module")
def out(mini_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of all runs: `<kind>/whole` and `<kind>/cut`."""
    folder = tmp_path_factory.mktemp("cut_points")
    started = []
    for kind in RUNS:
        # A folder of its own: MLflow puts artifacts into the working directory.
        (folder / kind).mkdir()
        started.append(Running(run_and_cut, mini_world, kind, cwd=folder / kind, env=os.environ))
    for process in started:
        assert process.wait() == 0, process.stderr[-3000:]
    return folder


def checkpoints(run_dir: Path) -> dict[str, dict[str, Any]]:
    """The checkpoints of a run by their names."""
    files = sorted((run_dir / "checkpoints").glob("step_*.ckpt"))
    return {file.stem: torch.load(file, weights_only=True, mmap=True) for file in files}


def run_id(run_dir: Path) -> str:
    return (run_dir / "mlflow_run_id.txt").read_text(encoding="utf-8").strip()


def curves(run_dir: Path) -> dict[str, dict[int, set[float]]]:
    """The values of each metric by step; a step that was computed again may have several rows."""
    client = MlflowClient(f"sqlite:///{run_dir.parent / 'mlflow.db'}")
    found: dict[str, dict[int, set[float]]] = {}
    for name in client.get_run(run_id(run_dir)).data.metrics:
        if not name.startswith(_CLOCKED):
            by_step = defaultdict(set)
            for metric in client.get_metric_history(run_id(run_dir), name):
                by_step[metric.step].add(metric.value)
            found[name] = dict(by_step)
    return found


def completions(run_dir: Path) -> dict[str, str]:
    """What every rollout wrote, by the name of its file."""
    client = MlflowClient(f"sqlite:///{run_dir.parent / 'mlflow.db'}")
    folder = Path(client.download_artifacts(run_id(run_dir), "completions"))
    return {file.name: file.read_text(encoding="utf-8") for file in folder.iterdir()}


def test_there_are_enough_cuts() -> None:
    assert sum(len(run.cuts) for run in RUNS.values()) >= 20


@pytest.mark.parametrize("kind", RUNS)
def test_every_cut_ended_a_process_at_its_place(out: Path, kind: str) -> None:
    found = json.loads((out / kind / "cuts.json").read_text(encoding="utf-8"))
    assert (found["whole"], found["last"]) == (0, 0)
    ends = {"SIGKILL": -9, "SIGTERM": 128 + signal.SIGTERM, "SIGINT": 128 + signal.SIGINT}
    wanted = [{"status": ends[by], "goes_on_from": step} for *_, by, step in RUNS[kind].cuts]
    assert found["cuts"] == wanted


@pytest.mark.parametrize("kind", RUNS)
def test_every_checkpoint_is_that_of_the_unbroken_run(out: Path, kind: str) -> None:
    whole, cut = (checkpoints(out / kind / name) for name in ("whole", "cut"))
    assert f"step_{RUNS[kind].steps:06d}" in cut
    for name, found in cut.items():
        wanted = whole[name]
        keys = ("state_dict", "optimizer_states", "lr_schedulers", "r1omni", "global_step")
        assert differences({k: wanted[k] for k in keys}, {k: found[k] for k in keys}) == [], name
        assert differences(position(wanted), position(found)) == [], name


@pytest.mark.parametrize("kind", RUNS)
def test_the_model_folder_is_that_of_the_unbroken_run(
    out: Path, mini_world: Path, kind: str
) -> None:
    whole, cut = (
        load_file(out / kind / name / "model" / "model.safetensors") for name in ("whole", "cut")
    )
    assert differences(whole, cut) == []
    start = load_file(mini_world / "init" / "model.safetensors")
    assert differences(start, cut) != []


@pytest.mark.parametrize("kind", RUNS)
def test_the_curve_goes_on_in_one_run(out: Path, kind: str) -> None:
    whole, cut = (curves(out / kind / name) for name in ("whole", "cut"))
    assert {"loss", "grad_norm", "lr-AdamW/language_model"} <= whole.keys()
    assert len(whole["loss"]) > 2
    assert cut == whole
    client = MlflowClient(f"sqlite:///{out / kind / 'mlflow.db'}")
    tags = [run.data.tags["run_dir"] for run in client.search_runs(["1"])]
    assert tags.count(str(out / kind / "cut")) == 1
    assert client.get_run(run_id(out / kind / "cut")).info.status == "FINISHED"


@pytest.mark.parametrize("kind", ["grpo", "lora"])
def test_completions_are_those_of_the_unbroken_run(out: Path, kind: str) -> None:
    whole, cut = (completions(out / kind / name) for name in ("whole", "cut"))
    assert len(whole) == -(-RUNS[kind].steps // 4)  # every rollout, with all its completions
    assert all(len(text.splitlines()) == 2 * 4 for text in whole.values())
    assert cut == whole


def test_the_runs_do_what_a_resume_must_carry(out: Path) -> None:
    """Groups are replaced, the reference moves, the ratios leave 1, batches are accumulated."""
    for kind in ("grpo", "lora"):
        found = curves(out / kind / "whole")
        assert any(max(values) > 0 for values in found["frac_dropped"].values())
        assert any(max(values) > 0 for values in found["clip_ratio/region_mean"].values())
    grpo = checkpoints(out / "grpo" / "whole")
    references = [grpo[f"step_{step:06d}"]["r1omni"]["reference"] for step in (4, 8, 18)]
    assert differences(references[0], references[1]) != []
    assert differences(references[1], references[2]) != []
    sft = checkpoints(out / "sft" / "whole")["step_000012"]
    assert position(sft) == {"epoch": 3, "offset": 5, "seed": 0}  # 20 batches, 12 steps
    assert position(grpo["step_000018"])["epoch"] == 2


def test_a_difference_is_seen() -> None:
    one = {"a": [torch.ones(2), 1.5]}
    assert differences(one, {"a": [torch.ones(2), 1.5]}) == []
    assert differences(one, {"a": [torch.tensor([1, 1 + 2**-23]), 1.5]}) == ["/a/0"]
    assert differences(one, {"a": [torch.ones(2), 1.25]}) == ["/a/1: 1.5 and 1.25"]
    assert differences(one, {"a": [torch.ones(2)]}) == ["/a: lengths"]
