"""A model folder: its towers, its files, its sizes, and one pass through it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from r1omni.doctor.checks import Finding, attempt, guarded
from r1omni.doctor.machine import GIB, read_memory
from r1omni.types import Dtype

if TYPE_CHECKING:
    from r1omni.models.config import OmniConfig
    from r1omni.models.folders import ModelFolder
    from r1omni.models.pipeline import R1Omni
    from r1omni.models.weights import Weights

# Tower -> its name in the table, and where our names of its tensors begin.
_TOWERS = {
    "vision_tower": ("vision tower", "vision_tower.vision_tower."),
    "audio_tower": ("audio tower", "audio_tower."),
    "text_tower": ("text encoder", "text_tower.bert_model."),
}


@dataclass(frozen=True)
class ModelRequest:
    """Which model to look at, with the arguments of `R1Omni.from_pretrained`."""

    path: str
    vision_tower: str | None = None
    audio_tower: str | None = None
    text_encoder: str | None = None
    device: str = "cpu"
    dtype: Dtype = "float32"


def check_model(request: ModelRequest) -> Iterator[Finding]:
    """From finding the folders to the first token; what needs a step that failed is left out."""
    from r1omni.models.checkpoint import load_tokenizers

    folder = yield from attempt("model folder", _find, request)
    if folder is None:
        return
    yield Finding("model folder", "ok", _place(folder, "main", request))
    for part, (title, _) in _TOWERS.items():
        yield Finding(title, "ok", _place(folder, part, request))
    whole = yield from _check_weights(folder)
    config = yield from attempt("architecture", _read_config, folder)
    if config is None:
        return
    num_parameters = yield from attempt("architecture", _num_parameters, config, folder)
    if num_parameters is None:
        return
    yield Finding("architecture", "ok", _sizes(config, num_parameters))
    tokenizers = yield from attempt("tokenizers", load_tokenizers, folder)
    if tokenizers is not None:
        yield _tokenizer_finding(len(tokenizers[0]), len(tokenizers[1]), config, folder)
    if not whole or tokenizers is None:
        return
    room = _room(num_parameters, request)
    if room is not None:
        yield room
        return
    yield from _check_run(request)


def _find(request: ModelRequest) -> ModelFolder:
    from r1omni.models.folders import find_model_folder

    return find_model_folder(
        request.path, request.vision_tower, request.audio_tower, request.text_encoder
    )


def _place(folder: ModelFolder, part: str, request: ModelRequest) -> str:
    """Where a part was found, and by what rule."""
    path: Path = getattr(folder, part)
    if part in folder.hub_ids:
        return f"{folder.hub_ids[part]} of the hub, in {path}"
    given = {
        "main": request.path,
        "vision_tower": request.vision_tower,
        "audio_tower": request.audio_tower,
        "text_tower": request.text_encoder,
    }
    if given[part] is not None:
        return f"{path}, as given"
    if path.parent == folder.main:
        return f"{path.name}, inside the model folder"
    if path.parent == folder.main.parent:
        return f"{path.name}, beside the model folder"
    return f"{path}, as config.json names it"


def _check_weights(folder: ModelFolder) -> Generator[Finding, None, bool]:
    """Every file that is read when the model is loaded; returns whether all are whole."""
    from r1omni.models.released import released_name

    main = yield from attempt("weights", _weights, folder, "main")
    if main is None:
        return False
    yield Finding("weights", "ok", _contents(main))
    whole = True
    for part, (title, prefix) in _TOWERS.items():
        if any(name.startswith(released_name(prefix)) for name in main.names):
            continue  # files of a tower that the main folder holds are never read
        own = yield from attempt(f"{title} weights", _weights, folder, part)
        whole = whole and own is not None
        if own is not None:
            yield Finding(f"{title} weights", "ok", _contents(own))
    return whole


def _weights(folder: ModelFolder, part: str) -> Weights:
    from r1omni.models.weights import Weights

    return Weights(folder.with_weights(part))


def _contents(weights: Weights) -> str:
    """Files, numbers and dtypes. Tensors are mapped, so their values are not read here."""
    numbers: Counter[str] = Counter()
    for _, tensor in weights:
        numbers[str(tensor.dtype).removeprefix("torch.")] += tensor.numel()
    names = weights.files[0].name
    if len(weights.files) > 1:
        names = f"{len(weights.files)} files from {names}"
    stored = ", ".join(f"{_short(count)} in {dtype}" for dtype, count in numbers.most_common())
    return f"{names}: whole, {stored}"


def _short(count: int) -> str:
    if count >= 10**9:
        return f"{count / 10**9:.2f} billion"
    return f"{count / 10**6:.2f} million"


def _read_config(folder: ModelFolder) -> OmniConfig:
    from r1omni.models.config import read_config

    return read_config(folder.main, folder.vision_tower, folder.audio_tower, folder.text_tower)


def _num_parameters(config: OmniConfig, folder: ModelFolder) -> int:
    """Parameters of the model, counted without memory for them."""
    import torch

    from r1omni.models.checkpoint import build_model

    with torch.device("meta"):
        return sum(parameter.numel() for parameter in build_model(config, folder).parameters())


def _sizes(config: OmniConfig, num_parameters: int) -> str:
    language, vision, audio, text = config.language, config.vision, config.audio, config.text
    return (
        f"{_short(num_parameters)} parameters: "
        f"Qwen2 {language.num_hidden_layers} x {language.hidden_size}, "
        f"SigLIP {vision.num_hidden_layers} x {vision.hidden_size} on {vision.image_size} px, "
        f"Whisper {audio.encoder_layers} x {audio.d_model} on {audio.num_mel_bins} mel bins, "
        f"BERT {text.num_hidden_layers} x {text.hidden_size} (layers x width); "
        f"{config.media.num_frames} frames make {config.num_video_tokens} tokens, "
        f"{config.media.audio_length_s:g} s of sound {config.num_audio_tokens}"
    )


def _tokenizer_finding(
    language: int, text: int, config: OmniConfig, folder: ModelFolder
) -> Finding:
    """Every token must have a row among the embeddings."""
    found = f"{language:,} tokens for the language model, {text:,} for the text encoder"
    for place, tokens, rows in (
        (folder.main, language, config.language.vocab_size),
        (folder.text_tower, text, config.text.vocab_size),
    ):
        if tokens > rows:
            return Finding(
                "tokenizers", "fails", f"{place}: {tokens:,} tokens, but {rows:,} embeddings",
                "copy the tokenizer that belongs to these weights",
            )  # fmt: skip
    return Finding("tokenizers", "ok", found)


def _room(num_parameters: int, request: ModelRequest) -> Finding | None:
    """A finding where loading would exhaust the memory, which the system answers by killing."""
    if request.device != "cpu":
        return None
    bytes_each = 4 if request.dtype == "float32" else 2
    try:
        _, available = read_memory()
    except OSError:
        return None
    needed = num_parameters * bytes_each
    if needed < available:
        return None
    return Finding(
        "loading", "fails",
        f"not tried: {needed / GIB:.1f} GiB are needed in {request.dtype}, "
        f"{available / GIB:.1f} GiB are available",
        "end other programs, use --dtype bfloat16, or a machine with more memory",
    )  # fmt: skip


def _check_run(request: ModelRequest) -> Iterator[Finding]:
    """Load the model and ask it once about made-up media."""
    began_s = time.perf_counter()
    omni = yield from attempt("loading", _load, request)
    if omni is None:
        return
    seconds = time.perf_counter() - began_s
    yield Finding("loading", "ok", f"{seconds:.1f} s, {request.dtype} on {request.device}")
    yield from guarded("forward pass", _check_forward, omni)


def _load(request: ModelRequest) -> R1Omni:
    from r1omni.models.pipeline import R1Omni

    return R1Omni.from_pretrained(
        request.path,
        request.vision_tower,
        request.audio_tower,
        request.text_encoder,
        request.device,
        request.dtype,
    )


def _check_forward(omni: R1Omni) -> Iterator[Finding]:
    """Logits over a prompt with noise for a picture and silence for sound, and one token."""
    import torch

    media = omni.model.config.media
    shape = (media.num_frames, 3, media.image_size, media.image_size)
    noise = torch.randint(
        0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    inputs = omni.prepare(video=noise, audio=torch.zeros(media.sampling_rate_hz))
    began_s = time.perf_counter()
    logits = omni.logits(inputs)
    num_bad = int((~logits.isfinite()).sum())
    found = f"{logits.shape[1]} tokens in {time.perf_counter() - began_s:.1f} s"
    if num_bad:
        wrong = f"{num_bad:,} of {logits.numel():,} logits are not finite"
        yield Finding(
            "forward pass", "fails", f"{found}; {wrong}",
            "copy the weights again; if they are whole, use --dtype float32 or bfloat16",
        )  # fmt: skip
        return
    yield Finding("forward pass", "ok", f"{found}, all logits finite")
    began_s = time.perf_counter()
    token = omni.generate(inputs, max_new_tokens=1)
    yield Finding(
        "greedy step", "ok",
        f"{omni.tokenizer.decode(token[0])!r} in {time.perf_counter() - began_s:.1f} s",
    )  # fmt: skip
