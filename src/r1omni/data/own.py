"""A user's own clips: CSV or JSONL with `path`, `label` and optional columns."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from r1omni.data.labels_io import (
    SOUND_SUFFIXES,
    VIDEO_SUFFIXES,
    Row,
    class_of,
    confined,
    read_csv,
    read_json_rows,
)
from r1omni.data.registry import register
from r1omni.text.emotions import ANSWER_WORDS, LABEL_SETS, LabelSet
from r1omni.text.prompt import R1OMNI_INSTRUCTION
from r1omni.text.tags import render_completion
from r1omni.types import Clip, Modality, Sample, UsageError

_NAMES = ("labels", "data", "dataset")
_SUFFIXES = (".csv", ".jsonl", ".json")


@register("own")
def load_own(
    root: Path,
    *,
    split: str,
    instruction: str | None = None,
    modality: Modality = "video_audio",
    file: str | None = None,
    label_set: str | None = None,
) -> list[Sample]:
    """Rows with `path`, `label`, and optionally `reasoning`, `start`, `end` (seconds), `split`,
    `audio` (a separate sound file) and `group` (speaker, for intervals).

    With `reasoning` the target is a tagged text, without it the bare answer word. An empty label
    gives a sample without label and target. Rows are chosen by the column `split` where there is
    one; otherwise the whole file is the split.

    Args:
        root: folder that the paths count from, or the label file itself, or one recording, which
            is then a sample without a label.
        split: name in the column `split`, or of the file; "all" for every row.
        instruction: None for R1-Omni's.
        modality: which media the prompts carry.
        file: label file below the root; None for `<split>.csv`, `labels.csv` and the like.
        label_set: name of the label set in force; None for any known emotion.

    Raises:
        UsageError: a missing file, a malformed row, an unknown label, or a path outside the root.
    """
    if root.is_file() and root.suffix.lower() in (*VIDEO_SUFFIXES, *SOUND_SUFFIXES):
        return [_recording(root, instruction, modality)]
    if root.is_file():
        root, file = root.parent, root.name
    if label_set is not None and label_set not in LABEL_SETS:
        raise UsageError(
            f"own: label_set {label_set!r} is unknown; use one of {', '.join(LABEL_SETS)}"
        )
    labels = LABEL_SETS[label_set] if label_set else None
    path = confined(root, file, str(root)) if file else _find_file(root, split)
    if not path.is_file():
        raise UsageError(f"{path}: the label file is not there; correct the option file")
    samples = []
    for row in _rows(path):
        if split != "all" and row.optional("split") not in (None, split):
            continue
        samples.append(_sample(row, root, labels, instruction, modality))
    return samples


def _recording(path: Path, instruction: str | None, modality: Modality) -> Sample:
    return Sample(
        sample_id=f"own/{path.name}",
        clip=Clip(path),
        instruction=R1OMNI_INSTRUCTION if instruction is None else instruction,
        modality=modality,
        dataset="own",
    )


def _find_file(root: Path, split: str) -> Path:
    names = [f"{name}{suffix}" for name in (split, *_NAMES) for suffix in _SUFFIXES]
    for name in names:
        if Path(name).name == name and (root / name).is_file():
            return confined(root, name, str(root))
    raise UsageError(
        f"{root}: no label file; looked for {', '.join(names)}; or set the option file"
    )


def _rows(path: Path) -> Iterator[Row]:
    if path.suffix.lower() == ".csv":
        yield from read_csv(path, ["path", "label"])
    else:
        yield from read_json_rows(path)


def _sample(
    row: Row, root: Path, labels: LabelSet | None, instruction: str | None, modality: Modality
) -> Sample:
    name, word = row.text("path"), row.optional("label")
    start_s, end_s = row.seconds("start"), row.seconds("end")
    if (start_s or 0.0) < 0 or (end_s is not None and end_s <= (start_s or 0.0)):
        raise UsageError(f"{row.place}: the span {start_s} s to {end_s} s is empty or negative")
    sound = row.optional("audio")
    label = class_of(word, labels, row.place) if word is not None else None
    span = "" if start_s is None and end_s is None else f"@{start_s or 0:g}-{end_s or 'end'}"
    return Sample(
        sample_id=f"own/{name}{span}",
        clip=Clip(
            confined(root, name, row.place),
            audio_path=confined(root, sound, row.place) if sound else None,
            start_s=start_s,
            end_s=end_s,
        ),
        instruction=R1OMNI_INSTRUCTION if instruction is None else instruction,
        modality=modality,
        label=label,
        target=_target(row, label),
        dataset="own",
        group=row.optional("group"),
    )


def _target(row: Row, label: str | None) -> str | None:
    if label is None:
        return None
    reasoning = row.optional("reasoning")
    if reasoning is None:
        return ANSWER_WORDS[label]
    try:
        return render_completion(reasoning, ANSWER_WORDS[label])
    except UsageError as error:
        raise UsageError(f"{row.place}: {error}") from error
