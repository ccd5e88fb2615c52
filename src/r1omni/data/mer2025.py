"""MER2025: clips with six classes, or with free words and explanations (OV-MERD, MER-Caption+)."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal

from r1omni.data.labels_io import Row, first_existing, modality_of, read_csv
from r1omni.data.mer_clips import MerClips, challenge_samples
from r1omni.data.registry import check_split, register
from r1omni.text.prompt import R1OMNI_INSTRUCTION
from r1omni.text.tags import render_completion
from r1omni.text.wheel import list_words
from r1omni.types import NUM_EXAMPLES, Clip, Modality, Sample, UsageError

_logger = logging.getLogger(__name__)

Labels = Literal["disdim", "ovmerd", "mercaptionplus"]
_CLOSED_TABLES = {"train": "track1_train_disdim.csv", "test": "track1_test_dis.csv"}
_FOLDERS = ("video", "videos", "")


@register("mer2025")
def load_mer2025(
    root: Path,
    *,
    split: str,
    instruction: str | None = None,
    modality: Modality | None = None,
    labels: Labels = "disdim",
    clips_dir: str | None = None,
) -> list[Sample]:
    """One sample a row, in the table's order.

    Free words are in no label set: such a sample has no label, its words are `open_labels`, and
    its target is `<think>{reason}</think>\\n<answer>{words}</answer>`. Clips that only one of the
    two tables names are left out with a warning.

    Args:
        root: folder with `video/` and the tables of the tracks.
        split: train, or test of the labels disdim.
        instruction: None for R1-Omni's.
        modality: which media the prompts carry; None for what the clips' names tell.
        labels: "disdim" for the six classes of track 1; "ovmerd" for the words of OV-MERD (track
            2) and its explanations (track 3); "mercaptionplus" for those of MER-Caption+, which
            models wrote.
        clips_dir: folder of the clips below the root, where it has another name.

    Raises:
        UsageError: a missing table or folder, a malformed row, a label that is none of the six, a
            clip that is named twice, or a row without words.
    """
    folders = [clips_dir] if clips_dir else _FOLDERS
    if labels == "disdim":
        check_split("mer2025", split, tuple(_CLOSED_TABLES))
        return challenge_samples(
            "mer2025", root, split, [_CLOSED_TABLES[split]], folders, instruction, modality
        )
    if split != "train":
        raise UsageError(
            f"mer2025 has no split {split!r} of the labels {labels}; use split train, or labels: "
            "disdim"
        )
    words = _column(root, f"track2_train_{labels}.csv", "openset")
    reasons = _column(root, f"track3_train_{labels}.csv", "reason")
    alone = [name for name in (*words, *reasons) if not (name in words and name in reasons)]
    if alone:
        _logger.warning(
            "%s: %d clips are left out, named in one of the tables of tracks 2 and 3 alone: %s",
            root, len(alone), ", ".join(alone[:NUM_EXAMPLES]),
        )  # fmt: skip
    folder = first_existing(root, folders, "folder with the clips of mer2025")
    clips = MerClips(root, [str(folder.relative_to(root))])
    return [
        _open_sample(clips, row, reasons[name], instruction, modality)
        for name, row in words.items()
        if name in reasons
    ]


def _column(root: Path, file: str, column: str) -> dict[str, Row]:
    """Name of each clip -> its row; the column is there."""
    path = first_existing(root, [file], "table of mer2025")
    found: dict[str, Row] = {}
    for row in read_csv(path, ["name", column]):
        if found.setdefault(row.text("name"), row) is not row:
            raise UsageError(f"{row.place}: names {row.text('name')} again; keep one of the rows")
    return found


def _open_sample(
    clips: MerClips, row: Row, reason: Row, instruction: str | None, modality: Modality | None
) -> Sample:
    name, words = row.text("name"), tuple(list_words(row.text("openset")))
    if not words:
        raise UsageError(
            f"{row.place}: the column 'openset' holds {row.text('openset')!r}, expected words"
        )
    try:
        target = render_completion(reason.text("reason"), ", ".join(words))
    except UsageError as error:
        raise UsageError(f"{reason.place}: {error}") from error
    path = clips.find(name, row.place)
    return Sample(
        sample_id=f"mer2025/{name}",
        clip=Clip(path),
        instruction=R1OMNI_INSTRUCTION if instruction is None else instruction,
        modality=modality_of(path, modality, row.place),
        target=target,
        dataset="mer2025",
        language="zh",
        label_set="all",
        open_labels=words,
        place=row.place,
    )
