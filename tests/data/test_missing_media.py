"""Samples that explain, served once more with a medium missing and what they say of it left out."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from r1omni.data import DatasetSpec, EmotionDataModule
from r1omni.data.batch import ClipDataset
from r1omni.data.clip_cache import ClipCache
from r1omni.data.missing_media import said_without, with_missing_media
from r1omni.media.packing import pack_media
from r1omni.text.cues import read_cues
from r1omni.types import Clip, ClipMedia, Sample, UsageError

FACE = "In the video, the brows are raised and the eyes wide."
VOICE = "In the audio, the voice is high and fast."
END = "Together they suggest surprise."
WHOLE = f"{FACE} {VOICE} {END}"


@pytest.mark.parametrize(
    ("text", "without_sound", "without_picture"),
    [
        (WHOLE, f"{FACE} {END}", f"{VOICE} {END}"),
        (f"{VOICE} A loud voice! {FACE} {END}", f"{FACE} {END}", f"{VOICE} A loud voice! {END}"),
        # One sentence of both, a medium that is never described, and nothing left to say.
        (f"The brows are raised and the voice is high. {END}", None, None),
        (f"{FACE} {END}", None, END),
        (VOICE, None, None),
        (END, None, None),
    ],
)
def test_sentences_of_a_medium_are_left_out(
    text: str, without_sound: str | None, without_picture: str | None
) -> None:
    assert said_without(text, "audio") == without_sound
    assert said_without(text, "video") == without_picture


def explained(count: int, reasoning: str = WHOLE, folder: Path = Path()) -> list[Sample]:
    target = f"<think>{reasoning}</think>\n<answer>surprise</answer>"
    return [
        Sample(f"own/{i}", Clip(folder / f"{i}.mp4"), "?", label="surprise", target=target)
        for i in range(count)
    ]


def with_copies(samples: list[Sample], share: float = 1, seed: int = 1) -> list[Sample]:
    [served] = with_missing_media([samples], share, seed)
    return served


def test_copies_are_added_and_nothing_else_changes() -> None:
    samples = explained(200)
    served = with_copies(samples)
    assert served[:200] == samples and len(served) == 400
    assert len({sample.sample_id for sample in served}) == 400
    assert 70 < sum(copy.missing == "audio" for copy in served[200:]) < 130
    for sample, copy in zip(samples, served[200:], strict=True):
        assert copy.missing is not None and copy.target is not None
        cues = read_cues(copy.target)
        other = {"audio": "video", "video": "audio"}[copy.missing]
        assert not cues.of(copy.missing) and len(cues.of(other)) == 2
        assert END in copy.target and copy.target.endswith("<answer>surprise</answer>")
        assert (copy.clip, copy.label) == (sample.clip, sample.label)
    part = with_copies(samples, 0.5)[200:]
    assert 70 < len(part) < 130 and set(part) < set(served[200:])
    assert with_copies(samples[:50])[50:] == served[200:250]  # by name alone
    assert with_copies(samples, seed=2) != served


def test_what_cannot_be_served_so_is_refused() -> None:
    mixed, plain = explained(3, "The face is tense; it suggests surprise."), explained(3)
    assert with_missing_media([mixed, plain], 1, 1) == [mixed, with_copies(plain)]
    for lists in ([mixed], [mixed, []], []):
        with pytest.raises(UsageError, match=r"^data\.missing_media 0\.5: no training sample has"):
            with_missing_media(lists, 0.5, 0)
    with pytest.raises(UsageError, match=r"1e-09: none of 3 training samples was drawn; raise it"):
        with_missing_media([mixed, plain], 1e-9, 0)
    for share in (1.5, -0.1, "half"):
        with pytest.raises(UsageError, match=r"data\.missing_media"):
            EmotionDataModule(missing_media=share)


def test_training_alone_has_copies(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"a clip")
    (tmp_path / "a.csv").write_text(f'path,label,reasoning\na.mp4,surprise,"{WHOLE}"\n')
    spec = DatasetSpec("own", "a.csv", split="all")
    for split, stage, count in (("train", "fit", 2), ("test", "test", 1)):
        module = EmotionDataModule(str(tmp_path), **{split: [spec]}, missing_media=1.0)
        module.setup(stage)
        assert len(module.samples[split][0]) == count


def test_a_missing_medium_is_silence_or_black_frames(tmp_path: Path) -> None:
    cache = ClipCache(tmp_path / "cache", "processor")
    media = ClipMedia(torch.ones(2, 3, 4, 4, dtype=torch.uint8), torch.ones(8, 6))
    neutral = ClipMedia(torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.zeros(8, 6))
    samples = with_copies(explained(8, folder=tmp_path))
    for sample in samples[:8]:
        sample.clip.path.write_bytes(b"a clip")
        cache.put(sample.clip, *pack_media(media))
    served = ClipDataset(samples, cache, "full", neutral)
    for index, sample in enumerate(samples):
        found = served[index][1]
        frames, mel = (neutral if sample.missing == m else media for m in ("video", "audio"))
        assert isinstance(found, ClipMedia) and found.frames is not None and found.mel is not None
        assert torch.equal(found.frames, frames.frames) and torch.equal(found.mel, mel.mel)
