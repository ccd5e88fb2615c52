"""The public API: `R1Omni` from folder to completion, and back to a folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from short_prompts import recorded_ids
from torch import Tensor
from torch.testing import assert_close

from r1omni.models import R1Omni
from r1omni.models.sampler import mask_after_end
from r1omni.types import MODALITIES, Modality, PromptInputs, R1OmniError, UsageError

Recorded = dict[str, Tensor]
EACH_MODALITY = pytest.mark.parametrize("modality", MODALITIES)


def prepared(omni: R1Omni, expected: Recorded, modality: Modality) -> PromptInputs:
    return omni.prepare(
        video=expected["pixel_values_squash"] if "video" in modality else None,
        audio=expected["mel"] if "audio" in modality else None,
        modality=modality,
    )


@EACH_MODALITY
def test_prepare_and_logits(tiny: R1Omni, expected: Recorded, modality: Modality) -> None:
    inputs = prepared(tiny, expected, modality)
    assert inputs.token_ids[0].tolist() == recorded_ids(expected, modality).tolist()
    logits = tiny.logits(inputs)
    assert not logits.requires_grad
    assert_close(logits, expected[f"{modality}/logits"], rtol=0, atol=1e-4)


@EACH_MODALITY
def test_generate_and_decode(
    tiny: R1Omni, expected: Recorded, recorded: dict[str, Any], modality: Modality
) -> None:
    wanted = expected[f"{modality}/greedy_ids"]
    ids = tiny.generate(prepared(tiny, expected, modality), max_new_tokens=wanted.shape[1])
    assert ids.tolist() == wanted.tolist()
    assert tiny.decode(ids)[0].strip() == recorded["modalities"][modality]["text"].strip()


def test_completion_logps(tiny: R1Omni, expected: Recorded) -> None:
    completion = expected["completion_ids"]
    assert completion[0, -1] == tiny.tokenizer.eos_token_id
    padded = torch.cat([completion, completion.new_tensor([[385, 384, 5]])], dim=1)
    logps = tiny.completion_logps(prepared(tiny, expected, "video_audio"), padded)
    assert_close(logps[:, :-3], expected["completion_logps"], rtol=0, atol=1e-4)
    assert logps[0, -4] < 0  # the end token itself counts
    assert logps[0, -3:].tolist() == [0.0, 0.0, 0.0]


def test_from_the_recorded_clip_itself(
    tiny: R1Omni, tiny_dir: Path, expected: Recorded, recorded: dict[str, Any]
) -> None:
    inputs = tiny.prepare(
        video=tiny_dir / "clip.mp4", instruction=recorded["instruction"], frame_fit="squash"
    )
    last = tiny.logits(inputs)[0, -1]
    wanted = expected["video_audio/logits"][0, -1]
    assert last.argmax() == wanted.argmax()
    assert_close(last, wanted, rtol=0, atol=5e-2)


def test_frame_fit_is_the_checkpoints_unless_given(
    tiny: R1Omni, tiny_dir: Path, expected: Recorded
) -> None:
    clip = tiny_dir / "clip.mp4"

    def distance(frame_fit: str | None, name: str) -> float:
        inputs = tiny.prepare(video=clip, modality="video", frame_fit=frame_fit)
        frames = inputs.media[0].frames
        difference = tiny.processor.normalise(frames) - expected[f"pixel_values_{name}"]
        return difference.abs().mean().item()

    # A decoder of another version may differ by a grey level or two (of 127.5 each).
    assert distance(None, "pad") < 0.02 < 0.1 < distance(None, "squash")
    assert distance("squash", "squash") < 0.02 < 0.1 < distance("squash", "pad")


def test_a_frame_fit_of_ones_own_is_saved(tiny_dir: Path, tmp_path: Path) -> None:
    omni = R1Omni.from_pretrained(tiny_dir / "R1-Omni-tiny")
    assert omni.processor.config.frame_fit == "pad"
    omni.use_frame_fit("squash")
    omni.save_pretrained(tmp_path / "saved")
    again = R1Omni.from_pretrained(tmp_path / "saved")
    clip = tiny_dir / "clip.mp4"
    for model in (omni, again):
        assert model.processor.config.frame_fit == "squash"
        given = model.prepare(clip, modality="video").media[0].frames
        assert torch.equal(
            given, omni.prepare(clip, modality="video", frame_fit="squash").media[0].frames
        )
        assert not torch.equal(
            given, omni.prepare(clip, modality="video", frame_fit="pad").media[0].frames
        )


def test_waveform_in_place_of_mel(tiny: R1Omni, expected: Recorded) -> None:
    inputs = tiny.prepare(audio=expected["waveform"], modality="audio")
    assert_close(inputs.media[0].mel, expected["mel"][0], rtol=0, atol=2e-3)


def test_sound_of_the_video_file_is_used(tiny: R1Omni, tiny_dir: Path) -> None:
    clip = tiny_dir / "clip.mp4"
    both = tiny.prepare(video=clip).media[0]
    apart = tiny.prepare(video=clip, audio=clip).media[0]
    assert torch.equal(both.mel, apart.mel)
    assert both.frames is not None
    assert tiny.prepare(video=clip, modality="audio").media[0].frames is None
    assert tiny.prepare(video=clip, modality="video").media[0].mel is None


@pytest.mark.parametrize(
    ("given", "modality", "named"),
    [
        ((), "video", "video="),
        ((), "audio", "audio="),
        (("video",), "video_audio", "audio="),  # a tensor of pixels has no sound
        (("audio",), "video_audio", "video="),
        (("video", "audio"), "smell", "'smell'"),
    ],
)
def test_a_missing_medium_is_refused(
    tiny: R1Omni, expected: Recorded, given: tuple[str, ...], modality: str, named: str
) -> None:
    tensors = {"video": expected["pixel_values_squash"], "audio": expected["mel"]}
    with pytest.raises(UsageError, match=named):
        tiny.prepare(**{name: tensors[name] for name in given}, modality=modality)


def test_a_long_instruction_fits_the_text_encoder(tiny: R1Omni) -> None:
    ids = tiny.encode_instruction("why " * 2000)
    assert len(ids) == tiny.model.config.text.max_position_embeddings
    assert tiny.model.branch_weights([ids]).isfinite().all()


def test_sampling_uses_the_tokenizers_tokens(tiny: R1Omni) -> None:
    sampling = tiny.sampling(7, 0.5)
    assert (sampling.max_new_tokens, sampling.temperature) == (7, 0.5)
    assert sampling.end_ids == (tiny.tokenizer.convert_tokens_to_ids("<|im_end|>"),)
    assert sampling.pad_id == tiny.tokenizer.convert_tokens_to_ids("<|endoftext|>")


def test_generate_several(tiny: R1Omni, expected: Recorded) -> None:
    inputs = prepared(tiny, expected, "video")
    options = {"max_new_tokens": 6, "do_sample": True, "num_return_sequences": 3}
    ids = tiny.generate(inputs, seed=1, **options)
    assert ids.shape == (3, 6)
    assert len({tuple(row) for row in ids.tolist()}) == 3
    assert torch.equal(ids, tiny.generate(inputs, seed=1, **options))
    assert not torch.equal(ids, tiny.generate(inputs, seed=2, **options))
    pieces = list(tiny.generate(inputs, seed=1, stream=True, **options))
    assert torch.equal(torch.cat(pieces, dim=1), ids) and len(pieces) == 2
    # A fresh seed follows torch's global one, as users of `torch.manual_seed` expect.
    torch.manual_seed(5)
    first, second = tiny.generate(inputs, **options), tiny.generate(inputs, **options)
    torch.manual_seed(5)
    assert torch.equal(first, tiny.generate(inputs, **options))
    assert not torch.equal(first, second)


def test_analyze(tiny: R1Omni, tiny_dir: Path) -> None:
    [analysis] = tiny.analyze(tiny_dir / "clip.mp4", max_new_tokens=4)
    assert analysis.start_s == 0.0
    assert analysis.end_s == pytest.approx(105 / 25)  # frames over frames a second
    assert not analysis.format_ok  # random weights
    assert analysis.text


@pytest.fixture
def model_copy(tiny_dir: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model's folders; returns the main one."""
    shutil.copytree(tiny_dir, tmp_path / "copy")
    return tmp_path / "copy" / "R1-Omni-tiny"


