"""Small data sets of the field as their publishers lay them out, from their descriptions alone.

Recordings are real and short, and no two of a set are alike.
"""

from __future__ import annotations

import json
import math
import struct
import sys
import tempfile
import wave
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from r1omni.data import DatasetSpec

sys.path.insert(0, str(Path(__file__).parents[1] / "media"))

from clips import write_clip

# Container -> codecs of picture and sound.
_CODECS = {".flv": ("flv1", "aac"), ".avi": ("mpeg4", "mp3"), ".mp4": ("mpeg4", "aac")}


@cache
def _film(suffix: str, number: int) -> bytes:
    codec, sound_codec = _CODECS[suffix]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"clip{suffix}"
        write_clip(
            path, num_frames=3, width=32, height=32, tone_hz=100 + 10 * number, codec=codec,
            sound_codec=sound_codec,
        )  # fmt: skip
        return path.read_bytes()


def film(path: Path, number: int) -> None:
    """0.3 s of picture and sound; `number` tells recordings apart."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_film(path.suffix, number))


def sound(path: Path, number: int, num_samples: int = 3_200) -> None:
    """Sound at 16 kHz; `number` tells recordings apart."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tone = [int(8_000 * math.sin(0.01 * (number + 5) * time)) for time in range(num_samples)]
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(struct.pack(f"<{num_samples}h", *tone))


# Two men and three women, as the table of demographics has them.
CREMAD_ACTORS = {1001: "male", 1002: "female", 1003: "female", 1005: "male", 1006: "female"}


def cremad(root: Path, films: bool = True, sounds: bool = True) -> Path:
    """Two clips of each actor; the last actor has a third one."""
    names = []
    for number, actor in enumerate(CREMAD_ACTORS):
        names += [f"{actor}_IEO_{('ANG', 'DIS', 'FEA')[number % 3]}_HI", f"{actor}_DFA_NEU_XX"]
    names += ["1006_IEO_HAP_LO"]
    for number, name in enumerate(names):
        if films:
            film(root / "VideoFlash" / f"{name}.flv", number)
        if sounds:
            sound(root / "AudioWAV" / f"{name}.wav", number)
    return root


def savee(root: Path, films: bool = True, sounds: bool = True) -> Path:
    """Three utterances of each speaker; films are numbered without a zero, sound with one."""
    number = 0
    for speaker in ("DC", "JE", "JK", "KL"):
        for emotion in ("a", "sa", "n"):
            if films:
                film(root / "AudioVisualClip" / speaker / f"{emotion}3.avi", number)
            if sounds:
                sound(root / "AudioData" / speaker / f"{emotion}03.wav", number)
            number += 1
    return root


# Folders are spelt as the publisher spells them.
TESS_FOLDERS = (
    "OAF_angry", "OAF_disgust", "OAF_Fear", "OAF_happy", "OAF_neutral", "OAF_Pleasant_surprise",
    "OAF_Sad", "YAF_angry", "YAF_disgust", "YAF_fear", "YAF_happy", "YAF_neutral",
    "YAF_pleasant_surprised", "YAF_sad",
)  # fmt: skip


def tess(root: Path) -> Path:
    """One word in each folder, and the one whose name is misspelt."""
    for number, folder in enumerate(TESS_FOLDERS):
        speaker, emotion = folder.split("_", 1)
        code = "ps" if "urpris" in emotion else emotion.lower()
        sound(root / folder / f"{speaker}_back_{code}.wav", number)
    sound(root / "OAF_neutral" / "OA_bite_neutral.wav", len(TESS_FOLDERS))
    return root


def enterface(root: Path) -> Path:
    """Two sentences of each of six subjects; names are wrong where the publisher's are."""
    number = 0
    for subject in (1, 3, 11, 12, 16, 44):
        for emotion, sentence in (("anger", 1), ("surprise", 3)):
            prefix = {3: "s_3", 11: "s12"}.get(subject, f"s{subject}")
            end = "avi.avi" if (subject, emotion) == (16, "surprise") else ".avi"
            folder = root / f"subject {subject}" / emotion / f"sentence {sentence}"
            film(folder / f"{prefix}_{emotion[:2]}_{sentence}{end}", number)
            number += 1
    # Not cut into sentences.
    film(root / "subject 6" / "anger" / "s6_an_1.avi", number)
    return root


