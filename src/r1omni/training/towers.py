"""Pretraining of the mini towers: name the cue words of rendered faces and voices.

Stands in for the pretraining that SigLIP and Whisper bring along; the real towers are downloaded
and never trained here. Each attribute has a linear head over all patches (or the mean of all
sound frames); the heads are thrown away.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from r1omni.extras import require
from r1omni.media.processor import MediaProcessor
from r1omni.models.pipeline import R1Omni
from r1omni.models.saving import save_model
from r1omni.training.optimization import OptimizerConfig, rate_factor
from r1omni.world.cues import FACE_VALUES, VOICE_VALUES
from r1omni.world.perception import Percept, render_percepts

_BATCH_SIZE = 32
_PEAK_RATE = 2e-3
_RATE = OptimizerConfig(learning_rate=_PEAK_RATE, warmup_ratio=0.1)
# Share of the clips that is held out, to report what the towers perceive.
_HELD_OUT = 10
_MAX_SHIFT_PX = 3
_MAX_SHIFT_FRAMES = 10
_LIGHT = 0.2


@dataclass(frozen=True)
class TowerTask:
    """One tower and what it is trained on.

    Attributes:
        name: for the progress bar.
        tower: the module, trained in place in a process of its own.
        inputs: [N, ...], what is kept of each clip; no tensor, which would travel to the process
            through shared memory, and containers have little of that.
        view: chosen inputs and whether to jitter them, to what the tower reads.
        labels: long [N, attributes], the index of each attribute's word.
        num_words: words of each attribute.
        steps: optimizer steps.
        seed: of heads, batches and jitter.
        bar: line of the progress bar.
    """

    name: str
    tower: nn.Module
    inputs: np.ndarray
    view: Callable[[Tensor, bool], Tensor]
    labels: Tensor
    num_words: tuple[int, ...]
    steps: int
    seed: int
    bar: int


def pretrain_towers(
    model: Path,
    out: Path,
    *,
    clips: int,
    vision_steps: int,
    audio_steps: int,
    seed: int,
    num_workers: int = 2,
) -> dict[str, float]:
    """Train the vision and the audio tower of a fresh model folder, and write it to `out`.

    Args:
        model: model folder to start from.
        out: model folder to write.
        clips: rendered clips.
        vision_steps: optimizer steps for the vision tower.
        audio_steps: optimizer steps for the audio tower.
        seed: of the clips and of the training.
        num_workers: processes that render.

    Returns:
        accuracy on held-out clips for each attribute, 0 to 1.

    Raises:
        UsageError: the extra `world` is not installed.
    """
    require("pretrain-towers", "world", "scipy", "threadpoolctl")
    omni = R1Omni.from_pretrained(model)
    config = omni.model.config.media
    percepts = render_percepts(clips, config.num_frames, seed, num_workers)
    frames = torch.stack([omni.processor.fit_frames(p.frames) for p in percepts])
    mels = torch.stack([omni.processor.mel(_waveform(p)) for p in percepts])
    vision = TowerTask(
        name="vision tower",
        tower=omni.model.vision_tower,
        inputs=frames.numpy(),
        view=partial(_pixels, omni.processor),
        labels=torch.tensor([p.face for p in percepts]),
        num_words=tuple(map(len, FACE_VALUES.values())),
        steps=vision_steps,
        seed=seed,
        bar=0,
    )
    audio = TowerTask(
        name="audio tower",
        tower=omni.model.audio_tower,
        inputs=mels.numpy(),
        view=_shifted,
        labels=torch.tensor([p.voice for p in percepts]),
        num_words=tuple(map(len, VOICE_VALUES.values())),
        steps=audio_steps,
        seed=seed,
        bar=1,
    )
    accuracies: list[float] = []
    # Side by side: towers this small gain nothing from a second thread.
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        for task, trained in zip((vision, audio), pool.map(_train, (vision, audio)), strict=True):
            weights, accuracy = trained
            task.tower.load_state_dict(weights)
            accuracies += accuracy
    save_model(omni.model, omni.folder, out)
    return dict(zip((*FACE_VALUES, *VOICE_VALUES), accuracies, strict=True))


def _waveform(percept: Percept) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(percept.waveform, dtype=np.float32))


def _pixels(processor: MediaProcessor, frames: Tensor, jitter: bool) -> Tensor:
    """uint8 [n, T, 3, H, W] to float [n, T, 3, H, W]; jitter moves the picture and the light."""
    pixels = processor.normalise(frames)
    if not jitter:
        return pixels
    shift = torch.randint(-_MAX_SHIFT_PX, _MAX_SHIFT_PX + 1, (2,)).tolist()
    shape = (len(pixels), 1, 1, 1, 1)
    contrast, brightness = (_LIGHT * (torch.rand(shape) - 0.5) for _ in range(2))
    return pixels.roll(shift, dims=(-2, -1)) * (1 + contrast) + brightness


def _shifted(mels: Tensor, jitter: bool) -> Tensor:
    """float [n, M, F]; jitter moves the sound in time."""
    shift = int(torch.randint(_MAX_SHIFT_FRAMES, ())) if jitter else 0
    return mels.roll(shift, dims=-1)


def _features(tower: nn.Module, inputs: Tensor) -> Tensor:
    """What the heads read, float [n, width]."""
    if inputs.dim() == 3:
        return tower(inputs).mean(dim=1)
    patches = tower(inputs.flatten(0, 1)).unflatten(0, inputs.shape[:2])  # [n, T, P, Dv]
    # Where a feature lies says what it is part of, so patches are not averaged.
    return patches.mean(dim=1).flatten(1)


def _train(task: TowerTask) -> tuple[dict[str, Tensor], list[float]]:
    """Train one tower; returns its weights and the held-out accuracy of each attribute."""
    torch.set_num_threads(1)
    torch.manual_seed(task.seed)
    tower, inputs, labels = task.tower, torch.from_numpy(task.inputs), task.labels
    held_out = torch.arange(max(1, len(labels) // _HELD_OUT))
    with torch.no_grad():
        width = _features(tower, task.view(inputs[held_out[:1]], False)).shape[-1]
    norm = nn.LayerNorm(width)
    heads = nn.ModuleList(nn.Linear(width, count) for count in task.num_words)
    parameters = [
        p for module in (tower, norm, heads) for p in module.parameters() if p.requires_grad
    ]
    optimizer = torch.optim.AdamW(parameters, lr=_PEAK_RATE, weight_decay=0.05, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate_factor(_RATE, task.steps))
    description = f"pretraining the {task.name}"
    for _ in tqdm(range(task.steps), desc=description, unit="step", position=task.bar):
        chosen = torch.randint(len(held_out), len(labels), (_BATCH_SIZE,))
        features = norm(_features(tower, task.view(inputs[chosen], True)))
        losses = [
            F.cross_entropy(head(features), labels[chosen, column])
            for column, head in enumerate(heads)
        ]
        optimizer.zero_grad()
        torch.stack(losses).mean().backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        features = norm(_features(tower, task.view(inputs[held_out], False)))
        guesses = torch.stack([head(features).argmax(dim=1) for head in heads], dim=1)
    accuracy = (guesses == labels[held_out]).float().mean(dim=0).tolist()
    return tower.state_dict(), accuracy
