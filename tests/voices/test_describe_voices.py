"""`describe-voices` through the command line, on sounds that are known by construction."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from voice_sounds import RATE_HZ, at_db, complex_tone, syllables, write_wav

from r1omni.cli import main
from r1omni.data.registry import DatasetSpec, load_dataset
from r1omni.metrics.explanation import explanation_fields
from r1omni.text.cues import Cue, NamedCues
from r1omni.text.emotions import LABEL_SETS
from r1omni.types import Clip, R1OmniError, Sample, UsageError
from r1omni.voices import describe, measures, measuring
from r1omni.voices.choosing import choose, count_of
from r1omni.voices.vocabulary import MEASURES

# name -> its fundamental, level and label; two speakers, of whom one has no neutral clips.
CLIPS = {
    "a/calm1.wav": (120, -30, "neutral"),
    "a/calm2.wav": (122, -30, "neutral"),
    "a/loud.wav": (190, -14, "angry"),
    "a/soft.wav": (90, -45, "sad"),
    **{f"b/{n}.wav": (210 + 2 * n, -25, "happy") for n in range(5)},
    "c/only.wav": (320, -26, "surprise"),
}


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """A table of one's own, `good.csv`, and one with a silent, a short and two unreadable clips."""
    root = tmp_path_factory.mktemp("clips")
    for name, (f0_hz, level_db, _) in CLIPS.items():
        write_wav(root / name, syllables(f0_hz, 4.0, 1.2, level_db))
    write_wav(root / "a/silent.wav", np.zeros(RATE_HZ))
    rest = np.zeros(RATE_HZ // 5)
    blip = np.concatenate([rest, at_db(complex_tone(200.0, 0.15), -20), rest])
    write_wav(root / "a/short.wav", blip)
    (root / "a/broken.wav").write_bytes(b"no sound at all" * 9)
    rows = [f"{name},{label},{name[0]}" for name, (*_, label) in CLIPS.items()]
    rows[-1] = rows[-1][:-1]  # an unknown speaker
    more = [f"a/{name}.wav,happy,a" for name in ("silent", "short", "broken", "missing")]
    (root / "good.csv").write_text("\n".join(["path,label,group", *rows]) + "\n")
    (root / "bad.csv").write_text("\n".join(["path,label,group", *rows, *more]) + "\n")
    return root


def run(clips, out, *args, table="good.csv"):
    return main(["describe-voices", "--dataset", "own", "--root", str(clips), "--option",
                 f"file={table}", "--out", str(out), *args])  # fmt: skip


def rows_of(file):
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.fixture
def in_process(monkeypatch):
    """Clips are measured in this process, one after the other."""

    def work_here(clips, work, num_workers, **_):
        return ((clip, work(clip)) for clip in clips)

    monkeypatch.setattr(measuring, "in_workers", work_here)


@pytest.fixture(scope="module")
def described(clips, tmp_path_factory):
    """Status and folder of a run that meets clips which cannot be read."""
    out = tmp_path_factory.mktemp("described") / "new"
    return run(clips, out, "--seed", "7", table="bad.csv"), out


def test_records_are_relative_to_the_speaker(described):
    status, out = described
    # Two clips could not be read; the others are there.
    rows = {row["path"]: row for row in rows_of(out / "all.jsonl")}
    assert status == 1
    assert set(rows) == {*CLIPS, "a/short.wav"}
    assert all(row["written_by"].startswith("machine:") for row in rows.values())
    loud, soft = rows["a/loud.wav"], rows["a/soft.wav"]
    assert loud["voice"]["loudness"]["reference"] == "speaker_neutral"
    assert loud["voice"]["loudness"]["difference"] == pytest.approx(16, abs=0.2)
    assert loud["voice"]["pitch"]["value"] == pytest.approx(190, rel=0.01)
    assert loud["voice"]["pitch"]["difference"] == pytest.approx(12 * np.log2(190 / 121), abs=0.1)
    assert (loud["cues"]["pitch"], loud["cues"]["loudness"]) == ("high", "loud")
    assert (soft["cues"]["pitch"], soft["cues"]["loudness"]) == ("low", "soft")
    assert rows["b/0.wav"]["voice"]["pitch"]["reference"] == "speaker_all"
    assert rows["b/0.wav"]["cues"]["pitch"] == "medium"
    only = rows["c/only.wav"]
    assert {c["reference"] for c in only["voice"].values()} == {"population"}
    assert only["group"] is None and only["cues"]["pitch"] == "high"


def test_what_is_absent_is_not_mentioned(described, capsys):
    _, out = described
    short = next(row for row in rows_of(out / "all.jsonl") if row["path"] == "a/short.wav")
    assert {"pitch_range", "jitter", "loudness_range"} <= set(short["absent"])
    assert not {"pitch range", "loudness range"} & set(short["cues"])
    left = {row["path"]: row for row in rows_of(out / "left_out.jsonl")}
    assert set(left) == {"a/silent.wav", "a/broken.wav", "a/missing.wav"}
    assert left["a/silent.wav"]["absent"] == list(MEASURES)
    assert "broken.wav: " in left["a/broken.wav"]["reason"]


def test_the_result_trains_a_cold_start_and_is_judged(described, clips):
    _, out = described
    spec = DatasetSpec("own", str(out), split="all", options={"video_root": str(clips)})
    samples = load_dataset(spec)
    rows = rows_of(out / "all.jsonl")
    assert len(samples) == len(rows) == len(CLIPS) + 1
    for sample, row in zip(samples, rows, strict=True):
        assert sample.clip.path.is_file() and sample.modality == "audio"
        assert row["reasoning"] in sample.target
        known = NamedCues.collect(Cue(*cue) for cue in sample.cues)
        assert {(c.attribute, c.value) for c in known.audio} == set(row["cues"].items())
        fields = explanation_fields(sample.target, LABEL_SETS["all"], known=known)
        truth = fields["cue_truth"]["audio"]
        assert truth["hits"] == truth["named"] == truth["there"]
        assert fields["verdict"] == "supported"
    with pytest.raises(UsageError, match="the option video_root of own names no folder"):
        load_dataset(replace(spec, options={"video_root": "nowhere"}))


def test_a_choice_changes_neither_measures_nor_wording(
    described, clips, tmp_path, capfd, in_process
):
    """Nor does it matter which process measures, and what it measured before."""
    whole = {row["path"]: row for row in rows_of(described[1] / "all.jsonl")}
    out = tmp_path / "some"
    assert run(clips, out, "--count", "4", "--seed", "7") == 0
    rows = rows_of(out / "all.jsonl")
    assert len({row["label"] for row in rows}) == len(rows) == 4
    # A silent and a short clip have joined speaker a in the other run, and change no neutral one.
    assert all(row == whole[row["path"]] for row in rows)
    done = json.loads(capfd.readouterr().out.splitlines()[-1])
    assert done["described"] == 4
    assert done["data_set"]["options"] == {"video_root": str(clips), "label_set": "all"}


def test_what_is_not_to_be_used_is_not_used(clips, tmp_path, in_process):
    out = tmp_path / "unlabelled"
    assert run(clips, out, "--without-labels", "--leave-out", "loudness", "tilt") == 0
    for row in rows_of(out / "all.jsonl"):
        fields = explanation_fields(
            f"<think>{row['reasoning']}</think><answer>sad</answer>", LABEL_SETS["all"]
        )
        assert row["label"] is None and fields["verdict"] == "silent"
        assert {"loudness", "tilt"} <= set(row["absent"]) and "pitch" in row["voice"]
        assert not {"loudness", "tone"} & {*row["cues"], *(name for name, _ in row["named"])}
        assert {c["reference"] for c in row["voice"].values()} <= {"speaker_all", "population"}


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (["--count", "2", "--share", "0.5"], "give one of them"),
        (["--share", "1.5"], "--share"),
        (["--count", "0"], "--count"),
        (["--option", "fold"], "write NAME=VALUE"),
        (["--option", "file=[1"], "cannot be read as YAML"),
        (["--option", "fold=1"], "fold"),
        (["--split", "cues"], "named by it"),
        (["--leave-out", "volume"], "argument --leave-out: invalid choice"),
        (["--leave-out", *MEASURES], "leave out some of pitch, "),
        (["--split", "../all"], "named by it"),
    ],
)
def test_wrong_use_is_refused(clips, tmp_path, capfd, args, complaint):
    assert run(clips, tmp_path / "out", *args) == 2
    assert complaint in capfd.readouterr().err
    assert not (tmp_path / "out").exists()
    assert run(clips, tmp_path) == 2 and "exists" in capfd.readouterr().err


