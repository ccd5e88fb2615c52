"""The registry of dataset loaders, and the one door to them: `load_dataset`."""

from __future__ import annotations

import importlib
import inspect
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeVar, get_type_hints

from r1omni.data.clip_cues import with_cues
from r1omni.data.labels_io import modality_of
from r1omni.data.sampling import select
from r1omni.options import (
    SEED,
    Conditions,
    OnlyWith,
    Ranges,
    check_choice,
    check_options,
    check_type,
    imported,
)
from r1omni.text.emotions import ANSWER_WORDS, LABEL_SETS
from r1omni.text.prompt import R1OMNI_INSTRUCTION, check_instruction
from r1omni.types import MODALITIES, Clip, Intensity, Modality, Sample, Sex, UsageError

Loader = Callable[..., list[Sample]]
AnyLoader = TypeVar("AnyLoader", bound=Loader)

_LOADERS: dict[str, Loader] = {}
# What every loader takes; its other parameters are options.
_SHARED = {"root", "split", "instruction", "modality"}
# Loaders whose rows are conversations: one clip may be asked about many times.
_CONVERSATIONS: set[Loader] = set()
# How many folds the publisher made, of loaders whose data sets have some.
_FOLDS: dict[Loader, int] = {}
_MODULES = (
    "cremad", "dfew", "emer", "emodb", "enterface", "humanomni", "iemocap", "mafw", "meld",
    "mer2023", "mer2024", "mer2025", "merr", "own", "ravdess", "savee", "tess",
)  # fmt: skip


@dataclass(frozen=True)
class DatasetSpec:
    """Which samples of which dataset.

    Attributes:
        name: registry name, one of the data sets below; or the import path of a loader of one's
            own, `package.module:function`, which results call by its function.
        root: folder of the dataset (for humanomni and own also the label file itself).
        split: split of the publisher: train or test; "all" where a dataset has none; train, val or
            test of folds of speakers.
        instruction: what is asked; None means R1-Omni's instruction, and for humanomni the file's.
        modality: which media the prompts carry; None is what the files hold by their names, sound
            alone or picture and sound. humanomni follows the tags of its file.
        sampling: all, first:N, end:N, random:N, N (the same as random:N), or N% in place of N;
            with `not` before it all the others. Training on `not random:2%` and validating on
            `random:2%` of the same split and seed holds 2% out.
        seed: of the random sampling.
        options: arguments of the loader: fold, actors, protocol, labels_csv, ...

    Raises:
        UsageError: a number out of its range, or an empty instruction.
    """

    name: str
    root: str
    split: str = "train"
    instruction: str | None = None
    modality: Modality | None = None
    sampling: str = "all"
    seed: int = 0
    options: dict[str, Any] = field(default_factory=dict)

    RANGES: ClassVar[Ranges] = {"seed": SEED}
    ONLY_WITH: ClassVar[Conditions] = {
        "seed": OnlyWith("sampling", "that draws (random:N, N or N%)", lambda s: s.draws)
    }

    def __post_init__(self) -> None:
        check_options(self, f"dataset {self.name}: ")
        check_instruction(self.instruction, f"dataset {self.name}: ")

    @property
    def draws(self) -> bool:
        """Whether `sampling` is by chance."""
        words = self.sampling.removeprefix("not ").strip()
        return words != "all" and not words.startswith(("first:", "end:"))

    @property
    def short_name(self) -> str:
        """What results call the data set."""
        return self.name.rpartition(":")[2]


def register(
    name: str, conversations: bool = False, folds: int | None = None
) -> Callable[[AnyLoader], AnyLoader]:
    """Enter a loader into the registry.

    A loader takes `root: Path` and the keywords `split`, `instruction`, `modality` and its own
    options, and returns samples in a fixed order, all with the same `label_set`. One outside the
    package needs no entry, since its import path is a name.

    Args:
        name: of the data set.
        conversations: its rows are conversations, of which a clip may have many; otherwise a clip
            that is listed twice is refused.
        folds: how many its publisher made, which the option `fold` chooses from.
    """

    def enter(loader: AnyLoader) -> AnyLoader:
        if name in _LOADERS:
            raise ValueError(f"two loaders are called {name!r}")
        _LOADERS[name] = loader
        if conversations:
            _CONVERSATIONS.add(loader)
        if folds is not None:
            _FOLDS[loader] = folds
        return loader

    return enter


def dataset_names() -> tuple[str, ...]:
    """Names of all loaders, sorted."""
    for module in _MODULES:
        importlib.import_module(f"r1omni.data.{module}")
    return tuple(sorted(_LOADERS))


def get_loader(name: str) -> Loader:
    """The loader registered as `name`, or found at "package.module:function".

    Raises:
        UsageError: no such name, module or function, or a function that is no loader.
    """
    if ":" not in name:
        names = dataset_names()
        if name not in names:
            raise UsageError(
                f"dataset {name!r} is unknown; use one of {', '.join(names)}, or an import path "
                "package.module:function"
            )
        return _LOADERS[name]
    loader = imported("dataset", name)
    lacking = sorted(_SHARED - inspect.signature(loader).parameters.keys())
    if lacking:
        raise UsageError(
            f"dataset {name!r}: the function has no parameter {', '.join(lacking)}; a loader takes "
            "root, and the keywords split, instruction and modality"
        )
    return loader


def published_folds(name: str) -> int | None:
    """How many folds the publisher of a data set made; None for none, and where nobody said so.

    Raises:
        UsageError: there is no such data set.
    """
    return _FOLDS.get(get_loader(name))


