"""Tiny folders in the publishers' layouts; clips are empty files where loaders never open them."""

from __future__ import annotations

import json
import math
import struct
import wave
from collections.abc import Callable
from functools import partial
from pathlib import Path

from field_layouts import FIELD

from r1omni.data import DatasetSpec


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def dfew(
    root: Path, clips: str = "Clip/original", names: tuple[str, ...] = ("1", "2", "7")
) -> Path:
    touch(root, *(f"{clips}/{name}.mp4" for name in names))
    folder = root / "EmoLabel_DataSplit"
    write(folder / "train(single-labeled)" / "set_1.csv", "video_name,label\n1,1\n2,4\n7,7\n")
    write(folder / "test(single-labeled)" / "set_1.csv", "video_name,label\n2,2\n")
    return root


def mafw(root: Path, split_folder: str = "Train & Test Set", clips: str = "data/clips") -> Path:
    touch(root, f"{clips}/00025.mp4", f"{clips}/00100.mp4")
    folder = root / split_folder / "single" / "no_caption" / "set_2"
    write(folder / "train.txt", "00025.mp4 anger\n00100.mp4 helplessness\n\n")
    write(folder / "test.txt", "00100.mp4 contempt\n")
    return root


def ravdess(root: Path) -> Path:
    for actor in (1, 2, 5):
        for emotion in range(1, 9):
            for kind in ("01-01", "02-01", "01-02"):
                name = f"Actor_{actor:02d}/{kind}-{emotion:02d}-01-01-01-{actor:02d}.mp4"
                touch(root, name)
    return root


# Folders by class as copies of Emo-DB have them.
EMODB_FOLDERS = {
    "W": "Angry", "L": "Boredom", "E": "disgust", "A": "Anxiety", "F": "happiness", "T": "Sad",
    "N": "neutral",
}  # fmt: skip


def emodb(
    root: Path,
    speakers: tuple[str, ...] = ("03", "08", "09", "10"),
    folders: dict[str, str] | None = None,
    suffix: str = ".wav",
) -> Path:
    """0.2 s of each emotion and speaker, and a second angry one; no two sound the same."""
    names = [(speaker, f"a01{letter}a") for speaker in speakers for letter in "WLEAFTN"]
    names += [(speaker, "b10Wc") for speaker in speakers]
    for number, (speaker, name) in enumerate(names, start=5):
        folder = root / (folders[name[3]] if folders else "wav")
        folder.mkdir(parents=True, exist_ok=True)
        tone = [int(8_000 * math.sin(0.01 * number * time)) for time in range(3_200)]
        with wave.open(str(folder / f"{speaker}{name}{suffix}"), "wb") as file:
            file.setparams((1, 2, 16_000, 0, "NONE", ""))
            file.writeframes(struct.pack("<3200h", *tone))
    return root


def emer(root: Path) -> Path:
    touch(root, "MER2023/train/sample_1.avi", "MER2023/train/sample_2.mp4")
    write(
        root / "EMER/dataset-v2/final-EMER-reason.csv",
        'name,chinese,english\nsample_1,,"He frowns, so he is\nangry."\n'
        "sample_2,,The voice trembles. It suggests worry.\nsample_3,,Nothing to see.\n",
    )
    write(
        root / "EMER/dataset-v1/gt-eng.csv",
        "names,emotions,subtitles,reasons\nsample_1,\"['angry']\",hi,A smile: joyful.\n",
    )
    return root / "EMER"


def conversation(video: str, question: str, answer: str) -> dict:
    return {
        "video": video,
        "conversations": [
            {"from": "human", "value": question},
            {"from": "gpt", "value": answer},
        ],
    }


HUMANOMNI = [
    conversation("DFEW/videos/1.mp4", "<video>\n<audio>\nWhich emotion?", "sad"),
    conversation("a.mp4", "<video>\nWhat is seen?", "A man smiles."),
    conversation("b.mp4", "<audio>\nHow?", "<think>Loud.</think>\n<answer>anger</answer>"),
    conversation("c.mp4", "No tag here", "calm"),
]


def humanomni(root: Path) -> Path:
    write(root / "train.json", json.dumps(HUMANOMNI))
    write(root / "more.jsonl", "".join(json.dumps(entry) + "\n" for entry in HUMANOMNI))
    write(
        root / "mix.yaml",
        "datasets:\n  - json_path: train.json\n    sampling_strategy: first:1\n"
        '  - json_path: more.jsonl\n    sampling_strategy: "end:50%"\n',
    )
    return root


def own(root: Path) -> Path:
    touch(root, "a.mp4", "b.mp4")
    write(root / "labels.csv", "path,label,split\na.mp4,anger,train\nb.mp4,calm,train\n")
    return root


# One specification of every data set of the registry, on its layout in a folder.
EVERY: dict[str, Callable[[Path], DatasetSpec]] = {
    "dfew": lambda root: DatasetSpec("dfew", str(dfew(root))),
    "mafw": lambda root: DatasetSpec("mafw", str(mafw(root)), options={"fold": 2}),
    "ravdess": lambda root: DatasetSpec("ravdess", str(ravdess(root)), "all"),
    "emodb": lambda root: DatasetSpec("emodb", str(emodb(root)), "all"),
    "emer": lambda root: DatasetSpec("emer", str(emer(root))),
    "humanomni": lambda root: DatasetSpec("humanomni", str(humanomni(root))),
    "own": lambda root: DatasetSpec("own", str(own(root))),
    **{name: partial(layout.spec, name) for name, layout in FIELD.items()},
}
