"""MERR: machine-written explanations of clips of MER2023, with pseudo-labels (Emotion-LLaMA)."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from r1omni.data.labels_io import Row, class_of, first_existing, read_text
from r1omni.data.mer_clips import MerClips
from r1omni.data.mer_clips import video_root as find_video_root
from r1omni.data.registry import check_split, labelled_sample, register
from r1omni.text.emotions import ANSWER_WORDS, LABEL_SETS
from r1omni.text.tags import render_completion
from r1omni.types import Clip, Modality, Sample, UsageError

_logger = logging.getLogger(__name__)

Grain = Literal["fine", "coarse"]
# Key of the explanation in each file.
_EXPLANATIONS: dict[Grain, tuple[str, ...]] = {
    "fine": ("smp_reason_caption", "caption"),
    "coarse": ("caption",),
}
# No emotion of the taxonomy.
_LEFT_OUT = "doubt"


@register("merr")
def load_merr(
    root: Path,
    *,
    split: str,
    instruction: str | None = None,
    modality: Modality | None = None,
    grain: Grain = "fine",
    video_root: str | None = None,
) -> list[Sample]:
    """Explanation and answer: target `<think>{explanation}</think>\\n<answer>{word}</answer>`.

    The class is the pseudo-label, which action units of the face decided. Clips of doubt are left
    out with a warning: the taxonomy has no such emotion.

    Args:
        root: folder with `MERR_fine_grained.json` or `MERR_coarse_grained.json`.
        split: train or all; MERR has no other.
        instruction: None for R1-Omni's.
        modality: which media the prompts carry; None for what the clips' names tell.
        grain: "fine" (explanations that a language model wrote) or "coarse" (descriptions of face
            and voice put one after the other).
        video_root: the MER2023 folder; None for a folder MER2023 beside or in the root, or the
            root itself. Relative paths count from the working directory, as `root` does.

    Raises:
        UsageError: a missing folder or file, malformed JSON, or an unknown label.
    """
    check_split("merr", split, ("train", "all"))
    name = f"MERR_{grain}_grained.json"
    path = first_existing(root, [name, f"MERR/{name}"], f"MERR file, {grain}-grained")
    clips = MerClips(find_video_root("merr", root, video_root))
    samples, num_left_out = [], 0
    for key, row in _entries(path):
        word = row.text("pseu_emotion")
        if word.lower() == _LEFT_OUT:
            num_left_out += 1
            continue
        label = class_of(word, LABEL_SETS["merr"], row.place)
        sample = labelled_sample(
            "merr",
            key,
            Clip(clips.find(key, row.place)),
            label,
            label_set="merr",
            instruction=instruction,
            modality=modality,
            place=row.place,
            language="zh",
        )
        samples.append(replace(sample, target=_target(row, label, grain)))
    if num_left_out:
        _logger.warning(
            "%s: %d clips of %s are left out; the taxonomy has no such emotion",
            path, num_left_out, _LEFT_OUT,
        )  # fmt: skip
    return samples


def _target(row: Row, label: str, grain: Grain) -> str:
    explanation = row.text(*_EXPLANATIONS[grain])
    try:
        return render_completion(explanation, ANSWER_WORDS[label])
    except UsageError as error:
        raise UsageError(f"{row.place}: {error}") from error


def _entries(path: Path) -> Iterator[tuple[str, Row]]:
    """Name of each clip and its entry, whose line is its place in the file."""
    try:
        whole = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise UsageError(f"{path}, line {error.lineno}: malformed JSON ({error.msg})") from error
    if not isinstance(whole, dict):
        raise UsageError(f"{path}: holds a {type(whole).__name__}, expected an object")
    for number, (name, entry) in enumerate(whole.items(), start=1):
        if not isinstance(entry, dict):
            raise UsageError(f"{path}, entry {name!r}: is a {type(entry).__name__}, no object")
        values: dict[str, Any] = {key.lower(): value for key, value in entry.items()}
        yield name, Row(path, number, values)
