"""A model of pretrained parts computes what transformers do with them; bad parts are refused."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.testing import assert_close
from transformers import (
    BertConfig,
    BertModel,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2Model,
    SiglipConfig,
    SiglipModel,
    SiglipVisionModel,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForAudioClassification,
    WhisperForConditionalGeneration,
    WhisperModel,
)
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from r1omni import R1Omni
from r1omni.cli import main
from r1omni.models import fresh
from r1omni.models.fresh import create_model
from r1omni.models.weights import sha256

Folders = dict[str, Path]
SIZES: dict[str, Any] = yaml.safe_load(
    (Path(__file__).parents[1] / "golden" / "sizes.yaml").read_text(encoding="utf-8")
)
TEXTS = ["<think>He smiles.</think><answer>happy</answer>"]
WHISPER = WhisperConfig(
    d_model=24, encoder_layers=2, encoder_attention_heads=2, encoder_ffn_dim=32, decoder_layers=1,
    decoder_attention_heads=2, decoder_ffn_dim=16, vocab_size=8, num_mel_bins=80,
    max_source_positions=100, max_target_positions=8, pad_token_id=0, bos_token_id=1,
    eos_token_id=2, decoder_start_token_id=1, classifier_proj_size=8,
)  # fmt: skip
SIGLIP = SiglipConfig(
    vision_config={
        "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 3,
        "num_attention_heads": 2, "image_size": 40, "patch_size": 10,
    },
    text_config={
        "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
        "num_attention_heads": 2, "vocab_size": 8, "max_position_embeddings": 8,
        "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    },
)  # fmt: skip
BERT = BertConfig(
    vocab_size=12, hidden_size=16, intermediate_size=32, num_hidden_layers=2,
    num_attention_heads=2, max_position_embeddings=64,
)  # fmt: skip


def qwen2(vocab_size: int, **options: Any) -> Qwen2Config:
    return Qwen2Config(
        vocab_size=vocab_size, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=512,
        tie_word_embeddings=True, rope_parameters={"rope_type": "default", "rope_theta": 5e5},
        **options,
    )  # fmt: skip


def written(model: PreTrainedModel, folder: Path, dtype: torch.dtype = torch.float32) -> Path:
    """A model of random weights with nothing at its first value, saved by transformers."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    model.to(dtype).eval().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def tokenizer_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh model of random weights; its tokenizer and its sizes are used."""
    folder = tmp_path_factory.mktemp("fresh")
    (folder / "sizes.yaml").write_text(yaml.safe_dump(SIZES), encoding="utf-8")
    create_model(folder / "sizes.yaml", TEXTS, folder / "init", seed=0)
    return folder / "init"


@pytest.fixture(scope="module")
def folders(tokenizer_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """One pretrained part of each kind, by its option; in half precision, bfloat16, float32."""
    root = tmp_path_factory.mktemp("parts")
    torch.manual_seed(0)
    audio = written(WhisperForConditionalGeneration(WHISPER), root / "whisper", torch.float16)
    WhisperFeatureExtractor(feature_size=80, chunk_length=2).save_pretrained(audio)
    vision = written(SiglipModel(SIGLIP), root / "siglip")
    means = {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.4]}
    whole = {"image_processor": means}  # as transformers 5 writes a processor of texts and pictures
    (vision / "processor_config.json").write_text(json.dumps(whole), encoding="utf-8")
    text = written(BertModel(BERT), root / "bert")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "as", "an", "emotional", "expert"]
    (text / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    vocab_size = json.loads((tokenizer_dir / "config.json").read_text())["vocab_size"]
    config = qwen2(vocab_size + 7)  # as released ones, whose embedding has rows to spare
    language = written(Qwen2ForCausalLM(config), root / "qwen2", torch.bfloat16)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tokenizer_dir / name, language / name)
    return {
        "--language-model": language, "--vision-tower": vision, "--audio-tower": audio,
        "--text-encoder": text,
    }  # fmt: skip