MELD_HEADER = (
    "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,"
    "StartTime,EndTime\n"
)
MELD_FOLDERS = {
    "train": "train/train_splits", "dev": "dev/dev_splits_complete",
    "test": "test/output_repeated_splits_test",
}  # fmt: skip
MELD_WORDS = ("anger", "disgust", "sadness", "joy", "neutral", "surprise", "fear")


def meld(root: Path) -> Path:
    """One utterance of each emotion in each split, all in a first dialogue."""
    number = 0
    for split, folder in MELD_FOLDERS.items():
        rows = [MELD_HEADER]
        for utterance, word in enumerate(MELD_WORDS):
            film(root / folder / f"dia0_utt{utterance}.mp4", number)
            speaker = ("Phoebe", "Ross")[utterance % 2]
            rows.append(
                f'{number + 1},"Oh, that’s it.",{speaker},{word},neutral,0,{utterance},4,7,'
                '"00:20:57,256","00:21:00,049"\n'
            )
            number += 1
        (root / f"{split}_sent_emo.csv").write_text("".join(rows), encoding="utf-8")
    return root


IEMOCAP_CODES = ("ang", "hap", "exc", "sad", "neu", "fru", "xxx")


def iemocap(root: Path, films: bool = True) -> Path:
    """A scripted and an improvised dialogue in each session, in turns of the woman and the man."""
    number = 0
    for session in range(1, 6):
        at = root / f"Session{session}"
        for dialogue in (f"Ses0{session}F_impro01", f"Ses0{session}M_script01_1b"):
            lines = ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]", ""]
            for turn, code in enumerate(IEMOCAP_CODES):
                name = f"{dialogue}_{'FM'[turn % 2]}{turn:03d}"
                span = f"[{0.04 * turn:.4f} - {0.04 * (turn + 1):.4f}]"
                lines += [f"{span}\t{name}\t{code}\t[2.5000, 2.5000, 2.5000]"]
                lines += ["C-E2:\tNeutral;\t()", "A-E3:\tval 3; act 2; dom  2;\t()", ""]
                sound(at / "sentences/wav" / dialogue / f"{name}.wav", number)
                number += 1
            (at / "dialog/EmoEvaluation").mkdir(parents=True, exist_ok=True)
            (at / f"dialog/EmoEvaluation/{dialogue}.txt").write_text("\n".join(lines) + "\n")
            sound(at / f"dialog/wav/{dialogue}.wav", number, num_samples=4_800)
            if films:
                film(at / f"dialog/avi/DivX/{dialogue}.avi", number)
    return root


MER_WORDS = ("neutral", "angry", "happy", "sad", "worried", "surprise")


def mer2023(root: Path) -> Path:
    """One clip of each class in each split; those of train and test1 are .avi."""
    number = 0
    for split in ("train", "test1", "test2", "test3"):
        rows = ["name,discrete,valence\n"]
        for word in MER_WORDS:
            suffix = ".avi" if split in ("train", "test1") else ".mp4"
            film(root / split / f"sample_{number:08d}{suffix}", number)
            rows.append(f"sample_{number:08d},{word},-1.5\n")
            number += 1
        (root / f"{split}-label.csv").write_text("".join(rows))
    return root


def mer2024(root: Path) -> Path:
    rows = ["name,discrete\n"]
    for number, word in enumerate(MER_WORDS):
        film(root / "video-labeled" / f"samplenew3_{number:08d}.mp4", number)
        rows.append(f"samplenew3_{number:08d},{word}\n")
    (root / "label-disdim.csv").write_text("".join(rows))
    return root


