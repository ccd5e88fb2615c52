"""Whisper's log-mel spectrogram."""

from __future__ import annotations

import torch
import torchaudio
from torch import Tensor, nn

# Power that stands for none.
_LEAST = 1e-10


class LogMel(nn.Module):
    """Whisper's log-mel spectrogram of exactly `length_s` seconds.

    Mel filters on Slaney's scale with Slaney's norm, power spectrum of a centred Hann window,
    last frame dropped, log10, at most 8 below the maximum, (x + 4) / 4.

    Args:
        num_mel_bins: M.
        n_fft: width of the window in samples.
        hop_length: step of the window in samples.
        length_s: seconds to which a waveform is padded or cut.
        sampling_rate_hz: rate of the waveforms given.
    """

    def __init__(
        self,
        num_mel_bins: int = 128,
        n_fft: int = 400,
        hop_length: int = 160,
        length_s: float = 30.0,
        sampling_rate_hz: int = 16_000,
    ) -> None:
        super().__init__()
        self.num_samples = round(length_s * sampling_rate_hz)
        self.num_mel_frames = self.num_samples // hop_length
        self.hop_length = hop_length
        self.spectrogram = torchaudio.transforms.MelSpectrogram(
            sample_rate=sampling_rate_hz,
            n_fft=n_fft,
            hop_length=hop_length,
            n_mels=num_mel_bins,
            power=2.0,
            norm="slaney",
            mel_scale="slaney",
        )

    @torch.no_grad()
    def forward(self, waveform: Tensor) -> Tensor:
        """float [S] -> float32 [M, F] with F = length_s * sampling_rate_hz / hop_length."""
        waveform = waveform.float()[: self.num_samples]
        # Behind the last window that reaches into the sound every power is 0, computed or not.
        heard = -(-(len(waveform) + self.spectrogram.n_fft // 2) // self.hop_length)
        length = min(heard * self.hop_length + self.spectrogram.n_fft, self.num_samples)
        padded = nn.functional.pad(waveform, (0, length - len(waveform)))
        power: Tensor = self.spectrogram(padded)[:, : min(heard, self.num_mel_frames)]
        log = power.clamp(min=_LEAST).log10()
        lowest = log.new_tensor(_LEAST).log10().maximum(log.max() - 8.0)
        mel = ((lowest + 4.0) / 4.0).repeat(log.shape[0], self.num_mel_frames)
        mel[:, : log.shape[1]] = (log.maximum(lowest) + 4.0) / 4.0
        return mel
