"""MER2024: clips of Chinese films and series, six classes; its labelled clips are for training."""

from __future__ import annotations

from pathlib import Path

from r1omni.data.mer_clips import challenge_samples
from r1omni.data.registry import check_split, register
from r1omni.types import Modality, Sample


@register("mer2024")
def load_mer2024(
    root: Path,
    *,
    split: str,
    instruction: str | None = None,
    modality: Modality | None = None,
    clips_dir: str = "video-labeled",
    labels_csv: str = "label-disdim.csv",
) -> list[Sample]:
    """One sample a row of the table (name, discrete), in its order.

    Args:
        root: folder with `label-disdim.csv` and `video-labeled/sample_00000000.mp4`.
        split: train; MER2024 gives out no labels for others.
        instruction: None for R1-Omni's.
        modality: which media the prompts carry; None for what the clips' names tell.
        clips_dir: folder of the clips below the root.
        labels_csv: the table below the root.

    Raises:
        UsageError: a missing table or folder, a malformed row, or a label that is none of the six.
    """
    check_split("mer2024", split, ("train",))
    return challenge_samples(
        "mer2024", root, split, [labels_csv], [clips_dir], instruction, modality
    )
