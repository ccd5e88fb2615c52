"""Plans: everything about a clip that is decided before a pixel is drawn.

The random numbers of a clip depend on (seed, dataset, index) only, so a plan does not change
with the number of workers, with the other datasets or with the order of rendering.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from r1omni.world.cues import (
    FaceCues,
    VoiceCues,
    VoiceParameters,
    random_face_cues,
    random_voice_cues,
    vary_voice,
    voice_parameters,
)
from r1omni.world.person import Person, Take, draw_person, draw_take
from r1omni.world.story import FACES, VOICES, ClassSet, draw_prototypes

# Millihertz, so that a plan holds exact numbers.
_FRAME_RATES_MILLIHZ = (10_000, 12_000, 12_500)


@dataclass(frozen=True)
class ClipPlan:
    """One clip to be rendered.

    Attributes:
        dataset: split it belongs to, a key of `synthesize.SHARES`.
        path: file below the world's folder, with forward slashes.
        word: answer word of the emotion, or "" for random cues.
        face_prototype, voice_prototype: names in `FACES` and `VOICES`, "" for random cues.
        frame_rate_millihz: frames in 1000 seconds.
        sample_rate_hz: sampling rate of the sound in the file.
        size: width and height in pixels.
        statement: fixed sentence (RAVDESS), or None for random syllables.
        render_key: seed of what is left to the renderer (syllables, cycles, noise).
    """

    dataset: str
    path: str
    word: str
    face_prototype: str
    voice_prototype: str
    face: FaceCues
    voice: VoiceCues
    parameters: VoiceParameters
    person: Person
    take: Take
    duration_s: float
    frame_rate_millihz: int
    sample_rate_hz: int
    size: tuple[int, int]
    statement: int | None
    render_key: tuple[int, ...]

    @property
    def name(self) -> str:
        """File name without its suffix."""
        return PurePosixPath(self.path).stem


def clip_rng(seed: int, dataset: str, index: int) -> np.random.Generator:
    """Random numbers of one clip (index >= 0) or of a dataset's schedule (index 0 of a name)."""
    return np.random.default_rng(_key(seed, dataset, index))


def _key(seed: int, dataset: str, index: int) -> tuple[int, ...]:
    return (seed, zlib.crc32(dataset.encode()), index)


def schedule(priors: Mapping[str, float], count: int, seed: int, dataset: str) -> list[str]:
    """`count` class words in random order, class sizes by largest remainder.

    Every class gets one clip before any gets a second, as far as `count` reaches.
    """
    words = list(priors)
    sizes = {word: int(position < count) for position, word in enumerate(words)}
    exact = {word: priors[word] * count for word in words}
    for _ in range(count - sum(sizes.values())):
        lacking = max(words, key=lambda word: exact[word] - sizes[word])
        sizes[lacking] += 1
    order = [word for word in words for _ in range(sizes[word])]
    clip_rng(seed, f"{dataset}/schedule", 0).shuffle(order)
    return order


def plan_emotion(
    classes: ClassSet,
    word: str,
    *,
    seed: int,
    dataset: str,
    index: int,
    path: str,
    size: tuple[int, int] = (96, 96),
) -> ClipPlan:
    """A clip of `word`, its prototypes drawn from the class set's table."""
    rng = clip_rng(seed, dataset, index)
    face, voice = draw_prototypes(classes, word, rng)
    return _finish(rng, (face, voice), FACES[face], VOICES[voice], word, seed=seed,
                   dataset=dataset, index=index, path=path, size=size)  # fmt: skip


def plan_random_cues(
    *,
    seed: int,
    dataset: str,
    index: int,
    path: str,
    size: tuple[int, int] = (96, 96),
    style: str = "painted",
) -> ClipPlan:
    """A clip whose attributes are independent of each other and of any emotion."""
    rng = clip_rng(seed, dataset, index)
    return _finish(rng, ("", ""), random_face_cues(rng), random_voice_cues(rng), "", seed=seed,
                   dataset=dataset, index=index, path=path, size=size,
                   style=style)  # fmt: skip


def _finish(
    rng: np.random.Generator,
    prototypes: tuple[str, str],
    face: FaceCues,
    voice: VoiceCues,
    word: str,
    *,
    seed: int,
    dataset: str,
    index: int,
    path: str,
    size: tuple[int, int],
    style: str = "painted",
) -> ClipPlan:
    return ClipPlan(
        dataset=dataset,
        path=path,
        word=word,
        face_prototype=prototypes[0],
        voice_prototype=prototypes[1],
        face=face,
        voice=voice,
        parameters=vary_voice(voice_parameters(voice), rng),
        person=draw_person(rng, style=style),
        take=draw_take(rng),
        duration_s=float(np.round(rng.uniform(2.0, 3.0), 1)),
        frame_rate_millihz=int(rng.choice(_FRAME_RATES_MILLIHZ)),
        sample_rate_hz=16_000,
        size=size,
        statement=None,
        render_key=_key(seed, f"{dataset}/render", index),
    )


def plan_ravdess(
    classes: ClassSet, *, seed: int, actor: int, take: tuple[str, int, int, int], index: int
) -> ClipPlan:
    """One recording of `actor`: `take` is (word, intensity 1|2, statement 1|2, repetition 1|2).

    The actor's face and voice are the same in all takes, in the second drawing style, with
    ranges of pitch that no training speaker has; odd actors are male, as in RAVDESS.
    """
    word, intensity, statement, repetition = take
    person = draw_person(
        clip_rng(seed, "ravdess/actor", actor), style="sketch", female=actor % 2 == 0
    )
    rng = clip_rng(seed, "ravdess", index)
    face, voice = draw_prototypes(classes, word, rng)
    numbers = (1, 1, int(classes.labels[word]), intensity, statement, repetition, actor)
    name = "-".join(f"{number:02d}" for number in numbers)
    return ClipPlan(
        dataset="ravdess",
        path=f"RAVDESS/Actor_{actor:02d}/{name}.mp4",
        word=word,
        face_prototype=face,
        voice_prototype=voice,
        face=FACES[face],
        voice=VOICES[voice],
        parameters=vary_voice(voice_parameters(VOICES[voice]), rng),
        person=person,
        take=draw_take(rng, strong=intensity == 2),
        # The longest statement, spoken slowly, fits: 7 syllables at 2.3 a second.
        duration_s=3.2,
        frame_rate_millihz=10_000,
        sample_rate_hz=48_000,
        size=(128, 96),
        statement=statement,
        render_key=_key(seed, "ravdess/render", index),
    )


def ravdess_takes(words: list[str]) -> list[tuple[str, int, int, int]]:
    """The 60 takes of an actor; neutral has no strong intensity."""
    return [
        (word, intensity, statement, repetition)
        for word in words
        for intensity in (1, 2)
        for statement in (1, 2)
        for repetition in (1, 2)
        if not (word == "neutral" and intensity == 2)
    ]
