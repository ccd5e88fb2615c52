import json
import time
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from r1omni.metrics import compare, evaluate_recognition, read_prediction
from r1omni.metrics.comparison import mcnemar_p
from r1omni.text.emotions import LABEL_SETS
from r1omni.types import UsageError

LABELS = ("happy", "sad", "fear")
DFEW = LABEL_SETS["dfew"]


def evaluate(predictions, references, **options):
    answered = options.pop("answered", [p is not None for p in predictions])
    return evaluate_recognition(
        predictions, references, LABELS, [True] * len(references), answered, **options
    )


def test_worked_by_hand():
    references = ["happy", "happy", "happy", "happy", "sad", "sad"]
    predictions = ["happy", "happy", "sad", None, "sad", None]
    result = evaluate_recognition(
        predictions,
        references,
        LABELS,
        format_ok=[True, True, False, False, True, True],
        answered=[True, True, True, False, True, True],
    )
    assert result.n == 6
    assert result.war == pytest.approx(3 / 6)
    assert result.uar == pytest.approx((2 / 4 + 1 / 2) / 2)
    assert result.per_class_recall == {"happy": 0.5, "sad": 0.5, "fear": None}
    assert result.confusion == ((2, 1, 0, 1), (0, 1, 0, 1), (0, 0, 0, 0))
    assert result.predicted_labels == {"happy": 2, "sad": 2, "fear": 0, "other": 2}
    assert result.parse_rate == pytest.approx(5 / 6)
    assert result.out_of_set_rate == pytest.approx(1 / 6)
    assert result.format_ok == pytest.approx(4 / 6)


def test_shares_are_quotients_of_counts_to_the_last_digit():
    rng = np.random.default_rng(3)
    for _ in range(30):
        n = int(rng.integers(1, 60))
        references = rng.choice(LABELS, n).tolist()
        predictions = rng.choice([*LABELS, None], n).tolist()
        answered = [p is not None or rng.random() < 0.5 for p in predictions]
        written = json.loads(
            json.dumps(evaluate(predictions, references, answered=answered).to_dict())
        )
        hits = Counter(p for p, r in zip(predictions, references, strict=True) if p == r)
        recalls = {label: Fraction(hits[label], k) for label, k in Counter(references).items()}
        expected = {
            "war": Fraction(sum(hits.values()), n),
            "uar": sum(recalls.values()) / len(recalls),
            "parse_rate": Fraction(sum(answered), n),
            "out_of_set_rate": Fraction(sum(answered) - n + predictions.count(None), n),
            "format_ok": 1,
        }
        assert {name: written[name] for name in expected} == {
            name: float(share) for name, share in expected.items()
        }
        known = {label: r for label, r in written["per_class_recall"].items() if r is not None}
        assert known == {label: float(share) for label, share in recalls.items()}


def test_a_class_predicted_but_absent_does_not_enter_uar():
    result = evaluate(["fear", "happy", "sad"], ["happy", "happy", "sad"])
    assert result.war == pytest.approx(2 / 3)
    assert result.uar == pytest.approx((0.5 + 1) / 2)
    assert result.per_class_recall["fear"] is None


def test_an_unparsable_answer_is_wrong_and_counted():
    result = evaluate([None, None], ["happy", "sad"])
    assert (result.war, result.uar, result.parse_rate) == (0, 0, 0)


def test_uar_matches_sklearn_on_random_labels():
    rng = np.random.default_rng(0)
    references, predictions = rng.choice(LABELS, (2, 200)).tolist()
    result = evaluate(predictions, references)
    assert result.uar == pytest.approx(balanced_accuracy_score(references, predictions), abs=1e-6)
    assert result.war == pytest.approx(np.mean(np.array(references) == predictions), abs=1e-6)


def test_intervals_cover_and_are_reproducible():
    rng = np.random.default_rng(1)
    references = rng.choice(LABELS, 300).tolist()
    predictions = [r if rng.random() < 0.7 else None for r in references]
    result = evaluate(predictions, references)
    low, high = result.war_interval
    assert low < result.war < high
    # The normal approximation of a share of 300.
    half = 1.96 * np.sqrt(result.war * (1 - result.war) / 300)
    assert (low, high) == pytest.approx((result.war - half, result.war + half), abs=0.01)
    assert result.uar_interval[0] < result.uar < result.uar_interval[1]
    assert evaluate(predictions, references) == result
    assert evaluate(predictions, references, seed=1).war_interval != result.war_interval