def load_dataset(spec: DatasetSpec) -> list[Sample]:
    """The samples a specification names, with the cues known of their clips. No clip is opened.

    Raises:
        UsageError: unknown dataset, modality or option; missing folder or label file; a
            malformed row, a label outside the label set, a path outside the root; a clip that is
            listed twice, or lacks the modality asked for; no samples; a malformed `cues.jsonl`.
    """
    loader = get_loader(spec.name)
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
    _check_samples(spec, samples)
    _check_unique(spec, samples, loader in _CONVERSATIONS)
    _check_labels(spec, samples)
    return with_cues(select(samples, spec.sampling, spec.seed), root)


def options_in_force(spec: DatasetSpec) -> dict[str, Any]:
    """The loader's options, defaults included."""
    parameters = inspect.signature(get_loader(spec.name)).parameters
    defaults = {name: parameters[name].default for name in sorted(parameters.keys() - _SHARED)}
    return {**defaults, **spec.options}


def _check_options(spec: DatasetSpec, loader: Loader) -> None:
    known = sorted(inspect.signature(loader).parameters.keys() - _SHARED)
    hints = get_type_hints(loader)
    for option, value in spec.options.items():
        if option not in known:
            raise UsageError(
                f"dataset {spec.name}: option {option!r} is unknown; known are {', '.join(known)}"
            )
        key = f"dataset {spec.name}: option {option}"
        hint = hints.get(option, Any)
        check_choice(key, value, hint)
        check_type(key, value, hint)


def _check_samples(spec: DatasetSpec, samples: list[Sample]) -> None:
    """Refuse what no loader may return."""
    if not isinstance(samples, list) or not all(isinstance(one, Sample) for one in samples):
        raise UsageError(f"dataset {spec.name}: the function has to return a list of Sample")
    label_sets = {sample.label_set for sample in samples}
    if len(label_sets) != 1 or not label_sets <= LABEL_SETS.keys():
        raise UsageError(
            f"dataset {spec.name}: its samples have the label sets "
            f"{', '.join(sorted(map(str, label_sets)))}; give all of them the same, one of "
            f"{', '.join(LABEL_SETS)}"
        )
    for modality in {sample.modality for sample in samples} - set(MODALITIES):
        raise UsageError(
            f"dataset {spec.name}: a sample has the modality {modality!r}; use one of "
            f"{', '.join(MODALITIES)}"
        )


def _check_unique(spec: DatasetSpec, samples: list[Sample], conversations: bool) -> None:
    where = f"{spec.root}: split {spec.split!r} of {spec.name}"
    names: set[str] = set()
    clips: dict[tuple[object, ...], str] = {}
    for sample in samples:
        name = sample.sample_id
        if name in names:
            raise UsageError(f"{where} lists {name} twice; keep one of the rows")
        names.add(name)
        if conversations:
            continue
        first = clips.setdefault(_identity(sample.clip), name)
        if first != name:
            raise UsageError(
                f"{where} lists one clip twice, as {first} and as {name} "
                f"({os.path.realpath(sample.clip.path)}); keep one of the rows"
            )


def _identity(clip: Clip) -> tuple[object, ...]:
    """Equal for two spellings of a clip."""
    sound = None if clip.audio_path is None else os.path.realpath(clip.audio_path)
    return os.path.realpath(clip.path), sound, clip.start_s or 0.0, clip.end_s


def _check_labels(spec: DatasetSpec, samples: list[Sample]) -> None:
    labels = Counter(sample.label for sample in samples if sample.label is not None)
    refuse_outside(Path(spec.root), samples[0].label_set, labels)


def refuse_outside(place: Path, label_set: str | None, labels: Counter[str]) -> None:
    """Raise UsageError where labels are outside a label set, with their counts.

    Args:
        place: the file that they come from.
        label_set: a key of `LABEL_SETS`.
        labels: label -> number of its clips.
    """
    known = LABEL_SETS[str(label_set)].labels
    outside = {label: count for label, count in labels.most_common() if label not in known}
    if outside:
        listed = ", ".join(f"{label} {count}" for label, count in outside.items())
        raise UsageError(
            f"{place}: {sum(outside.values())} of {labels.total()} labels are outside the label "
            f"set {label_set} ({listed}); correct them, or set the option label_set, to all for "
            "any emotion"
        )


def labelled_sample(
    dataset: str,
    name: str,
    clip: Clip,
    label: str,
    *,
    label_set: str,
    instruction: str | None,
    modality: Modality | None,
    place: str,
    group: str | None = None,
    sex: Sex | None = None,
    intensity: Intensity | None = None,
    language: str | None = None,
) -> Sample:
    """A sample of a labelled set; its target is the bare answer word.

    Raises:
        UsageError: naming `place`, where the clip lacks the modality asked for.
    """
    return Sample(
        sample_id=f"{dataset}/{name}",
        clip=clip,
        instruction=R1OMNI_INSTRUCTION if instruction is None else instruction,
        modality=modality_of(clip.path, modality, place),
        label=label,
        target=ANSWER_WORDS[label],
        dataset=dataset,
        group=group,
        sex=sex,
        intensity=intensity,
        language=language,
        label_set=label_set,
        place=place,
    )


def check_split(dataset: str, split: str, known: tuple[str, ...]) -> None:
    """Raise UsageError unless the dataset has this split."""
    if split not in known:
        raise UsageError(f"{dataset} has no split {split!r}; use one of {', '.join(known)}")
