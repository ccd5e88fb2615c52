"""Counts of the publishers must agree with one another."""

from __future__ import annotations

from r1omni.data.emodb import CLASSES, SPEAKERS
from r1omni.doctor import published
from r1omni.text.emotions import LABEL_SETS


def test_folds_share_the_same_clips() -> None:
    assert {train + test for train, test in published.FOLDS["dfew"]} == {11_697}
    assert {train + test for train, test in published.FOLDS["mafw"]} == {9_172}


def test_classes_add_up() -> None:
    assert sum(published.DFEW_TEST_CLASSES.values()) == published.FOLDS["dfew"][0][1]
    assert set(published.DFEW_TEST_CLASSES) == set(LABEL_SETS["dfew"].labels)
    assert sum(published.RAVDESS_CLASSES.values()) == 60 * 24
    assert set(published.RAVDESS_CLASSES) == set(LABEL_SETS["ravdess"].labels)
    assert sum(published.RAVDESS_ACTORS.values()) == 60 * 24
    assert sum(published.RAVDESS_SONG_CLASSES.values()) == 1_012
    assert sum(published.RAVDESS_SONG_ACTORS.values()) == 44 * 23 == 1_012


def test_emodb_adds_up() -> None:
    assert sum(published.EMODB_CLASSES.values()) == 535
    assert sum(published.EMODB_SPEAKERS.values()) == 535
    assert set(published.EMODB_CLASSES) == set(CLASSES.values())
    assert set(published.EMODB_SPEAKERS) == {f"speaker_{speaker}" for speaker in SPEAKERS}