def words(out: Path, **options: object) -> list[str]:
    """A command line; `language_model=...` is an option."""
    pairs = [(f"--{name.replace('_', '-')}", str(value)) for name, value in options.items()]
    return ["create", "--out", str(out), *(word for pair in pairs for word in pair)]


@pytest.fixture(scope="module")
def made(folders: Folders, tmp_path_factory: pytest.TempPathFactory) -> R1Omni:
    """A model all of whose parts are given: no sizes and no texts."""
    out = tmp_path_factory.mktemp("made") / "model"
    given = [str(word) for pair in folders.items() for word in pair]
    assert main(["create", "--out", str(out), *given]) == 0
    return R1Omni.from_pretrained(out)


@torch.no_grad()
def test_parts_compute_what_their_own_models_do(made: R1Omni, folders: Folders) -> None:
    model, float32 = made.model, {"dtype": torch.float32}
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    mel = torch.randn(2, 80, 200)
    whisper = WhisperModel.from_pretrained(folders["--audio-tower"], **float32).eval()
    ours = model.audio_tower.audio_tower.encoder(mel).last_hidden_state
    assert_close(ours, whisper.encoder(mel).last_hidden_state, atol=1e-5, rtol=0)
    assert ours.std() > 0.1
    pixels = torch.randn(2, 3, 40, 40)
    siglip = SiglipVisionModel.from_pretrained(folders["--vision-tower"], **float32).eval()
    states = siglip(pixels, output_hidden_states=True).hidden_states
    assert_close(model.vision_tower(pixels), states[-2], atol=1e-5, rtol=0)
    bert = BertModel.from_pretrained(folders["--text-encoder"], **float32).eval()
    ids = made.encode_instruction("an emotional expert")[None]
    assert ids.tolist() == [[2, 6, 7, 8, 3]]
    state = bert(ids).last_hidden_state[:, 0]
    assert_close(model.text_tower(ids, torch.ones_like(ids).bool()), state, atol=1e-5, rtol=0)
    language = Qwen2ForCausalLM.from_pretrained(folders["--language-model"], **float32).eval()
    tokens = torch.randint(300, (1, 9))
    states = model.language_model(tokens).last_hidden_state
    assert_close(model.lm_head(states), language(tokens).logits, atol=1e-5, rtol=0)


def test_it_reads_what_its_parts_read(made: R1Omni, folders: Folders, tmp_path: Path) -> None:
    config = made.model.config
    assert (config.media.audio_length_s, config.media.num_mel_bins) == (2.0, 80)
    assert made.processor.mel(torch.randn(80_000)).shape == (80, 200)  # 5 s are cut, 1 s padded
    assert made.processor.mel(torch.randn(16_000)).shape == (80, 200)
    assert config.num_audio_tokens == 100 // 3
    assert (config.media.image_size, config.grid, config.num_video_tokens) == (40, 4, 8 * 4)
    assert config.media.image_mean == (0.4, 0.5, 0.6)
    assert (config.media.num_frames, config.media.frame_fit) == (8, "pad")
    assert config.language.rope_parameters["rope_theta"] == 5e5
    assert made.tokenizer.eos_token == "<|im_end|>"
    inputs = made.prepare(video=torch.zeros(8, 3, 40, 40), audio=torch.randn(16_000))
    assert made.logits(inputs).isfinite().all()
    recorded = made.model.config.released["parts"]
    assert recorded == {
        name: {"from": str(folder.resolve()), "sha256": sha256([folder / "model.safetensors"])}
        for name, folder in zip(
            ("language_model", "vision_tower", "audio_tower", "text_tower"),
            folders.values(),
            strict=True,
        )
    }
    made.save_pretrained(tmp_path / "again")
    again = json.loads((tmp_path / "again" / "config.json").read_text(encoding="utf-8"))
    assert again["parts"] == recorded


