"""Copies of RAVDESS speech at the level of Emo-DB, and of Emo-DB at the level of RAVDESS.

    python scripts/real_voices_level.py --data RAVDESS --emodb EMODB --out OUT

RAVDESS keeps how loud its actors were, and is soft; copies of Emo-DB have every clip's highest
peak at full scale. Models that learned from the first and are asked about the second may fail for
that alone. These copies tell how much of it: every clip of RAVDESS gets its peak at full scale, so
that no clip is louder than another, and all of Emo-DB gets one gain, with which its median clip is
as loud as RAVDESS's. They lie in OUT/RAVDESS and OUT/EmoDB under their own names, as 16-bit WAV,
and appear at once.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from script_options import ScriptParser

_FULL_SCALE = 32768.0
Waveform = NDArray[np.float64]


def write_copies(data: Path, emodb: Path | None, out: Path) -> None:
    """Write both corpora, the second one where it is given; all or nothing."""
    partial = out.with_name(f"{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    _copy(data, partial / "RAVDESS", lambda wave: (1 - 1 / _FULL_SCALE) / np.abs(wave).max())
    if emodb is not None:
        softer = 10 ** ((_median_db(data) - _median_db(emodb)) / 20)
        _copy(emodb, partial / "EmoDB", lambda _: softer)
    os.replace(partial, out)


def _copy(data: Path, out: Path, gain_of: Callable[[Waveform], float]) -> None:
    from scipy.io import wavfile

    for file, rate_hz, wave in _clips(data):
        gain = gain_of(wave) if wave.any() else 1.0
        copy = out / file.relative_to(data)
        copy.parent.mkdir(parents=True, exist_ok=True)
        wavfile.write(copy, rate_hz, np.round(wave * gain * _FULL_SCALE).astype(np.int16))


def _median_db(data: Path) -> float:
    """Root mean square of the median clip, in dB of full scale; silent clips are left out."""
    levels = [float(np.mean(wave**2)) for _, _, wave in _clips(data) if wave.any()]
    return float(10 * np.log10(statistics.median(levels)))


def _clips(data: Path) -> Iterator[tuple[Path, int, Waveform]]:
    """File, rate in Hz and waveform [S] or [S, channels] in [-1, 1) of every clip.

    Raises:
        FileNotFoundError: there is none.
    """
    from scipy.io import wavfile

    folders = os.walk(data, followlinks=True)
    files = sorted(Path(top, name) for top, _, names in folders for name in names if _is_wav(name))
    if not files:
        raise FileNotFoundError(f"{data}: holds no .wav")
    for file in files:
        rate_hz, samples = wavfile.read(file)  # int16 or int32
        yield file, rate_hz, samples.astype(np.float64) / -float(np.iinfo(samples.dtype).min)


def _is_wav(name: str) -> bool:
    return name.lower().endswith(".wav") and not name.startswith(".")


def main(words: Sequence[str] | None = None) -> int:
    """Write the copies."""
    parser = ScriptParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of RAVDESS, speech")
    parser.add_argument("--emodb", type=Path, help="folder of Emo-DB")
    parser.add_argument("--out", type=Path, required=True, help="folder to make")
    options = parser.parse_args(words)
    if options.out.exists():
        parser.error(f"--out {options.out}: is there already")
    try:
        write_copies(options.data, options.emodb, options.out)
    except (OSError, ValueError) as error:
        print(f"real_voices_level: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
