"""Public tower downloads, dtypes, and settings that do not make a model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.testing import assert_close

from r1omni.models import R1Omni
from r1omni.models.checkpoint import load_model
from r1omni.models.folders import find_model_folder
from r1omni.types import R1OmniError

Tensors = dict[str, Tensor]
Edit = Callable[..., None]
WEIGHTS = "model.safetensors"


def leave_towers_out(folder: Path) -> None:
    towers = ("model.vision_tower.", "model.audio_tower.", "model.bert_model.")
    tensors = load_file(folder / WEIGHTS)
    save_file({n: t for n, t in tensors.items() if not n.startswith(towers)}, folder / WEIGHTS)


def rewrite(folder: Path, rename: Callable[[str], str | None], extra: Tensors) -> None:
    tensors = load_file(folder / WEIGHTS)
    named = {rename(name): tensor for name, tensor in tensors.items()}
    kept = {name: tensor for name, tensor in named.items() if name is not None}
    save_file(kept | extra, folder / WEIGHTS, metadata={"format": "pt"})


def public_siglip(folder: Path) -> None:
    """As google/siglip-base-patch16-224: both towers, sizes nested."""
    extra = {"text_model.head.weight": torch.ones(2, 2), "logit_scale": torch.ones(1)}
    rewrite(folder, lambda name: name, {**extra, "logit_bias": torch.ones(1)})
    sizes = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config = {"model_type": "siglip", "vision_config": sizes, "text_config": {"hidden_size": 8}}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


def public_whisper(folder: Path) -> None:
    """As openai/whisper-large-v3: encoder and decoder, no classification head."""

    def rename(name: str) -> str | None:
        return f"model.{name}" if name.startswith("encoder.") else None

    extra = {
        "model.decoder.embed_tokens.weight": torch.ones(3, 2),
        "proj_out.weight": torch.ones(2),
    }
    rewrite(folder, rename, extra)


def public_bert(folder: Path) -> None:
    """As google-bert/bert-base-uncased: a masked language model, the norms' old names."""

    def rename(name: str) -> str:
        name = name.replace("LayerNorm.weight", "LayerNorm.gamma")
        return "bert." + name.replace("LayerNorm.bias", "LayerNorm.beta")

    extra = {"cls.predictions.bias": torch.ones(3), "cls.seq_relationship.weight": torch.ones(2, 2)}
    extra["bert.embeddings.position_ids"] = torch.arange(512)[None]
    rewrite(folder, rename, extra)


def whole_siglip_without_level(folder: Path) -> None:
    """As transformers 5 saves a bare SigLIP vision model."""
    rewrite(folder, lambda name: name.removeprefix("vision_model."), {})


@pytest.mark.parametrize(
    ("tower", "as_public"),
    [
        ("siglip-tiny-patch16-64", public_siglip),
        ("siglip-tiny-patch16-64", whole_siglip_without_level),
        ("whisper-tiny", public_whisper),
        ("bert-tiny", public_bert),
    ],
)
def test_public_towers(
    copied: Path,
    tiny: R1Omni,
    expected: Tensors,
    tower: str,
    as_public: Callable[[Path], None],
) -> None:
    leave_towers_out(copied)
    as_public(copied.parent / tower)
    omni = R1Omni.from_pretrained(copied)
    inputs = tiny.prepare(video=expected["pixel_values_squash"], audio=expected["mel"])
    assert torch.equal(omni.logits(inputs), tiny.logits(inputs))


def test_parts_that_never_run_may_be_missing_but_are_not_left_undefined(copied: Path) -> None:
    leave_towers_out(copied)
    public_whisper(copied.parent / "whisper-tiny")
    tower = load_model(find_model_folder(copied)).audio_tower.audio_tower
    assert not tower.classifier.weight.any() and not tower.projector.weight.any()


@pytest.mark.parametrize(
    ("tower", "name"),
    [
        ("siglip-tiny-patch16-64", "text_model.x"),
        ("whisper-tiny", "model.decoder.x"),
        ("bert-tiny", "cls.x"),
    ],
)
def test_only_what_is_known_is_passed_over(copied: Path, tower: str, name: str) -> None:
    leave_towers_out(copied)
    rewrite(copied.parent / tower, lambda old: old, {name: torch.ones(1)})
    load_model(find_model_folder(copied))
    rewrite(copied.parent / tower, lambda old: old, {"other.x": torch.ones(1)})
    with pytest.raises(R1OmniError, match=r"unexpected: model\.\S+other\.x \(1\)"):
        load_model(find_model_folder(copied))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16, torch.float16])
