"""The whole way through the command line, as separate processes: train, resume, test, report."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mlflow.tracking import MlflowClient
from safetensors.torch import load_file, save_file

from processes import Running
from r1omni.cli import main

REPOSITORY = Path(__file__).parent.parent


def run(*args: object, status: int = 0) -> Running:
    process = Running(main, [str(arg) for arg in args], cwd=REPOSITORY, env=os.environ)
    assert process.wait() == status, process.stderr[-3000:]
    return process


def run_fresh(*args: object) -> None:
    """In a fresh interpreter, which has imported nothing."""
    path = f"{REPOSITORY / 'src'}:{REPOSITORY / 'tests'}"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    command = [sys.executable, "-m", "r1omni", *map(str, args)]
    subprocess.run(command, cwd=REPOSITORY, env=environment, check=True)


def arguments(root: Path, config: str, folder: str, start: str, *more: object) -> list[object]:
    """Options that point a shipped config at the small world."""
    return [
        "--config", f"configs/mini/{config}.yaml",
        "--trainer.default_root_dir", root / folder,
        "--trainer.enable_progress_bar", "false",
        "--trainer.log_every_n_steps", 1,
        "--model.init_args.init_from", root / start,
        "--model.init_args.max_new_tokens", 8,
        "--data.root", root / "world",
        "--data.loader.cache_dir", root / "cache",
        "--data.loader.batch_size", 4, "--data.loader.decode_workers", 0,
        "--run.tracking_uri", f"sqlite:///{root / 'mlflow.db'}",
        "--run.checkpoint_every", 1,
        "--run.keep_checkpoints", 9,
        *more,
    ]  # fmt: skip


# Fresh weights never answer in tags: a reward of length gives GRPO something to learn from.
REWARDS = "[{name: accuracy}, {name: format}, {name: rewards_of_tests:length}]"
GRPO = ("--model.init_args.grpo.max_new_tokens", 12, "--model.init_args.grpo.group_size", 4,
        "--model.init_args.grpo.rewards", REWARDS)  # fmt: skip


def interrupted(root: Path, folder: str, steps: int) -> Path:
    """A copy of a finished run as it was after `steps` steps."""
    copy = root / f"{folder}_again"
    shutil.copytree(root / folder, copy, ignore=shutil.ignore_patterns("model", "test"))
    for checkpoint in (copy / "checkpoints").iterdir():
        if checkpoint.name > f"step_{steps:06d}.ckpt":
            checkpoint.unlink()
    return copy


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model" / "model.safetensors")


def equal(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


@pytest.fixture(scope="module")
def trained(mini_world: Path) -> Path:
    """Two steps of SFT, then two of GRPO from its model folder."""
    more = ("--trainer.max_steps", 2, "--data.loader.decode_workers", 2)
    run_fresh("fit", *arguments(mini_world, "emer_sft", "sft", "init", *more))
    grpo = arguments(mini_world, "r1omni", "grpo", "sft/model", "--trainer.max_steps", 2, *GRPO)
    run("fit", *grpo)
    return mini_world


def test_only_what_is_trained_changes(trained: Path) -> None:
    start = load_file(trained / "init" / "model.safetensors")
    after_sft, after_grpo = weights(trained / "sft"), weights(trained / "grpo")
    frozen = [n for n in start if n.split(".")[1] in ("vision_tower", "audio_tower", "bert_model")]
    assert len(frozen) > 50
    assert all(torch.equal(start[name], after_grpo[name]) for name in frozen)
    for name in (
        "model.norm.weight",
        "model.audio_projector.0.weight",
        "model.embed_tokens.weight",
    ):
        assert not torch.equal(start[name], after_sft[name])
        assert not torch.equal(after_sft[name], after_grpo[name])


def test_checkpoints_hold_no_frozen_weights_and_only_plain_types(trained: Path) -> None:
    checkpoint = torch.load(
        trained / "grpo" / "checkpoints" / "step_000002.ckpt", weights_only=True
    )
    assert checkpoint["global_step"] == 2
    assert not [name for name in checkpoint["state_dict"] if "tower" in name]
    assert any("language_model" in name for name in checkpoint["state_dict"])
    # Checkpoints are nowhere else in the run's folder.
    assert (trained / "grpo" / "config_fit.yaml").exists()
    kept = [path.parent.name for path in (trained / "grpo").rglob("*.ckpt")]
    assert kept == ["checkpoints"] * 2


@pytest.mark.parametrize(
    ("config", "folder", "start"), [("emer_sft", "sft", "init"), ("r1omni", "grpo", "sft/model")]
)
def test_a_resumed_run_ends_like_an_uninterrupted_one(
    trained: Path, config: str, folder: str, start: str
) -> None:
    copy = interrupted(trained, folder, steps=1)
    run_id = (copy / "mlflow_run_id.txt").read_text()
    more = ("--trainer.max_steps", 2, *(GRPO if folder == "grpo" else ()))
    resume = arguments(trained, config, copy.name, start, *more, "--ckpt_path", "last")
    run("fit", *resume)
    assert equal(weights(copy), weights(trained / folder))
    # The curve goes on in the same MLflow run.
    assert (copy / "mlflow_run_id.txt").read_text() == run_id
    client = MlflowClient(f"sqlite:///{trained / 'mlflow.db'}")
    assert client.get_run(run_id.strip()).info.status == "FINISHED"
    history = client.get_metric_history(run_id.strip(), "loss")
    by_step: dict[int, set[float]] = {}
    for metric in history:
        by_step.setdefault(metric.step, set()).add(metric.value)
    assert sorted(by_step) == [0, 1]
    assert len(history) == 2  # the second step was made twice, and is not doubled
    assert len(by_step[1]) == 1


@pytest.mark.parametrize("folder", ["sft", "grpo"])
def test_a_checkpoint_is_exported_without_the_trainer(
    trained: Path, tmp_path: Path, folder: str
) -> None:
    checkpoints = trained / folder / "checkpoints"
    export = run_fresh if folder == "sft" else run
    export("export", "--ckpt_path", trained / folder, "--out", tmp_path / "last")
    assert equal(load_file(tmp_path / "last" / "model.safetensors"), weights(trained / folder))
    first = checkpoints / "step_000001.ckpt"
    run("export", "--ckpt_path", first, "--out", tmp_path / "first", "--dtype", "bfloat16")
    earlier = load_file(tmp_path / "first" / "model.safetensors")
    assert {tensor.dtype for tensor in earlier.values()} == {torch.bfloat16}
    assert not equal(earlier, {n: t.bfloat16() for n, t in weights(trained / folder).items()})


def test_what_cannot_be_exported(
    trained: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    checkpoint = trained / "sft" / "checkpoints" / "step_000002.ckpt"
    out = tmp_path / "out"

    def refused(file: Path, *more: object, status: int = 1) -> str:
        words = ["export", "--ckpt_path", file, "--out", out, *more]
        assert main([str(word) for word in words]) == status
        message = capfd.readouterr().err
        assert len(message.strip().splitlines()) == 1
        assert not out.exists()
        return message

    assert "no such checkpoint" in refused(tmp_path / "no.ckpt", status=2)
    assert "no checkpoint" in refused(tmp_path, status=2)
    data = checkpoint.read_bytes()
    (tmp_path / "half.ckpt").write_bytes(data[: len(data) // 2])
    assert "half.ckpt cannot be read" in refused(tmp_path / "half.ckpt")
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    assert "other.ckpt was not written by r1omni" in refused(tmp_path / "other.ckpt")
    other = REPOSITORY / "tests" / "fixtures" / "humanomni_tiny" / "R1-Omni-tiny"
    assert "another architecture" in refused(checkpoint, "--model", other)
    assert "--dtype" in refused(checkpoint, "--dtype", "int8", status=2)
    retrained = tmp_path / "other towers"
    shutil.copytree(trained / "init", retrained)
    tensors = load_file(retrained / "model.safetensors")
    tensors["model.bert_model.embeddings.LayerNorm.bias"] += 1
    save_file(tensors, retrained / "model.safetensors")
    assert "other frozen weights" in refused(checkpoint, "--model", retrained)


def test_one_recording_through_a_released_checkpoint(tmp_path: Path) -> None:
    tiny = REPOSITORY / "tests" / "fixtures" / "humanomni_tiny"
    clip, model = tiny / "clip.mp4", tiny / "R1-Omni-tiny"
    found = run("analyze", clip, "--model", model, "--max-new-tokens", 8, "--window-s", 3)
    spans = [(a["start_s"], a["end_s"]) for a in map(json.loads, found.stdout.splitlines())]
    assert spans == [(0.0, 3.0), (3.0, 4.2)]
    options = arguments(tmp_path, "emer_sft", "run", "init",
                        "--model.init_args.init_from", model, "--data.root", clip.parent,
                        "--data.predict", "[{name: own, root: clip.mp4}]")  # fmt: skip
    run("predict", *options)
    lines = (tmp_path / "run" / "predict" / "predictions" / "own.full.jsonl").read_text()
    [record] = map(json.loads, lines.splitlines())
    assert record["sample_id"] == "own/clip.mp4"
    whole = run("analyze", clip, "--model", model, "--max-new-tokens", 8).stdout
    assert record["text"] == json.loads(whole)["text"] != ""


def test_grpo_logs_what_it_did(trained: Path) -> None:
    client = MlflowClient(f"sqlite:///{trained / 'mlflow.db'}")
    run_id = (trained / "grpo" / "mlflow_run_id.txt").read_text().strip()
    logged = client.get_run(run_id).data.metrics
    names = (
        "loss reward reward_std frac_reward_zero_std kl entropy num_tokens tokens_per_second "
        "rewards/accuracy/mean rewards/accuracy/std rewards/format/mean completions/mean_length "
        "completions/min_length completions/max_length completions/clipped_ratio "
        "completions/mean_terminated_length clip_ratio/region_mean time/generate time/reward "
        "time/reference time/update"
    ).split()
    assert not [name for name in names if name not in logged]
    assert logged["kl"] >= 0
    assert 1 <= logged["completions/mean_length"] <= 12
    assert logged["sampling_logp_difference"] < 1e-4
    artifacts = [a.path for a in client.list_artifacts(run_id, "completions")]
    assert artifacts == ["completions/step_000000.jsonl"]
    text = Path(client.download_artifacts(run_id, artifacts[0])).read_text()
    first = json.loads(text.splitlines()[0])
    assert {"sample_id", "label", "completion", "accuracy", "format", "advantage"} <= first.keys()


def test_test_evaluates_every_set_under_every_condition(trained: Path) -> None:
    run("test", *arguments(trained, "r1omni", "grpo", "sft/model", *GRPO, "--ckpt_path", "last"))
    results = json.loads((trained / "grpo" / "test" / "results.json").read_text())
    assert set(results["sets"]) == {"dfew", "mafw", "ravdess"}
    for name, conditions in results["sets"].items():
        assert set(conditions) == {"full", "muted", "blanked"}
        lines = (trained / "grpo" / "test" / "predictions" / f"{name}.full.jsonl").read_text()
        assert len(lines.splitlines()) == conditions["full"]["n"] > 0
    assert (trained / "grpo" / "config_test.yaml").exists()
    record = results["provenance"]
    newest = max((trained / "grpo" / "checkpoints").glob("step_*.ckpt"))
    assert record["checkpoint"] == {
        "path": str(newest),
        "sha256": hashlib.sha256(newest.read_bytes()).hexdigest(),
        "step": int(newest.stem.removeprefix("step_")),
        "is_newest": True,
    }
    assert [(stage["method"], stage["init_from"]) for stage in record["training"]] == [
        ("GRPO", str(trained / "sft" / "model")), ("SFT", str(trained / "init")),
    ]  # fmt: skip
    assert [data["name"] for data in record["training"][0]["data"]] == ["mafw", "dfew"]
    assert [reward["name"] for reward in record["training"][0]["rewards"]] == [
        "accuracy", "format", "rewards_of_tests:length",
    ]  # fmt: skip
    assert {s["dataset"] for s in record["sets"].values()} == set(results["sets"])
    assert results["protocols"].keys() == results["sets"].keys()
    for protocol in results["protocols"].values():
        # Of a local model, sets without folds and answers without votes these are empty.
        unknown = {key for key, value in protocol.items() if not value}
        assert unknown <= {"fold", "num_folds", "options", "speakers", "hub", "voting"}
        assert protocol["checkpoint"]["sha256"] == record["checkpoint"]["sha256"]
        assert all(protocol["code"].values()) and protocol["answer_mode"] == "think"
    assert results["protocols"]["dfew"]["fold"] == 1
    assert (trained / "grpo" / "broken_clips_test.jsonl").read_text() == ""
    report = trained / "page"
    run("report", "--runs", f"R1-Omni={trained / 'grpo'}", "--world", trained / "world",
        "--out", report)  # fmt: skip
    written = json.loads((report / "results.json").read_text())
    assert written["runs"] == {"R1-Omni": record}
    row = written["rows"][0]
    assert row["model"] == "R1-Omni"
    assert row["dfew"]["war"] == results["sets"]["dfew"]["full"]["war"]
    assert "<html" in (report / "report.html").read_text()


def test_predict_keeps_what_the_model_says(trained: Path) -> None:
    sets = "[{name: ravdess, root: RAVDESS, split: all}]"
    more = ("--data.predict", sets, "--ckpt_path", "last")
    run("predict", *arguments(trained, "emer_sft", "sft", "init", *more))
    lines = (trained / "sft" / "predict" / "predictions" / "ravdess.full.jsonl").read_text()
    clips = list((trained / "world" / "RAVDESS").rglob("*.mp4"))
    assert sorted(json.loads(line)["path"] for line in lines.splitlines()) == sorted(
        map(str, clips)
    )


def test_analyze_prints_one_line_a_recording(trained: Path) -> None:
    clip = next((trained / "world" / "DFEW").rglob("*.mp4"))
    result = run("analyze", clip, "--model", trained / "grpo" / "model", "--max-new-tokens", 8)
    line = json.loads(result.stdout)
    assert line["path"] == str(clip)
    assert line["start_s"] == 0
    assert line["end_s"] > 1


def test_a_finished_run_is_not_overwritten(trained: Path) -> None:
    again = arguments(trained, "emer_sft", "sft", "init", "--trainer.max_steps", 2)
    before = weights(trained / "sft")
    result = run("fit", *again, status=2)
    assert "--ckpt_path last" in result.stderr
    assert equal(weights(trained / "sft"), before)
