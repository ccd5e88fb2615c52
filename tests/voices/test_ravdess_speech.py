"""configs/ravdess_speech on generated voices and a tiny Whisper: tables, model, each training."""

from __future__ import annotations

import json
import shlex
import statistics
import sys
from pathlib import Path
from typing import Any

import pytest
import real_voices_level
import real_voices_tables
import run_real_voices
import torch
from real_voices_jobs import Fold, Levels, Voices, jobs_of
from real_voices_study import Settings
from real_voices_trainings import LEVELS, RECIPES, Training
from safetensors.torch import load_file
from transformers import WhisperConfig, WhisperFeatureExtractor
from transformers.models.whisper.modeling_whisper import WhisperEncoder
from voice_sounds import syllables, write_wav

from r1omni.cli import main
from r1omni.data import DatasetSpec, load_dataset
from r1omni.voices import measuring

ACTORS, FOLDS, EXPLAINED = (1, 2, 3), 3, 5
SMALL = {
    "--trainer.max_steps": 2, "--trainer.logger": "false", "--trainer.val_check_interval": 2,
    "--data.loader.batch_size": 4, "--data.loader.decode_workers": 0,
}  # fmt: skip


def ravdess(root: Path) -> Path:
    """The layout of the publisher: one clip of each emotion and actor, and a second neutral one."""
    for actor in ACTORS:
        for take, emotion in enumerate((1, *range(1, 9))):
            sound = syllables(100.0 + 40 * actor + 9 * take, 4.0, 0.6, -34 + 2 * take)
            takes = f"{emotion:02d}-01-01-{1 + (take == 1):02d}"
            write_wav(root / f"Actor_{actor:02d}/03-01-{takes}-{actor:02d}.wav", sound)
    return root


def emodb(root: Path) -> Path:
    for number, letter in enumerate("WFNTL"):
        write_wav(root / "wav" / f"03a01{letter}a.wav", syllables(110.0 + 20 * number, 4.0, 0.6))
    return root


def whisper(folder: Path) -> Path:
    """A tiny one that reads a second."""
    torch.manual_seed(0)
    config = WhisperConfig(
        d_model=24, encoder_layers=3, encoder_attention_heads=2, encoder_ffn_dim=32,
        num_mel_bins=80, max_source_positions=50,
    )  # fmt: skip
    WhisperEncoder(config).save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=80, chunk_length=1).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Described voices, tables and models of two folds, by the script's own commands."""
    root = tmp_path_factory.mktemp("real")
    settings = Settings(
        root / "out", ravdess(root / "given" / "speech"), whisper(root / "tower"),
        emodb(root / "given" / "berlin"), FOLDS, EXPLAINED,
    )  # fmt: skip
    settings.begin()
    with pytest.MonkeyPatch.context() as patch:  # a process for each set takes seconds to begin
        patch.setattr(measuring, "in_workers", lambda clips, work, *_, **__: zip(
            clips, map(work, clips), strict=True
        ))  # fmt: skip
        voices = Voices(settings)
        while kinds := voices.left():
            command = voices.command(kinds[0])
            assert main([*command.words]) == 0
            command.finish()
    copies = Levels(settings)
    assert copies.left() == ["levels"]
    assert real_voices_level.main([*copies.command("levels").words]) == 0
    assert copies.left() == []
    for fold in (Fold(settings, 1), Fold(settings, 2)):
        assert fold.may_begin() and fold.left() == ["tables", "create"]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["tables", *fold.command("tables").words])
            real_voices_tables.main()
        assert main([*fold.command("create").words]) == 0
        assert fold.left() == []
    return settings


def rows_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_tables_tell_of_training_speakers_alone(study: Settings) -> None:
    options = {"folds": FOLDS, "fold": 1, "hold_out_val": True}
    root = str(study.out / "data" / "RAVDESS")
    splits = {
        split: load_dataset(DatasetSpec("ravdess", root, split, options=options))
        for split in ("train", "val", "test")
    }
    groups = {split: {sample.group for sample in samples} for split, samples in splits.items()}
    assert len(set.union(*groups.values())) == sum(map(len, groups.values())) == len(ACTORS)
    (actor,) = groups["train"]
    tables = study.out / "fold_1" / "tables"
    explained = rows_of(tables / "explained.jsonl")
    assert {row["group"] for row in explained} == {actor}
    assert len({row["label"] for row in explained}) == EXPLAINED
    plain = rows_of(tables / "plain.jsonl")
    assert len(plain) == 9
    assert {str(Path(row["audio"]).parent).lower() for row in plain} == {actor}
    told = [row["conversations"][1]["value"] for row in plain]
    texts = json.loads((tables / "texts.json").read_text())
    assert set(told) < set(texts)
    others = {r["reasoning"] for r in rows_of(study.out / "voices/ravdess_plain/all.jsonl")}
    assert others - set(told) and not (others - set(told)) & set(texts)
    # No label had a part in what the base learns from: none is concluded, none is the reference.
    records = rows_of(study.out / "voices/ravdess_plain/all.jsonl")
    assert {record["label"] for record in records} == {None}
    for kind in ("ravdess_plain", "ravdess"):
        used = rows_of(study.out / "voices" / kind / "all.jsonl")
        assert {v["reference"] for r in used for v in r["voice"].values()} == {"speaker_all"}