def test_any_dtype_from_any(copied: Path, tiny: R1Omni, dtype: str, stored: torch.dtype) -> None:
    tensors = load_file(copied / WEIGHTS)
    save_file({name: tensor.to(stored) for name, tensor in tensors.items()}, copied / WEIGHTS)
    model = R1Omni.from_pretrained(copied, dtype=dtype).model
    wanted = getattr(torch, dtype)
    assert {parameter.dtype for parameter in model.parameters()} == {wanted}
    name = "language_model.layers.0.mlp.up_proj.weight"
    stored_weight = tiny.model.state_dict()[name].to(stored)
    assert torch.equal(model.state_dict()[name], stored_weight.to(wanted))


def test_positions_keep_their_precision_in_bfloat16(copied: Path, tiny: R1Omni) -> None:
    # 1,000 tokens into a prompt, frequencies rounded to 8 bits turn by several radians too many.
    model = R1Omni.from_pretrained(copied, dtype="bfloat16").model
    frequencies = model.language_model.rotary_emb.inv_freq
    assert frequencies.dtype == torch.float32
    assert torch.equal(frequencies, tiny.model.language_model.rotary_emb.inv_freq)


@pytest.mark.parametrize("modality", ["video_audio", "video", "audio"])
def test_bfloat16_answers_much_like_float32(
    copied: Path, tiny: R1Omni, expected: Tensors, modality: str
) -> None:
    half = R1Omni.from_pretrained(copied, dtype="bfloat16")
    inputs = tiny.prepare(
        video=expected["pixel_values_squash"],
        audio=expected["mel"],
        modality=modality,  # type: ignore[arg-type]
    )
    wanted = tiny.logits(inputs)
    spread = float(wanted.std())
    assert_close(half.logits(inputs).float(), wanted, rtol=0, atol=0.25 * spread)


def test_a_tied_head_that_is_stored_does_not_replace_the_embedding(
    copied: Path, tiny: R1Omni
) -> None:
    tensors = load_file(copied / WEIGHTS)
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    save_file(tensors, copied / WEIGHTS)
    model = load_model(find_model_folder(copied))
    assert model.lm_head.weight is model.language_model.embed_tokens.weight
    assert torch.equal(model.lm_head.weight, tiny.model.lm_head.weight)
    tensors["lm_head.weight"] += 1
    save_file(tensors, copied / WEIGHTS)
    with pytest.raises(R1OmniError, match=r"lm_head\.weight.*tie_word_embeddings"):
        load_model(find_model_folder(copied))


@pytest.mark.parametrize(
    ("where", "changes"),
    [
        ("R1-Omni-tiny", {"hidden_size": "48"}),
        ("R1-Omni-tiny", {"num_frames": "eight"}),
        ("R1-Omni-tiny", {"mm_vision_select_layer": None, "num_hidden_layers": "three"}),
        ("R1-Omni-tiny", {"num_attention_heads": 0}),
        ("siglip-tiny-patch16-64", {"patch_size": "16x16"}),
        ("siglip-tiny-patch16-64", {"num_attention_heads": 5}),
        ("whisper-tiny", {"encoder_layers": [2]}),
        ("bert-tiny", {"hidden_size": 33}),
    ],
)
def test_settings_that_make_no_model(
    copied: Path, edit_config: Edit, where: str, changes: dict[str, object]
) -> None:
    edit_config(copied.parent / where, **changes)
    with pytest.raises(R1OmniError) as caught:
        R1Omni.from_pretrained(copied)
    message = str(caught.value)
    assert "\n" not in message
    assert str(copied) in message or where in message


def test_a_tokenizer_without_padding_or_without_an_end(
    copied: Path, tiny: R1Omni, expected: Tensors
) -> None:
    path = copied / "tokenizer_config.json"
    (copied / "special_tokens_map.json").unlink()
    settings = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**settings, "pad_token": None}), encoding="utf-8")
    omni = R1Omni.from_pretrained(copied)
    assert omni.tokenizer.pad_token_id == tiny.tokenizer.eos_token_id
    inputs = tiny.prepare(video=expected["pixel_values_squash"], modality="video")
    options = {"max_new_tokens": 6, "num_return_sequences": 3}
    assert torch.equal(omni.generate(inputs, **options), tiny.generate(inputs, **options))  # type: ignore[arg-type]
    path.write_text(json.dumps({**settings, "eos_token": None}), encoding="utf-8")
    with pytest.raises(R1OmniError, match="no end token"):
        R1Omni.from_pretrained(copied)


def test_saving_does_not_replace_a_folder_of_other_things(tiny: R1Omni, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("three years", encoding="utf-8")
    with pytest.raises(R1OmniError, match=r"no model folder|missing"):
        tiny.save_pretrained(tmp_path)
    assert (tmp_path / "thesis.txt").read_text(encoding="utf-8") == "three years"
