"""Votes of sampled completions, counted by hand."""

from __future__ import annotations

from typing import Any

import pytest

from r1omni.metrics.comparison import compare
from r1omni.metrics.voting import tally, vote_figures, voted, voting_figures
from r1omni.text.emotions import LABEL_SETS
from r1omni.types import UsageError

LABELS = LABEL_SETS["dfew"].labels


def record(label: str | None, prediction: str | None, *votes: str | None) -> dict[str, Any]:
    return {
        "label": label, "prediction": prediction, "group": None, "votes": list(votes),
        "num_tokens": 10, "votes_num_tokens": 9 * len(votes),
    }  # fmt: skip


ROWS = [
    record("happy", "sad", "happy", "sad", "happy", "happy"),  # 3 of 4: right, greedy wrong
    record("happy", "happy", None, "angry", None, "angry"),  # wrong, greedy right
    record("sad", "angry", "angry", "sad", "sad", "angry"),  # tie: angry was named first
    record("sad", None, None, None, None, None),  # no class
    record(None, "sad", "sad", "sad", "sad", "sad"),  # without a label: left out
]


@pytest.mark.parametrize(
    ("votes", "most"),
    [
        (["sad", "happy", "happy"], "happy"),
        (["sad", "happy", "happy", "sad"], "sad"),
        ([None, None, "fear"], "fear"),
        ([None, None], None),
        (["calm", "calm", "sad"], "sad"),  # calm is no class of this set
        ([], None),
    ],
)
def test_most_votes_and_the_first_named_of_equal_ones(votes: list[Any], most: str | None) -> None:
    assert tally(votes, LABELS) == most


def test_figures_by_hand() -> None:
    found = vote_figures(ROWS, LABELS)
    assert found is not None and found["samples"] == 4
    assert (found["war"], found["uar"]) == (0.25, 0.25)
    # Recall of happy 1/2, of sad 0; greedy has the same WAR, on another clip.
    gain = found["votes_minus_greedy"]
    assert (gain["n"], gain["war_difference"], gain["uar_difference"]) == (4, 0.0, 0.0)
    assert (gain["num_only_a"], gain["num_only_b"]) == (1, 1)
    greedy, chosen = [r["prediction"] for r in ROWS[:4]], ["happy", "angry", "angry", None]
    again = compare(greedy, chosen, ["happy", "happy", "sad", "sad"])
    assert gain["war_interval"] == again.war_interval and gain["mcnemar_p"] == again.mcnemar_p
    # The first vote alone: happy is right. The first two: "angry" and "sad" tie, angry is first.
    assert [f["war"] for f in found["by_samples"]] == [0.25, 0.25, 0.5, 0.25]
    assert found["agreement"] == (3 + 2 + 2 + 0) / 16
    assert found["unreadable"] == (2 + 4) / 16 and found["ties"] == 1 / 4
    assert found["tokens"] == {"greedy": 40, "votes": 144, "ratio": 3.6}
    assert voting_figures(found) == {
        "voted_war": 0.25, "voted_uar": 0.25, "votes_minus_greedy": 0.0
    }  # fmt: skip


def test_what_was_not_voted_on_has_no_figures() -> None:
    bare = [{k: v for k, v in row.items() if "vote" not in k} for row in ROWS]
    assert vote_figures(bare, LABELS) is None
    by_set = {"a": {"full": bare}, "b": {"full": ROWS, "muted": bare}}
    assert {n: set(c) for n, c in voted(by_set, {"a": "dfew", "b": "dfew"}).items()} == {
        "b": {"full"}
    }
    assert vote_figures([ROWS[4]], LABELS) is None
    # A class that the label set lacks is no vote.
    calm = [record("happy", "happy", "calm", "happy")]
    found = vote_figures(calm, LABELS)
    assert found is not None and (found["war"], found["unreadable"]) == (1.0, 0.5)


@pytest.mark.parametrize("last", [ROWS[0]["votes"][:3], None])
def test_clips_have_as_many_votes_each(last: list[str] | None) -> None:
    row = {**ROWS[0], "votes": last}
    if last is None:
        del row["votes"]
    with pytest.raises(UsageError, match=r"votes: clips of one set have [03], 4 of them; score"):
        vote_figures([*ROWS, row], LABELS)
    with pytest.raises(UsageError, match=r"^mine, full: votes: clips of one set"):
        voted({"mine": {"full": [*ROWS, row]}}, {"mine": "dfew"})