def as_bin(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


@pytest.mark.parametrize(
    ("kind", "config", "option"),
    [
        (WhisperEncoder, WHISPER, "audio"), (WhisperModel, WHISPER, "audio"),
        (WhisperForAudioClassification, WHISPER, "audio"),
        (SiglipVisionModel, SIGLIP.vision_config, "vision"),
        (Qwen2Model, qwen2(700), "language"),
    ],
)  # fmt: skip
def test_checkpoints_of_the_part_alone_and_of_more(
    kind: type[PreTrainedModel], config: Any, option: str, folders: Folders, tmp_path: Path
) -> None:
    own = kind(config)
    folder = written(own, tmp_path / "part")
    if kind is WhisperEncoder:
        as_bin(folder)
    if option == "language":
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(folders["--language-model"] / name, folder / name)
    sizes = sizes_without(tmp_path, option)
    texts = None if option == "language" else TEXTS
    create_model(sizes, texts, tmp_path / "out", 0, parts={option: folder}, dtype="bfloat16")
    model = R1Omni.from_pretrained(tmp_path / "out", dtype="bfloat16").model
    assert model.config.released["torch_dtype"] == "bfloat16"
    ours = {
        "audio": model.audio_tower.audio_tower, "vision": model.vision_tower.vision_tower,
        "language": model.language_model,
    }[option].state_dict()  # fmt: skip
    theirs = own.state_dict()
    if kind is WhisperEncoder:
        theirs = {f"encoder.{name}": tensor for name, tensor in theirs.items()}
    shared = {name for name in theirs if not name.startswith("decoder.")}
    assert shared <= ours.keys() and len(shared) >= 20
    for name in shared:
        assert torch.equal(ours[name], theirs[name].bfloat16()), name


def sizes_without(folder: Path, *sections: str, **changes: dict[str, Any]) -> Path:
    """A file of sizes without those of given parts; `changes` go into its sections."""
    sizes = {name: dict(keys) for name, keys in SIZES.items() if name not in sections}
    for section in sections:
        sizes["omni"].pop(f"{section}_tower", None)
    for section, keys in changes.items():
        sizes[section] = {**sizes.get(section, {}), **keys}
    file = folder / "sizes.yaml"
    file.write_text(yaml.safe_dump(sizes), encoding="utf-8")
    return file


def test_two_parts_in_folders_of_one_name(folders: Folders, tmp_path: Path) -> None:
    for option, name in (("--audio-tower", "a"), ("--vision-tower", "v")):
        shutil.copytree(folders[option], tmp_path / name / "model")
    parts = {"audio": tmp_path / "a" / "model", "vision": tmp_path / "v" / "model"}
    create_model(sizes_without(tmp_path, *parts), TEXTS, tmp_path / "out", 0, parts=parts)
    config = R1Omni.from_pretrained(tmp_path / "out").model.config
    assert (config.audio.d_model, config.vision.hidden_size) == (24, 16)


def test_parts_in_folders_called_as_files_of_a_model(folders: Folders, tmp_path: Path) -> None:
    parts = {}
    for section, name in (("audio", "config.json"), ("vision", "model.safetensors")):
        parts[section] = tmp_path / section / name
        shutil.copytree(folders[f"--{section}-tower"], parts[section])
    create_model(sizes_without(tmp_path, *parts), TEXTS, tmp_path / "out", 0, parts=parts)
    config = R1Omni.from_pretrained(tmp_path / "out").model.config
    assert (config.audio.d_model, config.vision.hidden_size) == (24, 16)
    assert (tmp_path / "out" / "config.json-audio" / "config.json").is_file()


def test_given_parts_get_no_first_values(
    folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To draw them takes time, and memory, which the files then fill again."""
    drawn = set()
    built, empty = fresh.OmniModel, torch.empty

    def build(config: Any, filled_later: Any) -> Any:
        # Of memory that is not written nothing can be known: here it is marked first.
        with monkeypatch.context() as patch:
            patch.setattr(torch, "empty", lambda *size, **kw: empty(*size, **kw).fill_(7))
            model = built(config, filled_later)
        matrices = {name: p for name, p in model.named_parameters() if p.dim() > 1}
        drawn.update(name.split(".")[0] for name, p in matrices.items() if not (p == 7).any())
        return model

    monkeypatch.setattr(fresh, "OmniModel", build)
    parts = {"audio": folders["--audio-tower"], "language": folders["--language-model"]}
    create_model(sizes_without(tmp_path, *parts), None, tmp_path / "out", 0, parts=parts)
    assert drawn == {"vision_tower", "text_tower", "gate", "video_projector", "audio_projector"}


# Refusals --------------------------------------------------------------------------------------

Damage = Callable[[Path], None]


def config_with(**changes: Any) -> Damage:
    def change(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes), encoding="utf-8")

    return change


def weights_with(change: Callable[[dict[str, Tensor]], object]) -> Damage:
    def rewrite(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors")

    return rewrite


def without(name: str) -> Damage:
    return lambda folder: (folder / name).unlink()


def without_mark(folder: Path) -> None:
    path = folder / "tokenizer.json"
    path.write_text(path.read_text().replace("<|im_start|>", "<|begin|>"), encoding="utf-8")


def processor_of_no_pictures(folder: Path) -> None:
    (folder / "processor_config.json").write_text('{"image_processor": 5}', encoding="utf-8")


# Of a temporary folder, which is gone when the line is read.
SCRATCH = re.compile(r"/tmp\w+/")
ROPE = {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4}


@pytest.mark.parametrize(
    ("option", "damage", "told"),
    [
        ("--audio-tower", without("config.json"), "config.json is missing"),
        ("--audio-tower", config_with(model_type="wav2vec2"), "'wav2vec2', and Whisper is"),
        ("--vision-tower", config_with(model_type="clip"), "give a SigLIP checkpoint"),
        ("--text-encoder", config_with(model_type="roberta"), "give a BERT checkpoint"),
        ("--language-model", config_with(model_type="qwen3"), "give a Qwen2 checkpoint"),
        ("--audio-tower", without("model.safetensors"), "no .safetensors or .bin file"),
        ("--audio-tower", weights_with(lambda t: t.pop("model.encoder.conv1.bias")), "missing: "),
        ("--audio-tower", weights_with(lambda t: t.update(x=t["model.encoder.conv1.bias"] + 0)),
         "unexpected: "),
        ("--audio-tower", config_with(max_source_positions=50), "embed_positions.weight [100, 24]"),
        ("--audio-tower", config_with(num_mel_bins=128), "128 (num_mel_bins)"),
        ("--audio-tower", config_with(encoder_attention_heads=5), "must be divisible"),
        ("--audio-tower", config_with(max_source_positions=2), "max_source_positions is 2"),
        ("--vision-tower", config_with(quantization_config={}), "quantized"),
        ("--vision-tower", processor_of_no_pictures, "image_processor must be an object"),
        ("--text-encoder", without("vocab.txt"), "no tokenizer"),
        ("--text-encoder", config_with(vocab_size=5), "9 tokens, but vocab_size is 5"),
        ("--language-model", without("tokenizer.json"), "no tokenizer"),
        ("--language-model", without_mark, "no token <|im_start|>"),
        ("--language-model", config_with(vocab_size=20), "but vocab_size is 20"),
        ("--language-model", config_with(rope_parameters=ROPE), "'yarn'"),
        ("--language-model", config_with(use_sliding_window=True), "use_sliding_window"),
    ],
)  # fmt: skip
def test_parts_that_cannot_be_used(
    option: str, damage: Damage, told: str, folders: Folders, tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    folder = tmp_path / "part"
    shutil.copytree(folders[option], folder)
    damage(folder)
    given = [str(word) for pair in (folders | {option: folder}).items() for word in pair]
    assert main(["create", "--out", str(tmp_path / "out"), *given]) == 2
    [line] = [line for line in capfd.readouterr().err.splitlines() if "error:" in line]
    assert f"{option} {folder}" in line and told in line and not SCRATCH.search(line)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("left_out", "changes", "given", "told"),
    [
        ((), {}, {"audio_tower"}, "has a section audio, but --audio-tower"),
        (("audio", "vision"), {}, {"audio_tower"}, "sections language, vision, text, omni"),
        (("audio",), {"omni": {"audio_tower": "x"}}, {"audio_tower"}, "omni names the audio_tower"),
        (("audio",), {"omni": {"mm_vision_select_layer": -9}}, {"audio_tower"}, "_layer is -9"),
        (("audio",), {"omni": {"mm_audio_select_layer": 9}}, {"audio_tower"}, "_layer is 9"),
        (("audio",), {"omni": {"text_tower": "a", "vision_tower": "a"}}, {"audio_tower"}, "apart"),
        (("audio",), {"language": {"hidden_size": "w"}}, {"audio_tower"}, "no model can be built"),
        (("audio",), {"text": {"hidden_act": "no"}}, {"audio_tower"}, "no model can be built"),
        (("audio",), {"vision": {"hidden_size": -8}}, {"audio_tower"}, "no model can be built"),
        (("audio",), {"vision": {"patch_size": 64}}, {"audio_tower"}, "fewer than 2 patches"),
        (("language", "text"), {}, {"language_model", "text_encoder"}, "would train no tokenizer"),
        (("audio",), {"omni": {"text_tower": "a/b"}}, {"audio_tower"}, "which cannot be a folder"),
        (("audio",), {"omni": {"vision_tower": "Config.json"}}, {"audio_tower"}, "a plain name"),
        (None, {}, {"language_model"}, "--sizes is missing, with the sections vision"),
    ],
)  # fmt: skip
def test_sizes_that_contradict(
    left_out: tuple[str, ...] | None, changes: dict[str, Any], given: set[str], told: str,
    folders: Folders, tmp_path: Path, capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    options: dict[str, object] = {
        name: folders[f"--{name.replace('_', '-')}"] for name in sorted(given)
    }
    if left_out is not None:
        options["sizes"] = sizes_without(tmp_path, *left_out, **changes)
    (tmp_path / "texts.json").write_text(json.dumps(TEXTS), encoding="utf-8")
    options["texts"] = tmp_path / "texts.json"
    assert main(words(tmp_path / "out", **options)) == 2
    [line] = [line for line in capfd.readouterr().err.splitlines() if "error:" in line]
    assert told in line and not SCRATCH.search(line)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--sizes", "{}", "--texts", "{}/x.json"], "--sizes {}: is a folder; give a file"),
        (["--sizes", "{}/none", "--texts", "{}/x.json"], "--sizes {}/none: there is no such file"),
        (["--sizes", "{}/x.yaml", "--texts", "{}"], "--texts {}: is a folder; give a file"),
        (["--sizes", "{}/bad.yaml", "--texts", "{}/x.json"], "bad.yaml: is no YAML"),
        (
            ["--audio-tower", ""],
            "--audio-tower: the value is empty; give one, or leave it",
        ),
        (["--audio-tower="], "argument --audio-tower: the value is empty"),
        (["--out", "b"], "--out: given twice; give it once (see `python -m r1omni create --help`)"),
        (["--seed", "1", "--seed=2"], "argument --seed: given twice"),
        (["--texts", "a", "--texts", "b"], "argument --texts: given twice"),
    ],
)
def test_words_that_create_cannot_use(
    words: list[str], told: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.json").write_text(json.dumps(TEXTS), encoding="utf-8")
    (tmp_path / "bad.yaml").write_text("omni: [", encoding="utf-8")
    line = ["create", "--out", str(tmp_path / "new"), *(w.format(tmp_path) for w in words)]
    assert main(line) == 2
    [found] = [text for text in capfd.readouterr().err.splitlines() if "error:" in text]
    assert told.format(tmp_path) in found
    assert not (tmp_path / "new").exists()


def test_texts_are_needed_for_a_new_tokenizer_alone(
    folders: Folders, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    sizes = sizes_without(tmp_path, "audio")
    audio = folders["--audio-tower"]
    assert main(words(tmp_path / "out", sizes=sizes, audio_tower=audio)) == 2
    assert "--texts is missing" in capfd.readouterr().err
    sizes = sizes_without(tmp_path, "language")
    language = folders["--language-model"]
    assert main(words(tmp_path / "out", sizes=sizes, language_model=language)) == 0
    omni = R1Omni.from_pretrained(tmp_path / "out")
    assert omni.text_tokenizer.unk_token_id not in omni.encode_instruction("Which emotion?")[1:-2]
