"""Faces and voices with their cue words, to pretrain the mini towers on.

The released towers, SigLIP and Whisper, come pretrained on the whole web. The mini-world's towers
get a pretraining of the same kind, small: clips with random, independent cues, named by their cue
words. No emotion is drawn or named here, and no clip is a clip of a dataset. Both drawing styles,
both ranges of voices and both shapes of frame occur, as the web holds more than any one dataset:
what is out of distribution in RAVDESS is so for everything that is trained after the towers.
"""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
from tqdm import tqdm

from r1omni.world.cues import FACE_VALUES, VOICE_VALUES
from r1omni.world.plans import plan_random_cues
from r1omni.world.render import draw_frames, limit_threads
from r1omni.world.voice import speak

_CHUNK = 8
_SQUARE = (96, 96)
_WIDE = (128, 96)


@dataclass(frozen=True)
class Percept:
    """One clip before any file is written.

    Attributes:
        frames: uint8 [T, height, width, 3].
        waveform: float32 [S] at 16 kHz.
        face: index of each face attribute's word in `FACE_VALUES`.
        voice: index of each voice attribute's word in `VOICE_VALUES`.
    """

    frames: np.ndarray
    waveform: np.ndarray
    face: tuple[int, ...]
    voice: tuple[int, ...]


def render_percepts(count: int, num_frames: int, seed: int, num_workers: int) -> list[Percept]:
    """Render clips with random cues; the same seed gives the same clips."""
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(num_workers, mp_context=context, initializer=limit_threads) as pool:
        percepts = pool.map(
            partial(_render, num_frames=num_frames, seed=seed), range(count), chunksize=_CHUNK
        )
        return list(tqdm(percepts, total=count, desc="rendering percepts", unit="clip"))


def _render(index: int, *, num_frames: int, seed: int) -> Percept:
    # Style by the index, shape by its quarter, so that all four combinations occur.
    plan = plan_random_cues(
        seed=seed,
        dataset="percepts",
        index=index,
        path="",
        size=_WIDE if index // 4 % 4 == 3 else _SQUARE,
        style="sketch" if index % 4 == 3 else "painted",
    )
    speech = speak(
        plan.parameters,
        base_pitch_hz=plan.person.base_pitch_hz,
        formant_scale=plan.person.formant_scale,
        duration_s=plan.duration_s,
        rng=np.random.default_rng(plan.render_key),
    )
    # Spread over the clip as the media processor samples a file.
    shares = [(index + 0.5) / num_frames for index in range(num_frames)]
    return Percept(
        frames=np.stack(draw_frames(plan, speech, shares)),
        waveform=speech.waveform,
        face=tuple(words.index(getattr(plan.face, key)) for key, words in FACE_VALUES.items()),
        voice=tuple(words.index(getattr(plan.voice, key)) for key, words in VOICE_VALUES.items()),
    )
