"""IEMOCAP: acted and improvised dialogues in five sessions; utterances are cut from dialogues."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from r1omni.data.folds import FOLD_SPLITS, check_folds, speakers_of_split
from r1omni.data.labels_io import MissingDataError, confined, read_text
from r1omni.data.registry import check_split, labelled_sample, register
from r1omni.types import Clip, Modality, Sample, Sex, UsageError

_SESSIONS = (1, 2, 3, 4, 5)
Protocol = Literal["4way", "4way_no_excited", "6way"]
Scenario = Literal["all", "improvised", "scripted"]
# The publisher's code -> class, of each protocol; other codes are left out.
_CLASSES: dict[Protocol, dict[str, str]] = {
    "4way": {"ang": "angry", "hap": "happy", "exc": "happy", "sad": "sad", "neu": "neutral"},
    "4way_no_excited": {"ang": "angry", "hap": "happy", "sad": "sad", "neu": "neutral"},
    "6way": {
        "ang": "angry", "hap": "happy", "sad": "sad", "neu": "neutral", "exc": "excited",
        "fru": "frustrated",
    },
}  # fmt: skip
# Every code that the publisher writes; xxx is no agreement.
CODES = ("ang", "hap", "exc", "sad", "neu", "fru", "fea", "sur", "dis", "oth", "xxx")
_SEXES: dict[str, Sex] = {"F": "female", "M": "male"}
# [6.2901 - 8.2357]	Ses01F_impro01_F000	neu	[2.5000, 2.5000, 2.5000]
_LINE = re.compile(r"\[\s*([\d.]+)\s*-\s*([\d.]+)\s*\]\s+(\S+)\s+(\S+)\s+\[.*\]\s*")
# Session, who wears the markers, scenario, utterance of the woman or the man.
_TURN = re.compile(r"Ses0([1-5])[FM]_(impro|script)\w*_([FM])[A-Z]*\d+")


@dataclass(frozen=True)
class _Utterance:
    """A line of `EmoEvaluation`, with times in seconds of its dialogue."""

    name: str
    dialogue: str
    session: int
    is_improvised: bool
    sex: Sex
    code: str
    start_s: float
    end_s: float
    place: str

    @property
    def speaker(self) -> str:
        return f"session_{self.session}_{self.sex}"


@register("iemocap", folds=len(_SESSIONS))
def load_iemocap(
    root: Path,
    *,
    split: str,
    instruction: str | None = None,
    modality: Modality | None = None,
    protocol: Protocol = "4way",
    scenario: Scenario = "all",
    fold: int | None = None,
    hold_out_val: bool = False,
) -> list[Sample]:
    """One sample an utterance with a class of the protocol, by dialogue; the group is the speaker.

    The picture is the dialogue's film from the utterance's start to its end; its sound is that of
    `dialog/wav`, where it is there. Sound alone is the file that the publisher cut.

    Args:
        root: folder with `Session1/dialog/EmoEvaluation/Ses01F_impro01.txt` and so on, or a folder
            `IEMOCAP_full_release` with these in it.
        split: "test" or "all", which have every session; "train" needs `fold`, and "val" needs
            `hold_out_val`.
        instruction: None for R1-Omni's.
        modality: which media the prompts carry; None for picture and sound where the films of the
            dialogues are there, otherwise for sound alone.
        protocol: "4way" counts excited as happy, as most papers do; "4way_no_excited" leaves it
            out; "6way" has excited and frustrated as classes of their own.
        scenario: "improvised" or "scripted" dialogues alone.
        fold: 1 to 5: the session that is tested; the others train.
        hold_out_val: the next session is the split val, and train leaves it out.

    Raises:
        UsageError: no sessions, a malformed line, an unknown code, no sound and no film, the
            picture asked for where there is none, or options of folds that contradict.
    """
    check_split("iemocap", split, (*FOLD_SPLITS, "all"))
    check_folds("iemocap", split, None, fold, hold_out_val, len(_SESSIONS))
    if split == "train" and fold is None:
        raise UsageError(
            "iemocap has no published train split; give the option fold, 1 to 5, the session that "
            "is tested, or use split test or all"
        )
    place = _release(root)
    sessions = _sessions(split, fold, hold_out_val)
    there = [s for s in _SESSIONS if (place / f"Session{s}/dialog/EmoEvaluation").is_dir()]
    if not there:
        raise MissingDataError(
            f"{root}: no sessions of IEMOCAP; looked for Session1/dialog/EmoEvaluation"
        )
    chosen = [session for session in there if session in sessions]
    if not chosen:
        raise UsageError(
            f"{root}: the split asks for session {', '.join(map(str, sorted(sessions)))}, and "
            f"holds {', '.join(map(str, there))}; choose another fold"
        )
    with_films = modality != "audio" and any(
        (place / f"Session{session}/dialog/avi").is_dir() for session in there
    )
    if modality not in (None, "audio") and not with_films:
        raise UsageError(
            f"{root}: holds no Session1/dialog/avi, and modality {modality} needs a picture; set "
            "modality: audio, or leave it out"
        )
    classes = _CLASSES[protocol]
    return [
        labelled_sample(
            "iemocap",
            told.name,
            _film(root, place, told) if with_films else _sound(root, place, told),
            classes[told.code],
            label_set="iemocap_6way" if protocol == "6way" else "iemocap_4way",
            instruction=instruction,
            modality=modality,
            place=told.place,
            group=told.speaker,
            sex=told.sex,
            language="en",
        )
        for session in chosen
        for told in _utterances(place / f"Session{session}/dialog/EmoEvaluation")
        if told.code in classes
        and scenario in ("all", "improvised" if told.is_improvised else "scripted")
    ]


def _release(root: Path) -> Path:
    inner = root / "IEMOCAP_full_release"
    return confined(root, inner.name, str(root)) if inner.is_dir() else root


def _sessions(split: str, fold: int | None, hold_out_val: bool) -> frozenset[int]:
    if fold is None:
        return frozenset(_SESSIONS)
    folds = [frozenset((str(session),)) for session in _SESSIONS]
    return frozenset(map(int, speakers_of_split(folds, split, fold, hold_out_val)))


def _utterances(folder: Path) -> Iterator[_Utterance]:
    """Every utterance of a session, by the name of its dialogue."""
    for file in sorted(folder.glob("Ses*.txt")):
        for number, line in enumerate(read_text(file).split("\n"), start=1):
            # Beside the utterances there are a title, and the single evaluators' lines.
            if line.startswith("["):
                yield from _read(file, number, line)


def _read(file: Path, number: int, line: str) -> Iterator[_Utterance]:
    place = f"{file}, line {number}"
    match = _LINE.fullmatch(line.rstrip("\r"))
    turn = None if match is None else _TURN.fullmatch(match[3])
    if match is None or turn is None:
        raise UsageError(
            f"{place}: {line.strip()[:80]!r}, expected `[start - end]`, an utterance such as "
            "Ses01F_impro01_F000, an emotion and three values"
        )
    if match[4] not in CODES:
        raise UsageError(f"{place}: emotion {match[4]!r} is none of {', '.join(CODES)}; correct it")
    yield _Utterance(
        name=match[3],
        dialogue=file.stem,
        session=int(turn[1]),
        is_improvised=turn[2] == "impro",
        sex=_SEXES[turn[3]],
        code=match[4],
        start_s=float(match[1]),
        end_s=float(match[2]),
        place=place,
    )


def _film(root: Path, release: Path, told: _Utterance) -> Clip:
    """The utterance in the dialogue's film, with the dialogue's own sound where it is there."""
    dialog = release / f"Session{told.session}/dialog"
    file = f"{told.dialogue}.avi"
    folder = dialog / "avi" if (dialog / "avi" / file).exists() else dialog / "avi/DivX"
    sound = dialog / f"wav/{told.dialogue}.wav"
    return Clip(
        _inside(root, folder / file, told),
        audio_path=_inside(root, sound, told) if sound.exists() else None,
        start_s=told.start_s,
        end_s=told.end_s,
    )


def _sound(root: Path, release: Path, told: _Utterance) -> Clip:
    """The utterance's own file, or its part of the dialogue's where none was cut."""
    session = release / f"Session{told.session}"
    whole = session / f"dialog/wav/{told.dialogue}.wav"
    if not (session / "sentences/wav").is_dir() and whole.exists():
        return Clip(_inside(root, whole, told), start_s=told.start_s, end_s=told.end_s)
    return Clip(_inside(root, session / f"sentences/wav/{told.dialogue}/{told.name}.wav", told))


def _inside(root: Path, path: Path, told: _Utterance) -> Path:
    return confined(root, str(path.relative_to(root)), told.place)
