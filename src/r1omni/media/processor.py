"""From a clip to what the towers take: sampled, fitted frames and a log-mel spectrogram."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import repeat
from pathlib import Path

import av
import numpy as np
import PIL
import torch
import torchaudio
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from r1omni.media.audio import (
    SILENCE_USED,
    DecodedAudio,
    read_sound_windows,
    read_waveform,
)
from r1omni.media.config import FrameFit, MediaConfig, normalise_frames
from r1omni.media.container import MediaError, is_sound_alone
from r1omni.media.log_mel import LogMel
from r1omni.media.timeline import scan_extent, scan_timeline
from r1omni.media.video import DecodedFrames, read_frames, read_windows
from r1omni.media.windows import MIN_REST_S, Window, windows
from r1omni.types import MODALITIES, Clip, ClipMedia, Medium, Modality, UsageError

BLACK_USED = ": black frames are used"
# Of a recording that has no picture, asked for both media.
NO_PICTURE = "there is no picture: the answer is from the sound alone"


def check_modality(modality: str) -> None:
    """Raise UsageError for a modality that is none."""
    if modality not in MODALITIES:
        raise UsageError(f"modality {modality!r} is unknown; use one of {', '.join(MODALITIES)}")


def given_media(media: ClipMedia) -> tuple[Medium, ...]:
    """The media that a clip has itself, and that nothing stands in for."""
    stands_in: tuple[tuple[Medium, Tensor | None, str], ...] = (
        ("video", media.frames, BLACK_USED), ("audio", media.mel, SILENCE_USED),
    )  # fmt: skip
    return tuple(
        name
        for name, tensor, used in stands_in
        if tensor is not None and not any(told.endswith(used) for told in media.warnings)
    )


def _within(spans: Sequence[tuple[float, float]], length_s: float) -> list[tuple[float, float]]:
    """Spans as they are reported, to the microsecond; one behind the end has no length."""
    told = ((start_s, end_s if start_s < length_s else start_s) for start_s, end_s in spans)
    return [(round(start_s, 6), round(end_s, 6)) for start_s, end_s in told]


def _channels_first(frames: NDArray[np.uint8]) -> Tensor:
    """uint8 [T, s, s, 3] -> uint8 [T, 3, s, s]."""
    return torch.from_numpy(frames).permute(0, 3, 1, 2).contiguous()


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

    def load(
        self, clip: Clip, modality: Modality = "video_audio", *, silence: bool = False
    ) -> ClipMedia:
        """Decode what `modality` needs, and no more.

        Args:
            clip: the recording, or a span of it.
            modality: which media are given; with "video_audio" silence stands in for sound that is
                not there.
            silence: let it stand in with "audio" as well, for the sound half of both media.

        Raises:
            MediaError: the recording cannot be read (see `read_frames`, `read_waveform`).
            UsageError: unknown modality.
        """
        check_modality(modality)
        frames, mel = None, None
        warnings: tuple[str, ...] = ()
        of_sound: tuple[str, ...] = ()
        if modality != "audio":
            decoded = read_frames(
                clip.path, self.config.num_frames, clip.start_s, clip.end_s, fit=self._fit
            )
            frames = _channels_first(decoded.frames)
            warnings += decoded.warnings
        if modality != "video":
            sound = read_waveform(
                clip.audio_path or clip.path,
                self.config.sampling_rate_hz,
                clip.start_s,
                self._last_audio_second(clip.start_s, clip.end_s),
                required=modality == "audio" and not silence,
            )
            mel = self.mel(sound.waveform)
            of_sound = sound.warnings
        return ClipMedia(frames, mel, warnings=warnings + of_sound, sound_warnings=of_sound)

    def load_windows(
        self,
        path: Path,
        window_s: float | None = None,
        hop_s: float | None = None,
        modality: Modality = "video_audio",
        intervals: Sequence[tuple[float, float]] | None = None,
        skip: int = 0,
        last: tuple[float, float] | None = None,
    ) -> Iterator[Window]:
        """One span after the other.

        The spans are the recording as a whole, windows of it, or given intervals. The recording is
        surveyed once, and decoded forward once at most. A span that lacks one of two media has
        black frames or silence instead, one that lacks all of them neither frames nor mel; its
        warnings say so.

        Args:
            path: the recording.
            window_s: length of a window; None takes the recording as a whole.
            hop_s: from the start of one window to the next; None is `window_s`.
            modality: which of its media are given; with "video_audio" a recording of sound alone
                gives its sound, and its warnings say so.
            intervals: spans in place of windows, by their ends; the ends of those that reach
                beyond the recording are its end.
            skip: so many of the first spans are left out.
            last: the last one of them, by which the same recording is known again.

        Raises:
            MediaError: the recording cannot be read, lacks a picture or sound altogether, or is
                another one.
            UsageError: unknown modality, or lengths that are not positive.
        """
        check_modality(modality)
        windows(0.0, window_s, hop_s)  # wrong lengths are told before anything is read
        if modality == "video_audio" and is_sound_alone(path):
            for heard in self.load_windows(path, window_s, hop_s, "audio", intervals, skip, last):
                warnings = (NO_PICTURE, *heard.media.warnings)
                yield heard._replace(media=replace(heard.media, warnings=warnings))
            return
        if window_s is None and intervals is None:
            if not skip:
                media = self.load(Clip(path), modality)
                yield Window(0.0, round(scan_extent(path).length_s, 6), media)
            return
        timeline = scan_extent(path) if modality == "audio" else scan_timeline(path)
        if modality == "audio" and not timeline.sound_s:
            self.load(Clip(path), modality)  # says what is missing, and what to do
        length_s = timeline.length_s
        given = windows(length_s, window_s, hop_s) if intervals is None else intervals
        asked = [(start_s, min(end_s, length_s)) for start_s, end_s in given]
        if last is not None and _within(asked[skip - 1 : skip], length_s) != [last]:
            raise MediaError(
                f"{path}: is another recording than the one that was begun; analyze it anew"
            )
        rest = asked[skip:]
        spans = [span for span in rest if span[0] < length_s]
        pictures: Iterator[DecodedFrames | str | None] = repeat(None)
        if modality != "audio":
            pictures = read_windows(path, timeline, spans, self.config.num_frames, self._fit)
        sounds: Iterator[DecodedAudio | str | None] = repeat(None)
        if modality != "video":
            sounds = self._sounds(path, spans)
        end = f"the end of the recording, at {length_s:.2f} s"
        for index, (asked_for, span) in enumerate(
            zip(rest, _within(rest, length_s), strict=True), start=skip
        ):
            if asked_for[0] >= length_s:
                media = ClipMedia(None, None, (f"begins after {end}",))
            else:
                media = self._window(next(pictures), next(sounds))
                if (end_s := given[index][1]) - length_s > MIN_REST_S:
                    told = f"ends with {end}, and not at {end_s:.2f} s"
                    media = replace(media, warnings=(*media.warnings, told))
            yield Window(*span, media, index, len(asked))

    def _sounds(
        self, path: Path, spans: Sequence[tuple[float, float]]
    ) -> Iterator[DecodedAudio | str]:
        """The sound of each span; it is read by starts, and waits for the end of its span."""
        by_start = sorted(range(len(spans)), key=lambda place: spans[place])
        audible = [(spans[place][0], self._last_audio_second(*spans[place])) for place in by_start]
        read = read_sound_windows(path, audible, self.config.sampling_rate_hz)
        heard = zip(by_start, read, strict=True)
        waiting: dict[int, DecodedAudio | str] = {}
        for place in range(len(spans)):
            while place not in waiting:
                other, sound = next(heard)
                waiting[other] = sound
            yield waiting.pop(place)

    def _window(
        self, picture: DecodedFrames | str | None, sound: DecodedAudio | str | None
    ) -> ClipMedia:
        """Media of a window; None was not asked for, and a text says why there is none."""
        frames, mel = None, None
        warnings: list[str] = []
        if isinstance(picture, DecodedFrames):
            frames = _channels_first(picture.frames)
            warnings += picture.warnings
        if isinstance(sound, DecodedAudio):
            mel = self.mel(sound.waveform)
            warnings += sound.warnings
        if isinstance(picture, str):
            if mel is not None:
                frames, picture = self.blank(), picture + BLACK_USED
            warnings.append(picture)
        if isinstance(sound, str):
            if isinstance(picture, DecodedFrames):
                mel, sound = self.silence(), sound + SILENCE_USED
            warnings.append(sound)
        return ClipMedia(frames=frames, mel=mel, warnings=tuple(warnings))

    def _last_audio_second(self, start_s: float | None, end_s: float | None) -> float:
        # What the spectrogram cuts off need not be decoded; the resampler's tail is kept clear.
        limit_s = (start_s or 0.0) + self.config.audio_length_s + 0.1
        return limit_s if end_s is None else min(limit_s, end_s)

    def fit_frames(self, frames: NDArray[np.uint8] | Tensor) -> Tensor:
        """uint8 [T, H, W, 3] -> uint8 [T, 3, s, s] with s = image_size, by PIL's bicubic resize.

        PIL's resize is the one the reference uses: other bicubic filters differ visibly.
        """
        return _channels_first(np.stack([self._fit(frame) for frame in np.asarray(frames)]))

    def _fit(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """uint8 [H, W, 3] -> uint8 [s, s, 3]."""
        size = self.config.image_size
        picture = Image.fromarray(frame)
        if self.config.frame_fit == "pad":
            picture = self._centred(picture)
        return np.asarray(picture.resize((size, size), Image.Resampling.BICUBIC))

    def _centred(self, picture: Image.Image) -> Image.Image:
        """The picture in the middle of a square whose background is the mean colour.

        A wide one has the width that it is to be fitted to. PIL resizes rows first and then
        columns, and rows of one colour stay what they are: the result is that of the whole square,
        to the bit, and much less is computed.
        """
        width, height = picture.size
        if width == height:
            return picture
        side = max(width, height)
        red, green, blue = (int(255 * mean) for mean in self.config.image_mean)
        if width > height:
            size = self.config.image_size
            picture = picture.resize((size, height), Image.Resampling.BICUBIC)
            square = Image.new("RGB", (size, side), (red, green, blue))
        else:
            square = Image.new("RGB", (side, side), (red, green, blue))
        square.paste(picture, ((square.width - picture.width) // 2, (side - height) // 2))
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
