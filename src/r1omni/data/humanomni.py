"""HumanOmni's instruction format: JSON or JSONL conversations, or a YAML list of such files."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import yaml

from r1omni.data.labels_io import Row, confined, modality_of, read_json_rows, read_text
from r1omni.data.registry import register
from r1omni.data.sampling import select
from r1omni.text.answers import read_answer
from r1omni.text.prompt import R1OMNI_INSTRUCTION
from r1omni.types import Clip, Modality, Sample, UsageError, why_no_file

_logger = logging.getLogger(__name__)

_SUFFIXES = (".json", ".jsonl", ".yaml", ".yml")
# Tags and the marks around them, wherever they stand.
_TAG = re.compile(r"[ \t]*<(?:video|audio|vi_start|vi_end|au_start|au_end|image)>[ \t]*\n?")


@register("humanomni", conversations=True)
def load_humanomni(
    root: Path,
    *,
    split: str,
    instruction: str | None = None,
    modality: Modality | None = None,
    file: str | None = None,
    video_root: str | None = None,
) -> list[Sample]:
    """One sample an entry: the first question and its answer.

    The media tags of the question decide the modality; they are taken out of the instruction.
    The label is the answer's emotion where the answer is a single emotion word, bare or tagged.

    Args:
        root: data folder, or the file itself (the data folder is then the one it lies in).
        split: used to find `<split>.json` and the like where `file` is not given; "all" is the
            only such file of the root. A file that is named has no splits: "train", "all", or
            what the file is called.
        instruction: replaces the file's questions; None keeps them.
        modality: for entries without media tags; None for what the file's name tells.
        file: JSON, JSONL or YAML file below the root.
        video_root: folder that the entries' paths count from; None for the root. Relative to the
            working directory, as `root` is.

    Raises:
        UsageError: a missing file, a split that it does not name, a malformed entry, a path
            outside the folder, or tags that ask for the picture of a sound file.
    """
    if root.is_file():
        root, file = root.parent, root.name
    path = confined(root, file, str(root)) if file else _find_file(root, split)
    if not path.is_file():
        raise UsageError(f"{path}: {why_no_file(path)}; correct the option file")
    if split not in ("train", "all", path.stem):
        raise UsageError(
            f"{path}: which entries are the split {split!r}? An instruction file has no splits; "
            f"call it {split}{path.suffix}, or take every entry with split: all"
        )
    videos = root if video_root is None else Path(video_root).expanduser()
    if not videos.is_dir():
        raise UsageError(f"{videos}: the option video_root of humanomni names no folder")
    parts = _listed(root, path) if path.suffix.lower() in (".yaml", ".yml") else [(path, "all")]
    samples: list[Sample] = []
    for part, sampling in parts:
        entries = [_sample(row, videos, instruction, modality) for row in read_json_rows(part)]
        if entries:
            samples += select(entries, sampling, seed=0)
    return samples


def _find_file(root: Path, split: str) -> Path:
    found = sorted(path for path in root.iterdir() if path.suffix.lower() in _SUFFIXES)
    named = [path for path in found if path.stem == split]
    if named or (split == "all" and len(found) == 1):
        return confined(root, (named or found)[0].name, str(root))
    names = ", ".join(path.name for path in found) or "none"
    raise UsageError(
        f"{root}: which instruction file is split {split!r}? Set the option file (JSON, JSONL or "
        f"YAML; found {names})"
    )


def _listed(root: Path, path: Path) -> list[tuple[Path, str]]:
    """(file, sampling strategy) of each entry of a YAML list."""
    try:
        content: Any = yaml.safe_load(read_text(path))
    except yaml.YAMLError as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"{path}: malformed YAML ({reason})") from error
    listed = content.get("datasets") if isinstance(content, dict) else None
    if not isinstance(listed, list) or not listed:
        raise UsageError(f"{path}: expected `datasets:` with a list of json_path entries")
    parts = []
    for number, entry in enumerate(listed, start=1):
        if not isinstance(entry, dict) or not isinstance(entry.get("json_path"), str):
            raise UsageError(f"{path}, entry {number}: no json_path")
        part = confined(root, entry["json_path"], f"{path}, entry {number}")
        if not part.is_file():
            raise UsageError(f"{path}, entry {number}: {part}: {why_no_file(part)}")
        parts.append((part, str(entry.get("sampling_strategy", "all"))))
    return parts


def _sample(row: Row, videos: Path, instruction: str | None, modality: Modality | None) -> Sample:
    place = f"{row.path}, entry {row.line}"
    files = [row.values.get(name) for name in ("video", "audio")]
    paths = [confined(videos, file, place) for file in files if isinstance(file, str) and file]
    if not paths:
        raise UsageError(f'{place}: no "video" path, and no "audio" path')
    question, answer = _turns(row)
    asked = _TAG.sub("", question).strip() if instruction is None else instruction
    return Sample(
        sample_id=f"humanomni/{row.path.stem}/{row.line}",
        clip=Clip(paths[0], audio_path=paths[1] if len(paths) == 2 else None),
        instruction=asked or R1OMNI_INSTRUCTION,
        modality=modality_of(paths[0], _modality(question, modality), place),
        label=_label(answer),
        target=answer,
        dataset="humanomni",
        label_set="all",
        place=place,
    )


def _turns(row: Row) -> tuple[str, str]:
    """The first question and its answer."""
    turns = row.values.get("conversations")
    place = f"{row.path}, entry {row.line}"
    if not isinstance(turns, list) or len(turns) < 2:
        raise UsageError(f'{place}: "conversations" needs a question and an answer')
    if len(turns) > 2:
        _logger.warning("%s: only the first of %d turns is used", place, len(turns) // 2)
    texts = []
    for turn, speakers in zip(turns, (("human", "user"), ("gpt", "assistant")), strict=False):
        if (
            not isinstance(turn, dict)
            or turn.get("from") not in speakers
            or not isinstance(turn.get("value"), str)
        ):
            raise UsageError(f'{place}: expected {{"from": "{speakers[0]}", "value": ...}}')
        texts.append(turn["value"])
    return texts[0], texts[1]


def _modality(question: str, default: Modality | None) -> Modality | None:
    video, audio = "<video>" in question, "<audio>" in question
    if video and audio:
        return "video_audio"
    if video:
        return "video"
    return "audio" if audio else default


def _label(answer: str) -> str | None:
    return read_answer(answer).emotion
