"""How clips become tensors: settings and normalising, without a decoder."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from r1omni.types import UsageError

FrameFit = Literal["pad", "squash"]

# Raise it whenever the same settings give other numbers, so that old cache entries are not used.
PROCESSING_VERSION = 2


@dataclass(frozen=True)
class MediaConfig:
    """How clips are turned into tensors. Defaults are those of the released 0.5B model.

    Attributes:
        num_frames: T, frames of a clip.
        image_size: height and width given to the vision tower, pixels.
        image_mean: mean of each colour channel, as a share of full scale.
        image_std: standard deviation of each colour channel, as a share of full scale.
        frame_fit: "pad" centres the frame on a square of the mean colour first, "squash" gives up
            the aspect ratio.
        sampling_rate_hz: rate of the waveform.
        num_mel_bins: M.
        n_fft: window of the spectrogram, samples.
        hop_length: step of the spectrogram, samples.
        audio_length_s: seconds of sound given to the audio tower, padded or cut.
    """

    num_frames: int = 8
    image_size: int = 224
    image_mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    image_std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    frame_fit: FrameFit = "pad"
    sampling_rate_hz: int = 16_000
    num_mel_bins: int = 128
    n_fft: int = 400
    hop_length: int = 160
    audio_length_s: float = 30.0

    def __post_init__(self) -> None:
        if self.frame_fit not in get_args(FrameFit):
            raise UsageError(f"frame_fit {self.frame_fit!r} is unknown; use 'pad' or 'squash'")
        for name in ("num_frames", "image_size", "num_mel_bins", "audio_length_s"):
            if getattr(self, name) <= 0:
                raise UsageError(f"{name} must be positive, not {getattr(self, name)}")

    def fingerprint(self) -> str:
        """Hash of the settings; equal fingerprints mean interchangeable cached clips."""
        text = json.dumps([PROCESSING_VERSION, asdict(self)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def normalise_frames(frames: Tensor, config: MediaConfig) -> Tensor:
    """uint8 [..., 3, H, W] -> float32 pixel_values (x / 255 - mean) / std, same device."""
    mean = torch.tensor(config.image_mean, device=frames.device).view(3, 1, 1)
    std = torch.tensor(config.image_std, device=frames.device).view(3, 1, 1)
    return (frames.float() / 255.0 - mean) / std
