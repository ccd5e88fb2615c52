import pickle

import pytest

from r1omni.text.emotions import (
    _ALIASES,
    ALIASES,
    ANSWER_WORDS,
    CLASSES,
    EMOTIONS,
    EVERY_CLASS,
    FURTHER_CLASSES,
    LABEL_SETS,
    LabelSet,
    _build_table,
    canonical,
)
from r1omni.types import UsageError


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("happiness", "happy"),
        ("  Joyful. ", "happy"),
        ("**Sad**", "sad"),
        ("ANGER!", "angry"),
        ("surprised", "surprise"),
        ("fearful", "fear"),
        ("disgusted", "disgust"),
        ("contemptuous", "contempt"),
        ("worried", "anxiety"),
        ("helpless", "helplessness"),
        ("disappointed", "disappointment"),
        ("'calm'", "calm"),
        ("thrilled", "happy"),
        ("grief-stricken", "sad"),
        ("livid", "angry"),
        ("flabbergasted", "surprise"),
        ("sickened", "disgust"),
        ("terrifying", "fear"),
        ("jittery", "anxiety"),
        ("disillusioned", "disappointment"),
        ("unruffled", "calm"),
        ("tense", None),  # between anxiety and anger; so are those below
        ("stressed", None),
        ("exasperated", None),
        ("alarmed", None),
        ("neutral\n", "neutral"),
        ("ｈａｐｐｙ", "happy"),  # full width, by NFKC
        ("happy, sad", None),
        ("happy sad", None),
        ("not happy", None),
        ("unhappy", "sad"),
        ("happyy", None),
        ("hap\u200bpy", None),
        ("hаppy", None),  # Cyrillic a
        ("<happy>", None),
        ("", None),
        ("...", None),
    ],
)
def test_canonical(word, expected):
    assert canonical(word) == expected


def test_canonical_ignores_long_text():
    # Normalization sorts combining marks in quadratic time; this must return at once.
    assert canonical("a" + "\u0301\u0323" * 500_000) is None


def test_every_alias_names_one_emotion_and_every_emotion_itself():
    listed = [w for words in _ALIASES.values() for w in words.split()]
    assert len(listed) == len(set(listed))
    assert set(ALIASES.values()) == set(EMOTIONS) == set(_ALIASES)
    assert all(canonical(alias) == emotion for alias, emotion in ALIASES.items())
    with pytest.raises(ValueError, match="'sour' stands for sad and for angry"):
        _build_table({"sad": "sour", "angry": "sour"})


def test_answer_words_are_read_back():
    assert tuple(ANSWER_WORDS) == CLASSES
    assert all(canonical(ANSWER_WORDS[emotion]) == emotion for emotion in EMOTIONS)
    assert all(EVERY_CLASS.parse(word) == emotion for emotion, word in ANSWER_WORDS.items())


def test_label_sets():
    sizes = {name: len(s.labels) for name, s in LABEL_SETS.items()}
    assert sizes == {
        "dfew": 7,
        "mafw": 11,
        "ravdess": 8,
        "ravdess_7way_no_calm": 7,
        "ravdess_7way_calm_as_neutral": 7,
        "emodb_6way_no_boredom": 6,
        "emodb_4way": 4,
        "cremad": 6,
        "savee": 7,
        "tess": 7,
        "enterface": 6,
        "meld": 7,
        "iemocap_4way": 4,
        "iemocap_6way": 6,
        "mer": 6,
        "merr": 8,
        "all": 12,
    }
    assert LABEL_SETS["dfew"].labels == tuple(
        "happy sad neutral angry surprise disgust fear".split()
    )
    published = (
        "anger disgust fear happiness neutral sadness surprise contempt anxiety helplessness "
        "disappointment"
    )
    assert LABEL_SETS["mafw"].labels == tuple(canonical(word) for word in published.split())
    assert all(s.parse(label) == label for s in LABEL_SETS.values() for label in s.labels)


def test_calm_depends_on_the_protocol():
    assert LABEL_SETS["ravdess"].parse("calm") == "calm"
    assert LABEL_SETS["ravdess_7way_no_calm"].parse("calm") is None
    assert LABEL_SETS["ravdess_7way_calm_as_neutral"].parse("Calmly") == "neutral"
    assert LABEL_SETS["dfew"].parse("worried") is None
    assert LABEL_SETS["mer"].parse("worried") == "anxiety"


def test_a_further_class_is_read_where_the_label_set_has_it():
    six = LABEL_SETS["iemocap_6way"]
    for word, name in (("Excited!", "excited"), ("excitement", "excited"),
                       ("frustration", "frustrated"), ("joy", "happy")):  # fmt: skip
        assert six.parse(word) == name
    others = [labels for name, labels in LABEL_SETS.items() if name != six.name]
    words = set(six.aliases) - set(ALIASES)
    assert {six.parse(word) for word in words} == set(FURTHER_CLASSES)
    for labels in others:
        assert dict(labels.aliases) == dict(ALIASES)
        assert not set(labels.labels) & set(FURTHER_CLASSES)
        assert {labels.named(word) for word in words} == {None}
    assert {canonical(word) for word in words} == {None}
    merged = LabelSet("merged", ("happy", "sad"), {"excited": "happy"})
    assert (merged.named("excited"), merged.parse("excited")) == ("excited", "happy")
    assert pickle.loads(pickle.dumps(merged)).parse("excited") == "happy"


def test_boredom_counts_as_nothing():
    assert canonical("boredom") is None
    assert set(LABEL_SETS["emodb_4way"].labels) == {"angry", "happy", "neutral", "sad"}
    assert LABEL_SETS["emodb_6way_no_boredom"].parse("bored") is None


@pytest.mark.parametrize(
    ("labels", "merges"),
    [
        (("happy", "happy"), {}),
        ((), {}),
        (("joy",), {}),
        (("happy", "calm"), {"calm": "happy"}),
        (("happy",), {"calm": "neutral"}),
    ],
)
def test_contradicting_label_sets_are_refused(labels, merges):
    with pytest.raises(UsageError, match="label set bad"):
        LabelSet("bad", labels, merges)


def test_label_set_survives_pickling():
    for labels in LABEL_SETS.values():
        assert pickle.loads(pickle.dumps(labels)) == labels
