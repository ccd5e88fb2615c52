"""configs/r1omni_0.5b against the paper's table (arXiv 2503.05379), and that its files run.

They run here with a tiny model on the mini-world; what needs 0.5B parameters is not tested.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from r1omni.cli import main
from r1omni.data import load_dataset
from r1omni.data.sampler import LengthGroupedSampler
from r1omni.text.prompt import R1OMNI_INSTRUCTION
from r1omni.training import GRPOModule, SFTModule
from r1omni.training.lightning_cli import R1OmniCLI
from r1omni.training.optimization import rate_factor

CONFIGS = Path(__file__).parent.parent / "configs" / "r1omni_0.5b"
FOLD_1 = (9_356, 7_333)  # training clips of DFEW and MAFW
# 2% of each, rounded up, are held out.
TRAINED_ON = sum(FOLD_1) - sum(math.ceil(size * 0.02) for size in FOLD_1)


@dataclass(frozen=True)
class Recipe:
    """A row of the paper's training settings.

    Attributes:
        init_from: the model it starts from.
        num_paper_samples: samples the paper trained on.
        num_samples: samples of our training sets.
        epochs: the paper's.
        global_batch: prompts an optimizer step.
        learning_rate: peak.
        warmup_ratio: of all steps.
    """

    init_from: str
    num_paper_samples: int
    num_samples: int
    epochs: int
    global_batch: int
    learning_rate: float
    warmup_ratio: float

    @property
    def max_steps(self) -> int:
        """Full batches only: an incomplete one is left out."""
        return self.epochs * (self.num_paper_samples // self.global_batch)


BASE = "StarJiaxing/HumanOmni-0.5B"
COLD_START = "outputs/r1omni_0.5b/emer_sft/model"
RECIPES = {
    "emer_sft": Recipe(BASE, 232 + 348, 232 + 348, 5, 16, 2e-5, 0.03),
    "emer_only": Recipe(BASE, 232, 232, 5, 16, 2e-5, 0.03),
    "label_sft": Recipe(BASE, 15_306, TRAINED_ON, 1, 128, 2e-5, 0.03),
    "r1omni": Recipe(COLD_START, 15_306, TRAINED_ON, 2, 16, 1e-6, 0.0),
}
STAGES = list(RECIPES)

Build = Callable[..., R1OmniCLI]


@pytest.fixture
def build(tmp_path: Path, fixtures_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Build:
    """Parse a config and build what it names, around the recorded tiny checkpoint."""
    monkeypatch.chdir(tmp_path)  # the tracking store lands here
    model = fixtures_dir / "humanomni_tiny" / "R1-Omni-tiny"

    def make(config: str, *more: object) -> R1OmniCLI:
        words = ["--config", CONFIGS / f"{config}.yaml", "--trainer.accelerator", "cpu"]
        words += ["--model.init_args.init_from", model, *more]
        return R1OmniCLI([str(word) for word in words], run=False)

    return make


def as_written(config: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((CONFIGS / f"{config}.yaml").read_text())
    return content


def eight_gpu_options(config: str) -> dict[str, str]:
    """The options that the head of a file names for eight GPUs."""
    head = (CONFIGS / f"{config}.yaml").read_text().split("\nrun:")[0]
    options = dict(re.findall(r"--([\w.]+) +(\S+)", head))
    assert options["trainer.devices"] == "8"
    assert options["config"] == "configs/overlay/ddp.yaml"
    return options


@pytest.mark.parametrize("stage", STAGES)
def test_settings_of_the_paper(stage: str, build: Build) -> None:
    recipe, cli = RECIPES[stage], build(stage)
    assert as_written(stage)["model"]["init_args"]["init_from"] == recipe.init_from
    optimizer = cli.model.optimizer_config
    assert optimizer.learning_rate == recipe.learning_rate
    assert optimizer.warmup_ratio == recipe.warmup_ratio
    assert optimizer.weight_decay == 0
    assert optimizer.adam_betas == (0.9, 0.999)
    assert (optimizer.projector_lr_scale, optimizer.tower_lr_scale) == (1, 1)
    assert cli.trainer.max_steps == recipe.max_steps
    assert cli.trainer.precision == "bf16-mixed"
    # What the files leave to the defaults.
    assert optimizer.min_lr_ratio == 0
    assert optimizer.schedule == ("linear" if stage == "r1omni" else "cosine")
    assert cli.model.max_new_tokens == 512
    assert cli.trainer.gradient_clip_val is None
    assert "2503.05379" in (CONFIGS / f"{stage}.yaml").read_text().split("\nrun:")[0]
    # The gate is one of the projectors.
    trained = {name.split(".")[0] for name, p in cli.model.model.named_parameters()
               if p.requires_grad}  # fmt: skip
    assert trained == {"video_projector", "audio_projector", "gate", "language_model"}
    assert cli.model.omni.processor.config.frame_fit == "pad"


def test_numbers_of_steps() -> None:
    assert {stage: recipe.max_steps for stage, recipe in RECIPES.items()} == {
        "emer_sft": 180,
        "emer_only": 70,
        "label_sft": 119,
        "r1omni": 1912,
    }


@pytest.mark.parametrize("stage", STAGES)
def test_the_rate_rises_to_its_peak_and_ends_at_zero(stage: str, build: Build) -> None:
    cli, steps = build(stage), RECIPES[stage].max_steps
    factors = [rate_factor(cli.model.optimizer_config, steps)(step) for step in range(steps + 1)]
    num_rising = max(1, round(RECIPES[stage].warmup_ratio * steps))
    assert max(factors) == factors[num_rising - 1] == 1
    assert all(one >= two for one, two in zip(factors[num_rising:], factors[num_rising + 1 :]))  # noqa: B905
    assert factors[-1] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("num_gpus", [1, 8])
def test_global_batch(stage: str, num_gpus: int, build: Build) -> None:
    recipe, cli = RECIPES[stage], build(stage)
    batch_size, accumulated = cli.datamodule.loader.batch_size, cli.trainer.accumulate_grad_batches
    if num_gpus == 1:
        assert as_written(stage)["trainer"]["devices"] == 1
    else:
        options = eight_gpu_options(stage)
        batch_size = int(options["data.loader.batch_size"])
        accumulated = int(options.get("trainer.accumulate_grad_batches", "1"))
    assert num_gpus * batch_size * accumulated == recipe.global_batch
    # Lightning would end an epoch with a smaller step where batches are left over.
    sampler = LengthGroupedSampler(
        [0] * recipe.num_samples, batch_size, drop_last=True, seed=0,
        num_replicas=num_gpus,
    )  # fmt: skip
    one_epoch_is_enough = recipe.max_steps <= len(sampler) // accumulated
    assert one_epoch_is_enough or len(sampler) % accumulated == 0
    # Otherwise Lightning looks for a sampler to replace, and ours deals to the ranks itself.
    assert build(stage).config.trainer.use_distributed_sampler is False


def test_grpo_of_the_paper(build: Build) -> None:
    cli = build("r1omni")
    assert isinstance(cli.model, GRPOModule)
    grpo = cli.model.grpo
    assert (grpo.group_size, grpo.temperature, grpo.max_new_tokens) == (8, 1.0, 512)
    assert [(reward.name, reward.weight) for reward in grpo.rewards] == [
        ("accuracy", 1.0),
        ("format", 1.0),
    ]
    assert grpo.scale_rewards == "group"
    assert (grpo.num_iterations, grpo.steps_per_generation, grpo.max_grad_norm) == (1, 1, 1.0)
    assert (grpo.loss.loss_type, grpo.loss.beta, grpo.loss.kl_estimator) == ("grpo", 0.04, "k3")


def test_data_of_the_cold_start(build: Build) -> None:
    emer, humanomni = build("emer_sft").datamodule.specs["train"]
    assert (emer.name, emer.sampling) == ("emer", "random:232")
    assert (humanomni.name, humanomni.sampling) == ("humanomni", "random:348")


def test_data_of_the_cold_start_without_humanomni(build: Build, tmp_path: Path) -> None:
    """As published EMER has 332 rows: 232 to train on, 100 held out, and no label file needed."""
    rows = "".join(f"sample_{number},,He looks angry.\n" for number in range(332))
    table = tmp_path / "EMER" / "dataset-v2" / "final-EMER-reason.csv"
    table.parent.mkdir(parents=True)
    table.write_text(f"name,chinese,english\n{rows}", encoding="utf-8")
    data = build("emer_only", "--data.root", tmp_path).datamodule
    data.setup("fit")
    [trained], [held] = data.samples["train"], data.samples["val"]
    assert (len(trained), len(held)) == (232, 100)
    assert {s.sample_id for s in trained}.isdisjoint(s.sample_id for s in held)


@pytest.mark.parametrize("stage", STAGES)
def test_validation_holds_out_of_training_and_touches_no_test_set(
    stage: str, build: Build, mini_world: Path
) -> None:
    data = build(stage, "--data.root", mini_world / "world").datamodule
    data.setup("fit")  # refuses shared clips
    data.setup("test")
    clips = {
        split: {s.clip for samples in sets for s in samples} for split, sets in data.samples.items()
    }
    assert not clips.pop("expert")  # for CHORD alone
    assert clips.keys() == {"train", "val", "test"} and all(clips.values())
    assert not clips["val"] & (clips["train"] | clips["test"])
    # The later stages' clips, in the cold start as well: figures of all stages are of one set.
    assert (
        stage == "emer_only"
        or as_written(stage)["data"]["val"] == as_written("r1omni")["data"]["val"]
    )
    for spec in data.specs["val"]:
        whole = replace(spec, root=str(data.root / spec.root), sampling="all")
        held = {s.clip for s in load_dataset(whole)} & clips["val"]
        share = 0.3 if stage == "emer_only" else 0.02
        assert len(held) == math.ceil(share * len(load_dataset(whole)))


@pytest.mark.parametrize("stage", ["label_sft", "r1omni"])
def test_data_of_the_labels(stage: str, build: Build) -> None:
    specs = build(stage).datamodule.specs["train"]
    assert [(spec.name, spec.split, spec.options) for spec in specs] == [
        ("mafw", "train", {"fold": 1}),
        ("dfew", "train", {"fold": 1}),
    ]


@pytest.mark.parametrize("config", [*STAGES, "eval_dfew", "eval_mafw", "eval_ravdess"])
def test_data_root_comes_from_the_environment(
    config: str, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("R1OMNI_DATA", raising=False)
    assert build(config).datamodule.root == Path("data")
    monkeypatch.setenv("R1OMNI_DATA", "/somewhere/else")
    assert build(config).datamodule.root == Path("/somewhere/else")


def test_supervised_stages_are_supervised(build: Build) -> None:
    supervised = ("emer_sft", "emer_only", "label_sft")
    assert all(isinstance(build(stage).model, SFTModule) for stage in supervised)


# With a tiny model on the mini-world ---------------------------------------------------------


def on_mini_world(command: str, config: str, root: Path, out: Path, *more: object) -> list[str]:
    words = [
        command, "--config", CONFIGS / f"{config}.yaml", "--trainer.default_root_dir", out,
        "--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false",
        "--model.init_args.init_from", root / "init", "--model.init_args.max_new_tokens", 4,
        "--data.loader.cache_dir", root / "cache", "--data.loader.decode_workers", 0,
        "--data.loader.num_workers", 0, "--run.tracking_uri", f"sqlite:///{out / 'mlflow.db'}",
        *more,
    ]  # fmt: skip
    return [str(word) for word in words]


@pytest.mark.parametrize("name", ["dfew", "mafw", "ravdess"])
def test_evaluations_run(
    name: str, mini_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # MLflow's artifacts land here
    monkeypatch.setenv("R1OMNI_DATA", str(mini_world / "world"))
    assert main(on_mini_world("test", f"eval_{name}", mini_world, tmp_path)) == 0
    results = json.loads((tmp_path / "test" / "results.json").read_text())
    [(tested, conditions)] = results["sets"].items()
    assert tested == name
    assert conditions["full"]["n"] > 0
    record = results["provenance"]
    weights = (mini_world / "init" / "model.safetensors").read_bytes()
    assert record["start"] == {
        "init_from": str(mini_world / "init"),
        "hub": {},
        "parts": {},
        "sha256": hashlib.sha256(weights).hexdigest(),
    }
    assert (record["checkpoint"], record["training"]) == (None, [])
    assert record["run"] == f"R1-Omni on {name.upper()}"
    asked = record["sets"][name]
    assert asked["num_samples"] == conditions["full"]["n"]
    assert asked["instructions"] == [R1OMNI_INSTRUCTION]
    if name == "ravdess":
        assert asked["options"] == {
            "protocol": "8way", "actors": None, "fold": None, "folds": None,
            "hold_out_val": False, "vocal": "speech",
        }  # fmt: skip
        assert all(re.fullmatch(r"actor_\d\d", group) for group in asked["groups"])
    else:
        assert (asked["options"]["fold"], asked["groups"]) == (1, None)
    assert record["answers"]["max_new_tokens"] == 4
    assert record["versions"]["torch"] == torch.__version__.split("+")[0]
    age = datetime.now(UTC) - datetime.fromisoformat(record["date"])
    assert timedelta(0) <= age < timedelta(hours=1)


# Fresh weights never answer in tags: a reward of length gives GRPO something to learn from.
LONGER_IS_BETTER = "[{name: accuracy}, {name: format}, {name: rewards_of_tests:length}]"
SHORT_ROLLOUTS = ("--model.init_args.grpo.max_new_tokens", 8,
                  "--model.init_args.grpo.rewards", LONGER_IS_BETTER)  # fmt: skip


@pytest.mark.parametrize("stage", STAGES)
def test_trainings_run_one_accumulated_step(
    stage: str, mini_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many batches as a step has, in bfloat16; every matrix that is trained moves."""
    monkeypatch.chdir(tmp_path)  # MLflow's artifacts land here
    monkeypatch.setenv("R1OMNI_DATA", str(mini_world / "world"))
    accumulated = as_written(stage)["trainer"].get("accumulate_grad_batches", 1)
    more = SHORT_ROLLOUTS if stage == "r1omni" else ()
    command = on_mini_world(
        "fit", stage, mini_world, tmp_path, "--trainer.max_steps", 1,
        "--data.loader.batch_size", 1, *more,
    )  # fmt: skip
    assert main(command) == 0
    checkpoint = torch.load(tmp_path / "checkpoints" / "step_000001.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 1
    [position] = checkpoint["loops"]["fit_loop"]["state_dict"]["combined_loader"]
    assert position["offset"] == accumulated  # batches of this one step
    before = load_file(mini_world / "init" / "model.safetensors")
    after = load_file(tmp_path / "model" / "model.safetensors")
    matrices = [name for name in before if name.endswith("_proj.weight") and ".layers." in name
                and not name.startswith(("model.vision_tower", "model.audio_tower"))]  # fmt: skip
    assert len(matrices) == 4 * 7
    for name in (*matrices, "model.audio_projector.0.weight", "model.bert_gate.2.weight",
                 "model.mm_projector.s1_video.b1.conv1.conv.weight"):  # fmt: skip
        assert not torch.equal(before[name], after[name]), name


def test_two_processes_share_a_global_batch(
    mini_world: Path, tmp_path: Path, forked_python: Path
) -> None:
    """What the heads of the files say of eight GPUs, on two CPU processes."""
    source = CONFIGS.parents[1] / "src"
    environment = {
        **os.environ, "OMP_NUM_THREADS": "1", "R1OMNI_DATA": str(mini_world / "world"),
        "PYTHONPATH": f"{source}:{Path(__file__).parent}",
    }  # fmt: skip
    command = on_mini_world(
        "fit", "r1omni", mini_world, tmp_path, "--config",
        CONFIGS.parent / "overlay" / "ddp.yaml", "--trainer.accelerator", "cpu",
        "--trainer.devices", 2, "--trainer.max_steps", 2, "--data.loader.batch_size", 2,
        "--model.init_args.grpo.micro_batch_size", 1, *SHORT_ROLLOUTS,
    )  # fmt: skip
    result = subprocess.run(
        [forked_python, "-m", "r1omni", *command],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    checkpoint = torch.load(tmp_path / "checkpoints" / "step_000002.ckpt", weights_only=True)
    [position] = checkpoint["loops"]["fit_loop"]["state_dict"]["combined_loader"]
    assert position["offset"] == 2  # each process went through 2 of the 4 batches of 2 prompts
    assert (tmp_path / "model" / "model.safetensors").is_file()
