"""Measuring many clips, each by itself in a process of one thread."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from tqdm import tqdm

from r1omni.media.audio import read_waveform
from r1omni.media.container import MediaError
from r1omni.media.workers import Remedies, in_workers
from r1omni.types import Clip, R1OmniError
from r1omni.voices.measures import ANALYSIS_RATE_HZ, measure_voice, praat
from r1omni.voices.vocabulary import VoiceMeasures

# Whole recordings may be long; a clip of seconds takes a fraction of one.
_CLIP_LIMIT_S = 300.0
_REMEDIES = Remedies(num_workers="--num-workers", none=None, limit=None)


@dataclass(frozen=True)
class Measured:
    """What is known of the sound of one clip.

    Attributes:
        measures: of its voice.
        warnings: of the decoder.
    """

    measures: VoiceMeasures
    warnings: tuple[str, ...] = ()

    @property
    def has_voice(self) -> bool:
        """Whether anything of a voice could be measured."""
        return any(value is not None for value in asdict(self.measures).values())

    def without(self, names: Collection[str]) -> Measured:
        """The same, as if these measures could not be had."""
        return replace(self, measures=replace(self.measures, **dict.fromkeys(names)))


def measure_clips(
    clips: Sequence[Clip], num_workers: int
) -> tuple[dict[Clip, Measured], dict[Clip, str]]:
    """The measures of each clip, or the reason why it cannot be read; both in the clips' order."""
    measured: dict[Clip, Measured] = {}
    failed: dict[Clip, str] = {}
    with tempfile.TemporaryDirectory(prefix="voices-") as folder:
        work = partial(measure_into, Path(folder))
        done = in_workers(
            clips,
            work,
            num_workers,
            limit_s=_CLIP_LIMIT_S,
            preload="r1omni.voices.measuring",
            remedies=_REMEDIES,
        )
        for clip, reason in tqdm(done, total=len(clips), desc="measuring voices", unit="clip"):
            if reason is None:
                found = json.loads(_file_of(Path(folder), clip).read_text(encoding="utf-8"))
                warnings = tuple(found["warnings"])
                measured[clip] = Measured(VoiceMeasures(**found["measures"]), warnings)
            else:
                failed[clip] = reason
    return (
        {clip: measured[clip] for clip in clips if clip in measured},
        {clip: failed[clip] for clip in clips if clip in failed},
    )


def measure_into(folder: Path, clip: Clip) -> str | None:
    """Write the measures of a clip to a file there; None, or the reason why there are none."""
    path = clip.audio_path or clip.path
    try:
        sound = read_waveform(path, ANALYSIS_RATE_HZ, clip.start_s, clip.end_s, required=True)
    except MediaError as error:
        return str(error)
    try:
        measures = measure_voice(sound.waveform.double().numpy())
    except (R1OmniError, praat().PraatError) as error:
        return f"{path}: {' '.join(str(error).split())}"
    found = {"measures": asdict(measures), "warnings": sound.warnings}
    _file_of(folder, clip).write_text(json.dumps(found), encoding="utf-8")
    return None


def _file_of(folder: Path, clip: Clip) -> Path:
    return folder / hashlib.sha256(repr(clip).encode("utf-8", "surrogateescape")).hexdigest()
