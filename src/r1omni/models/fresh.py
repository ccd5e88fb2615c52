"""A new model folder with random weights: sizes from a YAML file, tokenizers from texts.

The mini models start here. The folder has the released layout, so everything else reads it as it
reads a download.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from r1omni.models.config import read_config
from r1omni.models.folders import find_model_folder
from r1omni.models.omni import OmniModel
from r1omni.models.saving import save_model
from r1omni.models.sizes import read_sizes, write_json, write_settings
from r1omni.text.prompt import R1OMNI_INSTRUCTION, prompt_text

_SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
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
    sizes = read_sizes(sizes_file)
    # Every training prompt repeats the template and the instruction, so they weigh as much.
    texts = list(texts)
    corpus = [prompt_text(R1OMNI_INSTRUCTION, "video_audio")] * max(1, len(texts)) + texts
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        vocab_size, ids = _train_tokenizer(corpus, sizes["language"]["vocab_size"], scratch)
        vocabulary = _text_vocabulary(corpus)
        towers = write_settings(
            sizes,
            scratch,
            vocab_size,
            len(vocabulary),
            bos_token_id=ids["<|endoftext|>"],
            eos_token_id=ids["<|im_end|>"],
        )
        words = "\n".join(vocabulary) + "\n"
        (towers["text"] / "vocab.txt").write_text(words, encoding="utf-8")
        write_json(towers["text"] / "tokenizer_config.json", {"tokenizer_class": "BertTokenizer"})
        torch.manual_seed(seed)
        model = OmniModel(read_config(scratch, towers["vision"], towers["audio"], towers["text"]))
        save_model(model, find_model_folder(scratch), out)
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
    write_json(
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


def _text_vocabulary(corpus: list[str]) -> list[str]:
    """Whole words of the texts, after BERT's special tokens."""
    words = sorted({word for text in corpus for word in _words(text)})
    return ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]


def _words(text: str) -> list[str]:
    pieces = pre_tokenizers.BertPreTokenizer().pre_tokenize_str(text.lower())
    return [piece for piece, _ in pieces]
