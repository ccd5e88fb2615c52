"""Run folders as `fit` and `test` leave them, made of invented answers."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np

from r1omni.data.datamodule import EvaluationSet
from r1omni.text.emotions import ANSWER_WORDS, LABEL_SETS
from r1omni.text.tags import render_completion
from r1omni.training.evaluation import Evaluation
from r1omni.training.logger import METRICS_FILE
from r1omni.types import AnswerMode, Clip, Sample

CONDITIONS = ("full", "muted", "blanked")
CUES = (("video", "brows", "raised"), ("video", "eyes", "narrowed"), ("audio", "pitch", "low"))
REASONING = "In the video, the brows are raised & the eyes wide. In the audio, the voice is <low>."


@dataclass(frozen=True)
class Player:
    """How an invented model answers.

    Attributes:
        skill: share of clips that are right, by condition in the order of `CONDITIONS`; under any
            other condition the last.
        form: "tags", "label" (a bare word) or "sentence" (no answer that can be read).
    """

    skill: tuple[float, float, float]
    form: str


PLAYERS = {
    "HumanOmni": Player((0.25, 0.2, 0.2), "sentence"),
    "EMER-SFT": Player((0.45, 0.35, 0.3), "tags"),
    "MAFW-DFEW-SFT": Player((0.65, 0.5, 0.45), "label"),
    "R1-Omni": Player((0.9, 0.6, 0.5), "tags"),
}


def write_clip(path: Path, *, sound: bool = True) -> Path:
    """A clip of 8 grey frames, with a tone if `sound`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=8)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        audio = container.add_stream("aac", rate=16_000, layout="mono") if sound else None
        for index in range(8):
            picture = np.full((48, 64, 3), 20 + 25 * index, dtype=np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = index
            container.mux(video.encode(frame))
        container.mux(video.encode())
        if audio is not None:
            tone = np.sin(np.arange(16_000) / 8).astype(np.float32)[None]
            sound_frame = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
            sound_frame.sample_rate, sound_frame.pts = 16_000, 0
            container.mux(audio.encode(sound_frame))
            container.mux(audio.encode())
    return path


def invented_samples(clips: Sequence[Path], num_per_class: int = 8) -> dict[str, list[Sample]]:
    """Samples of the three test sets that take turns with `clips`."""
    samples: dict[str, list[Sample]] = {}
    for name in ("dfew", "mafw", "ravdess"):
        labels = LABEL_SETS[name].labels * num_per_class
        samples[name] = [
            Sample(
                sample_id=f"{name}/{index}",
                clip=Clip(clips[index % len(clips)]),
                instruction="",
                label=label,
                cues=CUES,
                **(_person(index) if name == "ravdess" else {}),
            )
            for index, label in enumerate(labels)
        ]
    return samples


def _person(index: int) -> dict[str, Any]:
    """Actors 1 and 3 are men, and every third take is strong."""
    sex = "male" if index % 2 else "female"
    intensity = "normal" if index % 3 else "strong"
    return {"group": f"actor_{index % 4}", "sex": sex, "intensity": intensity}


def write_run(
    folder: Path,
    player: Player,
    samples: Mapping[str, Sequence[Sample]],
    conditions: Sequence[str] = CONDITIONS,
    answer_mode: AnswerMode = "think",
    label_sets: Mapping[str, str] | None = None,
) -> Path:
    """What `test` writes, of a model that answers like `player`.

    Label sets are those of the sets' names, where `label_sets` does not name another.
    """
    named = {name: name for name in samples} | {**(label_sets or {})}
    sets = [EvaluationSet(name, named[name], c) for name in samples for c in conditions]
    evaluation = Evaluation(sets, answer_mode)
    for index, entry in enumerate(sets):
        skill = dict(zip(CONDITIONS, player.skill, strict=True)).get(
            entry.condition, player.skill[-1]
        )
        chance = random.Random(f"{folder.name}-{entry.name}-{entry.condition}")
        texts = []
        for number, sample in enumerate(samples[entry.name]):
            label = sample.label if chance.random() < skill else None
            word = ANSWER_WORDS[label or chance.choice(LABEL_SETS["all"].labels)]
            # Every ninth reasoning comes to something else than its answer.
            texts.append(_text(player.form, word, chance, word if number % 9 else "disgust"))
        scores = {}
        if answer_mode != "think":
            labels = LABEL_SETS[entry.label_set].labels
            kinds = ("scores", "direct_scores") if answer_mode == "both" else ("direct_scores",)
            scores = {kind: [_scores(text, labels, chance) for text in texts] for kind in kinds}
        evaluation.add(index, samples[entry.name], texts, **scores)
    evaluation.write(folder / "test", {})
    return folder


def _scores(text: str, labels: Sequence[str], chance: random.Random) -> dict[str, float]:
    """Shares of probability that often, but not always, favour the word in a text."""
    weights = {label: chance.random() for label in labels}
    for label in labels:
        if ANSWER_WORDS[label] in text and chance.random() < 0.8:
            weights[label] += 2 * len(labels) * chance.random()
    total = sum(weights.values())
    return {label: weight / total for label, weight in weights.items()}


def _text(form: str, word: str, chance: random.Random, concluded: str) -> str:
    if form == "label" or chance.random() < 0.2:
        return word
    if form == "sentence" and chance.random() < 0.5:
        return f"a <b>person</b> who might be {word}, or happy"
    return render_completion(f"{REASONING} Together they suggest {concluded}.", word)


def write_figures(folders: Sequence[Path], num_steps: int = 60) -> None:
    """The figures of training: losses, and for the last folder the metrics of GRPO."""
    chance = random.Random(0)
    for folder in folders:
        lines = []
        for step in range(0, num_steps, 2):
            rise = 1 - math.exp(-step / 20)
            values = {"loss": 3 * (1 - rise) + 0.4}
            if folder == folders[-1]:
                values = {
                    "loss": 0.01,
                    "reward": 1.2 + 0.6 * rise,
                    "rewards/accuracy/mean": 0.4 + 0.4 * rise,
                    "rewards/format/mean": 0.8 + 0.2 * rise,
                    "kl": 0.1 * rise,
                    "completions/mean_length": 40 - 5 * rise,
                }
            metrics = {name: value * chance.uniform(0.93, 1.07) for name, value in values.items()}
            lines.append(json.dumps({"step": step, "time_ms": 1000 + step, "metrics": metrics}))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / METRICS_FILE).write_text("\n".join([*lines, ""]), encoding="utf-8")
