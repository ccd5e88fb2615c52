"""A new model folder: sizes from a YAML file, tokenizers from texts, parts from pretrained models.

The mini models start here. The folder has the released layout, so everything else reads it as it
reads a download.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from r1omni.models.checkpoint import cast_weights
from r1omni.models.config import AUDIO_POOL, TORCH_DTYPES, OmniConfig, read_config
from r1omni.models.folders import ORIGIN, find_model_folder
from r1omni.models.omni import OmniModel
from r1omni.models.parts import (
    PARTS,
    Part,
    check_language_tokenizer,
    check_text_tokenizer,
    find_part,
)
from r1omni.models.released import fill_part
from r1omni.models.saving import copy_settings, save_model
from r1omni.models.sizes import read_sizes, write_json, write_settings
from r1omni.text.prompt import R1OMNI_INSTRUCTION, prompt_text
from r1omni.types import Dtype, R1OmniError, UsageError

_SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
# Qwen2's split: words with their leading space, single digits, runs of punctuation.
_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def create_model(
    sizes_file: Path | None,
    texts: Iterable[str] | None,
    out: Path,
    seed: int,
    *,
    parts: Mapping[str, str | Path] | None = None,
    dtype: Dtype = "float32",
) -> int:
    """Write a new model folder: pretrained parts where they are given, random weights elsewhere.

    Args:
        sizes_file: YAML with the sections language, vision, audio, text and omni, each holding
            the configuration keys of Qwen2, SigLIP, Whisper, BERT and the release; without those
            of the parts that are given. None where all four are.
        texts: what the tokenizers of parts that are not given are trained on. None only with a
            language model given; the text encoder, if it is not, then knows R1-Omni's instruction
            alone.
        out: the folder to write.
        seed: of the random weights; those of a part also depend on which parts are given.
        parts: folder or hub id of pretrained parts, under "language", "vision", "audio" and "text".
        dtype: of all weights.

    Returns:
        the number of parameters.

    Raises:
        UsageError: the file is missing, a section is missing, unknown or that of a given part,
            sizes contradict each other, texts are missing or of no use, or a part cannot be used.
    """
    given = {section: find_part(section, source) for section, source in (parts or {}).items()}
    sizes = read_sizes(sizes_file, given)
    _check_texts(texts, given)
    # Every training prompt repeats the template and the instruction, so they weigh as much.
    texts = list(texts or ())
    corpus = [prompt_text(R1OMNI_INSTRUCTION, "video_audio")] * max(1, len(texts)) + texts
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        with _sizes_blamed(sizes_file, given):
            config = _write_folder(sizes, corpus, scratch, given)
            torch.manual_seed(seed)
            parts_given = [part.kind.name for part in given.values()]
            model = cast_weights(OmniModel(config, parts_given), TORCH_DTYPES[dtype])
        for part in given.values():
            with part.blamed():
                fill_part(model, part.kind.name, part.weights())
        save_model(model, find_model_folder(scratch), out)
    return sum(parameter.numel() for parameter in model.parameters())


def _write_folder(
    sizes: dict[str, Any], corpus: list[str], out: Path, given: Mapping[str, Part]
) -> OmniConfig:
    """Write settings and tokenizers of the model and its towers; returns what they ask for."""
    released = _origins(given)
    if "language" in given:
        check_language_tokenizer(given["language"])
        copy_settings(given["language"].folder, out)
        vocab_size = given["language"].config.vocab_size
    else:
        vocab_size, ids = _train_tokenizer(corpus, sizes["language"]["vocab_size"], out)
        released |= {"bos_token_id": ids["<|endoftext|>"], "eos_token_id": ids["<|im_end|>"]}
    words = None
    if "text" in given:
        check_text_tokenizer(given["text"])
    else:
        words = _text_vocabulary(corpus)
    text_vocab_size = None if words is None else len(words)
    towers = write_settings(sizes, out, vocab_size, text_vocab_size, given, released)
    if words is not None:
        (towers["text"] / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
        write_json(towers["text"] / "tokenizer_config.json", {"tokenizer_class": "BertTokenizer"})
    config = read_config(out, towers["vision"], towers["audio"], towers["text"])
    _check_config(config)
    return config


def _check_texts(texts: Iterable[str] | None, given: Mapping[str, Part]) -> None:
    if texts is None and "language" not in given:
        raise UsageError(
            "--texts is missing: the tokenizer of a new language model is trained on them; give "
            "them, or a pretrained one by --language-model"
        )
    if texts is not None and {"language", "text"} <= given.keys():
        raise UsageError(
            "--texts would train no tokenizer: --language-model and --text-encoder bring theirs; "
            "leave it out"
        )


def _origins(given: Mapping[str, Part]) -> dict[str, Any]:
    """What config.json says of where parts came from."""
    if not given:
        return {}
    found = {}
    for part in given.values():
        with part.blamed():
            found[part.kind.name] = part.origin()
    hub = {part.kind.name: part.pinned for part in given.values() if part.hub_id is not None}
    return {PARTS: found, **({ORIGIN: hub} if hub else {})}


@contextmanager
def _sizes_blamed(file: Path | None, given: Mapping[str, Part]) -> Iterator[None]:
    """Say of sizes of which no model can be built where they are from, as wrong use."""
    try:
        yield
    except UsageError:
        raise
    except (
        R1OmniError,
        StrictDataclassError,
        ValueError,
        TypeError,
        ArithmeticError,
        LookupError,
        RuntimeError,
    ) as error:  # what the libraries raise of wrong sizes
        sources = [f"{part.kind.option} {part.source}" for part in given.values()]
        named = " with ".join([*([str(file)] if file else []), *sources])
        reason = " ".join(str(error.__cause__ or error).split())
        if isinstance(error, KeyError):  # says the name alone, of an activation for one
            reason = f"{reason} is unknown"
        raise UsageError(
            f"{named}: no model can be built of these sizes ({reason}); correct them"
        ) from error


def _check_config(config: OmniConfig) -> None:
    """Raise ValueError where a tower would give the language model nothing."""
    for tower, layers, selected in (
        ("vision", config.vision.num_hidden_layers, config.vision_select_layer),
        ("audio", config.audio.encoder_layers, config.audio_select_layer),
    ):
        if not -layers - 1 <= selected <= layers:
            raise ValueError(
                f"mm_{tower}_select_layer is {selected}, but the {tower} tower has {layers} layers"
            )
    if config.grid < 2:
        raise ValueError(
            f"image_size {config.media.image_size} and patch_size {config.vision.patch_size} make "
            "fewer than 2 patches along a side, and 2 x 2 of them make a token"
        )
    if config.num_audio_tokens < 1:
        raise ValueError(
            f"max_source_positions is {config.audio.max_source_positions}, and {AUDIO_POOL} of "
            "them make a token"
        )


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