def test_several_end_tokens(model_copy: Path, tiny: R1Omni) -> None:
    im_end, endoftext = tiny.tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
    assert tiny.end_ids == (im_end,)
    named = json.dumps({"eos_token_id": [endoftext, im_end]})
    (model_copy / "generation_config.json").write_text(named)
    omni = R1Omni.from_pretrained(model_copy)
    assert omni.end_ids == omni.sampling(5, 1.0).end_ids == (im_end, endoftext)
    # What a person would see: an answer stops at either.
    inputs = omni.prepare(model_copy.parent / "clip.mp4", modality="video")
    first = omni.generate(inputs, max_new_tokens=4)[0, 0]
    omni.end_ids = (im_end, int(first))
    assert omni.generate(inputs, max_new_tokens=4).shape == (1, 1)
    # Its log-probabilities end there, too.
    logps = omni.completion_logps(inputs, torch.tensor([[int(first), 7, 8]]))
    assert logps[0, 0] < 0 and not logps[0, 1:].any()
    omni.save_pretrained(model_copy.parent / "saved")
    assert R1Omni.from_pretrained(model_copy.parent / "saved").end_ids == (im_end, endoftext)


@pytest.mark.parametrize("named", [[1, 10**6], "<|im_end|>", [True], [-1], 1.5])
def test_end_tokens_that_are_none(model_copy: Path, named: object) -> None:
    (model_copy / "generation_config.json").write_text(json.dumps({"eos_token_id": named}))
    with pytest.raises(R1OmniError, match=r"generation_config\.json: eos_token_id") as caught:
        R1Omni.from_pretrained(model_copy)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("completion", "wanted"),
    [
        ([5, 6, 7], [1, 1, 1]),
        ([5, 9, 7], [1, 1, 0]),
        ([9, 5, 9], [1, 0, 0]),
        ([9, 9, 9], [1, 0, 0]),
        ([5, 6, 9], [1, 1, 1]),
        ([8, 6, 9], [1, 0, 0]),
    ],
)
def test_mask_after_end(completion: list[int], wanted: list[int]) -> None:
    mask = mask_after_end(torch.tensor([completion]), end_ids=(9, 8))
    assert mask.dtype == torch.bool
    assert mask.int().tolist() == [wanted]


