"""How the channels of a recording become one."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from av.audio.frame import AudioFrame
from numpy.typing import NDArray

from r1omni.media.container import REMEDY, MediaError

# ITU-R BS.775, from five channels to one. The channel for deep effects is left out there.
_SIDE, _SURROUND = 0.5**0.5, 0.5
_WEIGHTS = {
    "FL": _SIDE, "FR": _SIDE, "FC": 1.0, "LFE": 0.0,
    "BL": _SURROUND, "BR": _SURROUND, "SL": _SURROUND, "SR": _SURROUND, "BC": _SURROUND,
}  # fmt: skip
# FFmpeg keeps more planes elsewhere, in a list whose end PyAV does not find: it crashes.
_MAX_PLANES = 8
_SAMPLE_TYPES = {"u8": "u1", "s16": "i2", "s32": "i4", "s64": "i8", "flt": "f4", "dbl": "f8"}


class Mixed(NamedTuple):
    """A block of sound in one channel.

    Attributes:
        samples: float32 [samples], nominally in [-1, 1].
        mono: mean power of `samples`.
        channels: the power they would have if the channels had nothing to do with each other.
    """

    samples: NDArray[np.float32]
    mono: float
    channels: float


def channel_weights(names: list[str]) -> NDArray[np.float64] | None:
    """Share of each channel in the mix, float64 [channels], or None for their plain mean.

    Shares add up to 1, so that the mix is never louder than the loudest channel. Stereo has its
    mean, as in the released code; so have layouts that BS.775 does not know.
    """
    weights = np.array([_WEIGHTS.get(name, np.nan) for name in names])
    if not np.isfinite(weights).all() or weights.max() == weights.min() or weights.sum() == 0:
        return None
    return weights / weights.sum()


def mix_down(path: Path, frame: AudioFrame) -> Mixed:
    """One channel of a frame's channels; integers are scaled to [-1, 1).

    Raises:
        MediaError: more than eight channels in planes.
    """
    # FFmpeg's own down-mix of float samples is not normalised, so it is done here.
    channels = len(frame.layout.channels)
    planes = channels if frame.format.is_planar else 1
    if planes > _MAX_PLANES:
        raise MediaError(f"{path}: its sound has {channels} channels; {REMEDY}")
    # `frame.to_ndarray` reads what lies behind the planes as one more where there are eight.
    dtype = np.dtype(_SAMPLE_TYPES[frame.format.name.removesuffix("p")])
    count = frame.samples * channels // planes
    stored = [np.frombuffer(bytes(plane), dtype, count) for plane in frame.planes[:planes]]
    values = np.stack(stored) if frame.format.is_planar else stored[0].reshape(-1, channels).T
    weights = channel_weights([channel.name for channel in frame.layout.channels])
    if weights is None:
        mono: NDArray[np.float64] = values.mean(axis=0, dtype=np.float64)
        weights = np.full(channels, 1 / channels)
    else:
        mono = weights @ values
    zero, scale = 0.0, 1.0
    if values.dtype == np.uint8:
        zero, scale = 128.0, 128.0
    elif values.dtype.kind == "i":
        scale = 2.0 ** (8 * values.dtype.itemsize - 1)
    mono = (mono - zero) / scale
    loudness = np.square((values.astype(np.float64) - zero) / scale).mean(axis=1)
    return Mixed(
        mono.astype(np.float32), float(np.square(mono).mean()), float(weights**2 @ loudness)
    )
