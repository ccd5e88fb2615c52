"""`SFTModule.feature_dropout`: what is drawn, and where it acts."""

from __future__ import annotations

import pytest
import torch

from r1omni.streams import stream_seed
from r1omni.training.sft import drop_features
from r1omni.types import ClipFeatures


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_whole_places_are_set_to_zero_and_no_others_changed(dtype: torch.dtype) -> None:
    clip = ClipFeatures(
        video=1 + torch.rand(3, 16, 5).to(dtype), audio=1 + torch.rand(40, 7).to(dtype),
        warnings=("quiet",),
    )  # fmt: skip
    dropped = drop_features(clip, 0.25, stream_seed(0, "a"))
    for before, after in ((clip.video, dropped.video), (clip.audio, dropped.audio)):
        assert before is not None and after is not None and after.dtype == dtype
        gone = (after == 0).all(dim=-1)
        assert torch.equal(after[~gone], before[~gone])
        assert 0.05 < gone.float().mean() < 0.5
    assert dropped.warnings == clip.warnings


def test_what_is_drawn_depends_on_the_seed_alone() -> None:
    sound = ClipFeatures(None, torch.ones(200, 2))
    first, again, other = (
        drop_features(sound, 0.5, stream_seed(step, "a")).audio for step in (1, 1, 2)
    )
    assert first is not None and again is not None and other is not None
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert drop_features(sound, 0.0, 1).video is None
    assert torch.equal(drop_features(sound, 0.0, 1).audio, sound.audio)
