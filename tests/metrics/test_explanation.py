"""Explanations of invented answers, with figures that are worked out by hand."""

import json
from dataclasses import asdict

import pytest

from r1omni.metrics.explanation import (
    cues_as_json,
    cues_from_json,
    evaluate_explanations,
    explanation_fields,
)
from r1omni.text.cues import MEDIA, Cue, NamedCues, read_cues
from r1omni.text.emotions import LABEL_SETS
from r1omni.text.tags import render_completion
from r1omni.types import UsageError

DFEW = LABEL_SETS["dfew"]
RAISED, WIDE = Cue("video", "brows", "raised"), Cue("video", "eyes", "wide")
LOUD, HIGH = Cue("audio", "loudness", "loud"), Cue("audio", "pitch", "high")
KNOWN = NamedCues.collect([RAISED, WIDE, Cue("video", "jaw", "closed"), LOUD, HIGH])


def record(reasoning, answer, label, known=None, condition="full", group=None):
    text = render_completion(reasoning, answer)
    fields = explanation_fields(text, DFEW, True, known, condition)
    return {"label": label, "prediction": DFEW.parse(answer), "group": group, **fields}


def test_a_reasoning_supports_contradicts_or_says_nothing():
    def read(reasoning, answer, labels="dfew"):
        return explanation_fields(render_completion(reasoning, answer), LABEL_SETS[labels])

    assert read("It is joy.", "happy")["verdict"] == "supported"
    assert read("It is joy.", "sad")["verdict"] == "contradicted"
    assert read("The brows are raised.", "sad")["verdict"] == "silent"
    assert read("It is joy.", "a mouth")["verdict"] == "contradicted"
    assert read("He is calm.", "neutral")["verdict"] == "contradicted"
    merged = "ravdess_7way_calm_as_neutral"
    assert read("He is calm.", "neutral", merged)["verdict"] == "supported"
    # What has no form has no reasoning.
    assert explanation_fields("It is joy. happy", DFEW)["verdict"] == "silent"
    text = render_completion("It is joy.", "happy")
    assert explanation_fields(text, DFEW, ended=False)["verdict"] == "silent"


def test_cue_truth_of_one_answer():
    fields = explanation_fields(
        render_completion("Raised brows, wide eyes and an open mouth; a loud voice. Fear.", "fear"),
        DFEW, known=KNOWN,
    )  # fmt: skip
    assert fields["named_cues"] == {
        "video": [["brows", "raised"], ["eyes", "wide"], ["jaw", "dropped"]],
        "audio": [["loudness", "loud"]],
    }
    assert fields["cue_truth"] == {
        "video": {"hits": 2, "named": 3, "there": 2},
        "audio": {"hits": 1, "named": 1, "there": 2},
    }
    assert fields["described_media"] == ["audio", "video"]
    json.dumps(fields)


@pytest.mark.parametrize(
    ("condition", "media"),
    [("full", {*MEDIA}), ("shuffled", {*MEDIA}), ("muted", {"video"}), ("blanked", {"audio"}),
     ("swapped", {"video"})],
)  # fmt: skip
def test_what_a_condition_replaced_has_no_truth(condition, media):
    assert record("x", "fear", "fear", KNOWN, condition)["cue_truth"].keys() == media
    assert record("x", "fear", "fear", None, condition)["cue_truth"] is None


def test_figures_by_hand():
    records = [
        record("Raised brows. It is joy.", "happy", "happy", KNOWN),  # right and supported
        record("It is anger.", "happy", "happy", KNOWN),  # right, contradicted
        record("Narrowed eyes. It is anger.", "angry", "sad", KNOWN),  # wrong, supported
        record("A loud voice.", "sad", "sad"),  # right, silent
    ]
    result = evaluate_explanations(records, DFEW.labels)
    assert (result.supported, result.contradicted, result.silent) == (0.5, 0.25, 0.25)
    assert result.right_and_supported == 0.25
    assert result.num_right == 3
    third = pytest.approx(1 / 3)
    assert result.among_right == {"supported": third, "contradicted": third, "silent": third}
    assert result.per_class["happy"] == {
        "n": 2, "supported": 0.5, "contradicted": 0.5, "silent": 0.0, "right_and_supported": 0.5
    }  # fmt: skip
    assert result.per_class["fear"] is None
    video, audio = result.cues["video"], result.cues["audio"]
    assert (video.n, video.hits, video.named, video.there) == (3, 1, 2, 6)
    assert (video.precision, video.recall, video.f1) == (0.5, pytest.approx(1 / 6), 0.25)
    assert (audio.named, audio.precision, audio.recall, audio.f1) == (0, None, 0.0, 0.0)
    assert audio.intervals["precision"] is None
    assert result.invented is None
    low, high = result.intervals["supported"]
    assert 0 <= low < 0.5 < high <= 1
    figures = result.figures()
    assert figures["contradicted_among_right"] == third
    assert "cue_precision_audio" not in figures
    assert json.loads(json.dumps(result.to_dict())) == result.to_dict()


def test_cues_that_are_invented():
    records = [
        record("The voice is loud and high. Fear.", "fear", "fear", KNOWN, "muted"),
        record("Raised brows. No voice can be heard. Fear.", "fear", "fear", KNOWN, "muted"),
    ]
    invented = evaluate_explanations(records, DFEW.labels, "muted").invented
    assert (invented.medium, invented.share, invented.num_cues) == ("audio", 0.5, 1.0)
    assert evaluate_explanations(records, DFEW.labels, "blanked").invented.share == 0.5


def test_groups_are_resampled_whole():
    # Within a group all is alike, so resampling two groups gives 0, 1/2 or 1.
    records = [record("It is joy.", "happy", "happy", group="a")] * 9
    records += [record("It is fear.", "happy", "happy", group="b")] * 9
    assert evaluate_explanations(records, DFEW.labels).intervals["supported"] == (0.0, 1.0)
    alone = [{**r, "group": None} for r in records]
    low, high = evaluate_explanations(alone, DFEW.labels).intervals["supported"]
    assert 0.2 < low < 0.5 < high < 0.8
    one = evaluate_explanations(records[:9], DFEW.labels)
    assert set(one.intervals.values()) == {None}
    # A figure that few resamples have is of those that have it.
    rare = [{**r, "prediction": None} for r in alone[:17]] + alone[17:]
    found = evaluate_explanations(rare, DFEW.labels)
    assert found.intervals["supported_among_right"] == (0.0, 0.0)


def test_no_answer_is_refused():
    with pytest.raises(UsageError, match="no labelled answer"):
        evaluate_explanations([], DFEW.labels)


def test_cues_survive_json():
    cues = read_cues("Raised brows and a low voice.")
    assert cues_from_json(json.loads(json.dumps(cues_as_json(cues)))) == cues
    assert asdict(cues).keys() == set(MEDIA)
