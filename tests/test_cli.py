"""Wrong use and bad input: one line that names the file or key, and the exit status."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from torch.utils.data import DataLoader, Dataset

from r1omni import commands
from r1omni.cli import _TRAINER_COMMANDS, main
from r1omni.training.lightning_cli import R1OmniCLI
from r1omni.training.module import EmotionModule
from r1omni.types import R1OmniError, UsageError

CONFIGS = Path(__file__).parent.parent / "configs"
MAX_CONFIG_LINES = 35
# Complete files; a file of model sizes is no run.
SHIPPED = sorted(
    f"{path.parent.name}/{path.stem}"
    for folder in ("mini", "r1omni_0.5b")
    for path in (CONFIGS / folder).glob("*.yaml")
    if path.stem != "model"
)


def fit(root: Path, out: Path, *more: object, config: str = "mini/emer_sft") -> list[str]:
    words = [
        "fit", "--config", CONFIGS / f"{config}.yaml", "--trainer.default_root_dir", out,
        "--trainer.max_steps", 1, "--trainer.enable_progress_bar", "false",
        "--model.init_args.init_from", root / "init", "--data.root", root / "world",
        "--data.loader.cache_dir", root / "cache",
        "--run.tracking_uri", f"sqlite:///{out / 'mlflow.db'}", *more,
    ]  # fmt: skip
    return [str(word) for word in words]


def refused(capfd: pytest.CaptureFixture[str], args: list[str], status: int) -> str:
    """The one line of a refusal."""
    assert main(args) == status
    lines = [line for line in capfd.readouterr().err.splitlines() if "error:" in line]
    assert len(lines) == 1
    assert lines[0].startswith("r1omni: error: ")
    return lines[0]


@pytest.mark.parametrize("config", SHIPPED)
def test_shipped_configs_parse_and_build(
    config: str, mini_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    args = fit(mini_world, tmp_path, config=config)[1:]
    cli = R1OmniCLI(args, run=False)
    assert isinstance(cli.model, EmotionModule)
    evaluated = config.partition("eval_")[2]
    assert cli.datamodule.specs["train"] or evaluated
    sets = [evaluated] if evaluated else ["dfew", "mafw", "ravdess"]
    assert [spec.name for spec in cli.datamodule.specs["test"]] == sets
    cli.datamodule.setup("test" if evaluated else "fit")  # refuses clips both trained and judged on


def test_a_config_says_what_its_experiment_changes() -> None:
    """Everything else is a default of the typed configs."""
    lengths = {str(f): len(f.read_text().splitlines()) for f in CONFIGS.rglob("*.yaml")}
    assert len(lengths) > 21
    assert {name: length for name, length in lengths.items() if length > MAX_CONFIG_LINES} == {}


# tests/training/test_lora.py and test_launch.py train with the overlays that are no presets.
OVERLAYS = sorted(
    {path.stem for path in (CONFIGS / "overlay").glob("*.yaml")} - {"lora", "ddp", "fsdp"}
)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_overlays_of_grpo_train(
    overlay: str, mini_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    more = ("--config", CONFIGS / "overlay" / f"{overlay}.yaml",
            "--data.loader.batch_size", 4, "--model.init_args.grpo.group_size", 2,
            "--model.init_args.grpo.max_new_tokens", 4)  # fmt: skip
    if overlay == "chord":  # of six samples, none longer than what is sampled
        more = (*more[:-1], 160, "--model.init_args.grpo.chord.num_samples", 4)
    args = fit(mini_world, tmp_path / "run", *more, config="mini/r1omni")
    grpo = R1OmniCLI(args[1:], run=False).model.grpo
    losses = {"dapo": "dapo", "dr_grpo": "dr_grpo", "gspo": "grpo", "cispo": "cispo",
              "gspo_token": "grpo", "gmpo": "gmpo", "vespo": "vespo"}  # fmt: skip
    assert grpo.loss.loss_type == losses.get(overlay, "grpo")
    assert (grpo.loss.beta == 0) == (not grpo.needs_reference) == (overlay in losses)
    assert ("supported_accuracy" in grpo.reward_names) == (overlay == "faithful")
    levels = {"gspo": "sequence", "gspo_token": "sequence_token"}
    assert grpo.loss.importance_sampling_level == levels.get(overlay, "token")
    assert (grpo.chord.mu_peak > 0) == (overlay == "chord")
    assert (grpo.adaptive_entropy.target is not None) == (overlay == "adaptive_entropy")
    assert grpo.temperature == 0.7  # what the overlay does not name stays
    assert main(args) == 0


@pytest.mark.parametrize(
    ("option", "value", "named"),
    [
        ("--trainer.gradient_clip_val", 1.0, "max_grad_norm"),
        ("--trainer.accumulate_grad_batches", 2, "micro_batch_size"),
    ],
)
def test_options_of_the_trainer_that_grpo_has_itself(
    option: str,
    value: object,
    named: str,
    mini_world: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    args = fit(mini_world, tmp_path, option, value, config="mini/r1omni")
    line = refused(capfd, args, 2)
    assert option.strip("-") in line and named in line


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--run.keep_checkpoints", "-1"),
        ("--run.keep_checkpoints", "0"),
        ("--run.keep_checkpoints", "true"),
        ("--data.loader.max_broken_ratio", ".nan"),
        ("--model.init_args.optimizer.learning_rate", ".inf"),
        ("--model.init_args.max_new_tokens", "0"),
    ],
)
def test_numbers_out_of_range_are_refused_before_anything_is_loaded(
    option: str, value: str, mini_world: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    gone = ("--model.init_args.init_from", tmp_path / "gone")  # it would be missed next
    line = refused(capfd, fit(mini_world, tmp_path / "run", *gone, option, value), 2)
    assert option.rpartition(".")[2] in line
    assert not (tmp_path / "run").exists()


def test_values_that_the_parser_does_not_get(
    mini_world: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "more.yaml"
    config.write_text('run: {name: "${nobody}"}\n')
    line = refused(capfd, fit(mini_world, tmp_path / "run", "--config", config), 2)
    assert "'nobody' not found" in line and "run.name" in line
    rate = ("--model.init_args.optimizer.learning_rate", "null")
    line = refused(capfd, fit(mini_world, tmp_path / "run", *rate), 2)
    assert f"{rate[0][2:]}: null cannot be set on the command line" in line
    config.write_text("model: {init_args: {optimizer: {learning_rate: null}}}\n")
    words = fit(mini_world, tmp_path / "run", "--config", config, "--print_config")
    with pytest.raises(SystemExit):
        main(words)
    assert "learning_rate: null" in capfd.readouterr().out


def test_no_command_and_unknown_command(capfd: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "use one of fit, validate" in refused(capfd, ["xyzzy"], 2)
    assert main(["--help"]) == 0


@pytest.mark.parametrize("command", ["", *_TRAINER_COMMANDS, *commands.COMMANDS])
def test_help_answers_without_heavy_imports(command: str) -> None:
    code = (
        "import sys\nfrom r1omni.cli import main\n"
        "try: status = main([*sys.argv[1:], '--help'])\n"
        "except SystemExit as end: status = end.code\n"
        "heavy = {'torch', 'lightning', 'transformers', 'mlflow', 'numpy', 'av'} & {*sys.modules}\n"
        "sys.exit(status or ', '.join(heavy) or 0)"
    )
    words = [command] if command else []
    found = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
    assert f"python -m r1omni {command or 'COMMAND'}" in found.stdout


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["analyse"], "unknown command 'analyse'; did you mean analyze?"),
        (["analyze", "x", "--model", "m", "--windows-s", "3"], "did you mean --window-s?"),
        (["analyze", "x", "--model", "m", "--modality", "vidio"], "; did you mean video?"),
        (["analyze", "x", "--modle", "m"], "--model; --modle is no option; did you mean --model?"),
        (["fit", "--confg", "x"], "confg is no option; did you mean config?"),
        (["fit", "--learning_rates", "3"], "did you mean model.init_args.optimizer.learning_rate?"),
        (["fit", "--batch_size", "3"], "did you mean data.loader.batch_size?"),
    ],
)
def test_a_near_name_is_suggested(
    words: list[str], told: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert told in refused(capfd, words, 2)


def test_a_refusal_among_several_types_is_wrong_use(
    mini_world: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    strategy = (
        "{class_path: r1omni.training.sharded.FSDP2Strategy,"
        " init_args: {sharding: {param_dtype: float8}}}"
    )
    line = refused(capfd, fit(mini_world, tmp_path, "--trainer.strategy", strategy), 2)
    assert "trainer.strategy.init_args.sharding.param_dtype: 'float8' is unknown; use one" in line


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("--model.init_args.grpo.scale_rewards", "nope",
         "model.init_args.grpo.scale_rewards: 'nope' is unknown; use one of group, batch, "
         "none; did you mean none? "),
        ("--model.init_args.grpo.group_sise", "3", "model.init_args.grpo.group_sise is no option; "
         "did you mean model.init_args.grpo.group_size? (see "),
        ("--model.init_args.grpo.loss.loss_type", "gmp",
         "model.init_args.grpo.loss.loss_type: 'gmp' is unknown; use one of grpo, bnpo, dr_grpo, "
         "dapo, cispo, sapo, luspo, gmpo, vespo; did you mean gmpo? (see "),
        ("--data.conditions", "[full, loud]", "data.conditions: 'loud' is unknown; use one of"),
        ("--data.train", "[{name: foo, root: x}]", "dataset 'foo' is unknown; use one of"),
    ],
)  # fmt: skip
def test_an_unknown_choice_or_key_is_told_with_those_that_are_known(
    option: str, value: str, told: str, mini_world: Path, tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    line = refused(capfd, fit(mini_world, tmp_path, option, value, config="mini/r1omni"), 2)
    assert line.startswith(f"r1omni: error: {told}") and "Union" not in line


def _handles_another_error() -> None:
    try:
        raise UsageError("handled")
    except UsageError:
        {}["real"]


def _drops_another_error() -> None:
    try:
        raise UsageError("handled")
    except UsageError:
        raise KeyError("real") from None


def _wraps_an_error() -> None:
    try:
        raise UsageError("real")
    except UsageError as error:
        raise ValueError("handled") from error


def _fails_while_it_handles_an_error() -> None:
    try:
        {}["handled"]
    except KeyError:
        raise R1OmniError("real") from None


class _Refusing(Dataset):
    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> None:
        raise UsageError("real")


def _fails_in_a_worker() -> None:
    next(iter(DataLoader(_Refusing(), num_workers=1)))


@pytest.mark.parametrize(
    ("fails", "status"),
    [
        (_handles_another_error, 1),
        (_drops_another_error, 1),
        (_wraps_an_error, 2),
        (_fails_while_it_handles_an_error, 1),
        (_fails_in_a_worker, 2),
    ],
)
def test_the_error_that_ended_the_command_is_the_one_that_is_told(
    fails: Callable[[], None],
    status: int,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(commands.COMMANDS, "report", lambda args: fails())
    line = refused(capfd, ["report"], status)
    assert "real" in line and "handled" not in line and "Traceback" not in line


def test_missing_config(capfd: pytest.CaptureFixture[str]) -> None:
    assert "nowhere.yaml" in refused(capfd, ["fit", "--config", "nowhere.yaml"], 2)


def test_unknown_configuration_key(
    mini_world: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    line = refused(capfd, fit(mini_world, tmp_path, "--data.loader.batchsize", 4), 2)
    assert "batchsize" in line


def test_unknown_key_in_a_file(
    mini_world: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text("trainer:\n  max_stepz: 3\n")
    line = refused(capfd, fit(mini_world, tmp_path, "--config", overlay), 2)
    assert "max_stepz" in line


def test_missing_dataset_folder(
    mini_world: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    line = refused(capfd, fit(mini_world, tmp_path, "--data.root", tmp_path / "nowhere"), 2)
    assert "nowhere" in line


def test_missing_model_folder(
    mini_world: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    gone = tmp_path / "gone"
    line = refused(capfd, fit(mini_world, tmp_path, "--model.init_args.init_from", gone), 2)
    assert str(gone) in line


def test_group_of_one(mini_world: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    args = fit(mini_world, tmp_path, "--model.init_args.grpo.group_size", 1, config="mini/r1omni")
    assert "group_size" in refused(capfd, args, 2)


def test_unknown_reward_is_found_before_training(
    mini_world: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rewards = "[{name: accurracy}]"
    args = fit(
        mini_world, tmp_path, "--model.init_args.grpo.rewards", rewards, config="mini/r1omni"
    )
    assert "accurracy" in refused(capfd, args, 2)


def test_nothing_to_resume(
    mini_world: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    line = refused(capfd, fit(mini_world, tmp_path / "run", "--ckpt_path", "last"), 2)
    assert "holds no checkpoint" in line
    line = refused(capfd, fit(mini_world, tmp_path / "run", "--ckpt_path", "x.ckpt"), 2)
    assert "x.ckpt" in line


def test_a_store_that_is_none(
    mini_world: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mlflow.db").write_text("no database\n" * 100, encoding="utf-8")
    line = refused(capfd, fit(mini_world, tmp_path), 2)
    assert f"run.tracking_uri sqlite:///{tmp_path / 'mlflow.db'}" in line
    nowhere = f"sqlite:///{tmp_path / 'missing' / 'mlflow.db'}"
    line = refused(capfd, fit(mini_world, tmp_path, "--run.tracking_uri", nowhere), 2)
    assert f"run.tracking_uri {nowhere}" in line


def test_label_outside_the_taxonomy(
    mini_world: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    world = tmp_path / "world"
    shutil.copytree(mini_world / "world" / "DFEW", world / "DFEW")
    shutil.copytree(mini_world / "world" / "MAFW", world / "MAFW")
    listing = next((world / "MAFW").rglob("set_1/train.txt"))
    listing.write_text(listing.read_text() + "00001.mp4 hungry\n")
    args = fit(mini_world, tmp_path, "--data.root", world, config="mini/label_sft")
    line = refused(capfd, args, 2)
    assert "hungry" in line
    assert "train.txt" in line


def test_empty_split(mini_world: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    world = tmp_path / "world"
    shutil.copytree(mini_world / "world" / "DFEW", world / "DFEW")
    shutil.copytree(mini_world / "world" / "MAFW", world / "MAFW")
    next((world / "MAFW").rglob("set_1/train.txt")).write_text("")
    args = fit(mini_world, tmp_path, "--data.root", world, config="mini/label_sft")
    assert "MAFW" in refused(capfd, args, 2)


@pytest.mark.parametrize(("share", "status"), [(0.01, 1), (0.5, 0)])
def test_a_broken_clip_is_left_out_or_stops_the_run(
    share: float,
    status: int,
    mini_world: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    world = tmp_path / "world"
    shutil.copytree(mini_world / "world" / "DFEW", world / "DFEW")
    shutil.copytree(mini_world / "world" / "MAFW", world / "MAFW")
    listing = next((world / "MAFW").rglob("set_1/train.txt"))
    broken = next((world / "MAFW").rglob(listing.read_text().split()[0]))
    broken.write_bytes(broken.read_bytes()[:1000])
    args = fit(mini_world, tmp_path / "run", "--data.root", world,
               "--data.loader.max_broken_ratio", share, config="mini/label_sft")  # fmt: skip
    assert main(args) == status
    report = (tmp_path / "run" / "broken_clips_train.jsonl").read_text().splitlines()
    assert len(report) == 1
    assert broken.name in report[0]
    if status:
        assert broken.name in capfd.readouterr().err


def test_checkpoint_of_another_architecture(
    mini_world: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert main(fit(mini_world, run)) == 0
    sizes = tmp_path / "model.yaml"
    sizes.write_text(
        (CONFIGS / "mini" / "model.yaml").read_text().replace("hidden_size: 96", "hidden_size: 48")
    )
    other = tmp_path / "other"
    captions = mini_world / "world" / "HumanOmni" / "captions.json"
    create = ["create", "--sizes", sizes, "--texts", captions, "--out", other]
    assert main([str(word) for word in create]) == 0
    args = fit(mini_world, run, "--model.init_args.init_from", other,
               "--ckpt_path", "last", "--trainer.max_steps", 2)  # fmt: skip
    assert "another architecture" in refused(capfd, args, 1)


def test_create_and_synthesize_refuse_to_overwrite(
    mini_world: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    init = str(mini_world / "init")
    sizes = str(CONFIGS / "mini" / "model.yaml")
    line = refused(capfd, ["create", "--sizes", sizes, "--texts", sizes, "--out", init], 2)
    assert init in line
    (tmp_path / "mine.txt").write_text("keep me")
    line = refused(capfd, ["synthesize", "--out", str(tmp_path), "--clips", "60"], 2)
    assert str(tmp_path) in line
    assert (tmp_path / "mine.txt").read_text() == "keep me"


def test_analyze_names_what_it_cannot_read(
    mini_world: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"not a video")
    model = str(mini_world / "init")
    assert "gone.mp4" in refused(capfd, ["analyze", "gone.mp4", "--model", model], 2)
    assert "broken.mp4" in refused(capfd, ["analyze", str(broken), "--model", model], 1)


def test_analyze_tries_its_output_first(
    mini_world: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    clip = next((mini_world / "world").rglob("*.mp4"))
    args = ["analyze", str(clip), "--model", "nowhere", "--out", str(tmp_path / "no" / "a.jsonl")]
    assert "a.jsonl: cannot be written" in refused(capfd, args, 2)
    args = ["analyze", str(clip), "--model", "nowhere", "--hop-s", "1"]
    assert "window_s" in refused(capfd, args, 2)


def test_analyze_a_folder_and_go_on_behind_what_fails(
    mini_world: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder, out = tmp_path / "data", tmp_path / "out.jsonl"
    (folder / "sub").mkdir(parents=True)
    clip = next((mini_world / "world").rglob("*.mp4")).read_bytes()
    for name, content in (("a.mp4", clip), ("b.mp4", clip[:500]), ("sub/c", clip), ("d.txt", b"?")):
        (folder / name).write_bytes(content)
    args = ["analyze", "gone.mp4", str(folder), "--model", str(mini_world / "init"),
            "--max-new-tokens", "2", "--window-s", "1", "--out", str(out)]  # fmt: skip
    assert main(args) == 1
    printed = capfd.readouterr().err
    assert f"{folder}: 3 recordings, 1 other file is left out" in printed
    [error] = [line for line in printed.splitlines() if "error:" in line]
    assert "2 of 4 recordings could not be analyzed: gone.mp4: there is no such" in error
    assert "b.mp4: is no recording" in error
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    paths = [Path(row["path"]).name for row in rows]
    assert list(dict.fromkeys(paths)) == ["gone.mp4", "a.mp4", "b.mp4", "c"]
    assert {Path(row["path"]).name for row in rows if row["error"]} == {"gone.mp4", "b.mp4"}
    assert paths.count("a.mp4") == paths.count("c") >= 2  # windows
