"""The models of the table of real voices: each trained on a fold's speakers, tested on others."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from real_voices_study import CONFIGS, Job, command_of
from run_folders import check_record, has_checkpoint, has_model, reads_as_json, sha256, write_whole
from side_by_side import ROOT, Command

# The folder and the fold that the configurations name; those of a run take their place.
OUT_OF_CONFIGS, FOLD_OF_CONFIGS = "outputs/real_voices", "fold_1"
EXPERIMENT = "ravdess-speech"
FAITHFUL = "configs/overlay/faithful.yaml"
# Both test sets once more, each at the level of the other (real_voices_level.py).
LEVELS = "levels"


@dataclass(frozen=True)
class Recipe:
    """One model of the table.

    Attributes:
        model: its name in tables.
        folder: of its run.
        configs: files of its configuration, and of what is laid over it.
        starts_from: the folder of the recipe whose model it goes on from; None is the fresh model.
    """

    model: str
    folder: str
    configs: tuple[str, ...]
    starts_from: str | None


_EXPLAINED, _GRPO = f"{CONFIGS}/emer_sft.yaml", f"{CONFIGS}/r1omni.yaml"
_MEASURED = (_GRPO, FAITHFUL, f"{CONFIGS}/measured_cues.yaml")
RECIPES = (
    Recipe("base", "base", (f"{CONFIGS}/base.yaml",), None),
    Recipe("EMER-SFT", "emer_sft", (_EXPLAINED,), "base"),
    Recipe("label SFT", "label_sft", (f"{CONFIGS}/label_sft.yaml",), "base"),
    Recipe(
        "label SFT, twice as long",
        "label_sft_longer",
        (f"{CONFIGS}/label_sft.yaml", f"{CONFIGS}/longer.yaml"),
        "base",
    ),
    Recipe("R1-Omni", "r1omni", (_GRPO,), "emer_sft"),
    Recipe("R1-Omni, faithful", "r1omni_faithful", (_GRPO, FAITHFUL), "emer_sft"),
    Recipe("R1-Omni, measured cues", "r1omni_measured_cues", _MEASURED, "emer_sft"),
    # The same cold start and GRPO, begun where labels were learned already.
    Recipe("EMER-SFT after labels", "emer_sft_after_labels", (_EXPLAINED,), "label_sft"),
    Recipe("R1-Omni after labels", "r1omni_after_labels", (_GRPO,), "emer_sft_after_labels"),
    # All that helped, together.
    Recipe("EMER-SFT, combined", "emer_sft_combined", (_EXPLAINED,), "label_sft_longer"),
    Recipe("R1-Omni, combined", "r1omni_combined", _MEASURED, "emer_sft_combined"),
)


@dataclass(frozen=True)
class Training(Job):
    """A recipe on a fold with a seed: trained, then tested on speakers that it never heard."""

    recipe: Recipe
    fold: int
    seed: int

    @property
    def name(self) -> str:
        return f"{self.recipe.model}, fold {self.fold}, seed {self.seed}"

    @property
    def folder(self) -> Path:
        return self.settings.out / f"fold_{self.fold}" / f"seed_{self.seed}" / self.recipe.folder

    @property
    def start(self) -> Path:
        if self.recipe.starts_from is None:
            return self.settings.out / f"fold_{self.fold}" / "init"
        return self.folder.with_name(self.recipe.starts_from) / "model"

    def left(self) -> list[str]:
        done = {
            "fit": has_model(self.folder / "model"),
            "test": reads_as_json(self.folder / "test" / "results.json"),
        }
        if self._answers_with_emotions:
            done["test_levels"] = reads_as_json(self.folder / LEVELS / "test" / "results.json")
        # With the recipe, for recipes take very different times.
        return [f"{kind} {self.recipe.folder}" for kind, is_done in done.items() if not is_done]

    @property
    def _answers_with_emotions(self) -> bool:
        """The base describes, and answers with no emotion."""
        return self.recipe.starts_from is not None

    def words(self, kind: str) -> Command:
        command, out = kind.split()[0], self.settings.out
        contents = [_yaml(config) for config in self.recipe.configs]
        is_level = command == "test_levels"
        settings = [
            *(word for config in self.recipe.configs for word in ("--config", config)),
            "--seed_everything", self.seed,
            "--run.name", self.name,
            "--run.tracking_uri", tracking_uri(out),
            "--trainer.default_root_dir", self.folder / LEVELS if is_level else self.folder,
            "--trainer.enable_progress_bar", "false",
            "--model.init_args.init_from", self.start,
            "--data.root", out,
            "--data.loader.cache_dir", out / "cache",
            *self._data_words(contents, is_level),
        ]  # fmt: skip
        if is_level:
            settings += ["--data.conditions", "[full]", "--data.answer_mode", "think"]
        if command != "fit":
            settings += ["--ckpt_path", self._checkpoint(contents, is_level)]
        elif has_checkpoint(self.folder):
            settings += ["--ckpt_path", "last"]
        verb = "test" if is_level else command
        return command_of(self.folder / f"{command}.log", verb, *settings)

    def _checkpoint(self, contents: Sequence[dict[str, Any]], is_level: bool) -> str:
        """The step that is tested: that of the best validation, where it chooses at all."""
        results = self.folder / "test" / "results.json"
        if is_level and reads_as_json(results):  # it is of another folder, so "best" is not known
            tested = json.loads(results.read_text(encoding="utf-8"))["provenance"]["checkpoint"]
            return str(tested["path"])
        return "best" if any("keep_best" in c.get("run", {}) for c in contents) else "last"

    def _data_words(self, contents: Sequence[dict[str, Any]], is_level: bool) -> Iterator[str]:
        """The data sets of the configurations, with the folder and the fold of this run."""
        sets: dict[str, Any] = {}
        for content in contents:
            sets |= content.get("data", {})
        if is_level:
            sets["test"] = [
                {**spec, "root": f"{LEVELS}/{Path(spec['root']).name}"} for spec in sets["test"]
            ]
        for split in ("train", "val", "test"):
            if split in sets:
                known = [s for s in sets[split] if s["name"] != "emodb" or self.settings.emodb]
                yield f"--data.{split}"
                yield json.dumps([self._here(spec) for spec in known])

    def _here(self, value: Any) -> Any:
        """A value of a configuration, of this study and this fold."""
        if isinstance(value, dict):
            own = {"fold": self.fold, "folds": self.settings.folds}
            return {key: own.get(key, self._here(part)) for key, part in value.items()}
        if isinstance(value, str) and value.split("/")[0] == FOLD_OF_CONFIGS:
            return value.replace(FOLD_OF_CONFIGS, f"fold_{self.fold}", 1)
        if isinstance(value, str) and value.startswith(f"{OUT_OF_CONFIGS}/"):
            return str(self.settings.out / value.removeprefix(f"{OUT_OF_CONFIGS}/"))
        return value

    def command(self, kind: str) -> Command:
        self.folder.mkdir(parents=True, exist_ok=True)
        write_whole(self.folder / "recipe.json", json.dumps(self.record(), indent=2) + "\n")
        return self.words(kind)

    def may_begin(self) -> bool:
        return has_model(self.start) and (
            not self._answers_with_emotions or (self.settings.out / LEVELS).exists()
        )

    def record(self) -> dict[str, Any]:
        """What the run is made with; a folder that was made with something else is refused."""
        weights = sorted(self.start.glob("*.safetensors"))
        return {
            "seed": self.seed,
            "configuration": [sha256(ROOT / config) for config in self.recipe.configs],
            "tables": sha256(self.folder.parents[1] / "tables" / "texts.json"),
            "start": [sha256(file) for file in weights],
        }

    def check(self) -> None:
        if (self.folder / "recipe.json").exists():
            check_record(self.folder / "recipe.json", self.record())


def tracking_uri(out: Path) -> str:
    """The store of a study's trainings."""
    return f"sqlite:///{out / 'mlflow.db'}"


def _yaml(file: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((ROOT / file).read_text(encoding="utf-8"))
    return content