def test_save_pretrained(tiny: R1Omni, tiny_dir: Path, tmp_path: Path, expected: Recorded) -> None:
    tiny.save_pretrained(tmp_path / "saved")
    written = load_file(tmp_path / "saved" / "model.safetensors")
    released = load_file(tiny_dir / "R1-Omni-tiny" / "model.safetensors")
    assert {n: t.shape for n, t in written.items()} == {n: t.shape for n, t in released.items()}
    assert all(torch.equal(written[name], released[name]) for name in released)

    # The folder stands alone: nothing of the source is needed.
    (tmp_path / "saved").rename(tmp_path / "moved")
    again = R1Omni.from_pretrained(tmp_path / "moved")
    inputs = prepared(tiny, expected, "video_audio")
    assert torch.equal(again.logits(inputs), tiny.logits(inputs))
    assert again.tokenizer.get_vocab() == tiny.tokenizer.get_vocab()
    assert again.text_tokenizer.get_vocab() == tiny.text_tokenizer.get_vocab()
    assert again.model.config == tiny.model.config


def test_unknown_format_and_dtype(tiny: R1Omni, tiny_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="gguf"):
        tiny.save_pretrained(tmp_path / "out", format="gguf")
    assert not (tmp_path / "out").exists()
    with pytest.raises(UsageError, match="float8"):
        R1Omni.from_pretrained(tiny_dir / "R1-Omni-tiny", dtype="float8")


def test_dtype(tiny: R1Omni, tiny_dir: Path, expected: Recorded) -> None:
    half = R1Omni.from_pretrained(tiny_dir / "R1-Omni-tiny", dtype="bfloat16")
    assert {p.dtype for p in half.model.parameters()} == {torch.bfloat16}
    inputs = prepared(tiny, expected, "video")
    assert_close(half.logits(inputs).float(), tiny.logits(inputs), rtol=0, atol=0.2)


def test_tensors_that_do_not_fit_are_refused_in_one_line(tiny: R1Omni, expected: Recorded) -> None:
    """Of another shape or dtype, or not finite: before the model sees them."""
    wave, mel = expected["waveform"], expected["mel"]
    frames, ids = expected["pixel_values_squash"], expected["completion_ids"]
    broken = wave.clone()
    broken[5] = torch.nan
    inputs = prepared(tiny, expected, "video_audio")
    two = PromptInputs(*(part * 2 for part in (inputs.token_ids, inputs.instruction_ids)), ())
    size = frames.shape[-1]
    for told, call in {
        "audio holds NaN or infinity": lambda: tiny.prepare(audio=broken, modality="audio"),
        "audio is int64": lambda: tiny.prepare(audio=wave.long(), modality="audio"),
        "audio has shape [2,": lambda: tiny.prepare(audio=mel.repeat(2, 1, 1), modality="audio"),
        "audio has shape [];": lambda: tiny.prepare(audio=torch.tensor(1.0), modality="audio"),
        "audio is 3; it must be: str": lambda: tiny.prepare(audio=3, modality="audio"),  # type: ignore[arg-type]
        f"be [T, 3, {size}, {size}]": lambda: tiny.prepare(video=frames[0], modality="video"),
        f"{size - 1}]; it must be": lambda: tiny.prepare(video=frames[..., 1:], modality="video"),
        "video is int64": lambda: tiny.prepare(video=frames.long(), modality="video"),
        "video holds NaN": lambda: tiny.prepare(video=frames / 0 * 0, modality="video"),
        "modality 'sound' is unknown": lambda: tiny.prepare(video=frames, modality="sound"),  # type: ignore[arg-type]
        "instruction is 3": lambda: tiny.prepare(video=frames, instruction=3, modality="video"),  # type: ignore[arg-type]
        "completion_ids has shape": lambda: tiny.completion_logps(inputs, ids.flatten()),
        "completion_ids are float32": lambda: tiny.completion_logps(inputs, ids.float()),
        "; token ids are from 0 to": lambda: tiny.completion_logps(inputs, ids + 10**6),
        "completion_ids is [[1]]": lambda: tiny.completion_logps(inputs, [[1]]),  # type: ignore[arg-type]
        "inputs hold 2 prompts": lambda: tiny.logits(two),
        "inputs is 'a prompt'": lambda: tiny.generate("a prompt"),  # type: ignore[arg-type]
        "effect only with do_sample": lambda: tiny.generate(inputs, temperature=0.5),
        "temperature is 1e-40": lambda: tiny.generate(inputs, do_sample=True, temperature=1e-40),
    }.items():  # fmt: skip
        with pytest.raises(UsageError) as caught:
            call()
        assert told in str(caught.value) and "\n" not in str(caught.value)