def test_without_the_library_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "parselmouth", None)
    with pytest.raises(R1OmniError, match=r"pip install 'r1omni\[voices\]'"):
        measures.praat()


def test_cues_are_of_whole_recordings(tmp_path):
    rows = [{"path": path, "cues": {"pitch": "low"}} for path in ("x.wav", "y.wav", "y.wav")]
    cues, unclear = describe._known_cues(rows, tmp_path / "data", tmp_path / "out")
    assert [row["path"] for row in cues] == ["../data/x.wav"] and unclear == 2


def test_a_clip_is_described_once_with_its_label():
    asked, labelled, other = samples_of((None, None), (None, "sad"), (None, "happy"))
    asked, other = replace(asked, clip=labelled.clip), replace(other, clip=labelled.clip)
    assert describe._once_a_clip([asked, labelled, other]) == [labelled]


def samples_of(*pairs):
    return [
        Sample(f"x/{n}", Clip(Path(f"{n}.wav")), "?", label=label, group=group)
        for n, (group, label) in enumerate(pairs)
    ]


def test_a_choice_is_spread_over_classes_and_speakers():
    pairs = [(f"s{n % 6}", "abcd"[n % 4]) for n in range(240)] + [("s0", "a")] * 500
    samples = samples_of(*pairs)
    chosen = choose(samples, 24, seed=0)
    assert Counter(s.label for s in chosen) == dict.fromkeys("abcd", 6)
    assert Counter(s.group for s in chosen) == {f"s{n}": 4 for n in range(6)}
    assert choose(samples, 24, seed=0) == chosen != choose(samples, 24, seed=1)
    assert choose(samples, len(samples), seed=0) == samples
    assert [s.sample_id for s in chosen] == sorted((s.sample_id for s in chosen), key=id_number)
    few = choose(samples, 4, seed=3)
    assert len({s.label for s in few}) == 4


def id_number(sample_id):
    return int(sample_id.partition("/")[2])


def test_count_of():
    assert [count_of(10, *asked) for asked in ((None, None), (3, None), (30, None))] == [10, 3, 10]
    assert [count_of(10, None, share) for share in (0.01, 0.25, 1)] == [1, 3, 10]
