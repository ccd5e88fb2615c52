"""Model folders: where towers are found, what is refused, and what is read."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.testing import assert_close

from r1omni.models import R1Omni
from r1omni.models.checkpoint import load_model, same_architecture
from r1omni.models.config import read_config
from r1omni.models.folders import find_model_folder
from r1omni.models.released import released_name
from r1omni.types import R1OmniError

Edit = Callable[..., None]
WEIGHTS = "model.safetensors"
TOWERS = {
    "vision_tower": "siglip-tiny-patch16-64",
    "audio_tower": "whisper-tiny",
    "text_encoder": "bert-tiny",
}


def refusal(folder: Path, **arguments: object) -> str:
    """The message of the one-line error that loading the folder ends with."""
    with pytest.raises(R1OmniError) as caught:
        R1Omni.from_pretrained(folder, **arguments)
    message = str(caught.value)
    assert "\n" not in message
    return message


def edit_weights(folder: Path, change: Callable[[dict[str, Tensor]], None]) -> None:
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


# Finding ----------------------------------------------------------------------------------------


def test_towers_beside_the_model(copied: Path) -> None:
    found = find_model_folder(copied)
    assert found.main == copied
    assert found.vision_tower == copied.parent / TOWERS["vision_tower"]
    assert found.audio_tower == copied.parent / TOWERS["audio_tower"]
    assert found.text_tower == copied.parent / TOWERS["text_encoder"]


def test_order_of_places(copied: Path, tmp_path: Path, edit_config: Edit) -> None:
    beside = copied.parent / "whisper-tiny"
    assert find_model_folder(copied).audio_tower == beside
    inside = copied / "whisper-tiny"
    shutil.copytree(beside, inside)
    assert find_model_folder(copied).audio_tower == inside
    named = tmp_path / "elsewhere" / "whisper-tiny"
    shutil.copytree(beside, named)
    edit_config(copied, mm_audio_tower=str(named))
    assert find_model_folder(copied).audio_tower == named
    given = tmp_path / "given"
    shutil.copytree(beside, given)
    assert find_model_folder(copied, audio_tower=given).audio_tower == given


@pytest.mark.parametrize("argument", TOWERS)
def test_a_tower_that_is_nowhere(copied: Path, argument: str) -> None:
    (copied.parent / TOWERS[argument]).rename(copied.parent / "renamed")
    message = refusal(copied)
    assert str(copied) in message
    assert argument.replace("text_encoder", "text_tower").replace("_", " ") in message
    assert str(copied.parent / TOWERS[argument]) in message  # a place that was tried
    assert f"{argument}=" in message  # what to do
    R1Omni.from_pretrained(copied, **{argument: copied.parent / "renamed"})


@pytest.mark.parametrize("argument", TOWERS)
def test_a_given_tower_is_not_replaced_by_another(copied: Path, argument: str) -> None:
    message = refusal(copied, **{argument: copied.parent / "typo"})
    assert "typo" in message and TOWERS[argument] not in message


def test_the_name_of_a_bert_base_folder_is_known(copied: Path, tmp_path: Path) -> None:
    (copied.parent / "bert-tiny").rename(copied.parent / "bert-base-uncased")
    assert find_model_folder(copied).text_tower.name == "bert-base-uncased"


# Refusing ---------------------------------------------------------------------------------------


def test_missing_folder(tmp_path: Path) -> None:
    assert str(tmp_path / "nowhere") in refusal(tmp_path / "nowhere")


def test_a_file_is_no_folder(copied: Path) -> None:
    assert str(copied / WEIGHTS) in refusal(copied / WEIGHTS)


def test_missing_config(copied: Path) -> None:
    (copied / "config.json").unlink()
    message = refusal(copied)
    assert str(copied / "config.json") in message and "missing" in message


@pytest.mark.parametrize("where", ["R1-Omni-tiny", *TOWERS.values()])
@pytest.mark.parametrize("content", [b'{"model_type": "Human', b"", b"[1, 2]", b"\xff\xfe\x00"])
def test_broken_config(copied: Path, where: str, content: bytes) -> None:
    path = copied.parent / where / "config.json"
    path.write_bytes(content)
    message = refusal(copied)
    assert str(path) in message and "JSON" in message


@pytest.mark.parametrize("model_type", ["qwen2", None])
def test_another_kind_of_model(copied: Path, edit_config: Edit, model_type: str | None) -> None:
    edit_config(copied, model_type=model_type)
    message = refusal(copied)
    assert str(copied / "config.json") in message
    assert repr(model_type) in message and "HumanOmni_qwen2" in message


@pytest.mark.parametrize("projector", ["all_in_one", "stc_connector"])
def test_another_projector(copied: Path, edit_config: Edit, projector: str) -> None:
    edit_config(copied, mm_projector_type=projector)
    message = refusal(copied)
    assert str(copied / "config.json") in message and repr(projector) in message


@pytest.mark.parametrize(
    ("where", "changes"),
    [
        ("R1-Omni-tiny/config.json", {"num_frames": 0}),
        ("R1-Omni-tiny/config.json", {"num_frames": -1}),
        ("whisper-tiny/preprocessor_config.json", {"hop_length": 0}),
        ("whisper-tiny/preprocessor_config.json", {"hop_length": "x"}),
        ("whisper-tiny/preprocessor_config.json", {"sampling_rate": 0}),
        ("whisper-tiny/preprocessor_config.json", {"n_fft": 2.5}),
        ("siglip-tiny-patch16-64/preprocessor_config.json", {"image_std": [0, 0, 0]}),
        ("siglip-tiny-patch16-64/preprocessor_config.json", {"image_mean": [0.5]}),
    ],
)
def test_numbers_that_no_clip_can_have(copied: Path, where: str, changes: dict) -> None:
    path = copied.parent / where
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes))
    assert str(copied / "config.json") in refusal(copied)


def test_without_weights(copied: Path) -> None:
    (copied / WEIGHTS).unlink()
    message = refusal(copied)
    assert str(copied) in message and ".safetensors" in message


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.5, 0.99])
def test_truncated_weights(copied: Path, share: float) -> None:
    data = (copied / WEIGHTS).read_bytes()
    (copied / WEIGHTS).write_bytes(data[: int(len(data) * share)])
    assert str(copied / WEIGHTS) in refusal(copied)


@pytest.mark.parametrize(
    "name",
    [
        "model.norm.weight",
        "model.bert_gate.2.bias",
        "model.mm_projector.readout_body.2.bias",
        "model.embed_tokens.weight",
        "model.audio_tower.audio_tower.encoder.conv1.weight",
    ],
)
def test_missing_tensor(copied: Path, name: str) -> None:
    edit_weights(copied, lambda tensors: tensors.pop(name))
    message = refusal(copied)
    assert str(copied) in message and f"missing: {name} (1)" in message


def test_unexpected_tensor(copied: Path) -> None:
    edit_weights(copied, lambda tensors: tensors.update({"model.extra.weight": torch.ones(2)}))
    message = refusal(copied)
    assert str(copied) in message and "unexpected: model.extra.weight (1)" in message


def test_many_unexpected_tensors_are_counted(copied: Path) -> None:
    extra = {f"extra.{index}": torch.ones(1) for index in range(40)}
    edit_weights(copied, lambda tensors: tensors.update(extra))
    message = refusal(copied)
    assert "(40)" in message and len(message) < 500


def test_tensor_of_another_shape(copied: Path) -> None:
    name = "model.audio_projector.0.weight"
    edit_weights(copied, lambda tensors: tensors.update({name: torch.ones(48, 31)}))
    message = refusal(copied)
    assert str(copied) in message and f"{name} [48, 31] instead of [48, 32]" in message


VOCABULARIES = {
    "R1-Omni-tiny": ("tokenizer.json", "vocab.json", "merges.txt"),
    "bert-tiny": ("tokenizer.json", "vocab.txt"),
}


@pytest.mark.parametrize("where", VOCABULARIES)
def test_missing_tokenizer(copied: Path, where: str) -> None:
    # transformers would build one that knows no words.
    folder = copied.parent / where
    for name in VOCABULARIES[where]:
        (folder / name).unlink(missing_ok=True)
    message = refusal(copied)
    assert str(folder) in message and "no tokenizer" in message


@pytest.mark.parametrize("content", [b"", b"{", b"{}", b"[]", b"\xff\xfe"])
@pytest.mark.parametrize("file", ["R1-Omni-tiny/tokenizer.json", "bert-tiny/vocab.txt"])
def test_broken_tokenizer(copied: Path, file: str, content: bytes) -> None:
    path = copied.parent / file
    path.write_bytes(content)
    message = refusal(copied)
    assert str(path.parent) in message and "tokenizer cannot be read" in message


def test_a_tokenizer_in_the_older_form(copied: Path, tiny: R1Omni) -> None:
    (copied / "tokenizer.json").unlink()
    again = R1Omni.from_pretrained(copied)
    text = "Why? <think>a</think>\n"
    assert again.tokenizer.encode(text) == tiny.tokenizer.encode(text)


# Reading ----------------------------------------------------------------------------------------


def test_buffers_of_old_releases_are_let_through(
    copied: Path, tiny: R1Omni, expected: dict[str, Tensor]
) -> None:
    old = {
        "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(6),
        "model.bert_model.embeddings.position_ids": torch.arange(512)[None],
    }
    edit_weights(copied, lambda tensors: tensors.update(old))
    again = R1Omni.from_pretrained(copied)
    inputs = tiny.prepare(video=expected["pixel_values_squash"], modality="video")
    assert torch.equal(again.logits(inputs), tiny.logits(inputs))


def test_weights_in_several_files(copied: Path, tiny: R1Omni) -> None:
    tensors = load_file(copied / WEIGHTS)
    (copied / WEIGHTS).unlink()
    names = sorted(tensors)
    for index in range(3):
        shard = {name: tensors[name] for name in names[index::3]}
        save_file(shard, copied / f"model-0000{index + 1}-of-00003.safetensors")
    wanted = tiny.model.state_dict()
    loaded = load_model(find_model_folder(copied)).state_dict()
    assert all(torch.equal(loaded[name], wanted[name]) for name in wanted)


@pytest.mark.parametrize(
    ("prefix", "tower"),
    [
        ("model.vision_tower.vision_tower.", "siglip-tiny-patch16-64"),
        ("model.audio_tower.audio_tower.", "whisper-tiny"),
        ("model.bert_model.", "bert-tiny"),
    ],
)
def test_a_tower_left_out_is_read_from_its_own_folder(
    copied: Path, prefix: str, tower: str
) -> None:
    def leave_out(tensors: dict[str, Tensor]) -> None:
        for name in [name for name in tensors if name.startswith(prefix)]:
            del tensors[name]

    edit_weights(copied, leave_out)
    own = load_file(copied.parent / tower / WEIGHTS)
    marked = next(name for name in sorted(own) if name.endswith(".bias"))
    own[marked] = own[marked] + 1
    save_file(own, copied.parent / tower / WEIGHTS)
    state = load_model(find_model_folder(copied)).state_dict()
    stored = {released_name(name): tensor for name, tensor in state.items()}
    assert torch.equal(stored[prefix + marked], own[marked])
    (copied.parent / tower / WEIGHTS).unlink()
    assert tower in refusal(copied)


@pytest.mark.parametrize("layout", ["stored", "left out"])
def test_a_head_of_its_own(copied: Path, edit_config: Edit, layout: str) -> None:
    edit_config(copied, tie_word_embeddings=False)
    head = torch.randn(392, 48)
    if layout == "left out":
        assert "missing: lm_head.weight (1)" in refusal(copied)
        return
    edit_weights(copied, lambda tensors: tensors.update({"lm_head.weight": head}))
    model = load_model(find_model_folder(copied))
    assert torch.equal(model.lm_head.weight, head)
    assert not torch.equal(model.language_model.embed_tokens.weight, head)


def test_the_base_of_the_positions_is_read(copied: Path, edit_config: Edit) -> None:
    # The released 0.5B has 1,000,000 and the tiny one the default, which would hide a lost key.
    edit_config(copied, rope_theta=1_000_000.0)
    frequencies = load_model(find_model_folder(copied)).language_model.rotary_emb.inv_freq
    wanted = 1_000_000.0 ** (-torch.arange(0, 12, 2) / 12)
    assert_close(frequencies, wanted)


@pytest.mark.parametrize(("ratio", "fit"), [("pad", "pad"), ("squash", "squash"), (None, "squash")])
def test_frames_are_fitted_as_the_checkpoint_says(
    copied: Path, edit_config: Edit, ratio: str | None, fit: str
) -> None:
    edit_config(copied, image_aspect_ratio=ratio)
    assert R1Omni.from_pretrained(copied).processor.config.frame_fit == fit


# Architectures ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "key", "value", "named"),
    [
        ("R1-Omni-tiny", "num_hidden_layers", 4, "language"),
        ("R1-Omni-tiny", "vocab_size", 400, "language"),
        ("R1-Omni-tiny", "num_frames", 4, "num_frames"),
        ("siglip-tiny-patch16-64", "image_size", 128, "vision"),
        ("whisper-tiny", "num_mel_bins", 80, "audio"),
        ("bert-tiny", "hidden_size", 64, "text"),
    ],
)
def test_same_architecture(
    tiny: R1Omni, copied: Path, edit_config: Edit, where: str, key: str, value: int, named: str
) -> None:
    own = tiny.model.config
    recorded = json.loads(json.dumps(own.architecture()))  # as a checkpoint stores it
    same_architecture(own, recorded, "step_1.ckpt")
    edit_config(copied.parent / where, **{key: value})
    found = find_model_folder(copied)
    other = read_config(found.main, found.vision_tower, found.audio_tower, found.text_tower)
    with pytest.raises(R1OmniError) as caught:
        same_architecture(other, recorded, "step_1.ckpt")
    assert "step_1.ckpt" in str(caught.value) and f"its {named} has" in str(caught.value)
    assert str(value) in str(caught.value)


def test_a_checkpoint_without_recorded_sizes_is_refused(tiny: R1Omni) -> None:
    with pytest.raises(R1OmniError, match=r"old\.ckpt"):
        same_architecture(tiny.model.config, {}, "old.ckpt")
