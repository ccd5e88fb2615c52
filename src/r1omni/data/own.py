"""A user's own clips: a table (CSV, TSV or JSON) with `path`, `label` and optional columns."""

from __future__ import annotations

import logging
from pathlib import Path, PurePosixPath

from r1omni.data.folds import FOLD_SPLITS, check_folds, speaker_folds, speakers_of_split
from r1omni.data.labels_io import (
    Row,
    class_of,
    confined,
    is_recording,
    modality_of,
    read_csv,
    read_json_rows,
)
from r1omni.data.registry import check_split, register
from r1omni.text.emotions import ANSWER_WORDS, LABEL_SETS, LabelSetName
from r1omni.text.prompt import R1OMNI_INSTRUCTION
from r1omni.text.tags import render_completion
from r1omni.types import (
    INTENSITIES,
    Clip,
    Intensity,
    Modality,
    Sample,
    Sex,
    UsageError,
    why_no_file,
)

_logger = logging.getLogger(__name__)

_NAMES = ("labels", "data", "dataset")
_TABLES = (".csv", ".tsv")
_SUFFIXES = (*_TABLES, ".jsonl", ".json")
_SEXES: dict[str, Sex] = {"female": "female", "f": "female", "male": "male", "m": "male"}
_INTENSITIES: dict[str, Intensity] = {word: word for word in INTENSITIES}


@register("own")
def load_own(
    root: Path,
    *,
    split: str,
    instruction: str | None = None,
    modality: Modality | None = None,
    file: str | None = None,
    label_set: LabelSetName | None = None,
    video_root: str | None = None,
    folds: int | None = None,
    fold: int | None = None,
    hold_out_val: bool = False,
    shared_speakers: bool = False,
) -> list[Sample]:
    """Rows with `path`, `label`, and optionally `reasoning`, `start`, `end` (seconds), `split`,
    `audio` (a separate sound file), `group` (speaker, for intervals and folds), `sex` (of the
    speaker: female or male) and `intensity` (of the emotion: low, medium, high, normal or
    strong).

    With `reasoning` the target is a tagged text, without it the bare answer word. An empty label
    gives a sample without label and target. A split has the rows whose column `split` names it;
    where no row names one, a file that is called like the split is the split. With `folds` it has
    the rows of its speakers, and the file has no splits of its own.

    Args:
        root: folder that the paths count from, or the label file itself, or one recording, which
            is then a sample without a label.
        split: name in the column `split`, or of the file; "all" for every row.
        instruction: None for R1-Omni's.
        modality: which media the prompts carry; None for what the files' names tell.
        file: label file below the root; None for `<split>.csv`, `labels.csv` and the like.
        label_set: name of the label set in force; None for any known emotion.
        video_root: folder that the rows' paths count from; None for the root. Relative to the
            working directory, as `root` is.
        folds: make so many folds of the speakers in the column `group`, balanced by sex, where a
            column says it, and by rows.
        fold: 1 to `folds`: whose speakers are the test split; the others train.
        hold_out_val: the next fold's speakers are the split val, and train leaves them out.
        shared_speakers: speakers of the column `group` may be trained on and tested, too; without
            it they may not (`overlap.refuse_shared`).

    Raises:
        UsageError: a missing file, a malformed row, an unknown label, a path outside the root, a
            split that the file does not name, the picture of a sound file asked for, fewer
            speakers than folds, or options of folds that contradict.
    """
    label_set = label_set or "all"
    if folds is not None or fold is not None or hold_out_val:
        check_folds("own", split, folds, fold, hold_out_val)
        check_split("own", split, FOLD_SPLITS)
    if root.is_file() and is_recording(root):
        return [_recording(root, instruction, modality, label_set)]
    if root.is_file():
        if file is not None:
            raise UsageError(
                f"{root}: is a label file itself, so the option file ({file}) has no effect; leave "
                "it out, or give the folder as root"
            )
        root, file = root.parent, root.name
    names = (*_NAMES, "all") if folds is not None else (split, *_NAMES)
    path = confined(root, file, str(root)) if file else _find_file(root, names)
    if not path.is_file():
        raise UsageError(f"{path}: {why_no_file(path)}; correct the option file")
    rows = _rows(path)
    if shared_speakers:
        _check_shared(path, rows, folds)
    if folds is not None and fold is not None:
        rows = _of_speakers(path, rows, split, folds, fold, hold_out_val)
    else:
        rows = _of_split(path, rows, split)
    videos = root if video_root is None else Path(video_root).expanduser()
    if not videos.is_dir():
        raise UsageError(f"{videos}: the option video_root of own names no folder")
    return [_sample(row, videos, label_set, instruction, modality) for row in rows]


def _recording(
    path: Path, instruction: str | None, modality: Modality | None, label_set: str
) -> Sample:
    return Sample(
        sample_id=f"own/{path.name}",
        clip=Clip(path),
        instruction=R1OMNI_INSTRUCTION if instruction is None else instruction,
        modality=modality_of(path, modality, str(path)),
        dataset="own",
        label_set=label_set,
    )


