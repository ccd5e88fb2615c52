"""What the Python API is given, checked before the model sees it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from r1omni.media.processor import MediaProcessor
from r1omni.options import check_choice, check_type, shortened
from r1omni.text.prompt import check_instruction
from r1omni.types import Clip, ClipMedia, Modality, PromptInputs, UsageError


def check_sources(video: Any, audio: Any, instruction: Any, modality: Any) -> None:
    """Refuse arguments of `R1Omni.prepare` of another type, and an empty instruction.

    Raises:
        UsageError: naming the argument and its types.
    """
    check_choice("modality", modality, Modality)
    check_type("video", video, str | Path | Tensor | None)
    check_type("audio", audio, str | Path | Tensor | None)
    check_type("instruction", instruction, str | None)
    check_instruction(instruction)


def read_media(
    video: str | Path | Tensor | None,
    audio: str | Path | Tensor | None,
    modality: Modality,
    processor: MediaProcessor,
) -> ClipMedia:
    """The media of one clip, as `R1Omni.prepare` is given them.

    Raises:
        UsageError: a medium that the modality needs is missing, or a tensor does not fit.
        MediaError: a file cannot be decoded.
    """
    frames, mel = None, None
    warnings: tuple[str, ...] = ()
    if "video" in modality:
        if video is None:
            raise UsageError(f"modality {modality!r} needs a video; give video=")
        if isinstance(video, Tensor):
            frames = given_frames(video, processor)
        else:
            loaded = processor.load(Clip(Path(video)), "video")
            frames, warnings = loaded.frames, warnings + loaded.warnings
    if "audio" in modality:
        source = audio if audio is not None else video
        if source is None or (isinstance(source, Tensor) and audio is None):
            raise UsageError(f"modality {modality!r} needs sound; give audio=")
        if isinstance(source, Tensor):
            mel = given_sound(source, processor)
        else:
            # Beside a picture, sound that is not there is heard as silence.
            loaded = processor.load(Clip(Path(source)), "audio", silence="video" in modality)
            mel, warnings = loaded.mel, warnings + loaded.warnings
    return ClipMedia(frames, mel, warnings)


def given_frames(frames: Tensor, processor: MediaProcessor) -> Tensor:
    """Pixel values as they were given, uint8 or float [T, 3, s, s], s the model's picture size.

    Raises:
        UsageError: another shape or dtype, or values that are not finite.
    """
    size = processor.config.image_size
    good = frames.dim() == 4 and len(frames) > 0 and frames.shape[1:] == (3, size, size)
    _check_shape("video", frames, good, f"[T, 3, {size}, {size}]")
    if frames.dtype != torch.uint8:
        _check_finite("video", frames)
    return frames


def given_sound(sound: Tensor, processor: MediaProcessor) -> Tensor:
    """The log-mel, float [M, F], of a waveform float [S] at 16 kHz, or of a log-mel [1, M, F].

    Raises:
        UsageError: another shape or dtype, or values that are not finite.
    """
    if sound.dim() == 1:
        _check_finite("audio", sound)
        return processor.mel(sound.float())
    bins, length = processor.silence().shape
    good = tuple(sound.shape) in ((1, bins, length), (bins, length))
    wanted = f"[S] for a waveform, or [1, {bins}, {length}] for a log-mel"
    _check_shape("audio", sound, good, wanted)
    _check_finite("audio", sound)
    return sound.reshape(bins, length)


def check_inputs(inputs: Any) -> None:
    """Refuse what is not one prompt from `R1Omni.prepare`.

    Raises:
        UsageError: naming what it is instead.
    """
    check_type("inputs", inputs, PromptInputs)
    if len(inputs.token_ids) != 1:
        raise UsageError(f"inputs hold {len(inputs.token_ids)} prompts; give one, from prepare()")


def check_completions(ids: Any, vocab_size: int) -> None:
    """Refuse what are not token ids of completions, long [G, C].

    Raises:
        UsageError: another type, shape or dtype, or ids outside the vocabulary.
    """
    check_type("completion_ids", ids, Tensor)
    _check_shape("completion_ids", ids, ids.dim() == 2 and ids.numel() > 0, "[G, C]")
    if ids.dtype not in (torch.int64, torch.int32):
        raise UsageError(f"completion_ids are {_dtype(ids)}; they must be whole numbers, int64")
    low, high = int(ids.min()), int(ids.max())
    if low < 0 or high >= vocab_size:
        raise UsageError(
            f"completion_ids are from {low} to {high}; token ids are from 0 to {vocab_size - 1}"
        )


def check_greedy(do_sample: Any, temperature: Any) -> None:
    """Refuse a temperature that no sampling would use.

    Raises:
        UsageError: saying what to do.
    """
    check_type("do_sample", do_sample, bool)
    if not do_sample and temperature != 1.0:
        raise UsageError(
            f"temperature is {shortened(repr(temperature))}, but has an effect only with do_sample "
            "True; leave temperature out, or set that"
        )


def _check_shape(name: str, tensor: Tensor, good: bool, wanted: str) -> None:
    if not good:
        raise UsageError(f"{name} has shape {list(tensor.shape)}; it must be {wanted}")


def _check_finite(name: str, tensor: Tensor) -> None:
    if not tensor.is_floating_point():
        raise UsageError(f"{name} is {_dtype(tensor)}; it must be of floats, such as float32")
    if not bool(tensor.isfinite().all()):
        raise UsageError(f"{name} holds NaN or infinity; every value must be finite")


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
