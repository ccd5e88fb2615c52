"""Label files in the publishers' own layouts, so that the real loaders read the mini-world."""

from __future__ import annotations

import csv
import io
import json
import re
import zipfile
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from r1omni.world.ceiling import voice_vector
from r1omni.world.cues import ACTION_UNITS
from r1omni.world.describe import (
    CAPTION_QUESTIONS,
    EMOTION_QUESTION,
    MEDIA_TAGS,
    OBSERVATION_QUESTION,
    REASONING_QUESTION,
    describe_both,
    describe_face,
    describe_voice,
    observation,
    reasoning,
    tagged_reasoning,
)
from r1omni.world.layouts import class_set_of
from r1omni.world.plans import ClipPlan, clip_rng
from r1omni.world.render import apex_units
from r1omni.world.story import EMOTIONS, class_sets

# Shares of wrong answers where nobody checked: automatic labels, and explanations whose writer
# took the clip for something else. The labels of DFEW, MAFW and RAVDESS are always right.
LABEL_NOISE = 0.15
EXPLANATION_NOISE = 0.35
_VALENCE = {"happy": 3.0, "surprise": 0.8, "neutral": 0.0, "sad": -2.2, "angry": -2.6,
            "anxious": -1.4}  # fmt: skip


def write_labels(out: Path, plans: list[ClipPlan], seed: int) -> None:
    """Write every label file of the world; the clips' folders exist already."""
    splits: dict[str, list[ClipPlan]] = {}
    for plan in plans:
        splits.setdefault(plan.dataset, []).append(plan)
    _write_dfew(out / "DFEW", splits, seed)
    _write_mafw(out / "MAFW", splits)
    _write_emer(out, splits.get("emer", []), seed)
    human = out / "HumanOmni"
    _write_json(human / "captions.json", _captions(splits.get("humanomni/captions", [])))
    _write_json(human / "emotions.json", _emotions(splits.get("humanomni/emotions", []), seed))
    _write_json(human / "reasoning.json", _reasonings(splits.get("humanomni/reasoning", []), seed))


