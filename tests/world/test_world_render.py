"""Faces, voices and files of the mini-world."""

from __future__ import annotations

import csv
import hashlib
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from r1omni.data.registry import DatasetSpec, load_dataset
from r1omni.text.cues import MEDIA, Cue, NamedCues, cue_truth, read_cues
from r1omni.types import UsageError
from r1omni.world.card import CARD
from r1omni.world.cues import (
    FACE_VALUES,
    FaceCues,
    VoiceCues,
    action_units,
    voice_parameters,
)
from r1omni.world.face import draw_face
from r1omni.world.layouts import SHARES, plan_world
from r1omni.world.person import draw_person, draw_take, strength_at
from r1omni.world.render import render_clip
from r1omni.world.story import class_sets
from r1omni.world.synthesize import synthesize
from r1omni.world.voice import Speech, measure_pitch_hz, speak

_REGION = {  # rows of a 96 px frame in which each attribute must show
    "brows": slice(15, 42),
    "eyes": slice(30, 56),
    "nose": slice(36, 66),
    "mouth": slice(56, 92),
    "jaw": slice(60, 96),
}
CLIPS = 24


def _face(cues: FaceCues, style: str, seed: int = 1, strength: float = 0.6) -> np.ndarray:
    person = draw_person(np.random.default_rng(seed), style=style)
    person = replace(person, glasses=False)
    units = {name: value * strength for name, value in action_units(cues).items()}
    return draw_face(units, person, size=(96, 96)).astype(float)


@pytest.mark.parametrize("style", ["painted", "sketch"])
@pytest.mark.parametrize("name", list(FACE_VALUES))
def test_every_attribute_shows_in_its_region(name: str, style: str) -> None:
    plain = _face(FaceCues(), style)
    frames = {value: _face(FaceCues(**{name: value}), style) for value in FACE_VALUES[name][1:]}
    for frame in frames.values():
        change = np.abs(frame - plain).mean(axis=(1, 2))
        inside = change[_REGION[name]].sum()
        assert inside > 40, "hardly visible at the weakest intensity"
        assert inside > 0.5 * change.sum()
    values = list(frames)
    for i, one in enumerate(values):
        for other in values[i + 1 :]:
            change = np.abs(frames[one] - frames[other])[_REGION[name]]
            assert change.mean(axis=(1, 2)).sum() > 20, (one, other)


def test_mirroring_moves_the_one_sided_smile() -> None:
    person = draw_person(np.random.default_rng(0))
    person = replace(person, light=(0.0, 0.0), hair_style=0)
    units = action_units(FaceCues(mouth="one corner up"))
    frame = draw_face(units, person, size=(96, 96))
    mirrored = draw_face(units, person, size=(96, 96), mirrored=True)
    assert np.array_equal(frame[:, ::-1], mirrored)
    assert not np.array_equal(frame, mirrored)


def test_onset_apex_offset() -> None:
    take = draw_take(np.random.default_rng(0))
    apex = strength_at(take, (take.onset + take.offset) / 2)
    assert apex == pytest.approx(take.intensity)
    assert strength_at(take, 0.0) == pytest.approx(take.intensity * take.rest)
    assert strength_at(take, 1.0) == pytest.approx(take.intensity * take.rest)
    assert take.rest * take.intensity < strength_at(take, take.onset / 2) < apex


def _speech(cues: VoiceCues, base: float = 110.0, seed: int = 0) -> Speech:
    return speak(
        voice_parameters(cues),
        base_pitch_hz=base,
        formant_scale=1.0 if base < 150 else 1.16,
        duration_s=2.5,
        rng=np.random.default_rng(seed),
    )


@pytest.mark.parametrize("base", [110.0, 215.0])
def test_pitch_follows_the_words(base: float) -> None:
    measured = [
        measure_pitch_hz(_speech(VoiceCues(pitch=pitch), base).waveform)
        for pitch in ("low", "medium", "high")
    ]
    assert measured == pytest.approx([0.72 * base, base, 1.55 * base], rel=0.1)


