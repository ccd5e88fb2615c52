"""How the channels of a recording become one."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from r1omni.media.audio import read_waveform
from r1omni.media.mixing import channel_weights, mix_down

RATE_HZ = 48_000
HALF = 0.5**0.5
# Weights of ITU-R BS.775 for one channel from 3/2 and its parts, before they are made to add up.
KNOWN = {
    "3.0": {"FL": HALF, "FR": HALF, "FC": 1},
    "4.0": {"FL": HALF, "FR": HALF, "FC": 1, "BC": 0.5},
    "quad": {"FL": HALF, "FR": HALF, "BL": 0.5, "BR": 0.5},
    "5.0": {"FL": HALF, "FR": HALF, "FC": 1, "BL": 0.5, "BR": 0.5},
    "5.1": {"FL": HALF, "FR": HALF, "FC": 1, "LFE": 0, "BL": 0.5, "BR": 0.5},
    "5.1(side)": {"FL": HALF, "FR": HALF, "FC": 1, "LFE": 0, "SL": 0.5, "SR": 0.5},
    "7.1": {"FL": HALF, "FR": HALF, "FC": 1, "LFE": 0, "BL": 0.5, "BR": 0.5, "SL": 0.5, "SR": 0.5},
}


def frame_of(values: np.ndarray, layout: str, format_name: str = "flt") -> av.AudioFrame:
    """A frame of values [channels, samples], packed: PyAV makes no eight planes."""
    frame = av.AudioFrame.from_ndarray(values.T.reshape(1, -1), format_name, layout)
    frame.sample_rate = RATE_HZ
    return frame


def write_sound(path: Path, values: np.ndarray, layout: str) -> Path:
    """A wav of values [channels, samples]."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_f32le", rate=RATE_HZ, layout=layout)
        container.mux(stream.encode(frame_of(values.astype(np.float32), layout)))
        container.mux(stream.encode())
    return path


def tone(hz: float, seconds: float = 0.5) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hz * np.arange(int(seconds * RATE_HZ)) / RATE_HZ)


@pytest.mark.parametrize("layout", KNOWN)
def test_channels_are_weighted_as_bs_775_says(layout: str) -> None:
    names = [channel.name for channel in av.AudioLayout(layout).channels]
    assert sorted(names) == sorted(KNOWN[layout])
    wanted = np.array([KNOWN[layout][name] for name in names])
    wanted /= wanted.sum()
    blocks = np.eye(len(names)).repeat(16, axis=1).astype(np.float32)  # one channel after another
    mixed = mix_down(Path("a"), frame_of(blocks, layout)).samples
    assert mixed[::16] == pytest.approx(wanted, abs=1e-6)
    # As loud as the loudest channel at most.
    assert np.abs(mix_down(Path("a"), frame_of(np.ones_like(blocks), layout)).samples).max() <= 1


@pytest.mark.parametrize("layout", ["mono", "stereo", "downmix", "7.1(wide)", "cube"])
def test_other_layouts_have_their_mean(layout: str) -> None:
    channels = av.AudioLayout(layout).channels
    assert channel_weights([channel.name for channel in channels]) is None
    values = np.random.default_rng(0).normal(size=(len(channels), 64)).astype(np.float32)
    mixed = mix_down(Path("a"), frame_of(values, layout)).samples
    assert np.array_equal(mixed, values.mean(axis=0, dtype=np.float64).astype(np.float32))


@pytest.mark.parametrize(("format_name", "one"), [("u8", 192), ("s16", 2**14), ("s32", 2**30)])
def test_integers_are_scaled(format_name: str, one: int) -> None:
    dtype = {"u8": np.uint8, "s16": np.int16, "s32": np.int32}[format_name]
    values = np.full((6, 32), 128 if format_name == "u8" else 0, dtype)
    values[2] = one  # the centre, at half of full scale
    mixed = mix_down(Path("a"), frame_of(values, "5.1", format_name))
    assert mixed.samples == pytest.approx(np.full(32, 0.5 / (2 * HALF + 2)), abs=1e-6)


def test_speech_in_the_centre_is_heard(tmp_path: Path) -> None:
    values = np.zeros((6, RATE_HZ // 2))
    values[2] = tone(440.0)
    sound = read_waveform(write_sound(tmp_path / "a.wav", values, "5.1"))
    assert float(sound.waveform.abs().max()) == pytest.approx(0.5 * 0.2929, rel=0.02)
    assert sound.warnings == ()


CANCEL = "the channels of the sound cancel each other out: "


@pytest.mark.parametrize(
    ("left", "right", "warning"),
    [
        (tone(440.0), -tone(440.0), CANCEL + "nothing is left of them"),
        (
            tone(440.0),
            -0.9 * tone(440.0),
            CANCEL + "their mix, which is heard, is 23 dB quieter",
        ),
        (tone(440.0), tone(440.0), None),
        (tone(440.0), tone(500.0), None),
        (tone(440.0), 0 * tone(440.0), None),
        (0 * tone(440.0), 0 * tone(440.0), None),
        (1e-6 * tone(440.0), -1e-6 * tone(440.0), None),
    ],
)
def test_channels_that_cancel(
    tmp_path: Path, left: np.ndarray, right: np.ndarray, warning: str | None
) -> None:
    sound = read_waveform(write_sound(tmp_path / "a.wav", np.stack([left, right]), "stereo"))
    assert sound.warnings == (() if warning is None else (warning,))
