"""The processor against the recorded reference, and against transformers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from clips import write_clip
from PIL import Image
from safetensors.torch import load_file
from transformers import WhisperFeatureExtractor

from r1omni.media.audio import read_waveform
from r1omni.media.config import MediaConfig
from r1omni.media.log_mel import LogMel
from r1omni.media.packing import merge_entries, pack_media, unpack_media
from r1omni.media.processor import MediaProcessor
from r1omni.types import Clip, UsageError

FIXTURE = Path(__file__).parents[1] / "fixtures" / "humanomni_tiny"
SMALL = MediaConfig(num_frames=4, image_size=32, num_mel_bins=20, audio_length_s=4.0)


@pytest.fixture(scope="module")
def expected() -> dict[str, torch.Tensor]:
    return load_file(FIXTURE / "expected.safetensors")


@pytest.mark.parametrize("fit", ["squash", "pad"])
def test_pixel_values_equal_the_reference(expected: dict, fit: str) -> None:
    processor = MediaProcessor(MediaConfig(image_size=64, frame_fit=fit))
    media = processor.load(Clip(FIXTURE / "clip.mp4"), "video")
    assert media.frames.dtype == torch.uint8
    assert media.mel is None
    pixel_values = processor.normalise(media.frames)
    difference = (pixel_values - expected[f"pixel_values_{fit}"]).abs().max()
    # Measured 0; another build of FFmpeg may convert colours one step differently.
    assert float(difference) <= 2 / 255


def test_mel_equals_the_reference(expected: dict) -> None:
    processor = MediaProcessor(MediaConfig())
    from_waveform = processor.mel(expected["waveform"])
    assert from_waveform.shape == (128, 3000)
    assert float((from_waveform - expected["mel"][0]).abs().max()) < 1e-3  # measured 6e-5
    # The reference's resampler delays by about 16 samples. Measured mean 3.1e-3.
    media = processor.load(Clip(FIXTURE / "clip.mp4"), "audio")
    assert media.frames is None
    assert float((media.mel - expected["mel"][0]).abs().mean()) < 5e-3
    assert read_waveform(FIXTURE / "clip.mp4").waveform.shape == expected["waveform"].shape


@pytest.mark.parametrize(("num_mel_bins", "seconds"), [(128, 3.3), (80, 40.0), (128, 0.0)])
def test_log_mel_equals_whispers(num_mel_bins: int, seconds: float) -> None:
    generator = torch.Generator().manual_seed(0)
    waveform = 0.1 * torch.randn(int(seconds * 16_000), generator=generator)
    extractor = WhisperFeatureExtractor(feature_size=num_mel_bins)
    padded = waveform if len(waveform) else torch.zeros(1)
    theirs = extractor(padded.numpy(), sampling_rate=16_000, return_tensors="pt").input_features[0]
    ours = LogMel(num_mel_bins=num_mel_bins)(waveform)
    assert ours.shape == theirs.shape
    assert float((ours - theirs).abs().max()) < 1e-3


def test_pad_centres_on_the_mean_colour() -> None:
    config = replace(SMALL, image_size=64, image_mean=(0.5, 0.25, 1.0), frame_fit="pad")
    wide = np.zeros((1, 32, 64, 3), dtype=np.uint8)
    fitted = MediaProcessor(config).fit_frames(wide)[0]
    assert fitted[:, 2, 30].tolist() == [127, 63, 255]
    assert fitted[:, 61, 30].tolist() == [127, 63, 255]
    assert fitted[:, 32, 30].tolist() == [0, 0, 0]
    squashed = MediaProcessor(replace(config, frame_fit="squash")).fit_frames(wide)[0]
    assert not squashed.any()


def test_blank_and_silence() -> None:
    processor = MediaProcessor(SMALL)
    assert processor.blank().shape == (4, 3, 32, 32)
    assert processor.silence().shape == (20, 400)
    assert torch.equal(processor.silence(), processor.mel(torch.zeros(160_000)))


def test_clip_without_sound_says_so(tmp_path: Path) -> None:
    clip = Clip(write_clip(tmp_path / "a.mp4", sound=False))
    media = MediaProcessor(SMALL).load(clip)
    assert media.warnings == ("no audio track: silence is used",)
    assert torch.equal(media.mel, MediaProcessor(SMALL).silence())
    assert MediaProcessor(SMALL).load(clip, "video").warnings == ()


def test_separate_sound_file(tmp_path: Path) -> None:
    picture = write_clip(tmp_path / "a.mp4", sound=False)
    sound = write_clip(tmp_path / "b.mp4", tone_hz=1_000.0)
    media = MediaProcessor(SMALL).load(Clip(picture, audio_path=sound))
    assert media.warnings == ()
    assert torch.equal(media.mel, MediaProcessor(SMALL).load(Clip(sound), "audio").mel)


def test_fingerprint_changes_with_every_field() -> None:
    base = MediaConfig()
    others = [
        replace(base, num_frames=4),
        replace(base, image_size=64),
        replace(base, frame_fit="squash"),
        replace(base, num_mel_bins=80),
        replace(base, audio_length_s=10.0),
    ]
    assert len({config.fingerprint() for config in [base, *others]}) == 6
    assert MediaConfig().fingerprint() == base.fingerprint()


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(UsageError, match="frame_fit 'crop'"):
        MediaConfig(frame_fit="crop")
    with pytest.raises(UsageError, match="num_frames is 0; it must be"):
        MediaConfig(num_frames=0)
    with pytest.raises(UsageError, match="modality 'smell'"):
        MediaProcessor(SMALL).load(Clip(FIXTURE / "clip.mp4"), "smell")


def test_packing_is_lossless(tmp_path: Path) -> None:
    media = MediaProcessor(SMALL).load(Clip(write_clip(tmp_path / "a.mp4", sound=False)))
    back = unpack_media(pack_media(media))
    assert torch.equal(back.frames, media.frames)
    assert torch.equal(back.mel, media.mel)
    assert back.warnings == media.warnings
    assert unpack_media(pack_media(media), "audio").frames is None


def test_halves_of_an_entry_make_the_whole(tmp_path: Path) -> None:
    processor = MediaProcessor(SMALL)
    clip = Clip(write_clip(tmp_path / "a.mp4", sound=False))
    picture = pack_media(processor.load(clip, "video"))
    assert unpack_media(picture, "video_audio") is None
    both = merge_entries(picture, pack_media(processor.load(clip, "audio", silence=True)))
    assert unpack_media(both).warnings == processor.load(clip).warnings
    assert torch.equal(unpack_media(both).mel, processor.load(clip).mel)


@pytest.mark.parametrize(
    ("height", "width"),
    [(720, 1280), (719, 1281), (9, 500), (1, 300), (33, 32), (500, 9), (40, 40)],
)
def test_fitted_frames_are_those_of_the_whole_square(height: int, width: int) -> None:
    generator = np.random.default_rng(height)
    frame = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
    side, mean = max(height, width), (0.2, 0.5, 0.9)
    square = Image.new("RGB", (side, side), tuple(int(255 * share) for share in mean))
    square.paste(Image.fromarray(frame), ((side - width) // 2, (side - height) // 2))
    processor = MediaProcessor(MediaConfig(image_mean=mean))
    found = processor.fit_frames(frame[None])[0].permute(1, 2, 0).numpy()
    assert np.array_equal(found, np.asarray(square.resize((224, 224), Image.Resampling.BICUBIC)))


@pytest.mark.parametrize("num_samples", [0, 1, 199, 200, 201, 5000, 64_000, 479_900, 480_001])
@pytest.mark.parametrize("level", [1e-7, 0.1])
def test_silence_behind_a_sound_is_what_it_would_be_if_computed(
    num_samples: int, level: float
) -> None:
    log_mel = LogMel()
    waveform = level * torch.randn(num_samples, generator=torch.Generator().manual_seed(1))
    whole = torch.nn.functional.pad(waveform, (0, max(480_000 - num_samples, 0)))[:480_000]
    log = log_mel.spectrogram(whole)[:, :3000].clamp(min=1e-10).log10()
    wanted = (log.maximum(log.max() - 8.0) + 4.0) / 4.0
    found = log_mel(waveform)
    assert found.shape == (128, 3000) and found.is_contiguous()
    assert torch.equal(found, wanted)