def test_loudness_rate_tone_and_steadiness_follow_the_words() -> None:
    def rms_db(speech: Speech) -> float:
        return float(20 * np.log10(np.sqrt(np.mean(speech.waveform[speech.mouth > 0.05] ** 2))))

    levels = [rms_db(_speech(VoiceCues(loudness=word))) for word in ("soft", "moderate", "loud")]
    assert levels == pytest.approx([-36, -25, -14], abs=1.5)

    def syllables(speech: Speech) -> int:
        opened = speech.mouth > 0.5
        return int(np.sum(opened[1:] & ~opened[:-1]))

    counts = [syllables(_speech(VoiceCues(rate=word))) for word in ("slow", "medium", "fast")]
    assert counts[0] < counts[1] < counts[2]

    def share_above_1_khz(speech: Speech) -> float:
        power = np.abs(np.fft.rfft(speech.waveform)) ** 2
        cut = int(1000 * len(speech.waveform) / 16_000)
        return float(power[cut:].sum() / power.sum())

    dark, bright = (share_above_1_khz(_speech(VoiceCues(tone=word))) for word in ("dark", "bright"))
    assert bright > 4 * dark

    def modulation(speech: Speech) -> float:
        block = speech.waveform[: len(speech.waveform) // 160 * 160].reshape(-1, 160)
        level = np.sqrt((block**2).mean(axis=1))
        return float(np.abs(np.diff(level)).sum() / level.sum())

    steady, shaking = (
        np.mean([modulation(_speech(VoiceCues(steadiness=word), seed=s)) for s in range(4)])
        for word in ("steady", "trembling")
    )
    assert shaking > 1.2 * steady


def _digests(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("world") / "one"
    synthesize(out, clips=CLIPS, seed=7, num_workers=1, progress=False)
    return out


def test_bytes_do_not_depend_on_the_number_of_workers(world: Path, tmp_path: Path) -> None:
    synthesize(tmp_path / "two", clips=CLIPS, seed=7, num_workers=2, progress=False)
    assert _digests(world) == _digests(tmp_path / "two")


def test_layouts(world: Path) -> None:
    told = json.loads((world / "world.json").read_text())
    assert told["counts"]["total"] == len(list(world.rglob("*.mp4")))
    for split in ("train", "test"):
        table = world / "DFEW" / "EmoLabel_DataSplit" / f"{split}(single-labeled)" / "set_1.csv"
        rows = list(csv.DictReader(table.open()))
        assert len(rows) == told["counts"][f"dfew/{split}"]
        for row in rows:
            assert row["label"] in "1234567"
            assert (world / "DFEW/Clip/original" / f"{row['video_name']}.mp4").is_file()
        folder = world / "MAFW" / "Train & Test Set" / "single" / "no_caption" / "set_1"
        lines = (folder / f"{split}.txt").read_text().splitlines()
        assert len(lines) == told["counts"][f"mafw/{split}"]
        for name, label in (line.split(" ") for line in lines):
            assert label in class_sets()["mafw"].labels.values()
            assert (world / "MAFW/data/clips" / name).is_file()
    for path in (world / "RAVDESS").rglob("*.mp4"):
        fields = path.stem.split("-")
        assert fields[:2] == ["01", "01"] and len(fields) == 7
        assert path.parent.name == f"Actor_{fields[6]}"
        assert 1 <= int(fields[2]) <= 8
        assert fields[2] != "01" or fields[3] == "01"
    reasons = list(csv.DictReader((world / "EMER/dataset-v2/final-EMER-reason.csv").open()))
    labels = list(csv.DictReader((world / "MER2023/train-label.csv").open()))
    assert [row["name"] for row in reasons] == [row["name"] for row in labels]
    assert all((world / "MER2023/train" / f"{row['name']}.mp4").is_file() for row in labels)
    for name in ("captions", "emotions", "reasoning"):
        for entry in json.loads((world / "HumanOmni" / f"{name}.json").read_text()):
            assert (world / entry["video"]).is_file()
            assert [turn["from"] for turn in entry["conversations"]] == ["human", "gpt"]
    assert len((world / "cues.jsonl").read_text().splitlines()) == told["counts"]["total"]


def test_the_card_counts_what_the_folder_holds(world: Path) -> None:
    card = (world / CARD).read_text(encoding="utf-8")
    told = json.loads((world / "world.json").read_text())
    size = sum(path.stat().st_size for path in world.rglob("*.mp4")) / 1e6
    assert f"{told['counts']['total']:,} clips" in card and f" {size:.1f} MB of mp4" in card
    assert f"--clips {CLIPS} --seed 7`" in card
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in card.splitlines()]
    (head,) = (row for row in rows if row[:1] == ["split"])
    full = [row for row in rows if len(row) == len(head)]
    table = {row[0]: dict(zip(head[1:], row[1:], strict=True)) for row in full}
    assert {name: int(table[name]["clips"]) for name in SHARES} == {
        name: count for name, count in told["counts"].items() if name != "total"
    }
    # What a loader reads is what the card says.
    for name, root, options in (("dfew", "DFEW", {"fold": 1}), ("ravdess", "RAVDESS", {})):
        for split in ("train", "test") if name == "dfew" else ("test",):
            spec = DatasetSpec(name, str(world / root), split=split, options=options)
            labels = Counter(sample.label for sample in load_dataset(spec))
            row = table[f"dfew/{split}" if name == "dfew" else name]
            assert labels == {w: int(row[w]) for w in head[2:-1] if row[w]}
    assert table["humanomni/emotions"]["wrong"] == "15%" and table["emer"]["wrong"] == "35%"
    assert "must not be used" in card and "## Licence" in card and "no terms come" in card


def test_loaders_find_the_cues_of_every_clip(world: Path) -> None:
    """What a clip shows is what its explanation names, where there is one."""
    sets = [("dfew", "DFEW", "test", {}), ("mafw", "MAFW", "train", {}),
            ("ravdess", "RAVDESS", "all", {}), ("emer", "EMER", "train", {}),
            ("humanomni", ".", "all", {"file": "HumanOmni/reasoning.json"})]  # fmt: skip
    for name, root, split, options in sets:
        spec = DatasetSpec(name, str(world / root), split=split, options=options)
        for sample in load_dataset(spec):
            assert sample.cues is not None and len(sample.cues) == 10
            known = NamedCues.collect(Cue(*cue) for cue in sample.cues)
            named = read_cues(sample.target or "")
            for medium in MEDIA if name in ("emer", "humanomni") else ():
                truth = cue_truth(named.of(medium), known.of(medium))
                assert truth.precision == truth.recall == 1


def test_a_clip_decodes_as_asked(world: Path) -> None:
    plans = plan_world(CLIPS, 7)
    for dataset in ("dfew/train", "mafw/train", "ravdess"):
        plan = next(plan for plan in plans if plan.dataset == dataset)
        with av.open(str(world / plan.path)) as container:
            video, audio = container.streams.video[0], container.streams.audio[0]
            assert (video.width, video.height) == plan.size
            assert float(video.average_rate or 0) == pytest.approx(plan.frame_rate_millihz / 1000)
            assert audio.rate == plan.sample_rate_hz
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video)]
            assert len(frames) == round(plan.duration_s * plan.frame_rate_millihz / 1000)
            container.seek(0)
            samples = sum(frame.samples for frame in container.decode(audio))
            assert samples / audio.rate == pytest.approx(plan.duration_s, abs=0.15)


def test_an_existing_world_is_reused_and_anything_else_refused(world: Path, tmp_path: Path) -> None:
    before = (world / "world.json").stat().st_mtime_ns
    again = synthesize(world, clips=CLIPS, seed=7, progress=False)
    assert again == json.loads((world / "world.json").read_text())
    assert (world / "world.json").stat().st_mtime_ns == before
    with pytest.raises(UsageError, match="another world"):
        synthesize(world, clips=CLIPS, seed=8, progress=False)
    (tmp_path / "stray.txt").write_text("x")
    with pytest.raises(UsageError, match="not empty"):
        synthesize(tmp_path, clips=CLIPS, seed=7, progress=False)
    with pytest.raises(UsageError, match="at least 1"):
        synthesize(tmp_path / "none", clips=0)


def test_rendering_a_plan_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    plan = replace(plan_world(CLIPS, 1)[0], path="clip.mp4")
    first, second = tmp_path / "a", tmp_path / "b"
    first.mkdir()
    second.mkdir()
    assert render_clip(plan, first) == render_clip(plan, second)
    assert (first / "clip.mp4").read_bytes() == (second / "clip.mp4").read_bytes()
