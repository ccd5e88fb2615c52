"""From completions to results: predictions kept by test set and condition, metrics, files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from r1omni.data.datamodule import EvaluationSet
from r1omni.metrics.recognition import (
    Prediction,
    RecognitionResult,
    evaluate_recognition,
    read_prediction,
)
from r1omni.text.emotions import LABEL_SETS
from r1omni.types import Clip, Sample


@dataclass
class _Collected:
    samples: list[Sample] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    predictions: list[Prediction] = field(default_factory=list)


class Evaluation:
    """Collects what a model answers to each evaluation set.

    Args:
        sets: one entry a dataloader.
    """

    def __init__(self, sets: Sequence[EvaluationSet]) -> None:
        self.sets = tuple(sets)
        self._collected = [_Collected() for _ in self.sets]
        self._results: dict[str, dict[str, RecognitionResult]] | None = None

    def add(self, index: int, samples: Sequence[Sample], texts: Sequence[str]) -> None:
        """Completions of a batch of the `index`-th set."""
        self._results = None
        label_set = LABEL_SETS[self.sets[index].label_set]
        collected = self._collected[index]
        collected.samples += samples
        collected.texts += texts
        collected.predictions += [read_prediction(text, label_set) for text in texts]

    def results(self) -> dict[str, dict[str, RecognitionResult]]:
        """Results by set name, then by condition; sets without labelled samples are left out."""
        if self._results is None:  # the intervals take seconds, and files and metrics both ask
            self._results = self._evaluate()
        return self._results

    def _evaluate(self) -> dict[str, dict[str, RecognitionResult]]:
        results: dict[str, dict[str, RecognitionResult]] = {}
        for entry, collected in zip(self.sets, self._collected, strict=True):
            labelled = [i for i, s in enumerate(collected.samples) if s.label is not None]
            if not labelled:
                continue
            chosen = [collected.predictions[i] for i in labelled]
            groups = [collected.samples[i].group for i in labelled]
            results.setdefault(entry.name, {})[entry.condition] = evaluate_recognition(
                predictions=[p.label for p in chosen],
                references=[str(collected.samples[i].label) for i in labelled],
                labels=LABEL_SETS[entry.label_set].labels,
                format_ok=[p.format_ok for p in chosen],
                answered=[p.answered for p in chosen],
                groups=[str(g) for g in groups] if all(groups) else None,
            )
        return results

    def metrics(self, prefix: str) -> dict[str, float]:
        """The main figures as flat names, `<prefix>/<set>[_<condition>]/<metric>`."""
        flat = {}
        for name, conditions in self.results().items():
            for condition, result in conditions.items():
                where = name if condition == "full" else f"{name}_{condition}"
                flat[f"{prefix}/{where}/war"] = result.war
                flat[f"{prefix}/{where}/uar"] = result.uar
                flat[f"{prefix}/{where}/format_ok"] = result.format_ok
                flat[f"{prefix}/{where}/parse_rate"] = result.parse_rate
        return flat

    def records(self, index: int) -> list[dict[str, Any]]:
        """One plain dictionary a sample of the `index`-th set."""
        collected = self._collected[index]
        return [
            {
                "sample_id": sample.sample_id,
                "path": str(sample.clip.path),
                "label": sample.label,
                "prediction": prediction.label,
                "format_ok": prediction.format_ok,
                "reasoning": prediction.reasoning,
                "text": text,
                "group": sample.group,
            }
            for sample, text, prediction in zip(
                collected.samples, collected.texts, collected.predictions, strict=True
            )
        ]

    def write(self, folder: Path, broken: Mapping[Clip, str]) -> None:
        """Write `results.json` and `predictions/<set>.<condition>.jsonl`."""
        predictions = folder / "predictions"
        predictions.mkdir(parents=True, exist_ok=True)
        for index, entry in enumerate(self.sets):
            lines = [json.dumps(record) for record in self.records(index)]
            file = predictions / f"{entry.name}.{entry.condition}.jsonl"
            file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        report = {
            "sets": {
                name: {condition: result.to_dict() for condition, result in conditions.items()}
                for name, conditions in self.results().items()
            },
            "label_sets": {entry.name: entry.label_set for entry in self.sets},
            "broken_clips": {str(clip.path): reason for clip, reason in broken.items()},
        }
        (folder / "results.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
