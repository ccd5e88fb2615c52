"""`cues.jsonl`: what is known to be in the clips of any data set."""

import json
from dataclasses import replace

import pytest

from r1omni.data.datamodule import EvaluationSet
from r1omni.data.registry import DatasetSpec, load_dataset
from r1omni.text.tags import render_completion
from r1omni.training.evaluation import Evaluation
from r1omni.types import UsageError

FACE = {"brows": "raised", "jaw": "closed"}
CUES = (("video", "brows", "raised"), ("video", "jaw", "closed"), ("audio", "pitch", "high"))


@pytest.fixture
def spec(tmp_path):
    folder = tmp_path / "shared" / "clips"
    folder.mkdir(parents=True)
    (folder / "labels.csv").write_text("path,label\na/1.mp4,happy\nb/1.mp4,sad\n")
    return DatasetSpec("own", str(folder), split="all")


def write(file, *rows):
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def test_cues_lie_beside_the_labels_or_above(spec, tmp_path):
    assert [sample.cues for sample in load_dataset(spec)] == [None, None]
    row = {"face": FACE, "voice": {"pitch": "high"}, "more": 1}
    above = tmp_path / "shared" / "cues.jsonl"
    write(above, {"path": "clips/a/1.mp4", **row}, {"path": "other/1.mp4"})
    assert [sample.cues for sample in load_dataset(spec)] == [CUES, None]
    by_file = replace(spec, root=f"{spec.root}/labels.csv")
    assert [sample.cues for sample in load_dataset(by_file)] == [CUES, None]
    write(tmp_path / "shared" / "clips" / "cues.jsonl", {"path": "./b/../b/1.mp4", "face": FACE})
    assert [sample.cues for sample in load_dataset(spec)] == [None, CUES[:2]]


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ([{"face": FACE}], "the column 'path' is empty"),
        ([{"path": "a", "face": {"ears": "up"}}], "face has no attribute 'ears'; use one of face"),
        ([{"path": "a", "face": {"jaw": "up"}}], "face jaw is 'up'; use one of closed, dropped"),
        ([{"path": "a", "voice": {"pitch": ["low"]}}], r"voice pitch is \['low'\]"),
        ([{"path": "a", "voice": "low"}], "'voice' holds 'low', expected an object"),
        ([{"path": "a"}, {"path": "./a"}], "tells of a again"),
    ],
)
def test_malformed_rows_are_refused(spec, tmp_path, rows, complaint):
    write(tmp_path / "shared" / "clips" / "cues.jsonl", *rows)
    with pytest.raises(UsageError, match=rf"cues\.jsonl, line \d: .*{complaint}"):
        load_dataset(spec)


def test_explanations_are_judged_by_cues_or_by_a_reference(spec):
    """Only of the media that a prompt carries."""
    sample = load_dataset(spec)[0]
    reference = render_completion("Wide eyes, a low voice. Joy.", "happy")
    samples = [
        sample,
        replace(sample, cues=CUES),
        replace(sample, cues=CUES, modality="video"),
        replace(sample, target=reference),
        replace(sample, target="happy"),
    ]
    text = render_completion("Wide eyes and raised brows, a high voice. Fear.", "happy")
    evaluation = Evaluation([EvaluationSet("own", "all", "full")])
    evaluation.add(0, samples, [text] * len(samples))
    records = evaluation.records(0)
    hits = [
        truth and {medium: (count["hits"], count["named"]) for medium, count in truth.items()}
        for truth in (record["cue_truth"] for record in records)
    ]
    assert hits == [
        None, {"video": (1, 2), "audio": (1, 1)}, {"video": (1, 2)},
        {"video": (1, 2), "audio": (0, 1)}, None,
    ]  # fmt: skip
    assert records[3]["known_cues"] == {"video": [["eyes", "wide"]], "audio": [["pitch", "low"]]}
    assert [record["verdict"] for record in records] == ["contradicted"] * 5
    figures = evaluation.metrics("test")
    assert figures["test/own/contradicted"] == figures["test/own/contradicted_among_right"] == 1
    assert figures["test/own/cue_precision_video"] == 0.5
    assert figures["test/own/supported"] == figures["test/own/right_and_supported"] == 0