def test_groups_are_drawn_whole():
    # Two actors, one all right and one all wrong: resamples are 0, 1/2 or 1.
    references = ["happy"] * 100
    predictions = ["happy"] * 50 + ["sad"] * 50
    groups = ["a"] * 50 + ["b"] * 50
    assert evaluate(predictions, references, groups=groups).war_interval == (0, 1)
    low, high = evaluate(predictions, references).war_interval
    assert 0.35 < low < high < 0.65
    assert evaluate(predictions, references, groups=["a"] * 100).war_interval is None
    assert evaluate(predictions, references, num_bootstrap=0).uar_interval is None


def test_bootstrap_is_fast():
    rng = np.random.default_rng(2)
    references, predictions = rng.choice(LABELS, (2, 300)).tolist()
    evaluate(predictions, references)
    start = time.perf_counter()
    evaluate(predictions, references)
    assert time.perf_counter() - start < 0.3


def test_to_dict_is_json():
    result = evaluate(["happy", None], ["happy", "sad"])
    plain = json.loads(json.dumps(result.to_dict()))
    assert plain == result.to_dict()
    assert plain["confusion"] == [[1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((["happy"], ["joy"]), "reference 'joy' is no class"),
        ((["joy"], ["happy"]), "prediction 'joy' is no class"),
        ((["happy"], ["happy", "sad"]), "predictions has 1 entries for 2"),
        (([], []), "at least one clip"),
    ],
)
def test_bad_input_is_refused(arguments, message):
    with pytest.raises(UsageError, match=message):
        evaluate(*arguments)
    with pytest.raises(UsageError, match="counts as unanswered"):
        evaluate(["happy"], ["happy"], answered=[False])


@pytest.mark.parametrize(
    ("text", "label", "answered", "format_ok"),
    [
        ("<think>x</think><answer>joy</answer>", "happy", True, True),
        ("<think>x</think><answer>worried</answer>", None, True, True),
        ("<think>x</think><answer>banana</answer>", None, False, True),
        ("Happy.", "happy", True, False),
        ("worried", None, True, False),
        ("I say <answer>sad</answer>!", "sad", True, False),
        ("I say <ANSWER>sad</ANSWER>!", "sad", True, False),
        ("<answer>sad</answer><answer>sad</answer>", None, False, False),
        ("</answer>sad<answer>", None, False, False),
        ("<answer>happy, sad</answer>", None, False, False),
        ("The man is happy", None, False, False),
        ("happy, sad", None, False, False),
        ("", None, False, False),
    ],
)
def test_read_prediction(text, label, answered, format_ok):
    prediction = read_prediction(text, DFEW)
    assert (prediction.label, prediction.answered) == (label, answered)
    assert prediction.format_ok == format_ok
    assert prediction.reasoning == ("x" if format_ok else "")


def test_mcnemar_by_hand():
    # 1 against 6 discordant: 2 * (1 + 7) / 2^7.
    assert mcnemar_p(1, 6) == mcnemar_p(6, 1) == pytest.approx(16 / 128)
    assert mcnemar_p(0, 0) == 1
    assert mcnemar_p(3, 3) == 1
    assert mcnemar_p(0, 3000) == pytest.approx(0, abs=1e-300)


def test_compare():
    references = ["happy"] * 40 + ["sad"] * 20
    a = ["happy"] * 20 + [None] * 20 + ["sad"] * 20
    b = ["happy"] * 36 + [None] * 4 + ["sad"] * 18 + ["happy"] * 2
    result = compare(a, b, references)
    assert (result.n, result.num_only_a, result.num_only_b) == (60, 2, 16)
    assert result.war_difference == pytest.approx(14 / 60)
    assert result.uar_difference == pytest.approx((36 / 40 + 18 / 20) / 2 - (20 / 40 + 1) / 2)
    assert result.war_interval[0] < result.war_difference < result.war_interval[1]
    assert result.uar_interval[0] < result.uar_difference < result.uar_interval[1]
    assert result.mcnemar_p == pytest.approx(mcnemar_p(2, 16))
    mirrored = compare(b, a, references)
    assert mirrored.war_interval == pytest.approx([-x for x in result.war_interval[::-1]])


def test_compare_with_itself_finds_nothing():
    references = ["happy", "sad", "fear"] * 5
    predictions = ["happy"] * 15
    result = compare(predictions, predictions, references)
    assert (result.war_difference, result.uar_difference, result.mcnemar_p) == (0, 0, 1)
    assert result.war_interval == (0, 0)
    with pytest.raises(UsageError, match="predictions_b has 1 entries"):
        compare(predictions, ["happy"], references)