def test_both_test_sets_have_their_measured_truth(study: Settings) -> None:
    for name, folder, options in (
        ("ravdess", "RAVDESS", {}), ("emodb", "EmoDB", {"protocol": "4way"}),
    ):  # fmt: skip
        spec = DatasetSpec(name, str(study.out / "data" / folder), "all", options=options)
        samples = load_dataset(spec)
        assert len(samples) == {"ravdess": 27, "emodb": 4}[name]
        assert all(sample.cues for sample in samples)
        measures = {cue[1] for sample in samples for cue in sample.cues or ()}
        assert ("loudness" in measures) == (name == "ravdess")


def test_copies_at_the_level_of_the_other_set(study: Settings) -> None:
    """Every peak of RAVDESS is at full scale; all of Emo-DB has one gain."""
    from scipy.io import wavfile

    medians = {}
    for name, folder in study.linked.items():
        files = sorted(p for p in folder.resolve().rglob("*") if p.suffix.lower() == ".wav")
        copies = [study.out / LEVELS / name / file.relative_to(folder.resolve()) for file in files]
        waves = [
            [wavfile.read(f)[1].astype(float) for f in both]
            for both in zip(files, copies, strict=True)
        ]
        peaks = [[abs(wave).max() for wave in both] for both in waves]
        if name == "RAVDESS":
            assert all(after == 32767 for _, after in peaks)
            assert len({before for before, _ in peaks}) > 1
            medians[name] = statistics.median((before**2).mean() for before, _ in waves)
        else:
            gains = [after / before for before, after in peaks]
            assert max(gains) - min(gains) < 1e-2 and abs(gains[0] - 1) > 0.05
            medians[name] = statistics.median((after**2).mean() for _, after in waves)
    assert medians["EmoDB"] == pytest.approx(medians["RAVDESS"], rel=0.05)


def test_folds_share_what_the_tower_makes_of_clips(study: Settings) -> None:
    """Features are kept by the weights of both towers, and only the audio tower is given."""
    first, second = (load_file(study.out / f"fold_{k}/init/model.safetensors") for k in (1, 2))
    towers = [name for name in first if "vision_tower" in name or "audio_tower" in name]
    assert len(towers) > 20
    assert all(torch.equal(first[name], second[name]) for name in towers)
    texts = [(study.out / f"fold_{k}/init/tokenizer.json").read_bytes() for k in (1, 2)]
    assert texts[0] != texts[1]


def small(command: list[str]) -> list[str]:
    """A command of the script, cut down to two steps and short answers."""
    limit = "grpo.max_new_tokens" if any("r1omni.yaml" in word for word in command) else ""
    more = {**SMALL, f"--model.init_args.{limit or 'max_new_tokens'}": 8}
    if command[0] == "test":
        more = {name: value for name, value in more.items() if "val_check" not in name}
    return [*command, *(str(word) for pair in more.items() for word in pair)]


def test_every_recipe_trains_and_is_tested(
    study: Settings, capfd: pytest.CaptureFixture[str]
) -> None:
    trainings = [job for job in jobs_of(study, [1], [0]) if isinstance(job, Training)]
    assert [job.recipe for job in trainings] == [*RECIPES]
    # The last GRPO reads the files of the others and its own: it stands for them.
    read = {*trainings[-1].recipe.configs}
    trainings = [job for job in trainings if not {*job.recipe.configs} < read]
    for job in trainings:
        assert job.may_begin()
        kind, *then = job.left()
        assert main(small([*job.command(kind).words])) == 0, capfd.readouterr().err
        assert job.left() == then
    # One is enough: tests differ in the model alone, and in the step that validation chose.
    last = trainings[-1]
    for kind in then:
        assert main(small([*last.command(kind).words])) == 0, capfd.readouterr().err
    assert last.left() == []
    levels = json.loads((last.folder / LEVELS / "test" / "results.json").read_text())
    assert {name: [*own] for name, own in levels["sets"].items()} == {
        "ravdess": ["full"], "emodb": ["full"]
    }  # fmt: skip
    assert last.folder in Path(levels["provenance"]["checkpoint"]["path"]).parents
    results = json.loads((last.folder / "test" / "results.json").read_text())
    assert set(results["sets"]) == {"ravdess", "emodb"}
    assert set(results["sets"]["ravdess"]) == {"full", "muted"}
    assert results["label_sets"] == {"ravdess": "ravdess", "emodb": "emodb_4way"}
    assert results["explanations"]["ravdess"]["full"]["cues"]["audio"]["n"] == 9
    (record, *_) = rows_of(last.folder / "test/predictions/ravdess.full.jsonl")
    sex = "male" if record["group"] in ("actor_01", "actor_03") else "female"
    assert (record["answer_mode"], record["sex"]) == ("both", sex)
    assert len(list((study.out / "cache" / "features").iterdir())) == 1


def test_the_printed_plan_is_what_a_person_could_type(
    study: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--data", study.data, "--tower", study.tower, "--out", study.out, "--folds", 3]
    assert run_real_voices.main([*map(str, words), "--only-folds", "2", "--dry-run"]) == 0
    commands = [line for line in capsys.readouterr().out.splitlines() if line[:4] == "    "]
    fits = [shlex.split(c) for c in commands if " fit " in c]
    assert [fit[:4] for fit in fits] == [["python", "-m", "r1omni", "fit"]] * len(RECIPES)
    sets = json.loads(fits[-1][fits[-1].index("--data.test") + 1])
    assert [(s["name"], s["options"]["fold"], s["options"]["folds"]) for s in sets] == [
        ("ravdess", 2, 3)
    ]
