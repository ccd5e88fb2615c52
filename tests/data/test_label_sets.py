"""The label set of a data set, from its files to rewards and results."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import get_args

import layouts
import pytest

from r1omni.data import DatasetSpec, EmotionDataModule, load_dataset
from r1omni.data.emodb import Protocol
from r1omni.data.ravdess import PROTOCOLS
from r1omni.data.registry import dataset_names
from r1omni.rewards import get_reward
from r1omni.text.emotions import LABEL_SETS
from r1omni.training.evaluation import Evaluation
from r1omni.types import Sample, UsageError

EMER = "EMER/dataset-v2/final-EMER-reason.csv"


def evaluated(spec: DatasetSpec, split: str, answers: dict[str, str]) -> tuple[list[Sample], float]:
    """Samples of a set, and the share of right answers, a sample's label unless given here."""
    module = EmotionDataModule(**{split: [spec]})
    module.setup("validate" if split == "val" else split)
    [samples] = module.samples[split]
    evaluation = Evaluation(module.evaluation_sets(split))
    evaluation.add(
        0, samples, [f"<answer>{answers.get(s.sample_id, s.label)}</answer>" for s in samples]
    )
    # What is known of the speaker and the take goes on to the predictions.
    fields = ("group", "sex", "intensity", "language")
    assert [[row[field] for field in fields] for row in evaluation.records(0)] == [
        [getattr(sample, field) for field in fields] for sample in samples
    ]
    [result] = evaluation.results().values()
    return samples, result["full"].war


def specifications(name: str, root: Path) -> list[DatasetSpec]:
    """The specification of a data set, with every value of options that change its label set."""
    spec = layouts.EVERY[name](root)
    options = {
        "ravdess": [{"protocol": protocol} for protocol in PROTOCOLS],
        "emodb": [{"protocol": protocol} for protocol in get_args(Protocol)],
        "own": [{}, {"label_set": "ravdess"}, {"label_set": "ravdess_7way_calm_as_neutral"}],
        "emer": [{}, {"label_set": "mer"}, {"label_set": "all"}],
    }
    chosen = options.get(name, [{}])
    return [replace(spec, options={**spec.options, **more}) for more in chosen]


def test_every_data_set_is_walked() -> None:
    assert set(layouts.EVERY) == set(dataset_names())


@pytest.mark.parametrize("name", dataset_names())
@pytest.mark.parametrize("split", ["val", "test", "predict"])
def test_every_data_set_can_be_evaluated(name: str, split: str, tmp_path: Path) -> None:
    """Its own labels count as right, for rewards and results alike."""
    for spec in specifications(name, tmp_path):
        samples, war = evaluated(spec, split, {})
        assert war == 1
        labelled = [s for s in samples if s.label is not None]
        rewards = get_reward("accuracy")(
            [f"<think>So.</think>\n<answer>{s.label}</answer>" for s in labelled],
            [str(s.label) for s in labelled],
            label_set=[s.label_set for s in labelled],
        )
        assert rewards == [1.0] * len(labelled)
        [label_set] = {s.label_set for s in samples}
        assert {s.label for s in labelled} <= set(LABEL_SETS[str(label_set)].labels)


@pytest.mark.parametrize(
    ("label_set", "label", "right"),
    [(None, "calm", False), ("ravdess_7way_calm_as_neutral", "neutral", True)],
)
def test_own_clips_are_judged_by_their_label_set(
    label_set: str | None, label: str, right: bool, tmp_path: Path
) -> None:
    """Where calm counts as neutral, either word is right; elsewhere only the label itself."""
    root = layouts.own(tmp_path)
    spec = DatasetSpec("own", str(root), options={"label_set": label_set} if label_set else {})
    other = {"neutral": "calm", "calm": "neutral"}[label]
    samples, war = evaluated(spec, "predict", {"own/b.mp4": other})
    assert samples[1].label == label
    assert war == (1 if right else 0.5)
    [reward] = get_reward("accuracy")(
        [f"<think>So.</think>\n<answer>{other}</answer>"], [label],
        label_set=[samples[1].label_set],
    )  # fmt: skip
    assert reward == float(right)


def test_emer_with_emotions_beyond_those_of_mer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = layouts.emer(tmp_path)
    layouts.write(
        tmp_path / EMER,
        "name,chinese,english\nsample_1,,He is angry.\nsample_2,,She looks with disgust.\n",
    )
    spec = DatasetSpec("emer", str(root))
    samples, war = evaluated(spec, "test", {})
    assert {s.label_set for s in samples} == {"all"} and war == 1
    assert "1 of 2 labels are none of MER's six classes (disgust)" in caplog.text
    # Asked for, the narrower set is refused before a clip is decoded, by file and count.
    with pytest.raises(
        UsageError, match=rf"{EMER}: 1 of 2 labels are outside the label set mer \(disgust 1\)"
    ):
        evaluated(replace(spec, options={"label_set": "mer"}), "test", {})
    with pytest.raises(UsageError, match="label_set 'moods' is unknown"):
        load_dataset(replace(spec, options={"label_set": "moods"}))
