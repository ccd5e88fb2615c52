"""MELD: utterances of dialogues in the series Friends, seven emotions, published splits."""

from __future__ import annotations

from pathlib import Path

from r1omni.data.labels_io import class_of, confined, first_existing, read_csv, recordings
from r1omni.data.registry import check_split, labelled_sample, register
from r1omni.text.emotions import LABEL_SETS
from r1omni.types import Clip, Modality, Sample, UsageError

# The publisher's folder of each split in MELD.Raw, and those of copies.
_CLIP_FOLDERS = {
    "train": ("train/train_splits", "train_splits", "train"),
    "dev": ("dev/dev_splits_complete", "dev_splits_complete", "dev"),
    "test": ("test/output_repeated_splits_test", "output_repeated_splits_test", "test"),
}
# Some clips of the test split are there a second time under such a name, or are called so alone.
_AGAIN = "final_videos_test"
_COLUMNS = ("dialogue_id", "utterance_id", "emotion", "speaker")


@register("meld")
def load_meld(
    root: Path,
    *,
    split: str,
    instruction: str | None = None,
    modality: Modality | None = None,
    clips_dir: str | None = None,
    labels_csv: str | None = None,
) -> list[Sample]:
    """One sample an utterance, in the table's order; the group is the character who speaks.

    Args:
        root: folder with `train_sent_emo.csv` and `train/train_splits/dia0_utt0.mp4`, or a folder
            `MELD.Raw` with these in it.
        split: train, dev or test.
        instruction: None for R1-Omni's.
        modality: which media the prompts carry; None for what the clips' names tell.
        clips_dir: folder of the split's clips below the root, where it has another name.
        labels_csv: the split's table below the root, where it has another name.

    Raises:
        UsageError: a missing folder or table, a malformed row, or an unknown emotion.
    """
    check_split("meld", split, tuple(_CLIP_FOLDERS))
    tables = [labels_csv] if labels_csv is not None else _within_raw(_tables(split))
    table = first_existing(root, tables, f"table of split {split!r} of MELD")
    folders = [clips_dir] if clips_dir is not None else _within_raw(_CLIP_FOLDERS[split])
    folder = first_existing(root, folders, f"folder with the clips of split {split!r} of MELD")
    if not folder.is_dir():
        raise UsageError(f"{folder}: is no folder; correct the option clips_dir")
    files = recordings(folder)
    samples = []
    for row in read_csv(table, _COLUMNS):
        name = f"dia{row.text('dialogue_id')}_utt{row.text('utterance_id')}"
        file = files.get(name) or files.get(_AGAIN + name) or f"{name}.mp4"
        samples.append(
            labelled_sample(
                "meld",
                f"{split}_{name}",
                Clip(confined(root, str((folder / file).relative_to(root)), row.place)),
                class_of(row.text("emotion"), LABEL_SETS["meld"], row.place),
                label_set="meld",
                instruction=instruction,
                modality=modality,
                place=row.place,
                group=row.text("speaker"),
                language="en",
            )
        )
    return samples


def _tables(split: str) -> tuple[str, ...]:
    name = f"{split}_sent_emo.csv"
    return name, f"{split}/{name}", f"data/MELD/{name}"


def _within_raw(names: tuple[str, ...]) -> list[str]:
    return [*names, *(f"MELD.Raw/{name}" for name in names)]
