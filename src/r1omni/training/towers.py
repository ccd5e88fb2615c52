"""Pretraining of the mini towers: name the cue words of rendered faces and voices.

Stands in for the pretraining that SigLIP and Whisper bring along; the real towers are downloaded
and never trained here. Each attribute has a linear head over all patches (or the mean of all
sound frames); the heads are thrown away.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from r1omni.models.checkpoint import save_model
from r1omni.models.pipeline import R1Omni
from r1omni.training.optimization import OptimizerConfig, warmup_cosine
from r1omni.world.cues import FACE_VALUES, VOICE_VALUES
from r1omni.world.perception import Percept, render_percepts

_BATCH_SIZE = 32
_RATE = OptimizerConfig(learning_rate=2e-3, warmup_share=0.1)
# Share of the clips that is held out, to report what the towers perceive.
_HELD_OUT = 10
_MAX_SHIFT_PX = 3
_MAX_SHIFT_FRAMES = 10
_LIGHT = 0.2


def pretrain_towers(
    model: Path, out: Path, *, clips: int, steps: int, seed: int, num_workers: int = 2
) -> dict[str, float]:
    """Train the vision and the audio tower of a fresh model folder, and write it to `out`.

    Args:
        model: model folder to start from.
        out: model folder to write.
        clips: rendered clips.
        steps: optimizer steps for each tower.
        seed: of the clips and of the training.
        num_workers: processes that render.

    Returns:
        accuracy on held-out clips for each attribute, 0 to 1.
    """
    omni = R1Omni.from_pretrained(model)
    config = omni.model.config.media
    percepts = render_percepts(clips, config.num_frames, seed, num_workers)
    torch.manual_seed(seed)
    frames = torch.stack([omni.processor.fit_frames(p.frames) for p in percepts])
    faces = torch.tensor([p.face for p in percepts])
    seen = _train(
        omni.model.vision_tower,
        lambda chosen, jitter: _pixels(omni, frames[chosen], jitter),
        faces,
        [len(words) for words in FACE_VALUES.values()],
        steps,
        "vision tower",
    )
    mels = torch.stack([omni.processor.mel(_waveform(p)) for p in percepts])
    voices = torch.tensor([p.voice for p in percepts])
    heard = _train(
        omni.model.audio_tower,
        lambda chosen, jitter: _shifted(mels[chosen], jitter),
        voices,
        [len(words) for words in VOICE_VALUES.values()],
        steps,
        "audio tower",
    )
    save_model(omni.model, omni.folder, out)
    return dict(zip((*FACE_VALUES, *VOICE_VALUES), (*seen, *heard), strict=True))


def _waveform(percept: Percept) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(percept.waveform, dtype=np.float32))


def _pixels(omni: R1Omni, frames: Tensor, jitter: bool) -> Tensor:
    """uint8 [n, T, 3, H, W] to float [n, T, 3, H, W]; jitter moves the picture and the light."""
    pixels = omni.processor.normalise(frames)
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


def _train(
    tower: nn.Module,
    inputs: Callable[[Tensor, bool], Tensor],
    labels: Tensor,
    num_words: Sequence[int],
    steps: int,
    name: str,
) -> list[float]:
    """Train one tower; returns the held-out accuracy of each attribute."""
    held_out = torch.arange(max(1, len(labels) // _HELD_OUT))
    with torch.no_grad():
        width = _features(tower, inputs(held_out[:1], False)).shape[-1]
    norm = nn.LayerNorm(width)
    heads = nn.ModuleList(nn.Linear(width, count) for count in num_words)
    parameters = [
        p for module in (tower, norm, heads) for p in module.parameters() if p.requires_grad
    ]
    optimizer = torch.optim.AdamW(
        parameters, lr=_RATE.learning_rate, weight_decay=0.05, betas=(0.9, 0.98)
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, warmup_cosine(_RATE, steps))
    for _ in tqdm(range(steps), desc=f"pretraining the {name}", unit="step"):
        chosen = torch.randint(len(held_out), len(labels), (_BATCH_SIZE,))
        features = norm(_features(tower, inputs(chosen, True)))
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
        features = norm(_features(tower, inputs(held_out, False)))
        guesses = torch.stack([head(features).argmax(dim=1) for head in heads], dim=1)
    return (guesses == labels[held_out]).float().mean(dim=0).tolist()
