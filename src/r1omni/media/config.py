"""How clips become tensors: settings and normalising, without a decoder."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from r1omni.options import SECONDS, SHARE, Range, Ranges, at_least, check_options

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

    Raises:
        UsageError: an unknown `frame_fit`, or a number out of its range.
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

    RANGES: ClassVar[Ranges] = {
        "num_frames": at_least(1, 2**16),
        "image_size": at_least(1, 2**16),
        "image_mean": SHARE,
        "image_std": Range(0, 1, above=True),
        "sampling_rate_hz": at_least(1),
        "num_mel_bins": at_least(1, 2**16),
        "n_fft": at_least(1),
        "hop_length": at_least(1),
        "audio_length_s": SECONDS,
    }

    def __post_init__(self) -> None:
        check_options(self)

    def fingerprint(self) -> str:
        """Hash of the settings; equal fingerprints mean interchangeable cached clips."""
        text = json.dumps([PROCESSING_VERSION, asdict(self)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def normalise_frames(frames: Tensor, config: MediaConfig) -> Tensor:
    """uint8 [..., 3, H, W] -> float32 pixel_values (x / 255 - mean) / std, same device."""
    mean = torch.tensor(config.image_mean, device=frames.device).view(3, 1, 1)
    std = torch.tensor(config.image_std, device=frames.device).view(3, 1, 1)
    return (frames.float() / 255.0 - mean) / std
