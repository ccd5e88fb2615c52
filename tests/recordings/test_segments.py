"""Segments and summaries: cases worked out by hand, and what holds for any records."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from some_records import random_records, record

from r1omni.recordings.records import Record, Segment, Summary
from r1omni.recordings.segments import MAX_GAP_S, MIN_MARGIN, pieces, segments, summary


def spans(found: tuple[Segment, ...]) -> list[tuple[float, float, str | None]]:
    return [(segment.start_s, segment.end_s, segment.label) for segment in found]


def summary_of(records: list[Record]) -> Summary:
    return summary("clip.mp4", records, segments(records))


def test_neighbours_that_agree_are_one_segment() -> None:
    found = segments(
        [
            record(0, 5, "happy", 0.9),
            record(5, 10, "happy", 0.6),
            record(10, 12, "sad", 0.8, "happy"),
        ]
    )
    assert spans(found) == [(0, 10, "happy"), (10, 12, "sad")]
    assert [segment.num_records for segment in found] == [2, 1]
    assert found[0].scores == pytest.approx({"happy": 0.75, "sad": 0.25})


def test_scores_are_weighted_by_time() -> None:
    [found] = segments([record(0, 1, "happy", 0.5), record(1, 4, "happy", 0.9)])
    assert found.scores == pytest.approx({"happy": 0.8, "sad": 0.2})


def test_windows_that_overlap_share_the_overlap_in_its_middle() -> None:
    records = [record(0, 4, "happy"), record(2, 6, "sad"), record(4, 8, "sad")]
    assert [(p.start_s, p.end_s) for p in pieces(records)] == [(0, 3), (3, 5), (5, 8)]
    assert spans(segments(records)) == [(0, 3, "happy"), (3, 8, "sad")]


def test_with_five_windows_over_a_moment_the_middle_one_counts() -> None:
    records = [record(start, start + 5, "happy") for start in range(7)]
    own = [(p.start_s, p.end_s) for p in pieces(records)]
    assert own == [(0, 3), (3, 4), (4, 5), (5, 6), (6, 7), (7, 8), (8, 11)]


def test_a_short_record_within_a_long_one_counts_there() -> None:
    records = [record(0, 10, "happy"), record(4, 6, "sad")]
    assert spans(segments(records)) == [(0, 4, "happy"), (4, 6, "sad"), (6, 10, "happy")]


def test_gaps_part_segments_beyond_the_tolerance() -> None:
    within = [record(0, 1), record(1 + MAX_GAP_S / 2, 2)]
    assert spans(segments(within)) == [(0, 2, "happy")]
    beyond = [record(0, 1), record(1 + MAX_GAP_S * 1.1, 2)]
    assert len(segments(beyond)) == 2


def test_unreadable_answers_are_segments_without_a_label() -> None:
    records = [record(0, 1), record(1, 2, None), record(2, 3, None), record(3, 4)]
    assert spans(segments(records)) == [(0, 1, "happy"), (1, 3, None), (3, 4, "happy")]
    assert segments(records)[1].scores == {}
    assert summary_of(records).unreadable == 0.5
    assert summary_of(records).changes == 0


# Between two records of happy on each side: how sure the one of sad is, and whether it cuts.
@pytest.mark.parametrize(
    ("middle", "is_cut"),
    [
        ([record(10, 15, "sad", 0.5 + MIN_MARGIN / 2 - 0.01, "happy")], False),
        ([record(10, 15, "sad", 0.5 + MIN_MARGIN / 2 + 0.01, "happy")], True),
        ([record(10, 15, "sad", 0.4, "happy")], False),  # read so, though scored otherwise
        ([record(10, 15, None)], True),
        ([Record("clip.mp4", 10, 15, label="sad")], True),  # without scores there is no margin
        ([record(10, 12.5, "sad", 0.5, "happy"), record(12.5, 15, "sad", 0.5, "happy")], True),
        ([record(10.1, 15, "sad", 0.5, "happy")], True),  # behind a gap
    ],
)
def test_one_doubtful_record_does_not_cut(middle: list[Record], is_cut: bool) -> None:
    sides = [record(0, 5), record(5, 10), record(15, 20), record(20, 25)]
    found = segments([*sides, *middle])
    assert (len(found) > 1) == is_cut
    if not is_cut:
        assert spans(found) == [(0, 25, "happy")]
        assert found[0].num_records == 5


def test_doubt_needs_firm_and_longer_neighbours() -> None:
    doubtful = record(5, 10, "sad", 0.51, "happy")
    assert len(segments([record(0, 5), doubtful, record(10, 15)])) == 3
    assert len(segments([record(0, 5), record(3, 5), doubtful])) == 2
    short = [record(3, 4), record(4, 5), record(10, 11), record(11, 12)]
    assert len(segments([*short, doubtful])) == 3
    swaying = [
        record(start, start + 5, "happy" if start % 2 else "sad", 0.51, "sad")
        for start in range(0, 50, 5)
    ]
    assert len(segments(swaying)) == 10


def test_speakers_are_merged_apart() -> None:
    records = [
        record(0, 4, "sad", speaker="Ben"),
        record(1, 3, "happy", speaker="Anna"),
        record(4, 5, "sad", speaker="Ben"),
        record(3, 4, "happy", speaker=None),
    ]
    found = segments(records)
    assert [(s.speaker, s.start_s, s.end_s) for s in found] == [
        ("Ben", 0, 5), ("Anna", 1, 3), (None, 3, 4),
    ]  # fmt: skip


def test_a_summary_worked_out_by_hand() -> None:
    """10 seconds: Ben is sad for all of them, Anna happy for 4 of them, then unreadable for 1."""
    records = [
        record(0, 10, "sad", 0.7, speaker="Ben"),
        record(2, 6, "happy", 0.95, speaker="Anna"),
        record(6, 7, None, speaker="Anna"),
        record(20, 30, "angry", 0.95, speaker="Anna"),
        Record("clip.mp4", error="clip.mp4: broke off"),
    ]
    told = summary_of(records)
    assert told.length_s == 20 and told.num_records == 4
    assert told.shares == pytest.approx({"angry": 0.5, "sad": 7.5 / 20, "happy": 2 / 20})
    assert told.unreadable == pytest.approx(0.5 / 20)
    assert list(told.shares) == ["angry", "sad", "happy"] and told.dominant == "angry"
    assert (told.peak, told.peak_score, told.peak_s) == ("happy", 0.95, 2)
    assert told.changes == 1  # Anna's, from happy over what could not be read to angry
    assert told.error == "clip.mp4: broke off"


def test_a_recording_without_answers_has_a_summary() -> None:
    told = summary_of([Record("clip.mp4", error="clip.mp4: no sound", is_last=True)])
    assert told == Summary(
        "clip.mp4", 0.0, 0, {}, 0.0, None, None, None, None, 0, "clip.mp4: no sound"
    )
    assert summary_of([record(0, 2, None)]).unreadable == 1
    assert summary_of([record(3, 3)]).length_s == 0
    assert not summary_of([record(3, 4)]).is_complete  # its last record is not there


def test_what_holds_for_any_records() -> None:
    rng = random.Random(0)
    for seed in range(300):
        records = random_records(seed)
        found = segments(records)
        told = summary("clip.mp4", records, found)
        shuffled = rng.sample(records, len(records))
        assert segments(shuffled) == found
        assert summary("clip.mp4", shuffled, found) == told
        for one, other in pairwise(found):
            assert one.end_s > one.start_s
            if one.speaker == other.speaker:
                assert one.end_s <= other.start_s
                assert one.label != other.label or other.start_s - one.end_s > MAX_GAP_S
        if found:
            assert sum(told.shares.values()) + told.unreadable == pytest.approx(1)
            for segment in found:
                assert sum(segment.scores.values()) == pytest.approx(1 if segment.scores else 0)
        for moment in (rng.uniform(0, 30) for _ in range(20)):
            there = {r.speaker for r in records if r.start_s <= moment < r.end_s}
            owners = [p.record for p in pieces(records) if p.start_s <= moment < p.end_s]
            assert sorted(map(str, there)) == sorted(str(owner.speaker) for owner in owners)
            for owner in owners:
                middles = [
                    abs(moment - (r.start_s + r.end_s) / 2)
                    for r in records
                    if r.speaker == owner.speaker and r.start_s <= moment < r.end_s
                ]
                assert abs(moment - (owner.start_s + owner.end_s) / 2) == min(middles)
