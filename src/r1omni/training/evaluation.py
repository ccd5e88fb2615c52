"""From completions to results: predictions kept by test set and condition, metrics, files."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from r1omni.data.conditions import EvaluationSet
from r1omni.data.ranks import gathered_objects
from r1omni.data.voting import Voting
from r1omni.extras import EXTRAS, how_to_install, missing
from r1omni.media.prepare import warning_counts
from r1omni.metrics.breakdown import breakdowns
from r1omni.metrics.explanation import (
    VERDICTS,
    ExplanationResult,
    evaluate_explanations,
)
from r1omni.metrics.open_vocabulary import open_vocabulary
from r1omni.metrics.paired import PairedAnswers, paired_answers
from r1omni.metrics.protocol import protocol_of
from r1omni.metrics.recognition import (
    RecognitionResult,
    evaluate_recognition,
    read_prediction,
)
from r1omni.metrics.reliability import reliability_svg
from r1omni.metrics.voting import cost_of, voted, voting_figures
from r1omni.text.emotions import LABEL_SETS
from r1omni.training.answer_records import Answered, Votes, record_of
from r1omni.training.run_folder import write_whole
from r1omni.types import AnswerMode, Clip, Sample

_log = logging.getLogger(__name__)
# The main figures, attributes of `RecognitionResult`.
FIGURES = ("war", "uar", "format_ok", "parse_rate")
# Those of `ExplanationResult` that every set has; others depend on what is known of the clips.
EXPLANATION_FIGURES = (*VERDICTS, "right_and_supported")
# Of answers in free words, on wheels of emotions.
EW_FIGURES = ("precision", "recall", "f1", "hit_rate")


class Evaluation:
    """Collects what a model answers to each evaluation set.

    Args:
        sets: one entry a dataloader.
        answer_mode: how samples are answered; "think" adds nothing to what is written.
        voting: what is sampled to vote on answers.
    """

    def __init__(
        self,
        sets: Sequence[EvaluationSet],
        answer_mode: AnswerMode = "think",
        voting: Voting = Voting(),  # noqa: B008 - frozen
    ) -> None:
        self.sets = tuple(sets)
        self.answer_mode = answer_mode
        self.voting = voting
        self._answers: list[list[Answered]] = [[] for _ in self.sets]
        self._forget()

    def _forget(self) -> None:
        """Drop what was computed of fewer answers."""
        self._records: dict[int, list[dict[str, Any]]] = {}
        self._results: dict[str, dict[str, RecognitionResult]] | None = None
        self._explanations: dict[str, dict[str, ExplanationResult]] | None = None
        self._paired: PairedAnswers | None = None
        self._open: dict[str, dict[str, dict[str, Any]]] | None = None
        self._voted: dict[str, dict[str, dict[str, Any]]] | None = None

    def add(
        self,
        index: int,
        samples: Sequence[Sample],
        texts: Sequence[str],
        ended: Sequence[bool] | None = None,
        warnings: Sequence[tuple[str, ...]] | None = None,
        scores: Sequence[dict[str, float]] | None = None,
        direct_scores: Sequence[dict[str, float]] | None = None,
        votes: Sequence[Votes] | None = None,
    ) -> None:
        """Completions of a batch of the `index`-th set, and what to know about the clips.

        Without `ended` all count as ended. Scores are of the emotions, after the completion's own
        reasoning and after an empty one (`r1omni.models.answering`).
        """
        self._forget()
        label_set = LABEL_SETS[self.sets[index].label_set]
        known = [True] * len(texts) if ended is None else ended
        columns: tuple[Sequence[Any], ...] = (
            warnings or [()] * len(texts),
            scores or [None] * len(texts),
            direct_scores or [None] * len(texts),
            votes or [None] * len(texts),
        )
        self._answers[index] += [
            Answered(sample, text, end, read_prediction(text, label_set, end), *more)
            for sample, text, end, *more in zip(samples, texts, known, *columns, strict=True)
        ]

    def add_unreadable(self, index: int, samples: Sequence[tuple[Sample, str]]) -> None:
        """Samples whose clips could not be decoded, and why: all are wrong. After `gather`."""
        self._forget()
        nothing = read_prediction("", LABEL_SETS[self.sets[index].label_set])
        votes = None
        if self.voting.samples:
            votes = Votes((None,) * self.voting.samples, 0, 0, 0.0, 0.0)
        self._answers[index] += [
            Answered(sample, "", True, nothing, (), votes=votes, unreadable=reason)
            for sample, reason in samples
        ]

    def gather(self, sizes: Sequence[int]) -> None:
        """Bring together what the ranks were answered; all of them call this.

        Samples are dealt to the ranks in turn, and the last one more than once where they do not go
        round (`data.sampler.dealt`).

        Args:
            sizes: samples of each set.
        """
        self._forget()
        ranks = gathered_objects(self._answers)
        for index, size in enumerate(sizes):
            in_turn = zip(*(answers[index] for answers in ranks), strict=True)
            self._answers[index] = list(chain.from_iterable(in_turn))[:size]

    def results(self) -> dict[str, dict[str, RecognitionResult]]:
        """Results by set name, then by condition; sets without labelled samples are left out."""
        if self._results is None:  # the intervals take seconds, and files and metrics both ask
            self._results = self._evaluate()
        return self._results

    def _evaluate(self) -> dict[str, dict[str, RecognitionResult]]:
        results: dict[str, dict[str, RecognitionResult]] = {}
        for entry, answers in zip(self.sets, self._answers, strict=True):
            labelled = [a for a in answers if a.sample.label is not None]
            if not labelled:
                continue
            groups = [a.sample.group for a in labelled]
            results.setdefault(entry.name, {})[entry.condition] = evaluate_recognition(
                predictions=[a.prediction.label for a in labelled],
                references=[str(a.sample.label) for a in labelled],
                labels=LABEL_SETS[entry.label_set].labels,
                format_ok=[a.prediction.format_ok for a in labelled],
                answered=[a.prediction.answered for a in labelled],
                groups=[str(g) for g in groups] if all(groups) else None,
            )
        return results

    def explanations(self) -> dict[str, dict[str, ExplanationResult]]:
        """Explanations by set name, then by condition, of the sets that `results` has."""
        if self._explanations is None:
            self._explanations = {}
            for index, entry in enumerate(self.sets):
                records = [r for r in self.records(index) if r["label"] is not None]
                if records:
                    labels = LABEL_SETS[entry.label_set].labels
                    found = evaluate_explanations(records, labels, entry.condition)
                    self._explanations.setdefault(entry.name, {})[entry.condition] = found
        return self._explanations

    def metrics(self, prefix: str) -> dict[str, float]:
        """The main figures as flat names, `<prefix>/<set>[_<condition>]/<metric>`."""
        flat = {}
        for name, conditions in self.results().items():
            for condition, result in conditions.items():
                where = name if condition == "full" else f"{name}_{condition}"
                for figure in FIGURES:
                    flat[f"{prefix}/{where}/{figure}"] = getattr(result, figure)
                explained = self.explanations()[name][condition].figures()
                paired = self.paired().figures(name, condition)
                told = self.voted().get(name, {}).get(condition)
                gained = {} if told is None else voting_figures(told)
                for figure, value in {**explained, **paired, **gained}.items():
                    flat[f"{prefix}/{where}/{figure}"] = value
        for name, words in self.open_vocabulary().items():
            for condition, found in words.items():
                where = name if condition == "full" else f"{name}_{condition}"
                flat |= {f"{prefix}/{where}/ew_{figure}": found[figure] for figure in EW_FIGURES}
        return flat

    def open_vocabulary(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Answers in free words by set name, then by condition, of the sets that have some."""
        if self._open is None:
            self._open = open_vocabulary(self._by_set()).get("open_vocabulary", {})
        return self._open

    def voted(self) -> dict[str, dict[str, dict[str, Any]]]:
        """What voting gains and costs, by set name, then by condition; empty without votes."""
        if self._voted is None:
            self._voted = voted(self._by_set(), self._label_sets())
            for entry, answers in zip(self.sets, self._answers, strict=True):
                figures = self._voted.get(entry.name, {}).get(entry.condition)
                if figures is not None:
                    taken = [a.votes for a in answers if a.votes and a.sample.label is not None]
                    seconds = sum(v.answer_s for v in taken), sum(v.votes_s for v in taken)
                    figures |= {
                        "temperature": self.voting.temperature, "seconds": cost_of(*seconds),
                    }  # fmt: skip
        return self._voted

    def paired(self) -> PairedAnswers:
        """Direct answers beside reasoned ones, and conditions beside the full input."""
        if self._paired is None:
            self._paired = paired_answers(self._by_set(), self._label_sets())
        return self._paired

    def _by_set(self) -> dict[str, dict[str, list[dict[str, Any]]]]:
        """The records by set name, then by condition."""
        records: dict[str, dict[str, list[dict[str, Any]]]] = {}
        for index, entry in enumerate(self.sets):
            records.setdefault(entry.name, {})[entry.condition] = self.records(index)
        return records

    def _label_sets(self) -> dict[str, str]:
        return {entry.name: entry.label_set for entry in self.sets}

    def records(self, index: int) -> list[dict[str, Any]]:
        """One plain dictionary a sample of the `index`-th set."""
        if index not in self._records:  # a reasoning takes a millisecond, and three ask for it
            entry = self.sets[index]
            self._records[index] = [
                record_of(answer, entry, self.answer_mode) for answer in self._answers[index]
            ]
        return self._records[index]

    def _warnings(self) -> dict[str, dict[str, dict[str, int]]]:
        """How many samples have each kind of warning, by set name and condition."""
        counts: dict[str, dict[str, dict[str, int]]] = {}
        for entry, answers in zip(self.sets, self._answers, strict=True):
            found = warning_counts(answer.warnings for answer in answers)
            counts.setdefault(entry.name, {})[entry.condition] = found
        return counts

    def write(
        self,
        folder: Path,
        broken: Mapping[Clip, str],
        provenance: Mapping[str, Any] | None = None,
    ) -> None:
        """Write `predictions/<set>.<condition>.jsonl` and, last, `results.json`.

        A file is there as a whole or not at all.

        With direct answers also `reliability/<set>.svg`, of the full input, where the extra
        `reports` is installed; `results.json` has what it shows in any case.

        Args:
            folder: where to.
            broken: clips that could not be decoded, and why.
            provenance: what the results came from, as `training/provenance.py` makes it.
        """
        predictions = folder / "predictions"
        predictions.mkdir(parents=True, exist_ok=True)
        for index, entry in enumerate(self.sets):
            lines = [json.dumps(record) for record in self.records(index)]
            file = predictions / f"{entry.name}.{entry.condition}.jsonl"
            write_whole(file, "\n".join(lines) + "\n")
        report = {
            "sets": {
                name: {condition: result.to_dict() for condition, result in conditions.items()}
                for name, conditions in self.results().items()
            },
            "explanations": {
                name: {condition: result.to_dict() for condition, result in conditions.items()}
                for name, conditions in self.explanations().items()
            },
            "label_sets": self._label_sets(),
            **self.paired().to_dict(),
            **({"voting": self.voted()} if self.voted() else {}),
            **breakdowns(self._by_set(), self._label_sets()),
            **({"open_vocabulary": self.open_vocabulary()} if self.open_vocabulary() else {}),
            "warnings": self._warnings(),
            "protocols": {
                name: protocol_of(provenance or {}, name, label_set)
                for name, label_set in self._label_sets().items()
            },
            "broken_clips": {str(clip.path): reason for clip, reason in broken.items()},
            "provenance": provenance,
        }
        drawn = {name: c["full"] for name, c in self.paired().modes.items() if "full" in c}
        if drawn and missing(*EXTRAS["reports"]):
            _log.warning(
                "%s has no reliability diagrams, which take an extra: %s; `report` then draws them",
                folder, how_to_install("reports"),
            )  # fmt: skip
        else:
            for name, answers in drawn.items():
                file = folder / "reliability" / f"{name}.svg"
                file.parent.mkdir(exist_ok=True)
                write_whole(file, reliability_svg(name, answers.curves()))
        write_whole(folder / "results.json", json.dumps(report, indent=2) + "\n")
