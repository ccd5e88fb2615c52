"""Recordings for the tests of the page: a film of two speakers, a sound, and what goes wrong."""

from __future__ import annotations

import sys
import wave
from pathlib import Path

import numpy as np
from some_records import record, recording

sys.path.insert(0, str(Path(__file__).parents[1] / "media"))

from clips import write_clip

from r1omni.recordings.records import Record, Recording
from r1omni.types import Ablated

# What would be HTML, end a script, or be a path of its own.
ODD = "the voice <b>rises</b> </script><script>alert(1)</script> & 'falls' \u2028 \udc80"
FILM = "a film & <b>more #1?.mp4"


def some_recordings(root: Path) -> list[Recording]:
    """Four recordings below `root`: of 4 s, of sound alone, one that is gone, and a broken one."""
    film = str(write_clip(root / FILM, num_frames=40, fps=10, gop=5))
    sound = str(root / "sound.wav")
    with wave.open(sound, "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        loud = np.repeat([0.1, 0.8], 8000) * np.sin(np.arange(16_000))
        file.writeframes((loud * 32767).astype("<i2").tobytes())
    told = {"path": film, "media": ("video", "audio")}
    direct = {"direct_label": "sad", "direct_scores": {"sad": 0.75, "happy": 0.25}}
    low = {"happy": 0.2, "sad": 0.8}
    taken = {
        "muted": Ablated("sad", low, None, None),
        "blanked": Ablated(None, {**low, "happy": 0.1}, None, None),
    }
    once = {"muted": Ablated(None, {}, "sad", {"sad": 0.875, "fear": 0.125})}
    films = [
        record(0, 1, "happy", 0.9, reasoning="A smile.", supported="supported", speaker="Anna",
               format_ok=True, ablation=taken, **direct, **told),
        record(1, 2, "happy", 0.55, reasoning=ODD, supported="contradicted", speaker="Anna",
               format_ok=True, warnings=("the clip is dark",), **told),
        record(2, 3, "angry", 0.8, reasoning="A low voice.", supported="silent", speaker="Ben",
               format_ok=True, **{**told, "media": ("audio",)}),
        record(3, 4, None, text="<think>and so", speaker="Anna", **told),
    ]  # fmt: skip
    sounds = [
        record(
            i,
            i + 1,
            label,
            0.7,
            path=sound,
            media=("audio",),
            format_ok=True,
            ablation=once,
            **direct,
        )
        for i, label in enumerate(("sad", "fear"))
    ]
    gone = str(root / "gone.mp4")
    broken = str(root / "broken.mp4")
    return [
        recording(film, films),
        recording(sound, [*sounds, Record(sound, error="stopped at 2.00 s")]),
        recording(gone, [record(0, 2, "calm", path=gone)]),
        recording(broken, [Record(broken, error="is no recording")]),
    ]
