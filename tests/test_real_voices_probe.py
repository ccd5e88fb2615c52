"""The linear probe of real voices, on tones in the publishers' layouts and a tiny Whisper."""

from __future__ import annotations

import json
import math
import struct
import sys
import wave
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
)

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
sys.path.insert(0, str(Path(__file__).parent / "data"))

import layouts
from real_voices_probe import Tower, choose, main

from r1omni.data import DatasetSpec, load_dataset
from r1omni.data.folds import speaker_folds
from r1omni.text.emotions import LABEL_SETS
from r1omni.types import Clip

WHISPER = WhisperConfig(
    d_model=16, encoder_layers=2, encoder_attention_heads=2, encoder_ffn_dim=16, decoder_layers=1,
    decoder_attention_heads=2, decoder_ffn_dim=16, vocab_size=8, num_mel_bins=80,
    max_source_positions=20, max_target_positions=8, pad_token_id=0, bos_token_id=1,
    eos_token_id=2, decoder_start_token_id=1,
)  # fmt: skip


@dataclass(frozen=True)
class Study:
    """Folders of a study.

    Attributes:
        out: what is written.
        words: of the command line, without the fold.
    """

    out: Path
    words: list[str]

    def probe(self, fold: int) -> dict[str, Any]:
        assert main([*self.words, "--fold", str(fold)]) == 0
        found: dict[str, Any] = json.loads((self.out / f"fold_{fold}" / "probe.json").read_text())
        return found


def write_tones(root: Path) -> Path:
    """Six actors; the pitch tells the emotion, and the actor moves it a little."""
    for actor in range(1, 7):
        folder = root / f"Actor_{actor:02d}"
        folder.mkdir(parents=True)
        for emotion in range(1, 9):
            pitch_hz = 200 * emotion + 9 * actor
            tone = [int(9_000 * math.sin(math.tau * pitch_hz * t / 16_000)) for t in range(4_800)]
            name = f"03-01-{emotion:02d}-01-01-01-{actor:02d}.wav"
            with wave.open(str(folder / name), "wb") as file:
                file.setparams((1, 2, 16_000, 0, "NONE", ""))
                file.writeframes(struct.pack(f"<{len(tone)}h", *tone))
    return root


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    root = tmp_path_factory.mktemp("probe")
    torch.manual_seed(0)
    WhisperForConditionalGeneration(WHISPER).save_pretrained(root / "tower")
    WhisperFeatureExtractor(feature_size=80).save_pretrained(root / "tower")
    data = write_tones(root / "RAVDESS")
    emodb = layouts.emodb(root / "EmoDB")
    words = ["--out", root / "out", "--data", data, "--tower", root / "tower", "--emodb", emodb]
    return Study(root / "out", [*map(str, words), "--folds", "3"])


def test_a_fold_is_that_of_the_models(study: Study) -> None:
    found = study.probe(2)
    assert found["model"] == "linear probe"
    root = study.words[3]
    options = {"folds": 3, "fold": 2, "hold_out_val": True}
    for split in ("train", "val", "test"):
        spec = DatasetSpec("ravdess", root, split, modality="audio", options=options)
        assert found["speakers"][split] == sorted({s.group for s in load_dataset(spec)})
    assert not {*found["speakers"]["train"]} & {*found["speakers"]["test"]}
    told = [(f"actor_{n:02d}", "male" if n % 2 else "female") for n in range(1, 7)]
    assert set(found["speakers"]["test"]) == speaker_folds(told, 3, "here")[1]  # type: ignore[arg-type]
    rows = found["predictions"]["ravdess"]
    assert len(rows) == 16 and {row["group"] for row in rows} == {*found["speakers"]["test"]}
    assert all(row["intensity"] == "normal" and row["sex"] in ("female", "male") for row in rows)
    for row in rows + found["predictions"]["emodb"]:
        assert row["scores"].keys() == {*LABEL_SETS["ravdess"].labels}
        assert sum(row["scores"].values()) == pytest.approx(1)
        assert row["answer"] == max(row["scores"], key=lambda name: row["scores"][name])
    # Pitch is easily heard: eight classes, chance is one in eight.
    assert sum(row["answer"] == row["label"] for row in rows) > 8
    # Of Emo-DB the four classes that are in the table; boredom, disgust and fear are left out.
    assert {r["label"] for r in found["predictions"]["emodb"]} == {
        "angry",
        "happy",
        "neutral",
        "sad",
    }


def test_every_clip_is_encoded_once(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    first = study.probe(1)

    def encode(*_: object) -> None:
        raise AssertionError("a clip is encoded again")

    monkeypatch.setattr(Tower, "_encode", encode)
    assert study.probe(1)["predictions"] == first["predictions"]
    study.probe(3)


def test_averages_are_those_of_whisper_itself(study: Study) -> None:
    folder = Path(study.words[5])
    tower = Tower(folder, study.out / "other cache")
    clips = [Clip(path) for path in sorted(Path(study.words[3]).glob("Actor_01/*.wav"))[:3]]
    found = tower.averages(clips)
    whole = WhisperForConditionalGeneration.from_pretrained(folder).model.encoder.eval()
    mel = torch.stack([tower._processor.load(clip, "audio").mel for clip in clips])  # type: ignore[misc]
    with torch.no_grad():
        states = whole(mel, output_hidden_states=True).hidden_states
    assert found.shape == (3, WHISPER.encoder_layers + 1, 2 * WHISPER.d_model)
    for layer, state in enumerate(states):
        expected = torch.cat([state.mean(1), state.std(1)], dim=1).numpy()
        np.testing.assert_allclose(found[:, layer], expected, rtol=1e-5, atol=1e-6)


def test_the_validation_speakers_choose() -> None:
    """Layer 0 is noise, layer 1 tells the classes of both, layer 2 of the training clips alone."""
    rng = np.random.default_rng(0)
    labels, other = ["a", "b"] * 20, ["a", "b"] * 10
    train, val = (rng.normal(size=(n, 3, 4)).astype(np.float32) for n in (40, 20))
    train[::2, 1:], val[::2, 1] = train[::2, 1:] + 4, val[::2, 1] + 4
    found = choose(train, labels, val, other)
    assert found.layer == 1 and found.val[1][found.c] == max(
        max(v.values()) for v in found.val.values()
    )
    # A tie goes to the lower layer and the smaller C.
    same = choose(
        np.repeat(train[:, 1:2], 3, axis=1), labels, np.repeat(val[:, 1:2], 3, axis=1), other
    )
    assert same.layer == 0
    assert same.c == min(
        c for c, share in same.val[0].items() if share == max(same.val[0].values())
    )


def test_wrong_use_is_one_line(
    study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, message in (
        ([*study.words, "--fold", "9"], "fold"),
        ([*study.words[:5], str(tmp_path), "--fold", "1"], "--audio-tower"),
        (["--out", "x", "--data", str(tmp_path), *study.words[4:6], "--fold", "1"], "no RAVDESS"),
    ):
        assert main(words) == 2
        told = capsys.readouterr().err.strip()
        assert message in told.splitlines()[-1] and told.startswith("real_voices_probe: ")