def mer2025(root: Path) -> Path:
    """Six clips; free words of two, and of one whose explanation is missing."""
    for number in range(len(MER_WORDS)):
        film(root / "video" / f"sample_{number:08d}.mp4", number)
        sound(root / "audio" / f"sample_{number:08d}.wav", number)
    closed = [f"sample_{n:08d},{word},0.0\n" for n, word in enumerate(MER_WORDS)]
    (root / "track1_train_disdim.csv").write_text("name,discrete,valence\n" + "".join(closed))
    (root / "subtitle_chieng.csv").write_text("name,chinese,english\nsample_00000000,,Hello\n")
    for labels in ("ovmerd", "mercaptionplus"):
        (root / f"track2_train_{labels}.csv").write_text(
            "name,openset\nsample_00000003,\"['sad', 'Let down, tense']\"\n"
            "sample_00000004,['worried']\n"
        )
        (root / f"track3_train_{labels}.csv").write_text(
            'name,reason\nsample_00000004,"He frowns, and hurries."\n'
            "sample_00000003,She looks away.\n"
        )
    return root


def merr(root: Path) -> Path:
    """Five entries; the clips lie beside, in the folder of the unlabelled ones of MER2023."""
    words = ("happy", "worried", "contempt", "fear", "doubt")
    entries = {
        f"samplenew_{number:08d}": {
            "AU_list": ["AU05", "AU26"], "visual_prior_list": ["Jaw drop"],
            "audio_prior_list": "A loud voice.", "peak_index": "12", "peak_AU_list": ["AU05"],
            "text": "what", "pseu_emotion": word,
        }
        for number, word in enumerate(words)
    }  # fmt: skip
    for number, name in enumerate(entries):
        film(root.parent / "MER2023" / "test3" / f"{name}.mp4", number)
    root.mkdir(parents=True, exist_ok=True)
    for grain, key in (("fine", "smp_reason_caption"), ("coarse", "caption")):
        told = {n: {**e, key: f"The jaw drops, {grain}."} for n, e in entries.items()}
        (root / f"MERR_{grain}_grained.json").write_text(json.dumps(told, indent=4))
    return root


@dataclass(frozen=True)
class Layout:
    """A data set of the field.

    Attributes:
        write: lays it out in a folder, and returns that.
        split: one that the layout has.
        counts: clips of each class in each split that publishers count, or all of them.
        speakers: whether folds of five speakers can be made of it.
        options: of the loader, for the split.
    """

    write: Callable[[Path], Path]
    split: str
    counts: Mapping[str, Mapping[str, int] | int]
    speakers: bool = False
    options: dict[str, object] = field(default_factory=dict)

    def spec(self, name: str, root: Path) -> DatasetSpec:
        return DatasetSpec(name, str(self.write(root)), self.split, options=dict(self.options))


_MER_COUNTS = dict.fromkeys(("neutral", "angry", "happy", "sad", "anxiety", "surprise"), 1)
FIELD: dict[str, Layout] = {
    "cremad": Layout(
        cremad, "all",
        {"all": {"angry": 2, "disgust": 2, "fear": 1, "neutral": 5, "happy": 1}}, speakers=True,
    ),
    "savee": Layout(savee, "test", {"all": {"angry": 4, "sad": 4, "neutral": 4}}),
    "tess": Layout(
        tess, "all",
        {"all": {"angry": 2, "disgust": 2, "fear": 2, "happy": 2, "neutral": 3, "surprise": 2,
                 "sad": 2}},
    ),
    "mer2023": Layout(
        mer2023, "test1", {"train": 6, "test1": _MER_COUNTS, "test2": _MER_COUNTS, "test3": 6}
    ),
    "mer2024": Layout(mer2024, "train", {"train": 6}),
    "mer2025": Layout(mer2025, "train", {"train": 6, "ovmerd": 2, "mercaptionplus": 2}),
    "merr": Layout(merr, "train", {"fine": 4, "coarse": 4}),
    "iemocap": Layout(
        iemocap, "all",
        {"all": {"angry": 10, "happy": 20, "sad": 10, "neutral": 10},
         "6way": dict.fromkeys(
             ("angry", "happy", "sad", "neutral", "excited", "frustrated"), 10
         )},
    ),
    "meld": Layout(
        meld, "train",
        {split: dict.fromkeys(
            ("angry", "disgust", "sad", "happy", "neutral", "surprise", "fear"), 1
        ) for split in MELD_FOLDERS},
    ),
    "enterface": Layout(enterface, "all", {"all": {"angry": 6, "surprise": 6}}, speakers=True),
}  # fmt: skip
