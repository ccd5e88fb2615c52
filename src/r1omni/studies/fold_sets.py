"""The data sets of a configuration, divided: whose clips a fold trains and tests on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r1omni.data.registry import DatasetSpec, load_dataset, options_in_force, published_folds
from r1omni.types import UsageError

# Stands for the number of the fold in any text of a configuration or a command line.
FOLD = "{fold}"
_EVERYTHING = "all"


@dataclass(frozen=True)
class Folding:
    """How data sets are divided.

    Attributes:
        number: of folds.
        whole: data sets that are the same in every fold.
    """

    number: int
    whole: frozenset[str] = frozenset()

    def check(self, data: Mapping[str, Any]) -> None:
        """Refuse data sets that cannot be divided so.

        Args:
            data: the section `data` of a configuration, as plain values.

        Raises:
            UsageError: naming those without folds, with another number of them, or in `whole`
                though the configuration has no such data set.
        """
        specs = [_spec_of(entry) for split in _splits(data) for entry in data[split]]
        unknown = sorted(self.whole - {spec.name for spec in specs})
        if unknown:
            raise UsageError(
                f"--whole {' '.join(unknown)}: the configuration has no such data set; it has "
                f"{', '.join(sorted({spec.name for spec in specs}))}"
            )
        divided = [spec for spec in specs if spec.name not in self.whole]
        lacking = sorted({spec.name for spec in divided if not _takes_fold(spec)})
        if lacking:
            raise UsageError(
                f"without folds: {', '.join(lacking)}; add `--whole {' '.join(lacking)}` to have "
                "the same clips of these data sets in every fold, or leave them out of the "
                "configuration"
            )
        if not divided:
            raise UsageError("no data set is divided; leave one out of --whole")
        for spec in divided:
            self._check_number(spec)

    def _check_number(self, spec: DatasetSpec) -> None:
        asked, published = spec.options.get("folds"), published_folds(spec.name)
        if asked not in (None, self.number):
            raise UsageError(
                f"--folds {self.number}: the configuration divides {spec.name} into folds {asked}; "
                f"give --folds {asked}, or leave that option out of the configuration"
            )
        if not _is_made_here(spec) and published not in (None, self.number):
            raise UsageError(
                f"--folds {self.number}: {spec.name} has {published} folds of its publisher; give "
                f"--folds {published}, and --only for some of them"
            )

    def of_fold(self, data: Mapping[str, Any], fold: int) -> dict[str, list[dict[str, Any]]]:
        """The lists of data sets by split, as a fold has them.

        Args:
            data: the section `data`, which `check` accepts.
            fold: from 1.
        """
        return {
            split: [self._of_fold(_with_fold(entry, fold), fold) for entry in data[split]]
            for split in _splits(data)
        }

    def _of_fold(self, entry: dict[str, Any], fold: int) -> dict[str, Any]:
        spec = _spec_of(entry)
        if spec.name in self.whole:
            return entry
        own = {"fold": fold, **({"folds": self.number} if _is_made_here(spec) else {})}
        return {**entry, "options": {**spec.options, **own}}

    def check_lists(self, data: Mapping[str, Any], folds: Sequence[int]) -> None:
        """Read the lists of clips of all folds before the first one is trained; no clip is opened.

        Args:
            data: the section `data`, which `check` accepts.
            folds: to be trained.

        Raises:
            UsageError: a list that cannot be read, or two folds that test the same clips.
        """
        tested: dict[tuple[str, int], dict[frozenset[str], int]] = {}
        for fold in folds:
            for split, entries in self.of_fold(data, fold).items():
                for index, entry in enumerate(entries):
                    spec = _spec_of({**entry, "root": str(Path(data["root"]) / entry["root"])})
                    if spec.name in self.whole and fold != folds[0]:
                        continue
                    try:
                        names = frozenset(sample.sample_id for sample in load_dataset(spec))
                    except UsageError as error:
                        raise UsageError(f"fold {fold}: {error}") from error
                    if split == "test" and spec.name not in self.whole:
                        first = tested.setdefault((spec.name, index), {}).setdefault(names, fold)
                        if first != fold:
                            raise UsageError(
                                f"folds {first} and {fold} test the same clips of {spec.name}; "
                                f"write {FOLD} into the option that names its lists"
                            )


def _splits(data: Mapping[str, Any]) -> Iterator[str]:
    """Where a section `data` lists data sets: train, val, test, ..."""
    for key, value in data.items():
        if isinstance(value, list) and value and all(isinstance(entry, dict) for entry in value):
            yield key


def _spec_of(entry: Mapping[str, Any]) -> DatasetSpec:
    return DatasetSpec(**{**entry, "options": dict(entry.get("options") or {})})


def _takes_fold(spec: DatasetSpec) -> bool:
    return "fold" in options_in_force(spec) and spec.split != _EVERYTHING


def _is_made_here(spec: DatasetSpec) -> bool:
    """Whether its folds are made of the speakers that are there, by the option `folds`.

    A set that has folds of its publisher as well keeps these where the configuration names one.
    """
    if "folds" not in options_in_force(spec):
        return False
    chosen = spec.options.get("fold") is not None and spec.options.get("folds") is None
    return not (chosen and published_folds(spec.name) is not None)


def _with_fold(value: Any, fold: int) -> Any:
    """A value with the number of the fold in place of `{fold}`, in all of its texts."""
    if isinstance(value, str):
        return value.replace(FOLD, str(fold))
    if isinstance(value, list):
        return [_with_fold(part, fold) for part in value]
    if isinstance(value, dict):
        return {key: _with_fold(part, fold) for key, part in value.items()}
    return value


def words_of_fold(
    words: Sequence[str], settings: Mapping[str, Any], folding: Folding, fold: int
) -> list[str]:
    """A command line of `fit`, as a fold has it.

    Args:
        words: of the caller, without the subcommand.
        settings: the whole configuration that `words` mean.
        folding: which `settings` were checked with.
        fold: from 1.
    """
    sets = folding.of_fold(settings["data"], fold)
    changed = dict(_told(settings, fold, ""))
    changed |= {f"data.{split}": entries for split, entries in sets.items()}
    told = [word for name, v in changed.items() for word in (f"--{name}", _as_word(v))]
    return [*_with_fold(list(words), fold), *told]


def _told(section: Mapping[str, Any], fold: int, prefix: str) -> Iterator[tuple[str, Any]]:
    """The settings of files that name the fold, with its number, by dotted name."""
    for key, value in section.items():
        if isinstance(value, Mapping):
            yield from _told(value, fold, f"{prefix}{key}.")
        elif value != (own := _with_fold(value, fold)):
            yield f"{prefix}{key}", own


def _as_word(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
