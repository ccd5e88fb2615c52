"""A new model folder with random weights: sizes from a YAML file, tokenizers from texts.

The mini models start here. The folder has the released layout, so everything else reads it as it
reads a download.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import BertConfig, SiglipVisionConfig, WhisperConfig

from r1omni.models.checkpoint import find_model_folder, save_model
from r1omni.models.config import MODEL_TYPE, PROJECTOR_TYPE, read_config
from r1omni.models.omni import OmniModel
from r1omni.text.prompt import R1OMNI_INSTRUCTION, prompt_text
from r1omni.types import UsageError

_SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_SECTIONS = ("language", "vision", "audio", "text", "omni")
# Qwen2's split: words with their leading space, single digits, runs of punctuation.
_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def create_model(sizes_file: Path, texts: Iterable[str], out: Path, seed: int) -> int:
    """Write a fresh model folder.

    Args:
        sizes_file: YAML with the sections language, vision, audio, text and omni, each holding
            the configuration keys of Qwen2, SigLIP, Whisper, BERT and the release.
        texts: what the tokenizers are trained on.
        out: the folder to write.
        seed: of the weights.

    Returns:
        the number of parameters.

    Raises:
        UsageError: the file is missing or a section is missing or unknown.
    """
    if not sizes_file.is_file():
        raise UsageError(f"{sizes_file} does not exist; give a YAML file of model sizes")
    sizes: Any = OmegaConf.to_container(OmegaConf.load(sizes_file))
    if set(sizes) != set(_SECTIONS):
        raise UsageError(f"{sizes_file} must have exactly the sections {', '.join(_SECTIONS)}")
    scratch = out.with_name(out.name + ".settings")
    # Every training prompt repeats the template and the instruction, so they weigh as much.
    texts = list(texts)
    corpus = [prompt_text(R1OMNI_INSTRUCTION, "video_audio")] * max(1, len(texts)) + texts
    parts = ("vision", "audio", "text")
    towers = {part: scratch / sizes["omni"][f"{part}_tower"] for part in parts}
    for folder in (scratch, *towers.values()):
        folder.mkdir(parents=True, exist_ok=True)

    vocab_size, ids = _train_tokenizer(corpus, sizes["language"]["vocab_size"], scratch)
    _write_text_tower(towers["text"], sizes["text"], corpus)
    _write(towers["vision"] / "config.json", SiglipVisionConfig(**sizes["vision"]).to_dict())
    _write_audio_tower(towers["audio"], sizes["audio"])
    released = {
        **sizes["language"],
        "architectures": ["HumanOmniQwen2ForCausalLM"],
        "model_type": MODEL_TYPE,
        "vocab_size": vocab_size,
        "bos_token_id": ids["<|endoftext|>"],
        "eos_token_id": ids["<|im_end|>"],
        "mm_projector_type": PROJECTOR_TYPE,
        "mm_audio_projector_type": "mlp2x_gelu",
        "mm_use_x_start_end": True,
        "mm_hidden_size": sizes["vision"]["hidden_size"],
        "audio_hidden_size": sizes["audio"]["d_model"],
        "mm_vision_tower": towers["vision"].name,
        "mm_audio_tower": towers["audio"].name,
        "mm_text_tower": towers["text"].name,
        **{k: v for k, v in sizes["omni"].items() if not k.endswith("_tower")},
    }
    _write(scratch / "config.json", released)

    torch.manual_seed(seed)
    model = OmniModel(read_config(scratch, towers["vision"], towers["audio"], towers["text"]))
    save_model(model, find_model_folder(scratch), out)
    shutil.rmtree(scratch)
    return sum(parameter.numel() for parameter in model.parameters())


def _train_tokenizer(corpus: list[str], vocab_size: int, out: Path) -> tuple[int, dict[str, int]]:
    """A byte-level BPE tokenizer in Qwen2's format; returns its size and its special ids."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        corpus,
        trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=list(_SPECIAL_TOKENS),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer.save(str(out / "tokenizer.json"))
    # The trainer gives special tokens the first ids, in their order.
    ids = {token: index for index, token in enumerate(_SPECIAL_TOKENS)}
    _write(
        out / "tokenizer_config.json",
        {
            "tokenizer_class": "Qwen2Tokenizer",
            "eos_token": "<|im_end|>",
            "pad_token": "<|endoftext|>",
            "model_max_length": 32768,
            "clean_up_tokenization_spaces": False,
        },
    )
    return tokenizer.get_vocab_size(), ids


def _write_text_tower(folder: Path, sizes: dict[str, Any], corpus: list[str]) -> None:
    words = sorted({word for text in corpus for word in _words(text)})
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    _write(folder / "tokenizer_config.json", {"tokenizer_class": "BertTokenizer"})
    _write(folder / "config.json", BertConfig(**sizes, vocab_size=len(vocabulary)).to_dict())


def _words(text: str) -> list[str]:
    pieces = pre_tokenizers.BertPreTokenizer().pre_tokenize_str(text.lower())
    return [piece for piece, _ in pieces]


def _write_audio_tower(folder: Path, sizes: dict[str, Any]) -> None:
    sound = {key: sizes.pop(key) for key in ("hop_length", "n_fft")}
    _write(folder / "config.json", WhisperConfig(**sizes).to_dict())
    _write(
        folder / "preprocessor_config.json",
        {**sound, "feature_size": sizes["num_mel_bins"], "sampling_rate": 16_000},
    )


def _write(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
