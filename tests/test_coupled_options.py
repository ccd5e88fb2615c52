"""What two places of a configuration could say differently: derived, or refused."""

from __future__ import annotations

import dataclasses
import inspect
from collections import defaultdict
from dataclasses import replace
from functools import cache
from itertools import permutations, product
from pathlib import Path
from typing import Any

import pytest
import yaml

from r1omni.data import DatasetSpec, EmotionDataModule
from r1omni.data.loader_config import LoaderConfig
from r1omni.models.adapters import LoRAConfig
from r1omni.models.parallelize import ShardingConfig
from r1omni.ops import Chord, GRPOLossConfig, MaskedModality
from r1omni.rewards import RewardSpec
from r1omni.rewards.schedule import RewardGate, RewardSchedule
from r1omni.training import GRPOConfig, GRPOModule, OptimizerConfig, SFTModule
from r1omni.training.adaptive_entropy import AdaptiveEntropy
from r1omni.training.lightning_cli import SEEDS, R1OmniCLI
from r1omni.training.logger import RunConfig
from r1omni.types import UsageError

CONFIGS = Path(__file__).parents[1] / "configs"
GRPO_CONFIGS = sorted(CONFIGS.glob("*/r1omni.yaml"))
OVERLAYS = sorted((CONFIGS / "overlay").glob("*.yaml"))
# Each of them says all of its rewards, so that those of the last one that is laid over the others
# count. A term of the loss stays.
RECIPES = sorted((CONFIGS / "mini" / "recipes").glob("*.yaml"))

# A name in two places of one configuration is one thing said twice, unless it is told here why not.
# Seeds of the sampling and of the order of samples follow that of the run; a data set's is another.
DERIVED = {"max_new_tokens", "temperature", "seed"}
INDEPENDENT = {
    "name": "of a data set, of a reward, and of the run",
    "options": "of a data set and of a reward",
    "root": "of all data, and of a data set within it",
    "weight": "of a reward, and of the term for the dependence on the media",
    "schedule": "of the learning rate, and of a reward's weight",
}
CLASSES = (
    GRPOConfig, GRPOLossConfig, MaskedModality, Chord, AdaptiveEntropy, OptimizerConfig,
    LoRAConfig, LoaderConfig,
    DatasetSpec, RewardSpec, RunConfig, ShardingConfig,
)  # fmt: skip


def options_of(kind: type) -> set[str]:
    if dataclasses.is_dataclass(kind):
        return {field.name for field in dataclasses.fields(kind)}
    return inspect.signature(kind).parameters.keys() - {"args", "kwargs"}


def test_a_name_in_two_places_is_derived_or_told_apart() -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for kind in (*CLASSES, GRPOModule, EmotionDataModule):
        for name in options_of(kind):
            places[name].append(kind.__name__)
    twice = {name: where for name, where in places.items() if len(where) > 1}
    told = DERIVED | INDEPENDENT.keys()
    assert {name: where for name, where in twice.items() if name not in told} == {}
    assert twice.keys() >= told


def merged(one: Any, other: Any) -> Any:
    if not (isinstance(one, dict) and isinstance(other, dict)):
        return other
    return {key: merged(one.get(key, other.get(key)), other.get(key, one.get(key)))
            for key in {**one, **other}}  # fmt: skip


@cache
def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def arguments_of(paths: tuple[Path, ...]) -> dict[str, Any]:
    """`model.init_args` of configurations laid over each other."""
    whole: Any = {}
    for path in paths:
        whole = merged(whole, read(path))
    arguments: dict[str, Any] = whole["model"]["init_args"]
    return arguments


def reward_of(values: dict[str, Any]) -> RewardSpec:
    schedule = dict(values.get("schedule") or {})
    if "gate" in schedule:
        schedule["gate"] = RewardGate(**schedule["gate"])
    return RewardSpec(**{**values, "schedule": RewardSchedule(**schedule) if schedule else None})


def grpo_of(values: dict[str, Any]) -> GRPOConfig:
    rewards = [reward_of(spec) for spec in values["rewards"]]
    sections = {
        "loss": GRPOLossConfig(**values["loss"]),
        "masked_modality": MaskedModality(**values.get("masked_modality", {})),
        "adaptive_entropy": AdaptiveEntropy(**values.get("adaptive_entropy", {})),
        "chord": Chord(**values.get("chord", {})),
    }
    return GRPOConfig(**{**values, "rewards": rewards, **sections})