def write_cues(path: Path, plans: list[ClipPlan], measured: list[dict[str, Any]]) -> None:
    """One JSON line a clip: prototypes, attributes and cue vector, for analysis only."""
    lines = []
    names = ("pitch_hz", "formant_scale", "level_db", "syllable_rate_hz", "tremor", "jitter",
             "tilt_db")  # fmt: skip
    for plan, sound in zip(plans, measured, strict=True):
        row = {
            "dataset": plan.dataset,
            "name": plan.name,
            "path": plan.path,
            "emotion": plan.word or None,
            "face_prototype": plan.face_prototype or None,
            "voice_prototype": plan.voice_prototype or None,
            "face": vars(plan.face),
            "voice": vars(plan.voice),
            "intensity": round(plan.take.intensity, 4),
            "action_units": dict(zip(ACTION_UNITS, apex_units(plan), strict=True)),
            "voice_parameters": {
                name: round(value, 4) for name, value in zip(names, voice_vector(plan), strict=True)
            },
            **sound,
        }
        lines.append(json.dumps(row))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _write_csv(path: Path, header: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def _write_json(path: Path, entries: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")


def _write_dfew(root: Path, splits: dict[str, list[ClipPlan]], seed: int) -> None:
    labels = class_sets()["dfew"].labels
    rows: list[tuple[str, str]] = []
    for split in ("train", "test"):
        part = [(plan.name, labels[plan.word]) for plan in splits.get(f"dfew/{split}", [])]
        folder = root / "EmoLabel_DataSplit" / f"{split}(single-labeled)"
        _write_csv(folder / "set_1.csv", ("video_name", "label"), part)
        rows += part
    _write_votes(root / "Annotation" / "annotation.xlsx", rows, list(labels), seed)


def _write_votes(path: Path, rows: list[tuple[str, str]], words: list[str], seed: int) -> None:
    """Ten annotators a clip: six to ten agree with the label, the others chose at random."""
    from openpyxl import Workbook

    book = Workbook()
    sheet = book.active
    sheet.append(["order", *(f"{i}{word}" for i, word in enumerate(words, start=1))])
    rng = clip_rng(seed, "dfew/votes", 0)
    for name, label in rows:
        votes = [0] * len(words)
        votes[int(label) - 1] = agreeing = int(rng.integers(6, 11))
        for other in rng.integers(0, len(words), 10 - agreeing):
            votes[int(other)] += 1
        sheet.append([int(name), *votes])
    buffer = io.BytesIO()
    book.save(buffer)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_without_dates(buffer.getvalue()))


def _without_dates(xlsx: bytes) -> bytes:
    """The same workbook without the time of writing, so that equal seeds give equal bytes."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(xlsx)) as source, zipfile.ZipFile(out, "w") as target:
        for name in source.namelist():
            data = source.read(name)
            if name == "docProps/core.xml":
                data = re.sub(rb"\d{4}-\d\d-\d\dT[0-9:.]+Z", b"2000-01-01T00:00:00Z", data)
            entry = zipfile.ZipInfo(name, date_time=(2000, 1, 1, 0, 0, 0))
            target.writestr(entry, data, zipfile.ZIP_DEFLATED)
    return out.getvalue()


def _write_mafw(root: Path, splits: dict[str, list[ClipPlan]]) -> None:
    labels = class_sets()["mafw"].labels
    folder = root / "Train & Test Set" / "single" / "no_caption" / "set_1"
    folder.mkdir(parents=True, exist_ok=True)
    for split in ("train", "test"):
        lines = [f"{p.name}.mp4 {labels[p.word]}\n" for p in splits.get(f"mafw/{split}", [])]
        (folder / f"{split}.txt").write_text("".join(lines), encoding="utf-8")


def _write_emer(out: Path, plans: list[ClipPlan], seed: int) -> None:
    labels = class_sets()["mer"].labels
    rng = clip_rng(seed, "emer/valence", 0)
    words = _mistaken(plans, tuple(labels), EXPLANATION_NOISE, clip_rng(seed, "emer/noise", 0))
    rated = [
        (plan.name, labels[word], round(_VALENCE[word] + float(rng.normal(0, 0.4)), 2))
        for plan, word in zip(plans, words, strict=True)
    ]
    _write_csv(out / "MER2023" / "train-label.csv", ("name", "discrete", "valence"), rated)
    _write_csv(
        out / "EMER" / "dataset-v2" / "final-EMER-reason.csv",
        ("name", "chinese", "english"),
        [
            (plan.name, "", reasoning(plan.face, plan.voice, word))
            for plan, word in zip(plans, words, strict=True)
        ],
    )


def _conversation(plan: ClipPlan, modality: str, question: str, answer: str) -> dict[str, Any]:
    return {
        "video": plan.path,
        "conversations": [
            {"from": "human", "value": MEDIA_TAGS[modality] + question},
            {"from": "gpt", "value": answer},
        ],
    }


def _captions(plans: list[ClipPlan]) -> list[dict[str, Any]]:
    """Face and voice of every clip, listed and told; face or voice alone of a third each."""
    entries = []
    for index, plan in enumerate(plans):
        asked = {"video_audio": describe_both(plan.face, plan.voice)}
        if index % 3 == 0:
            asked["video"] = describe_face(plan.face)
        if index % 3 == 1:
            asked["audio"] = describe_voice(plan.voice)
        entries += [
            _conversation(plan, modality, CAPTION_QUESTIONS[modality], answer)
            for modality, answer in asked.items()
        ]
        told = observation(plan.face, plan.voice)
        entries.append(_conversation(plan, "video_audio", OBSERVATION_QUESTION, told))
    return entries


def _mistaken(
    plans: list[ClipPlan], known: Collection[str], share: float, rng: np.random.Generator
) -> list[str]:
    """The clips' words, about `share` of them replaced by another of the known words."""
    return [
        str(rng.choice([other for other in known if other != plan.word]))
        if rng.random() < share
        else plan.word
        for plan in plans
    ]


def _emotions(plans: list[ClipPlan], seed: int) -> list[dict[str, Any]]:
    """Bare answer words, some wrong, as automatic labels are.

    Asked both ways: a model that has not learned to reason answers with the word alone.
    """
    words = _mistaken(plans, EMOTIONS, LABEL_NOISE, clip_rng(seed, "humanomni/noise", 0))
    return [
        _conversation(plan, "video_audio", question, word)
        for plan, word in zip(plans, words, strict=True)
        for question in (EMOTION_QUESTION, REASONING_QUESTION)
    ]


def _reasonings(plans: list[ClipPlan], seed: int) -> list[dict[str, Any]]:
    """Explained answers; the cues are truly in the clip, some conclusions are wrong."""
    known = class_sets()[class_set_of("humanomni/reasoning")].labels
    rng = clip_rng(seed, "humanomni/reasoning noise", 0)
    return [
        _conversation(
            plan, "video_audio", REASONING_QUESTION, tagged_reasoning(plan.face, plan.voice, word)
        )
        for plan, word in zip(plans, _mistaken(plans, known, EXPLANATION_NOISE, rng), strict=True)
    ]
