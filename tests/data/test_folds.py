"""Folds of speakers: nobody is in two splits, and every fold is as much like another as it goes."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import layouts
import pytest
from field_layouts import FIELD

from r1omni.data import DatasetSpec, load_dataset
from r1omni.data.folds import speaker_folds, speakers_of_split
from r1omni.types import Sample, Sex, UsageError

# Emo-DB's speakers and their utterances.
MEN = {"03": 49, "10": 38, "11": 55, "12": 35, "15": 56}
WOMEN = {"08": 58, "09": 43, "13": 61, "14": 69, "16": 71}


def told(men: dict[str, int], women: dict[str, int]) -> list[tuple[str, Sex | None]]:
    pairs: list[tuple[str, Sex | None]] = [(n, "male") for n, k in men.items() for _ in range(k)]
    return pairs + [(n, "female") for n, k in women.items() for _ in range(k)]


def test_by_hand() -> None:
    """Women from 71 down to 43 to folds 1 to 5; the man with most joins the fold with fewest."""
    folds = speaker_folds(told(MEN, WOMEN), 5, "here")
    assert [set(fold) for fold in folds] == [
        {"16", "12"}, {"14", "10"}, {"13", "03"}, {"08", "11"}, {"09", "15"},
    ]  # fmt: skip
    sizes = [sum((MEN | WOMEN)[name] for name in fold) for fold in folds]
    assert sizes == [106, 107, 110, 113, 99]


@pytest.mark.parametrize("number", range(2, 11))
def test_disjoint_whole_balanced_and_the_same_every_time(number: int) -> None:
    pairs = told(MEN, WOMEN)
    folds = speaker_folds(pairs, number, "here")
    assert sorted(name for fold in folds for name in fold) == sorted(MEN | WOMEN)  # each once
    assert all(folds)
    men = [len(fold & MEN.keys()) for fold in folds]
    women = [len(fold & WOMEN.keys()) for fold in folds]
    assert max(men) - min(men) <= 1 and max(women) - min(women) <= 1
    random.Random(number).shuffle(pairs)
    assert speaker_folds(pairs, number, "here") == folds


def test_unknown_sexes_are_balanced_by_recordings_alone() -> None:
    counts = {"a": 9, "b": 4, "c": 3, "d": 2}
    pairs: list[tuple[str, Sex | None]] = [(n, None) for n, k in counts.items() for _ in range(k)]
    assert [set(f) for f in speaker_folds(pairs, 2, "here")] == [{"a"}, {"b", "c", "d"}]
    # Where some rows say it, it is known.
    assert speaker_folds([("a", None), ("a", "male"), ("b", "male")], 2, "here") == ({"a"}, {"b"})


def test_what_no_folds_can_be_made_of() -> None:
    with pytest.raises(UsageError, match=r"here: has 2 speakers \(a, b\), too few for folds 3"):
        speaker_folds([("b", None), ("a", None)], 3, "here")
    with pytest.raises(UsageError, match="here: the speaker a is male in one place and female in"):
        speaker_folds([("a", "male"), ("a", "female")], 2, "here")


def test_validation_is_the_next_fold_and_then_no_part_of_train() -> None:
    folds = [frozenset("a"), frozenset("b"), frozenset("c"), frozenset("d")]
    for fold, (test, val, train, without_val) in enumerate(
        [("a", "b", "cd", "bcd"), ("b", "c", "ad", "acd"),
         ("c", "d", "ab", "abd"), ("d", "a", "bc", "abc")], start=1,
    ):  # fmt: skip
        assert speakers_of_split(folds, "test", fold, True) == set(test)
        assert speakers_of_split(folds, "val", fold, True) == set(val)
        assert speakers_of_split(folds, "train", fold, True) == set(train)
        assert speakers_of_split(folds, "train", fold, False) == set(without_val)


def ravdess(root: Path) -> Path:
    """Sound of twelve actors; the song of one of them is missing."""
    for actor in range(1, 13):
        for kind in ("03-01", "03-02") if actor != 5 else ("03-01",):
            name = f"{kind}-{1 + actor % 6:02d}-01-01-01-{actor:02d}.wav"
            layouts.touch(root, f"Actor_{actor:02d}/{name}")
    return root


def own(root: Path) -> Path:
    rows = [
        f"{name}{take}.wav,happy,{name},{sex}\n"
        for name, sex in zip("abcdefghij", "mfmfmfmf  ", strict=True)
        for take in range(1 + ord(name) % 3)
    ]
    layouts.write(root / "labels.csv", "path,label,group,sex\n" + "".join(rows))
    return root


WRITERS = {
    "ravdess": ravdess,
    "emodb": lambda root: layouts.emodb(root, tuple(sorted(MEN | WOMEN))),
    "own": own,
    **{name: layout.write for name, layout in FIELD.items() if layout.speakers},
}


def load(name: str, root: Path, split: str, **options: object) -> list[Sample]:
    return load_dataset(DatasetSpec(name, str(root), split, options=options))


def groups(samples: list[Sample]) -> set[str | None]:
    return {sample.group for sample in samples}


@pytest.mark.parametrize("name", WRITERS)
def test_every_fold_of_every_data_set(name: str, tmp_path: Path) -> None:
    root = WRITERS[name](tmp_path)
    everyone = load(name, root, "all")
    tested: Counter[str] = Counter()
    for fold in range(1, 6):
        plain = {"folds": 5, "fold": fold}
        held = {**plain, "hold_out_val": True}
        test, val, train = (load(name, root, split, **held) for split in ("test", "val", "train"))
        tested.update(sample.sample_id for sample in test)
        assert not groups(test) & groups(train)
        assert not groups(val) & (groups(train) | groups(test))
        assert groups(val) == groups(load(name, root, "test", folds=5, fold=fold % 5 + 1))
        assert sorted(s.sample_id for s in test + val + train) == sorted(
            s.sample_id for s in everyone
        )
        assert load(name, root, "test", **plain) == test
        with_val = load(name, root, "train", **plain)
        assert groups(with_val) == groups(train) | groups(val)
    assert tested == Counter(sample.sample_id for sample in everyone)


def test_folds_do_not_move_with_other_options(tmp_path: Path) -> None:
    """So one may train on speech and test on song, or train on six classes and test on four."""
    root = ravdess(tmp_path / "r")
    layouts.emodb(tmp_path / "e", tuple(sorted(MEN | WOMEN)))
    for fold in (1, 2, 3):
        choice = {"folds": 3, "fold": fold}
        speech = groups(load("ravdess", root, "test", **choice))
        song = groups(load("ravdess", root, "test", vocal="song", **choice))
        assert song == speech - {"actor_05"}
        some = load("ravdess", root, "test", actors=list(range(1, 10)), **choice)
        assert groups(some) == speech - {"actor_10", "actor_11", "actor_12"}
        six, four = (
            groups(load("emodb", tmp_path / "e", "test", protocol=protocol, **choice))
            for protocol in ("6way_no_boredom", "4way")
        )
        assert six == four


def test_published_folds_of_ravdess_have_validation_too(tmp_path: Path) -> None:
    root = ravdess(tmp_path)
    held = {"fold": 1, "hold_out_val": True}
    assert groups(load("ravdess", root, "val", **held)) == {f"actor_{n:02d}" for n in range(5, 9)}
    assert groups(load("ravdess", root, "train", **held)) == {
        f"actor_{n:02d}" for n in range(9, 13)
    }
    assert len(groups(load("ravdess", root, "train", fold=1))) == 8


@pytest.mark.parametrize(
    ("name", "split", "options", "message"),
    [
        ("emodb", "train", {"folds": 5}, "folds is 5 and fold is None; give folds from 2, and"),
        ("emodb", "train", {"folds": 1, "fold": 1}, "folds is 1 and fold is 1; give folds from 2"),
        ("emodb", "train", {"fold": 2}, "fold is 2, of how many? Give folds, too"),
        ("emodb", "test", {"folds": 5, "fold": 6}, "fold 6 does not exist; use 1 to 5"),
        ("emodb", "test", {"folds": 11, "fold": 1}, "has 10 speakers"),
        ("ravdess", "test", {"fold": 7}, "fold 7 does not exist; use 1 to 6"),
        ("ravdess", "test", {"folds": 8, "fold": 9}, "fold 9 does not exist; use 1 to 8"),
        ("own", "test", {"hold_out_val": True}, "hold_out_val is True, but has an effect only"),
        ("own", "val", {"folds": 5, "fold": 1}, "give fold and hold_out_val: true, here and where"),
        ("ravdess", "val", {}, "split val is the fold after the tested one; give fold and"),
        ("own", "train", {"folds": 2, "fold": 1, "hold_out_val": True}, "nobody to train on with"),
        ("own", "all", {"folds": 5, "fold": 1}, "split all has every speaker; leave folds, fold"),
        ("ravdess", "all", {"fold": 1, "hold_out_val": True}, "split all has every speaker"),
        ("ravdess", "all", {"fold": 1}, "split all has every speaker; leave folds, fold and"),
        ("emodb", "all", {"folds": 5, "fold": 1}, "split all has every speaker"),
        # Parts of the set: the twelve actors here are three of the published folds.
        ("ravdess", "test", {"fold": 6}, "asks for actors 21, 22, 23, 24, of whom no speech is"),
        ("ravdess", "test", {"fold": 6}, "actors 01, 02, 03, 04, 05, 06, 07, 08, 09, 10, 11, 12;"),
        ("ravdess", "val", {"fold": 3, "hold_out_val": True}, "asks for actors 13, 14, 15, 16, of"),
        ("ravdess", "test", {"fold": 4}, "choose another fold, or give folds, too, which divides"),
        ("ravdess", "test", {"actors": [5], "vocal": "song"}, "asks for actor 05, of whom no song"),
        ("ravdess", "test", {"actors": [5], "fold": 1}, "none of the actors given is in the split"),
        ("own", "dev", {"folds": 5, "fold": 1}, "has no split 'dev'; use one of train, val, test"),
    ],
)
def test_options_that_say_nothing_or_contradict(
    name: str, split: str, options: dict[str, object], message: str, tmp_path: Path
) -> None:
    WRITERS[name](tmp_path)
    with pytest.raises(UsageError) as caught:
        load(name, tmp_path, split, **options)
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("path,label,group\na.wav,sad,a\nb.wav,sad,\n", "line 3: the column 'group' is empty"),
        ("path,label\na.wav,sad\n", "line 2: the column 'group' is empty"),
        ("path,label,group,split\na.wav,sad,a,test\n", "line 2: is of the split 'test', and the"),
        ("path,label,group,sex\na.wav,sad,a,x\n", "line 2: the column 'sex' holds 'x', expected"),
        ("path,label,group,sex\na.wav,sad,a,F\nb.wav,sad,a,male\n", "the speaker a is female in"),
    ],
)
def test_tables_that_no_folds_can_be_made_of(tmp_path: Path, table: str, message: str) -> None:
    layouts.write(tmp_path / "labels.csv", table)
    with pytest.raises(UsageError) as caught:
        load("own", tmp_path, "test", folds=2, fold=1)
    assert "labels.csv" in str(caught.value) and message in str(caught.value)


def test_sex_and_intensity_travel(tmp_path: Path) -> None:
    sexes = {s.group: s.sex for s in load("own", own(tmp_path / "o"), "all")}
    assert (sexes["a"], sexes["b"], sexes["i"]) == ("male", "female", None)
    actors = {s.group: s.sex for s in load("ravdess", ravdess(tmp_path / "r"), "test")}
    assert (actors["actor_01"], actors["actor_12"]) == ("male", "female")
    table = "path,label,intensity\na.wav,sad,strong\nb.wav,sad,Normal\nc.wav,sad,\n"
    layouts.write(tmp_path / "labels.csv", table)
    assert [s.intensity for s in load("own", tmp_path, "all")] == ["strong", "normal", None]
    layouts.write(tmp_path / "labels.csv", f"{table}d.wav,sad,2\n")
    with pytest.raises(UsageError, match=r"line 5: the column 'intensity' holds '2', expected"):
        load("own", tmp_path, "all")
