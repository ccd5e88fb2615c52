"""MER2023: clips of Chinese films and series, six classes, published splits."""

from __future__ import annotations

from pathlib import Path

from r1omni.data.mer_clips import challenge_samples
from r1omni.data.registry import check_split, register
from r1omni.types import Modality, Sample

SPLITS = ("train", "test1", "test2", "test3")


@register("mer2023")
def load_mer2023(
    root: Path,
    *,
    split: str,
    instruction: str | None = None,
    modality: Modality | None = None,
    clips_dir: str | None = None,
    labels_csv: str | None = None,
) -> list[Sample]:
    """One sample a row of the split's table (name, discrete), in its order.

    Args:
        root: folder with `train-label.csv` and `train/sample_00000000.avi`, and likewise for the
            other splits.
        split: train, test1 (MER-MULTI), test2 (MER-NOISE) or test3 (the labelled clips of
            MER-SEMI).
        instruction: None for R1-Omni's.
        modality: which media the prompts carry; None for what the clips' names tell.
        clips_dir: folder of the split's clips below the root, where it has another name.
        labels_csv: the split's table below the root, where it has another name.

    Raises:
        UsageError: a missing table or folder, a malformed row, or a label that is none of the six.
    """
    check_split("mer2023", split, SPLITS)
    name = f"{split}-label.csv"
    outer = f"mer2023{split}" if split == "train" else "mer2023test1&2"
    return challenge_samples(
        "mer2023",
        root,
        split,
        [labels_csv] if labels_csv else [name, f"test-labels/{name}", f"{outer}/{name}"],
        [clips_dir] if clips_dir else [split, f"{outer}/{split}"],
        instruction,
        modality,
    )
