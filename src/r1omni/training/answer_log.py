"""Answers of `test` and `predict` on disk as they are made, so that a killed command goes on."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from r1omni.data.ranks import gathered_objects
from r1omni.training.answer_records import Votes
from r1omni.types import R1OmniError, Sample

_log = logging.getLogger(__name__)
# Below the folder `test` or `predict` while the command runs.
FOLDER = "unfinished"


@dataclass(frozen=True)
class GivenAnswer:
    """What a model answered to a sample.

    Attributes:
        text: the completion with its special tokens.
        ended: whether an end token closed it.
        scores: of the emotions after its own reasoning; None where not asked for.
        direct_scores: of the emotions after an empty reasoning; None where not asked for.
        votes: on it; None where none were sampled.
    """

    text: str
    ended: bool
    scores: dict[str, float] | None = None
    direct_scores: dict[str, float] | None = None
    votes: Votes | None = None

    @classmethod
    def read(cls, told: dict[str, Any]) -> GivenAnswer:
        """From what JSON makes of `asdict`."""
        votes = told["votes"]
        if votes is not None:
            votes = Votes(**{**votes, "labels": tuple(votes["labels"])})
        return cls(**{**told, "votes": votes})


class AnswerLog:
    """Files of answers, one a process, one line a batch, written at once.

    A process that is killed while it writes leaves a last line without an end, which is not read.
    All ranks make it and call its methods together; however many there were before, each finds the
    answers of all of them.

    Args:
        folder: of what the command writes.
        key: names everything that answers depend on. What was begun with another one is removed,
            with a warning.
        rank: of this process.

    Raises:
        R1OmniError: the folder cannot be written, or a file there is damaged.
    """

    def __init__(self, folder: Path, key: str, rank: int) -> None:
        self._folder = folder / FOLDER
        self._found: dict[tuple[int, str], GivenAnswer] = {}
        others = False
        for file in sorted(self._folder.glob("*.jsonl")):
            others |= not self._read(file, key)
        # Also before one rank removes what another one reads.
        self._goes_on = any(gathered_objects(bool(self._found)))
        if others and not self._found and rank == 0:
            _log.warning(
                "%s was begun with another model, other data or settings: it begins anew", folder
            )
            shutil.rmtree(self._folder)
        if self._found and rank == 0:
            _log.warning("%s: goes on after %d answers", folder, len(self._found))
        gathered_objects(None)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            name = f"{rank}_{time.time_ns()}.jsonl"
            self._file = (self._folder / name).open("w", encoding="utf-8")
        except OSError as error:
            raise R1OmniError(f"{self._folder} cannot be written ({error.strerror})") from error
        self._write({"key": key})

    def _read(self, file: Path, key: str) -> bool:
        """Take up what a process wrote; whether its answers are of this key."""
        *lines, _ = file.read_text(encoding="utf-8").split("\n")
        if not lines:
            return True  # killed before it wrote anything
        try:
            begin, *batches = map(json.loads, lines)
            if begin["key"] != key:
                return False
            for batch in batches:
                for name, answer in batch["answers"].items():
                    self._found[batch["set"], name] = GivenAnswer.read(answer)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise R1OmniError(
                f"{file}: a line of it is damaged ({error}); remove the file, and what it holds is "
                "answered again"
            ) from error
        return True

    def known(self, index: int, samples: Sequence[Sample]) -> list[GivenAnswer] | None:
        """The answers to a batch; None where they have to be made, on one rank at least.

        Sharded layers are gathered by all ranks, so that all ask the model or none does.

        Args:
            index: of the set.
            samples: of the batch.
        """
        if not self._goes_on:
            return None
        found = [self._found.get((index, sample.sample_id)) for sample in samples]
        known = [answer for answer in found if answer is not None]
        return known if all(gathered_objects(len(known) == len(found))) else None

    def add(self, index: int, samples: Sequence[Sample], answers: Sequence[GivenAnswer]) -> None:
        """Write the answers to a batch.

        Raises:
            R1OmniError: the disk is full, or the like.
        """
        told = {s.sample_id: asdict(a) for s, a in zip(samples, answers, strict=True)}
        self._write({"set": index, "answers": told})

    def _write(self, line: Mapping[str, Any]) -> None:
        try:
            self._file.write(f"{json.dumps(line)}\n")
            self._file.flush()
        except OSError as error:
            raise R1OmniError(
                f"{self._file.name} cannot be written ({error.strerror}); make room and run the "
                "same command again, which goes on from here"
            ) from error

    def remove(self) -> None:
        """Remove the answers of all processes, when the command's own files are there."""
        self._file.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def answers_key(
    provenance: Mapping[str, Any], seed: int, sets: Sequence[object], samples: Sequence[Sample]
) -> str:
    """What the answers of a command depend on, as a SHA-256.

    Clips are known by their paths: one that was replaced in the meantime is not noticed.

    Args:
        provenance: of the command; date, run, its trainings and the number of ranks do not count.
        seed: of conditions.
        sets: that are answered, by their representation.
        samples: of all sets.
    """
    told = {key: provenance[key] for key in ("model", "sets", "versions", "source_sha256")}
    told["answers"] = {k: v for k, v in provenance["answers"].items() if k != "num_ranks"}
    told["weights"] = provenance["start"]["sha256"], provenance["start"]["init_from"]
    told["checkpoint"] = (provenance["checkpoint"] or {}).get("sha256")
    told["conditions"] = seed, [repr(entry) for entry in sets]
    told["samples"] = [(s.sample_id, repr(s.clip), s.instruction, s.modality) for s in samples]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
