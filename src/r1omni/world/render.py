"""From a plan to an mp4: H.264 and AAC through PyAV, the same bytes every time.

This module is what worker processes import, so it stays free of torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from r1omni.world.cues import ACTION_UNITS, action_units
from r1omni.world.face import draw_face
from r1omni.world.person import strength_at
from r1omni.world.plans import ClipPlan
from r1omni.world.voice import (
    SAMPLE_RATE_HZ,
    STATEMENTS,
    Speech,
    measure_pitch_hz,
    speak,
)

# How far speech opens the mouth: visible, yet far from a dropped jaw (26 = 1).
_SPEECH_LIPS, _SPEECH_JAW = 0.45, 0.14
_AAC_FRAME = 1024


def limit_threads() -> None:
    """One thread for linear algebra: the pool already uses every core."""
    from threadpoolctl import threadpool_limits

    threadpool_limits(1)


def render_clip(plan: ClipPlan, out: Path) -> dict[str, Any]:
    """Render and write one clip.

    Args:
        plan: what to render.
        out: the world's folder; the folder of the clip must exist.

    Returns:
        Measured cues, for `cues.jsonl`: pitch and level of the sound.
    """
    rng = np.random.default_rng(plan.render_key)
    speech = speak(
        plan.parameters,
        base_pitch_hz=plan.person.base_pitch_hz,
        formant_scale=plan.person.formant_scale,
        duration_s=plan.duration_s,
        rng=rng,
        syllables=STATEMENTS[plan.statement] if plan.statement is not None else None,
    )
    frames = draw_frames(plan, speech)
    _encode(out / plan.path, frames, speech.waveform, plan)
    spoken = speech.waveform[speech.mouth > 0.05]
    return {
        "measured_pitch_hz": round(measure_pitch_hz(speech.waveform), 1),
        "measured_level_db": round(float(20 * np.log10(np.sqrt(np.mean(spoken**2)) + 1e-9)), 2),
    }


def draw_frames(
    plan: ClipPlan, speech: Speech, shares: Sequence[float] | None = None
) -> list[np.ndarray]:
    """The clip's frames, uint8 [height, width, 3] each.

    Args:
        plan: what to draw.
        speech: moves the mouth.
        shares: draw only the frames at these shares of the clip, 0 to 1; None draws all.
    """
    rate = plan.frame_rate_millihz / 1000
    count = round(plan.duration_s * rate)
    indices = range(count) if shares is None else [int(share * (count - 1)) for share in shares]
    apex = action_units(plan.face)
    frames = []
    for index in indices:
        time = index / rate
        strength = strength_at(plan.take, index / max(1, count - 1))
        units = {name: value * strength for name, value in apex.items()}
        opening = float(speech.mouth[min(int(time * SAMPLE_RATE_HZ), len(speech.mouth) - 1)])
        units["25"] = max(units["25"], _SPEECH_LIPS * opening)
        units["26"] = min(1.0, units["26"] + _SPEECH_JAW * opening)
        swing = plan.take.sway * np.sin(2 * np.pi * 0.4 * time + plan.take.phase)
        frames.append(
            draw_face(
                units,
                plan.person,
                size=plan.size,
                shift=(plan.take.shift[0] + swing, plan.take.shift[1]),
                roll_deg=plan.take.roll_deg + 40 * swing,
                scale=plan.take.scale,
                mirrored=plan.take.mirrored,
            )
        )
    return frames


def apex_units(plan: ClipPlan) -> list[float]:
    """Action units at the apex, in the order of `ACTION_UNITS`."""
    units = action_units(plan.face)
    return [round(units[name] * plan.take.intensity, 4) for name in ACTION_UNITS]


def _encode(path: Path, frames: list[np.ndarray], waveform: np.ndarray, plan: ClipPlan) -> None:
    """Write frames and sound; flags keep versions and dates out of the file."""
    with av.open(str(path), "w", options={"fflags": "+bitexact"}) as container:
        video: Any = container.add_stream("libx264", rate=Fraction(plan.frame_rate_millihz, 1000))
        video.width, video.height, video.pix_fmt = plan.size[0], plan.size[1], "yuv420p"
        video.thread_count = 1
        video.options = {"preset": "ultrafast", "crf": "18", "threads": "1"}
        audio: Any = container.add_stream("aac", rate=plan.sample_rate_hz, layout="mono")
        audio.bit_rate = 64_000 if plan.sample_rate_hz <= 16_000 else 96_000
        for image in frames:
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        for sound in _sound_frames(waveform, plan.sample_rate_hz):
            container.mux(audio.encode(sound))
        container.mux(audio.encode(None))


def _sound_frames(waveform: np.ndarray, rate_hz: int) -> list[av.AudioFrame]:
    if rate_hz != SAMPLE_RATE_HZ:
        from scipy.signal import resample_poly

        waveform = resample_poly(waveform, rate_hz // SAMPLE_RATE_HZ, 1).astype(np.float32)
    frames = []
    for start in range(0, len(waveform), _AAC_FRAME):
        block = np.ascontiguousarray(waveform[None, start : start + _AAC_FRAME], dtype=np.float32)
        frame = av.AudioFrame.from_ndarray(block, format="fltp", layout="mono")
        frame.sample_rate, frame.pts = rate_hz, start
        frame.time_base = Fraction(1, rate_hz)
        frames.append(frame)
    return frames
