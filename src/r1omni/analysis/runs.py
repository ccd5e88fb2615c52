"""Tested runs as their folders hold them, and what the figures are compared with."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from r1omni.metrics.predictions import RESULTS_FILE
from r1omni.training.checkpoints import FIT_CONFIG
from r1omni.types import UsageError, why_no_file

SET_TITLES = {
    "dfew": "DFEW", "mafw": "MAFW", "ravdess": "RAVDESS", "emodb": "Emo-DB", "cremad": "CREMA-D",
    "savee": "SAVEE", "tess": "TESS", "enterface": "eNTERFACE'05",
    "meld": "MELD", "iemocap": "IEMOCAP", "mer2023": "MER2023",
    "mer2024": "MER2024", "mer2025": "MER2025", "merr": "MERR",
}  # fmt: skip
PAPER = "arXiv 2503.05379"
# WAR and UAR in percent, of R1-Omni's paper (arXiv 2503.05379): real clips, models of 0.5B.
PAPER_RESULTS: dict[str, dict[str, tuple[float, float]]] = {
    "HumanOmni": {"dfew": (22.64, 19.44), "mafw": (20.18, 13.52), "ravdess": (7.33, 9.38)},
    "EMER-SFT": {"dfew": (38.66, 35.31), "mafw": (38.39, 28.02), "ravdess": (29.00, 27.19)},
    "MAFW-DFEW-SFT": {"dfew": (60.23, 44.39), "mafw": (50.44, 30.39), "ravdess": (29.33, 30.75)},
    "R1-Omni": {"dfew": (65.83, 56.27), "mafw": (57.68, 40.04), "ravdess": (43.00, 44.69)},
}


@dataclass(frozen=True)
class TestSet:
    """One model on one test set.

    Attributes:
        name: the set's name in results.
        label_set: name of the label set in force.
        conditions: `RecognitionResult.to_dict()` by condition; "full" is always there.
        explanations: `ExplanationResult.to_dict()` by condition; empty where an earlier version
            tested.
        breakdown: field -> value -> `Part` of `metrics/breakdown.py` as a dictionary, of the
            condition "full"; empty where nothing is known of speakers and takes.
        protocol: what `metrics/protocol.py` names beside its figures; empty where an earlier
            version tested.
    """

    __test__ = False  # no test for pytest, despite its name

    name: str
    label_set: str
    conditions: dict[str, dict[str, Any]]
    explanations: dict[str, dict[str, Any]] = field(default_factory=dict)
    breakdown: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    protocol: dict[str, Any] = field(default_factory=dict)

    @property
    def full(self) -> dict[str, Any]:
        """The result with picture and sound as they are."""
        return self.conditions["full"]


@dataclass(frozen=True)
class EvaluatedRun:
    """A run folder whose model was tested, or a folder of `score`.

    Attributes:
        model: name in the table.
        folder: the run folder.
        sets: results by test set.
        broken_clips: reasons by path of clips that could not be decoded.
        provenance: what the results came from, as `training/provenance.py` records it; empty where
            it was not recorded.
        measured: the whole results, for figures that only some have: `open_vocabulary`, `judge`,
            `judge_settings`, `unibench`.
    """

    model: str
    folder: Path
    sets: dict[str, TestSet]
    broken_clips: dict[str, str]
    provenance: dict[str, Any]
    measured: dict[str, Any] = field(default_factory=dict)

    def format_ok(self, names: Iterable[str]) -> float | None:
        """Format accuracy over the answers to some of its sets; None where it was not measured."""
        full = [self.sets[name].full for name in names]
        if any(result["format_ok"] is None for result in full):  # a system without completions
            return None
        total = sum(result["n"] for result in full)
        return sum(result["format_ok"] * result["n"] for result in full) / total if total else None

    def predictions(self, name: str, condition: str = "full") -> dict[str, dict[str, Any]] | None:
        """Labelled records of a set by sample id, or None where the run kept none."""
        file = _tested(self.folder) / "predictions" / f"{name}.{condition}.jsonl"
        if not file.is_file():
            return None
        lines = file.read_text(encoding="utf-8").splitlines()
        records = (json.loads(line) for line in lines if line.strip())
        return {r["sample_id"]: r for r in records if r["label"] is not None}


def _tested(folder: Path) -> Path:
    """Where the results of a folder are: `test` writes a folder of its own, `score` does not."""
    return folder if (folder / RESULTS_FILE).is_file() else folder / "test"


def read_run(model: str, folder: Path) -> EvaluatedRun:
    """Read what `test` wrote into a run folder, or what `score` wrote.

    Raises:
        UsageError: the run was not tested, or not under the condition "full".
    """
    file = _tested(folder) / RESULTS_FILE
    config = folder / FIT_CONFIG
    command = (
        f"python -m r1omni test --config {config if config.is_file() else 'CONFIG'} "
        f"--trainer.default_root_dir {folder} --ckpt_path last"
    )
    if not file.is_file():
        raise UsageError(_no_results(folder, command))
    content = read_json(file)
    if "fold_sets" in content:
        pooled = folder / "pooled"
        whole = f", or {pooled}, which has all folds" if (pooled / RESULTS_FILE).is_file() else ""
        raise UsageError(f"{file}: is of `folds`; name one of its folders fold_K{whole}")
    sets = {}
    try:
        for name, conditions in content["sets"].items():
            if "full" not in conditions:
                raise UsageError(
                    f"{file}: {name} was not tested under the condition full; add it to "
                    f"data.conditions and run `{command}`"
                )
            explained = content.get("explanations", {}).get(name, {})
            parts = content.get("breakdown", {}).get(name, {}).get("full", {})
            protocol = content.get("protocols", {}).get(name, {})
            sets[name] = TestSet(
                name, content["label_sets"][name], conditions, explained, parts, protocol
            )
    except (KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{file}: is no result of `test` ({error}); run `{command}`") from error
    broken, provenance = content.get("broken_clips", {}), content.get("provenance") or {}
    return EvaluatedRun(model, folder, sets, broken, provenance, content)


def _no_results(folder: Path, command: str) -> str:
    """What to do about a folder without results: `score` writes them beside its predictions."""
    if folder.is_file():
        return f"{folder}: is a file; name the folder of a run, or one that `score --out` wrote"
    if (folder / "predictions").is_dir():
        again = f"`python -m r1omni score {folder} --out ANOTHER_FOLDER`"
        return f"{folder / RESULTS_FILE}: there is no such file; run {again}, and name that folder"
    if not folder.is_dir():
        again = f"`python -m r1omni score PREDICTIONS --out {folder}`"
        return f"{folder}: there is no such folder; first run `{command}`, or {again}"
    return f"{folder / 'test' / RESULTS_FILE}: there is no such file; first run `{command}`"


def read_json(file: Path) -> dict[str, Any]:
    """A JSON file that holds one object.

    Raises:
        UsageError: the file is missing or holds something else.
    """
    if not file.is_file():
        raise UsageError(f"{file}: {why_no_file(file)}")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{file}: is no JSON ({error})") from error
    if not isinstance(content, dict):
        raise UsageError(f"{file}: expected one JSON object, found a {type(content).__name__}")
    return content


def set_names(runs: list[EvaluatedRun]) -> list[str]:
    """The test sets of any run, in the order in which they were first tested."""
    return list(dict.fromkeys(name for run in runs for name in run.sets))


def set_title(name: str) -> str:
    """The name of a test set as people write it."""
    return SET_TITLES.get(name, name)


def find_subject(runs: list[EvaluatedRun]) -> EvaluatedRun:
    """The run that the report is about: R1-Omni, or else the last one."""
    return next((run for run in runs if run.model == "R1-Omni"), runs[-1])


def find_baseline(runs: list[EvaluatedRun]) -> EvaluatedRun | None:
    """What the subject is compared with: EMER-SFT, or else the last other run, or None."""
    others = [run for run in runs if run is not find_subject(runs)]
    named = [run for run in others if run.model == "EMER-SFT"]
    return next(iter(named or others[::-1]), None)


@dataclass(frozen=True)
class Chance:
    """Shares that need no look at a clip.

    Attributes:
        majority: WAR and UAR of always answering the most frequent class of the test set.
        uniform: expected WAR and UAR of drawing each class alike.
    """

    majority: tuple[float, float]
    uniform: tuple[float, float]


def chance(result: Mapping[str, Any]) -> Chance:
    """Chance on a test set, from the row sums of its confusion matrix."""
    counts = [sum(row) for row in result["confusion"]]
    uniform = 1 / len(result["labels"])
    present = sum(count > 0 for count in counts)
    return Chance((max(counts) / sum(counts), 1 / present), (uniform, uniform))


def result_row(run: EvaluatedRun) -> dict[str, Any]:
    """One entry of "rows" in results.json; shares between 0 and 1."""
    row: dict[str, Any] = {"model": run.model}
    for name, test_set in run.sets.items():
        full = test_set.full
        row[name] = {
            key: full[key]
            for key in ("war", "uar", "format_ok", "n", "war_interval", "uar_interval")
            + ("parse_rate", "out_of_set_rate")
        }
        row[name]["label_set"] = test_set.label_set
        for condition, result in test_set.conditions.items():
            if condition != "full":
                row[name][condition] = {"war": result["war"], "uar": result["uar"]}
        row[name] |= _explained(test_set)
        if test_set.breakdown:
            row[name]["breakdown"] = test_set.breakdown
    return row


def _explained(test_set: TestSet) -> dict[str, Any]:
    """What a row says of explanations; nothing where they were not measured."""
    told = test_set.explanations.get("full")
    if told is None:
        return {}
    cues = {
        medium: {name: score[name] for name in ("precision", "recall", "f1", "intervals")}
        for medium, score in told["cues"].items()
    }
    invented = {
        condition: {name: result["invented"][name] for name in ("share", "num_cues", "intervals")}
        for condition, result in test_set.explanations.items()
        if result["invented"] is not None
    }
    intervals = {name: told["intervals"][name] for name in ("supported", "right_and_supported")}
    return {
        **{name: told[name] for name in ("supported", "contradicted", "silent")},
        "right_and_supported": told["right_and_supported"],
        "contradicted_among_right": told["among_right"]["contradicted"],
        **{f"{name}_interval": interval for name, interval in intervals.items()},
        "cues": cues,
        "invented": invented,
    }
