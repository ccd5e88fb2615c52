"""From a clip to what the towers take: sampled, fitted frames and a log-mel spectrogram."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import PIL
import torch
import torchaudio
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from r1omni.media.audio import LogMel, read_waveform
from r1omni.media.config import FrameFit, MediaConfig, normalise_frames
from r1omni.media.container import read_duration_s
from r1omni.media.video import read_frames
from r1omni.types import MODALITIES, Clip, ClipMedia, Modality, UsageError


class MediaProcessor:
    """Decodes and processes clips by one `MediaConfig`. Holds no state besides the filters."""

    def __init__(self, config: MediaConfig) -> None:
        self.config = config
        self._log_mel = LogMel(
            num_mel_bins=config.num_mel_bins,
            n_fft=config.n_fft,
            hop_length=config.hop_length,
            length_s=config.audio_length_s,
            sampling_rate_hz=config.sampling_rate_hz,
        )

    def with_fit(self, frame_fit: FrameFit) -> MediaProcessor:
        """The same processor with another way of fitting frames into the square."""
        return MediaProcessor(replace(self.config, frame_fit=frame_fit))

    def fingerprint(self) -> str:
        """Hash of the settings and of the libraries that decode, resize and resample."""
        libraries = [av.__version__, av.library_versions, PIL.__version__, torchaudio.__version__]
        text = json.dumps([self.config.fingerprint(), libraries], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def duration_s(self, path: Path) -> float:
        """Length of a recording in seconds; MediaError when it cannot be opened or measured."""
        return read_duration_s(path)

    def load(self, clip: Clip, modality: Modality = "video_audio") -> ClipMedia:
        """Decode what `modality` needs, and no more.

        Raises:
            MediaError: the recording cannot be read (see `read_frames`, `read_waveform`).
            UsageError: unknown modality.
        """
        if modality not in MODALITIES:
            raise UsageError(
                f"modality {modality!r} is unknown; use one of {', '.join(MODALITIES)}"
            )
        frames, mel = None, None
        warnings: tuple[str, ...] = ()
        of_sound: tuple[str, ...] = ()
        if modality != "audio":
            decoded = read_frames(clip.path, self.config.num_frames, clip.start_s, clip.end_s)
            frames = self.fit_frames(decoded.frames)
            warnings += decoded.warnings
        if modality != "video":
            sound = read_waveform(
                clip.audio_path or clip.path,
                self.config.sampling_rate_hz,
                clip.start_s,
                self._last_audio_second(clip),
            )
            mel = self.mel(sound.waveform)
            of_sound = sound.warnings
        return ClipMedia(frames, mel, warnings=warnings + of_sound, sound_warnings=of_sound)

    def _last_audio_second(self, clip: Clip) -> float:
        # What the spectrogram cuts off need not be decoded; the resampler's tail is kept clear.
        limit_s = (clip.start_s or 0.0) + self.config.audio_length_s + 0.1
        return limit_s if clip.end_s is None else min(limit_s, clip.end_s)

    def fit_frames(self, frames: NDArray[np.uint8] | Tensor) -> Tensor:
        """uint8 [T, H, W, 3] -> uint8 [T, 3, s, s] with s = image_size, by PIL's bicubic resize.

        PIL's resize is the one the reference uses: other bicubic filters differ visibly.
        """
        size = self.config.image_size
        fitted = []
        for frame in np.asarray(frames):
            picture = Image.fromarray(frame)
            if self.config.frame_fit == "pad":
                picture = self._centred(picture)
            fitted.append(np.asarray(picture.resize((size, size), Image.Resampling.BICUBIC)))
        return torch.from_numpy(np.stack(fitted)).permute(0, 3, 1, 2).contiguous()

    def _centred(self, picture: Image.Image) -> Image.Image:
        """The picture in the middle of a square whose background is the mean colour."""
        width, height = picture.size
        if width == height:
            return picture
        side = max(width, height)
        red, green, blue = (int(255 * mean) for mean in self.config.image_mean)
        square = Image.new("RGB", (side, side), (red, green, blue))
        square.paste(picture, ((side - width) // 2, (side - height) // 2))
        return square

    def normalise(self, frames: Tensor) -> Tensor:
        """uint8 [..., 3, H, W] -> float32 pixel_values (x / 255 - mean) / std, same device."""
        return normalise_frames(frames, self.config)

    def mel(self, waveform: Tensor) -> Tensor:
        """float [S] at `sampling_rate_hz` -> float32 [M, F]."""
        mel: Tensor = self._log_mel(waveform)
        return mel

    def silence(self) -> Tensor:
        """Log-mel spectrogram of silence, float32 [M, F]."""
        return self.mel(torch.zeros(0))

    def blank(self) -> Tensor:
        """Black frames, uint8 [T, 3, s, s]."""
        size = self.config.image_size
        return torch.zeros(self.config.num_frames, 3, size, size, dtype=torch.uint8)