@pytest.mark.parametrize("config", GRPO_CONFIGS, ids=lambda path: path.parent.name)
def test_no_combination_of_shipped_files_contradicts_itself(config: Path) -> None:
    losses = set()
    for overlays in [(), *permutations(OVERLAYS, 1), *permutations(OVERLAYS, 2)]:
        arguments = arguments_of((config, *overlays))
        given = arguments["grpo"]
        grpo = grpo_of(given)
        # One limit and one temperature, each said once; all else follows.
        assert "max_new_tokens" not in arguments
        assert not {"max_completion_length", "temperature"} & given["loss"].keys()
        shared = grpo.loss_in_force
        assert (shared.max_completion_length, shared.temperature) == (
            given["max_new_tokens"],
            given["temperature"],
        )
        losses.add(shared.loss_type)
    assert losses >= {"grpo", "dapo", "dr_grpo", "cispo"}


@pytest.mark.parametrize("config", GRPO_CONFIGS, ids=lambda path: path.parent.name)
def test_recipes_combine_with_overlays_or_are_refused_by_name(config: Path) -> None:
    rewarding = [*RECIPES, CONFIGS / "overlay" / "faithful.yaml"]
    alone = {recipe: grpo_of(arguments_of((config, recipe))["grpo"]) for recipe in rewarding}
    refusals = {}
    for recipe, other in product(RECIPES, [*OVERLAYS, *RECIPES]):
        for files in {(recipe, other), (other, recipe)}:
            try:
                grpo = grpo_of(arguments_of((config, *files))["grpo"])
            except UsageError as error:
                refusals[other.stem] = str(error)
            else:
                last = alone[[file for file in files if file in alone][-1]]
                assert (grpo.rewards, grpo.aggregation) == (last.rewards, last.aggregation)
                terms = [alone[file].masked_modality for file in files if file in RECIPES]
                strongest = max(terms, key=lambda term: term.weight)
                assert replace(grpo.masked_modality, every=1) == replace(strongest, every=1)
    assert refusals.keys() == {"dr_grpo"}  # which divides by no standard deviation
    assert all(name in refusals["dr_grpo"] for name in ("scale_rewards", "normalize_then_sum"))
    assert len(RECIPES) > 5


@pytest.mark.parametrize("command", [None, "fit"])
def test_one_seed_makes_another_run(
    command: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of `seed_everything` and the two seeds of streams, one is enough, and each can be given."""
    monkeypatch.setattr(R1OmniCLI, "instantiate_classes", lambda self: None)
    monkeypatch.setattr(R1OmniCLI, "_run_subcommand", lambda self, name: None)
    words = [*([command] if command else []), "--config", str(GRPO_CONFIGS[0]), "--seed_everything",
             "7", "--trainer.default_root_dir", str(tmp_path)]  # fmt: skip
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text("data: {loader: {seed: 0}}")
    for more, wanted in (
        ([], [7, 7]),
        (["--model.init_args.grpo.seed", "0"], [7, 0]),
        (["--config", str(overlay)], [0, 7]),
    ):
        config = R1OmniCLI([*words, *more], run=command is not None)._config
        assert [config[name] for name in SEEDS] == wanted
        assert config["data.train"][0]["seed"] == 0  # which clips are held out
    sft = [word.replace("r1omni.yaml", "label_sft.yaml") for word in words]
    assert R1OmniCLI(sft, run=command is not None)._config["data.loader.seed"] == 7


def test_a_rate_that_is_not_given_is_that_of_the_module(fixtures_dir: Path) -> None:
    """Python's `OptimizerConfig(...)` says nothing of the rate; each kind of training has one."""

    class OwnModule(GRPOModule):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)

    folder = str(fixtures_dir / "humanomni_tiny" / "R1-Omni-tiny")
    for kind, rate in ((SFTModule, 2e-5), (GRPOModule, 1e-6), (OwnModule, 1e-6)):
        for options in ({}, {"optimizer": OptimizerConfig(schedule="linear")}):
            assert kind(folder, **options).optimizer_config.learning_rate == rate
    given = GRPOModule(folder, optimizer=OptimizerConfig(3e-4)).optimizer_config
    assert given.learning_rate == 3e-4


def test_evaluation_follows_the_sampling_unless_it_has_a_limit_of_its_own(
    fixtures_dir: Path,
) -> None:
    folder = str(fixtures_dir / "humanomni_tiny" / "R1-Omni-tiny")
    grpo = GRPOConfig(max_new_tokens=7)
    assert GRPOModule(folder, grpo=grpo).max_new_tokens == 7
    assert GRPOModule(folder, grpo=grpo, max_new_tokens=2048).max_new_tokens == 2048
