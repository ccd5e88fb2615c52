"""The key of cached features: whatever changes features changes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from r1omni import R1Omni
from r1omni.media.config import MediaConfig
from r1omni.models.config import OmniConfig
from r1omni.models.omni import OmniModel
from r1omni.models.towers import _NOT_SIZES, FEATURES_VERSION, features_fingerprint
from r1omni.types import ClipMedia

# Of `features` below, by version. Where they differ, raise FEATURES_VERSION and record anew: the
# code gives other features than those that users have on disk.
RECORDED: dict[int, dict[str, list[float]]] = {
    1: {
        "video": [-1.5218903, 1.6193752, -0.0239850, -1.0362061, 1.0561109],
        "audio": [0.1150573, 0.3429821, 0.5876905, 1.3325163, 0.7587031],
    },
}


def key(
    config: OmniConfig, model: OmniModel, dtype: torch.dtype = torch.float32, device: str = "cpu"
) -> str:
    weights = [tower.state_dict() for tower in (model.vision_tower, model.audio_tower)]
    return features_fingerprint(config, weights, torch.device(device), dtype)


def clip_of(media: MediaConfig, num_mel_frames: int) -> ClipMedia:
    """Any picture and sound, always the same."""
    size = media.image_size
    count = media.num_frames * 3 * size * size
    frames = (torch.arange(count) * 37 % 251).to(torch.uint8).view(-1, 3, size, size)
    steps = torch.arange(media.num_mel_bins * num_mel_frames, dtype=torch.float32)
    return ClipMedia(frames, torch.sin(0.1 * steps).view(media.num_mel_bins, num_mel_frames))


@torch.no_grad()
def features(model: OmniModel) -> dict[str, Tensor]:
    config = model.config
    [found] = model.encode_media([clip_of(config.media, 2 * config.audio.max_source_positions)])
    assert found.video is not None and found.audio is not None
    return {"video": found.video, "audio": found.audio}


def another(value: Any) -> Any:
    """Another value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        return {"pad": "squash", "gelu": "relu", "gelu_pytorch_tanh": "relu"}.get(
            value, value + "x"
        )
    if isinstance(value, tuple | list):
        return type(value)([another(value[0]), *value[1:]]) if value else type(value)([1])
    if isinstance(value, dict):
        return {**value, next(iter(value), "more"): "changed"}
    return 1 if value is None else value * 2 or 1


def test_every_setting_of_the_media_counts(tiny: R1Omni) -> None:
    config = tiny.model.config
    for field in fields(MediaConfig):
        media = replace(config.media, **{field.name: another(getattr(config.media, field.name))})
        changed = replace(config, media=media)
        assert key(changed, tiny.model) != key(config, tiny.model), field.name


@pytest.mark.parametrize("tower", ["vision", "audio"])
def test_every_setting_of_a_tower_counts(tiny: R1Omni, tower: str) -> None:
    config = tiny.model.config
    settings = getattr(config, tower).to_dict()
    assert len(settings) > 10
    for name in settings.keys() - set(_NOT_SIZES):
        changed = type(getattr(config, tower))(**settings)
        object.__setattr__(changed, "to_dict", lambda n=name: {**settings, n: another(settings[n])})
        assert key(replace(config, **{tower: changed}), tiny.model) != key(config, tiny.model), name


def other(section: str, **values: Any) -> Callable[[OmniConfig], OmniConfig]:
    """A change of keys of one of the parts' configurations."""

    def change(config: OmniConfig) -> OmniConfig:
        part = getattr(config, section)
        return replace(config, **{section: type(part)(**part.to_dict() | values)})

    return change


# Every field of the configuration, so that a new one asks whether it changes features.
CHANGES: dict[str, Callable[[OmniConfig], OmniConfig]] = {
    "language": other("language", rms_norm_eps=1.0),
    "vision": other("vision", hidden_act="relu"),
    "audio": other("audio", activation_function="relu"),
    "text": other("text", hidden_act="relu"),
    "media": lambda c: replace(c, media=replace(c.media, image_mean=(0.1, 0.5, 0.5))),
    "vision_select_layer": lambda c: replace(c, vision_select_layer=-1),
    "audio_select_layer": lambda c: replace(c, audio_select_layer=1),
    "gate_hidden_size": lambda c: replace(c, gate_hidden_size=2 * c.gate_hidden_size),
    "released": lambda c: replace(c, released={**c.released, "more": 1}),
}


def test_what_changes_features_changes_the_key(tiny: R1Omni) -> None:
    config = tiny.model.config
    own, own_key = features(tiny.model), key(config, tiny.model)
    changing = set()
    for field in fields(OmniConfig):
        changed = CHANGES[field.name](config)
        model = OmniModel(changed).eval()
        weights = {k: v for k, v in tiny.model.state_dict().items() if "tower" in k}
        model.load_state_dict(weights, strict=False)
        found = features(model)
        if any(not torch.equal(found[name], own[name]) for name in own):
            changing.add(field.name)
            assert key(changed, model) != own_key, field.name
        else:  # and features are not made anew for nothing
            assert key(changed, model) == own_key, field.name
    assert changing == {*("vision", "audio", "media", "vision_select_layer", "audio_select_layer")}


def test_weights_and_precision_count(tiny: R1Omni) -> None:
    model = tiny.model
    config, own = model.config, key(model.config, model)
    found = {"float32": own, "features in bfloat16": key(config, model, torch.bfloat16)}
    half = OmniModel(config).eval()
    half.load_state_dict({k: v.bfloat16().float() for k, v in model.state_dict().items()})
    found["rounded weights"] = key(config, half)
    half.vision_tower.bfloat16()
    found["a tower in bfloat16"] = key(config, half)
    for dtype in (torch.bfloat16, torch.float16):
        with torch.autocast("cpu", dtype):
            found[f"autocast to {dtype}"] = key(config, model)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    found["products in bfloat16"] = key(config, model)
    torch.set_float32_matmul_precision(before)
    assert len(set(found.values())) == len(found), found
    assert key(config, model) == own


def test_the_version_goes_with_the_code(tiny: R1Omni) -> None:
    found = {
        name: [*tensor.flatten()[:: tensor.numel() // 4][:4].tolist(), tensor.abs().mean().item()]
        for name, tensor in features(tiny.model).items()
    }
    wanted = RECORDED[FEATURES_VERSION]
    for name, values in found.items():
        assert values == pytest.approx(wanted.get(name), abs=1e-4), found