def _find_file(root: Path, stems: tuple[str, ...]) -> Path:
    names = [f"{stem}{suffix}" for stem in stems for suffix in _SUFFIXES]
    present = {path.name.lower(): path.name for path in sorted(root.iterdir())}
    for name in names:
        if name.lower() in present:
            return confined(root, present[name.lower()], str(root))
    raise UsageError(
        f"{root}: no label file; looked for {', '.join(names)}; or set the option file"
    )


def _rows(path: Path) -> list[Row]:
    suffix = path.suffix.lower()
    if suffix not in _SUFFIXES:
        raise UsageError(
            f"{path}: is no table that can be read, and no recording by its name; save the table "
            f"as one of {', '.join(_SUFFIXES)}"
        )
    return list(read_csv(path, ["path", "label"]) if suffix in _TABLES else read_json_rows(path))


def _check_shared(path: Path, rows: list[Row], folds: int | None) -> None:
    """Refuse `shared_speakers` where it would do nothing, or the opposite is asked for."""
    if folds is not None:
        raise UsageError(
            f"own: shared_speakers is true, and folds {folds} keep speakers apart; leave one out"
        )
    if all(row.optional("group") is None for row in rows):
        raise UsageError(
            f"{path}: shared_speakers is true, but no row has a speaker in a column group; leave "
            "the option out"
        )


def _of_split(path: Path, rows: list[Row], split: str) -> list[Row]:
    """The rows of a split.

    Raises:
        UsageError: nothing says which rows these are.
    """
    if split == "all":
        return rows
    chosen, unnamed, named = [], 0, set()
    for row in rows:
        name = row.optional("split")
        named.add(name)
        unnamed += name is None
        if name is not None and name.lower() == split.lower():
            chosen.append(row)
    named.discard(None)
    if not named and path.stem.lower() == split.lower():
        return rows
    if not chosen:
        found = f"names {', '.join(sorted(map(str, named)))}" if named else "is empty or absent"
        raise UsageError(
            f"{path}: which rows are the split {split!r}? Its column split {found}; name the split "
            f"there, call the file {split}{path.suffix}, or take every row with split: all"
        )
    if unnamed:
        _logger.warning(
            "%s: %d of %d rows have no split and are in none; split: all takes every row",
            path, unnamed, len(rows),
        )  # fmt: skip
    return chosen


def _of_speakers(
    path: Path, rows: list[Row], split: str, folds: int, fold: int, hold_out_val: bool
) -> list[Row]:
    """The rows of the speakers that folds put into a split.

    Raises:
        UsageError: a row without a speaker, or with a split of its own; fewer speakers than folds.
    """
    for row in rows:
        if row.optional("split") is not None:
            raise UsageError(
                f"{row.place}: is of the split {row.optional('split')!r}, and the option folds "
                "divides every row by its speaker; take the column split out, or leave folds out"
            )
    groups = [row.text("group") for row in rows]
    told = zip(groups, map(sex_of, rows), strict=True)
    chosen = speakers_of_split(speaker_folds(told, folds, str(path)), split, fold, hold_out_val)
    return [row for row, group in zip(rows, groups, strict=True) if group in chosen]


def sex_of(row: Row) -> Sex | None:
    """What the column `sex` says; UsageError for a word that is none."""
    word = row.optional("sex")
    if word is not None and word.lower() not in _SEXES:
        raise UsageError(
            f"{row.place}: the column 'sex' holds {word!r}, expected female or male, or nothing"
        )
    return None if word is None else _SEXES[word.lower()]


def intensity_of(row: Row) -> Intensity | None:
    """What the column `intensity` says; UsageError for a word that is none."""
    word = row.optional("intensity")
    if word is not None and word.lower() not in _INTENSITIES:
        raise UsageError(
            f"{row.place}: the column 'intensity' holds {word!r}, expected one of "
            f"{', '.join(INTENSITIES)}, or nothing"
        )
    return None if word is None else _INTENSITIES[word.lower()]


def _sample(
    row: Row, root: Path, label_set: str, instruction: str | None, modality: Modality | None
) -> Sample:
    name, word = row.text("path"), row.optional("label")
    start_s, end_s = row.seconds("start"), row.seconds("end")
    if (start_s or 0.0) < 0 or (end_s is not None and end_s <= (start_s or 0.0)):
        raise UsageError(f"{row.place}: the span {start_s} s to {end_s} s is empty or negative")
    sound = row.optional("audio")
    label = class_of(word, LABEL_SETS[label_set], row.place) if word is not None else None
    span = "" if start_s is None and end_s is None else f"@{start_s or 0:g}-{end_s or 'end'}"
    path = confined(root, name, row.place)
    return Sample(
        sample_id=f"own/{PurePosixPath(name)}{span}",
        clip=Clip(
            path,
            audio_path=confined(root, sound, row.place) if sound else None,
            start_s=start_s,
            end_s=end_s,
        ),
        instruction=R1OMNI_INSTRUCTION if instruction is None else instruction,
        modality=modality_of(path, modality, row.place),
        label=label,
        target=_target(row, label),
        dataset="own",
        group=row.optional("group"),
        sex=sex_of(row),
        intensity=intensity_of(row),
        label_set=label_set,
        place=row.place,
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
