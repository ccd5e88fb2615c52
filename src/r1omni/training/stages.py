"""The trainings that led to a model, as the folders of their runs record them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from r1omni.models.card import DRAWN, TRAINED_ON
from r1omni.models.config import OmniConfig
from r1omni.training.checkpoints import CHECKPOINTS, FIT_CONFIG, MODEL
from r1omni.types import R1OmniError


def stages(run: Path | None) -> list[dict[str, Any]]:
    """The trainings that led to a run's model, the last one first, as their folders record them.

    A stage is known by the `config_fit.yaml` of its run, and the one before it where it started
    from the folder `model` of another run. What came before the last entry is not recorded.
    """
    found: list[dict[str, Any]] = []
    seen: set[Path] = set()
    while run is not None and run not in seen and (run / FIT_CONFIG).is_file():
        seen.add(run)
        try:
            found.append(_stage(run))
        except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
            reason = " ".join(str(error).split())
            raise R1OmniError(
                f"{run / FIT_CONFIG} is no configuration of a training ({reason}); restore it, or "
                "remove it to leave the training unrecorded"
            ) from error
        run = run_of(None, found[-1]["init_from"])
    return found


def with_data_sets(config: OmniConfig, run: Path) -> OmniConfig:
    """A model's configuration that keeps which data sets it was trained on, for its card.

    Args:
        config: of the model; it keeps those of stages whose folders are gone.
        run: folder of the run that trained it.

    Raises:
        R1OmniError: the configuration in the folder of a stage cannot be read.
    """
    names = set(config.released.get(TRAINED_ON) or ())
    for stage in stages(run):
        settings = yaml.safe_load((Path(stage["run"]) / FIT_CONFIG).read_text(encoding="utf-8"))
        root = settings["data"].get("root")
        for spec in stage["data"]:
            names.add(DRAWN if root and (Path(root) / "world.json").is_file() else spec["name"])
    return replace(config, released={**config.released, TRAINED_ON: sorted(names)})


def _stage(run: Path) -> dict[str, Any]:
    config = yaml.safe_load((run / FIT_CONFIG).read_text(encoding="utf-8"))
    model = config["model"]
    arguments = model["init_args"]
    return {
        "run": str(run),
        "name": config["run"]["name"],
        "method": model["class_path"].rpartition(".")[2].removesuffix("Module"),
        "init_from": arguments["init_from"],
        "seed": config.get("seed_everything"),
        "max_steps": config["trainer"]["max_steps"],
        "rewards": [
            {key: reward[key] for key in ("name", "weight")}
            | {key: reward[key] for key in ("options", "schedule") if reward.get(key)}
            for reward in (arguments.get("grpo") or {}).get("rewards", [])
        ],
        "data": [
            {key: spec.get(key) for key in ("name", "split", "sampling", "options")}
            for spec in [*config["data"]["train"], *(config["data"].get("expert") or [])]
        ],
    }


def run_of(checkpoint: Path | None, init_from: str) -> Path | None:
    """The run folder that a checkpoint, or else a model folder, lies in."""
    if checkpoint is not None:
        return checkpoint.parent.parent if checkpoint.parent.name == CHECKPOINTS else None
    start = Path(init_from).resolve()
    return start.parent if start.name == MODEL else None
