"""The registry of dataset loaders, and the one door to them: `load_dataset`."""

from __future__ import annotations

import importlib
import inspect
import math
import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar, get_type_hints

from r1omni.options import SEED, Ranges, check_numbers, check_type
from r1omni.text.emotions import ANSWER_WORDS
from r1omni.text.prompt import R1OMNI_INSTRUCTION
from r1omni.types import MODALITIES, Clip, Modality, Sample, UsageError

Loader = Callable[..., list[Sample]]
AnyLoader = TypeVar("AnyLoader", bound=Loader)

_LOADERS: dict[str, Loader] = {}
_MODULES = ("dfew", "emer", "humanomni", "mafw", "own", "ravdess")


@dataclass(frozen=True)
class DatasetSpec:
    """Which samples of which dataset.

    Attributes:
        name: registry name: dfew, mafw, ravdess, emer, humanomni or own.
        root: folder of the dataset (for humanomni and own also the label file itself).
        split: split of the publisher: train or test; "all" where a dataset has none.
        instruction: what is asked; None means R1-Omni's instruction, and for humanomni the file's.
        modality: which media the prompts carry; humanomni follows the tags of its file.
        sampling: all, first:N, end:N, random:N, N (the same as random:N), or N% in place of N.
        seed: of the random sampling.
        options: arguments of the loader: fold, actors, protocol, labels_csv, ...

    Raises:
        UsageError: a number out of its range.
    """

    name: str
    root: str
    split: str = "train"
    instruction: str | None = None
    modality: Modality = "video_audio"
    sampling: str = "all"
    seed: int = 0
    options: dict[str, Any] = field(default_factory=dict)

    RANGES: ClassVar[Ranges] = {"seed": SEED}

    def __post_init__(self) -> None:
        check_numbers(self, f"dataset {self.name}: ")


def register(name: str) -> Callable[[AnyLoader], AnyLoader]:
    """Enter a loader into the registry.

    A loader takes `root: Path` and the keywords `split`, `instruction`, `modality` and its own
    options, and returns samples in a fixed order.
    """

    def enter(loader: AnyLoader) -> AnyLoader:
        if name in _LOADERS:
            raise ValueError(f"two loaders are called {name!r}")
        _LOADERS[name] = loader
        return loader

    return enter


def dataset_names() -> tuple[str, ...]:
    """Names of all loaders, sorted."""
    for module in _MODULES:
        importlib.import_module(f"r1omni.data.{module}")
    return tuple(sorted(_LOADERS))


def load_dataset(spec: DatasetSpec) -> list[Sample]:
    """The samples a specification names. Media files are not opened.

    Raises:
        UsageError: unknown dataset, modality or option; missing folder or label file; a
            malformed row, a label outside the taxonomy, a path outside the root; no samples.
    """
    names = dataset_names()
    if spec.name not in names:
        raise UsageError(f"dataset {spec.name!r} is unknown; use one of {', '.join(names)}")
    if spec.modality not in MODALITIES:
        raise UsageError(
            f"modality {spec.modality!r} is unknown; use one of {', '.join(MODALITIES)}"
        )
    loader = _LOADERS[spec.name]
    _check_options(spec, loader)
    root = Path(spec.root).expanduser()
    if not root.exists():
        raise UsageError(
            f"{root}: the {spec.name} dataset is not there; correct `root`, or make a mini-world "
            "with `python -m r1omni synthesize --out DIR`"
        )
    samples = loader(
        root,
        split=spec.split,
        instruction=spec.instruction,
        modality=spec.modality,
        **spec.options,
    )
    if not samples:
        raise UsageError(f"{root}: split {spec.split!r} of {spec.name} holds no samples")
    _check_unique(spec, samples)
    label_set = label_set_name(spec)
    chosen = select(samples, spec.sampling, spec.seed)
    return [replace(sample, label_set=label_set) for sample in chosen]


def label_set_name(spec: DatasetSpec) -> str:
    """The label set (a key of `LABEL_SETS`) that a dataset's labels are classes of."""
    if spec.name == "ravdess":
        protocol = spec.options.get("protocol", "8way")
        return "ravdess" if protocol == "8way" else f"ravdess_{protocol}"
    return {"dfew": "dfew", "mafw": "mafw", "emer": "mer"}.get(spec.name, "all")


def _check_options(spec: DatasetSpec, loader: Loader) -> None:
    shared = {"root", "split", "instruction", "modality"}
    known = sorted(set(inspect.signature(loader).parameters) - shared)
    hints = get_type_hints(loader)
    for option, value in spec.options.items():
        if option not in known:
            raise UsageError(
                f"dataset {spec.name}: option {option!r} is unknown; known are {', '.join(known)}"
            )
        check_type(f"dataset {spec.name}: option {option}", value, hints[option])


def _check_unique(spec: DatasetSpec, samples: list[Sample]) -> None:
    seen: set[str] = set()
    for sample in samples:
        if sample.sample_id in seen:
            raise UsageError(
                f"{spec.root}: split {spec.split!r} of {spec.name} lists {sample.sample_id} twice"
            )
        seen.add(sample.sample_id)


_SAMPLING = re.compile(r"(?:(first|end|random):)?(\d+(?:\.\d+)?)(%?)")


def select(samples: list[Sample], sampling: str, seed: int) -> list[Sample]:
    """A part of the samples, in their order: all, first:N, end:N, random:N, N, or N% for N.

    More than there are gives all of them; a percentage is rounded up.

    Raises:
        UsageError: an unknown strategy, or one that selects nothing.
    """
    if sampling == "all":
        return samples
    match = _SAMPLING.fullmatch(sampling.replace(" ", ""))
    if match is None or (not match[3] and "." in match[2]):
        raise UsageError(
            f"sampling {sampling!r} is unknown; use all, first:N, end:N, random:N, N or N%"
        )
    number = float(match[2])
    count = math.ceil(len(samples) * number / 100) if match[3] else int(number)
    count = min(count, len(samples))
    if count == 0:
        raise UsageError(f"sampling {sampling!r} selects nothing")
    if match[1] == "first":
        return samples[:count]
    if match[1] == "end":
        return samples[-count:]
    chosen = random.Random(seed).sample(range(len(samples)), count)
    return [samples[index] for index in sorted(chosen)]


def labelled_sample(
    dataset: str,
    name: str,
    clip: Clip,
    label: str,
    *,
    instruction: str | None,
    modality: Modality,
    group: str | None = None,
) -> Sample:
    """A sample of a labelled set; its target is the bare answer word."""
    return Sample(
        sample_id=f"{dataset}/{name}",
        clip=clip,
        instruction=R1OMNI_INSTRUCTION if instruction is None else instruction,
        modality=modality,
        label=label,
        target=ANSWER_WORDS[label],
        dataset=dataset,
        group=group,
    )


def check_split(dataset: str, split: str, known: tuple[str, ...]) -> None:
    """Raise UsageError unless the dataset has this split."""
    if split not in known:
        raise UsageError(f"{dataset} has no split {split!r}; use one of {', '.join(known)}")


def check_fold(dataset: str, fold: int, number: int) -> None:
    """Raise UsageError unless 1 <= fold <= number."""
    if not isinstance(fold, int) or not 1 <= fold <= number:
        raise UsageError(f"{dataset}: fold {fold!r} does not exist; use 1 to {number}")
