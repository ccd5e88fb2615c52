"""Fresh model folders: they load like a download, and their tokenizers lose nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from r1omni.models import R1Omni
from r1omni.models.fresh import create_model
from r1omni.text.prompt import R1OMNI_INSTRUCTION, encode_target, prompt_text
from r1omni.types import MODALITIES, Modality, UsageError

SIZES = Path(__file__).parents[2] / "configs" / "mini" / "model.yaml"
TEXTS = (
    "<think>The woman frowns and her voice is loud.</think><answer>angry</answer>",
    "<think>He smiles; his eyes are wide open!</think>\n<answer>happy</answer>",
    "which emotion do you see?",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("fresh") / "init"
    create_model(SIZES, iter(TEXTS), out, seed=3)
    return out


@pytest.fixture(scope="module")
def fresh(folder: Path) -> R1Omni:
    return R1Omni.from_pretrained(folder)


def contents(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_the_folder_is_the_same_for_the_same_seed(folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(99)  # of no influence
    num_parameters = create_model(SIZES, TEXTS, tmp_path / "init", seed=3)
    assert contents(tmp_path / "init") == contents(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["init"]  # nothing else is left behind
    stored = load_file(folder / "model.safetensors")
    assert num_parameters == sum(
        tensor.numel()
        for name, tensor in stored.items()
        if not name.endswith("num_batches_tracked")
    )


def test_files_follow_the_umask(tmp_path: Path) -> None:
    """Also those of libraries that make files for their owner alone."""
    before = os.umask(0o027)
    try:
        create_model(SIZES, TEXTS, tmp_path / "init", seed=3)
    finally:
        os.umask(before)
    files = [path for path in (tmp_path / "init").rglob("*") if path.is_file()]
    assert {path.stat().st_mode & 0o777 for path in files} == {0o640}


def test_another_seed_gives_other_weights_only(folder: Path, tmp_path: Path) -> None:
    create_model(SIZES, TEXTS, tmp_path / "init", seed=4)
    first, second = contents(folder), contents(tmp_path / "init")
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == ["model.safetensors"]


def test_it_has_the_sizes_of_the_file(fresh: R1Omni) -> None:
    config = fresh.model.config
    assert (config.language.hidden_size, config.language.num_hidden_layers) == (96, 4)
    assert (config.vision.image_size, config.grid, config.num_video_tokens) == (64, 4, 4 * 4)
    assert config.num_audio_tokens == 80 // 3
    assert (config.media.num_frames, config.media.frame_fit) == (4, "pad")
    assert (config.media.hop_length, config.media.n_fft) == (320, 640)
    assert config.media.audio_length_s == pytest.approx(3.2)
    assert config.gate_hidden_size == 256
    assert fresh.model.lm_head.weight is fresh.model.language_model.embed_tokens.weight
    assert fresh.model.lm_head.weight.shape[0] == len(fresh.tokenizer)


@pytest.mark.parametrize("modality", MODALITIES)
def test_it_answers(fresh: R1Omni, modality: Modality) -> None:
    config = fresh.model.config.media
    inputs = fresh.prepare(
        video=torch.zeros(config.num_frames, 3, config.image_size, config.image_size),
        audio=torch.zeros(16_000),
        modality=modality,
    )
    wanted = len(inputs.token_ids[0])
    if "video" in modality:
        wanted += fresh.model.config.num_video_tokens - 1
    if "audio" in modality:
        wanted += fresh.model.config.num_audio_tokens - 1
    logits = fresh.logits(inputs)
    assert logits.shape == (1, wanted, len(fresh.tokenizer))
    assert logits.isfinite().all()
    ids = fresh.generate(inputs, max_new_tokens=3)
    assert ids.shape[0] == 1 and 1 <= ids.shape[1] <= 3


@pytest.mark.parametrize(
    "text",
    [
        *TEXTS,
        R1OMNI_INSTRUCTION,
        prompt_text(R1OMNI_INSTRUCTION, "video_audio"),
        "<vi_start><vi_end>\n<au_start><au_end>\n",
        "<think></think><answer></answer>",
        "lines\n\n  and  spaces \t tabs\r\n",
        " leading and trailing ",
        "never seen: Überraschung, naïve, 惊讶, 😀, 1234567890",
        "don't, I'll, we've .,;:!? <|im_end|>",
        "",
    ],
)
def test_the_tokenizer_loses_nothing(fresh: R1Omni, text: str) -> None:
    ids = fresh.tokenizer.encode(text, add_special_tokens=False)
    assert fresh.tokenizer.decode(ids, skip_special_tokens=False) == text
    assert all(0 <= token < fresh.model.config.language.vocab_size for token in ids)


def test_completions_survive_decoding(fresh: R1Omni) -> None:
    ids = [encode_target(fresh.tokenizer, text) for text in TEXTS]
    padded = torch.nn.utils.rnn.pad_sequence(
        ids, batch_first=True, padding_value=fresh.tokenizer.pad_token_id
    )
    assert fresh.decode(padded) == list(TEXTS)


def test_special_tokens_are_one_token_each(fresh: R1Omni) -> None:
    tokenizer = fresh.tokenizer
    for special in ("<|im_start|>", "<|im_end|>", "<|endoftext|>"):
        assert tokenizer.encode(f"a{special}b", add_special_tokens=False)[1:-1] == [
            tokenizer.convert_tokens_to_ids(special)
        ]
    assert tokenizer.eos_token == "<|im_end|>"
    assert tokenizer.pad_token == "<|endoftext|>"
    assert tokenizer.eos_token_id == fresh.model.config.language.eos_token_id
    assert tokenizer.pad_token_id != tokenizer.eos_token_id


def test_the_instruction_holds_no_unknown_words(fresh: R1Omni) -> None:
    unknown = fresh.text_tokenizer.unk_token_id
    ids = fresh.encode_instruction(R1OMNI_INSTRUCTION).tolist()
    assert unknown not in ids
    assert ids[0] == fresh.text_tokenizer.cls_token_id
    assert ids[-1] == fresh.text_tokenizer.sep_token_id
    assert unknown not in fresh.encode_instruction(TEXTS[-1]).tolist()
    assert unknown in fresh.encode_instruction("xylophone").tolist()


def test_it_survives_saving(fresh: R1Omni, folder: Path, tmp_path: Path) -> None:
    fresh.save_pretrained(tmp_path / "again")
    assert contents(tmp_path / "again") == contents(folder)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (None, "there is no such file"),
        ("language: {vocab_size: 300}\n", "sections language, vision"),
        ("", "sections language, vision"),
        (SIZES.read_text(encoding="utf-8") + "extra: {}\n", "exactly the sections"),
    ],
)
def test_unusable_sizes(tmp_path: Path, content: str | None, named: str) -> None:
    sizes = tmp_path / "sizes.yaml"
    if content is not None:
        sizes.write_text(content, encoding="utf-8")
    with pytest.raises(UsageError, match=named) as caught:
        create_model(sizes, TEXTS, tmp_path / "out", seed=0)
    assert "sizes.yaml" in str(caught.value)
    assert not (tmp_path / "out").exists()
