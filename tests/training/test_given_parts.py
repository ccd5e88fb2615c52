"""Training around a given Whisper, on sound alone, with the smallest vision tower there can be."""

from __future__ import annotations

import json
import wave
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from small_training import BASE, SGD_LIKE, short_sft
from torch import nn
from transformers import WhisperConfig
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from r1omni import R1Omni
from r1omni.cli import main
from r1omni.data import DatasetSpec, EmotionDataModule
from r1omni.data.loader_config import LoaderConfig
from r1omni.models.fresh import create_model
from r1omni.models.saving import save_model
from r1omni.training import GRPOModule, SFTModule

SMALLEST = {
    "hidden_size": 1, "intermediate_size": 1, "num_hidden_layers": 1, "num_attention_heads": 1,
    "image_size": 2, "patch_size": 1,
}  # fmt: skip
POSITIONS = 100  # 2 seconds
EMOTIONS = ("03", "04", "05", "06")


@pytest.fixture(scope="module")
def init(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model around a tiny Whisper of another width and length than the mini's."""
    root = tmp_path_factory.mktemp("parts")
    torch.manual_seed(0)
    config = WhisperConfig(
        d_model=24, encoder_layers=1, encoder_attention_heads=2, encoder_ffn_dim=32,
        num_mel_bins=80, max_source_positions=POSITIONS,
    )  # fmt: skip
    WhisperEncoder(config).half().save_pretrained(root / "whisper")
    sizes = yaml.safe_load((Path(__file__).parents[1] / "golden" / "sizes.yaml").read_text("utf-8"))
    del sizes["audio"], sizes["omni"]["audio_tower"]
    sizes["vision"] = SMALLEST
    (root / "sizes.yaml").write_text(yaml.safe_dump(sizes), encoding="utf-8")
    texts = ["<think>The voice is loud.</think><answer>angry</answer>"]
    parts = {"audio": root / "whisper"}
    create_model(root / "sizes.yaml", texts, root / "init", 0, parts=parts)
    return root / "init"


@pytest.fixture(scope="module")
def ravdess(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The audio-only release: sounds longer and shorter than what the tower reads, two actors."""
    root = tmp_path_factory.mktemp("data")
    for actor in (1, 2):
        folder = root / "RAVDESS" / f"Actor_{actor:02}"
        folder.mkdir(parents=True)
        for emotion in EMOTIONS:
            name = f"03-01-{emotion}-01-01-01-{actor:02}.wav"
            noise = np.random.default_rng(int(emotion) + 10 * actor).integers(-9999, 9999, 48_000)
            with wave.open(str(folder / name), "wb") as file:
                file.setnchannels(1)
                file.setsampwidth(2)
                file.setframerate(16_000)
                file.writeframes(
                    noise[: 48_000 if emotion < "05" else 9_000].astype("<i2").tobytes()
                )
    return root


def never_run(module: nn.Module) -> None:
    """What sound alone has no use for raises."""

    def refuse(part: nn.Module, inputs: tuple[Any, ...]) -> None:
        raise AssertionError(f"{type(part).__name__} was run for sound alone")

    for part in module.modules():
        part.register_forward_pre_hook(refuse)


def actor(number: int) -> DatasetSpec:
    return DatasetSpec("ravdess", "RAVDESS", split="all", options={"actors": [number]})


@pytest.mark.parametrize("method", ["sft", "grpo"])
def test_a_step_and_a_test_on_sound_alone_leave_the_picture_be(
    method: str, init: Path, ravdess: Path, tmp_path: Path
) -> None:
    module = (
        SFTModule(str(init), optimizer=SGD_LIKE, max_new_tokens=4)
        if method == "sft"
        else GRPOModule(str(init), optimizer=SGD_LIKE, grpo=BASE)
    )
    before = {name: p.detach().clone() for name, p in module.model.named_parameters()}
    model = module.model
    for part in (model.vision_tower, model.video_projector, model.text_tower, model.gate):
        never_run(part)
    data = EmotionDataModule(
        root=str(ravdess),
        train=[actor(1)],
        val=[actor(2)],
        test=[actor(2)],
        loader=LoaderConfig(batch_size=4, decode_workers=0, cache_dir=str(tmp_path / "cache")),
    )
    trainer = L.Trainer(
        max_steps=1, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(module, data)
    after = dict(model.named_parameters())
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"audio_projector", "language_model"}
    trainer.test(module, data)
    file = tmp_path / "test" / "predictions" / "ravdess.full.jsonl"
    answers = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert len(answers) == len(EMOTIONS)
    results = json.loads((tmp_path / "test" / "results.json").read_text(encoding="utf-8"))
    part = results["provenance"]["start"]["parts"]["audio_tower"]
    assert part["from"] == str(init.parent / "whisper") and len(part["sha256"]) == 64
    save_model(model, module.omni.folder, tmp_path / "model")
    kept = R1Omni.from_pretrained(tmp_path / "model")
    assert kept.model.config.media.audio_length_s == 2 * POSITIONS / 100
    sound = next(ravdess.rglob("*.wav"))
    [analysis] = kept.analyze(sound, modality="audio", max_new_tokens=2)
    assert analysis.warnings == ()
    features = kept.model.encode_media(kept.prepare(audio=sound, modality="audio").media)[0]
    assert features.video is None and features.audio.shape == (POSITIONS // 3, 24)


def test_it_is_trained_exported_and_used_as_any_model(
    mini_world: Path, init: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Picture and sound of the mini-world, by the command line."""
    (tmp_path / "world").symlink_to(mini_world / "world")
    (tmp_path / "init").symlink_to(init)
    run, out = tmp_path / "run", tmp_path / "exported"
    assert main(["fit", *short_sft(tmp_path, run, "--trainer.logger", "false")]) == 0
    assert main(["export", "--ckpt_path", str(run), "--out", str(out)]) == 0
    first, last = (load_file(folder / "model.safetensors") for folder in (init, out))
    same = {name for name in first if torch.equal(first[name], last[name])}
    towers = ("model.vision_tower.", "model.audio_tower.", "model.bert_model.")
    assert {name for name in first if name.startswith(towers)} <= same < first.keys()
    kept, given = (json.loads((f / "config.json").read_text("utf-8")) for f in (out, init))
    assert kept["parts"] == given["parts"] and len(kept["parts"]) == 1
    capfd.readouterr()
    clip = next((mini_world / "world" / "MAFW").rglob("*.mp4"))
    args = ["analyze", str(clip), "--model", str(out), "--max-new-tokens", "2"]
    assert main(args) == 0
    assert json.loads(capfd.readouterr().out)["error"] is None
