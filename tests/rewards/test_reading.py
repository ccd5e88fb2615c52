"""What rewards read out of a text: denials, conclusions, media, and the wheel of emotions."""

import pytest

from r1omni.text.emotions import ALIASES, ANSWER_WORDS, EMOTIONS, canonical
from r1omni.text.mentions import find_mentions
from r1omni.text.reasoning import MEDIA_WORDS, described_media, named_emotions
from r1omni.text.wheel import (
    _MORE_WORDS,
    _PETAL_OF_EMOTION,
    PETALS,
    WHEEL,
    _build_wheel,
    list_words,
    petal,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("happy", "+happy"),
        ("He is not happy, he looks sad.", "-happy +sad"),
        ("She isn’t happy. She is afraid.", "-happy +afraid"),
        ("No, he is angry.", "+angry"),
        ("no visible or audible signs of anger", "-anger"),
        ("no sign of anger, fear, or disgust; she is sad", "-anger -fear -disgust +sad"),
        ("no anger, or any fear", "-anger -fear"),
        ("no anger and fear", "-anger -fear"),
        ("neither sad nor angry but calm", "-sad -angry +calm"),
        ("He is not happy and looks sad.", "-happy +sad"),
        ("not happy because he is angry", "-happy +angry"),
        ("not happy as her angry voice shows", "-happy +angry"),
        ("I see sadness, not anger", "+sadness -anger"),
        ("without joy", "-joy"),
        ("lack of joy", "-joy"),
        ("far from calm", "-calm"),
        ("happy rather than sad", "+happy -sad"),
        ("Instead of joy we see grief", "-joy +grief"),
        ("more angry than sad", "+angry -sad"),
        ("more than happy", "+happy"),
        ("not only angry but also sad", "+angry +sad"),
        ("no doubt angry", "+angry"),
        ("not without anger", "+anger"),
        ("cannot hide his anger", "+anger"),
        ("can't help feeling sad", "+sad"),
        ("nothing but joy", "+joy"),
        ("anger is absent and fear is not evident", "-anger -fear"),
        ("anger or fear is absent", "-anger -fear"),
        ("anger can be ruled out", "-anger"),
        ("anger is not absent", "+anger"),
        ("sadness is evident, not joy", "+sadness -joy"),
        ("sad that her father is absent", "+sad"),
        ("not unhappy", "-unhappy"),
        ("a non-threatening, sad-looking man", "+sad"),
        ("non-angry", "-angry"),
        ("anger's mark, let-down", "+anger +let-down"),
        ("HAPPY!", "+happy"),
        ("slaphappy, hap\u200bpy", ""),
        ("no joy is shown in this sad face", "-joy +sad"),
        # a denial reaches six words far, and two after a word that it has met
        ("He did not look at the camera in anger", "-anger"),
        ("He did not look straight at the camera in anger", "+anger"),
        ("not happy in the way angry", "-happy +angry"),
        ("", ""),
    ],
)
def test_denials(text, expected):
    found = find_mentions(text, ALIASES)
    assert " ".join(("-" if m.denied else "+") + m.word for m in found) == expected
    assert all(m.meaning == canonical(m.word) for m in found)


def test_sentences():
    found = find_mentions("Sad; angry. Calm!\n\nHappy？Afraid", ALIASES)
    assert [m.sentence for m in found] == [0, 0, 1, 4, 5]


def test_named_emotions():
    named = named_emotions("He is glad. Then fear and worry. No anger. The brows are raised.")
    assert named.all == {"happy", "fear", "anxiety"}
    assert named.concluded == {"fear", "anxiety"}
    assert named_emotions("no anger").all == frozenset()


def test_words_of_the_media():
    assert set(MEDIA_WORDS.values()) == {"video", "audio"}
    assert not set(MEDIA_WORDS) & set(ALIASES)
    for word, medium in MEDIA_WORDS.items():
        assert described_media(f"There is {word} here.") == {medium}
    assert (
        described_media("I cannot hear any voice; in the absence of sound, without audio") == set()
    )


def test_every_word_of_the_taxonomy_lies_on_the_wheel():
    assert {petal(word) for word in ALIASES} | {"trust", "anticipation"} == set(PETALS)
    assert set(_PETAL_OF_EMOTION) == set(EMOTIONS)
    assert all(petal(alias) == _PETAL_OF_EMOTION[canonical(alias)] for alias in ALIASES)


@pytest.mark.parametrize(
    ("petal_name", "mild", "strong"),
    [
        # Plutchik's three intensities: mild, the petal itself, strong
        ("joy", "serenity", "ecstasy"),
        ("trust", "acceptance", "admiration"),
        ("fear", "apprehension", "terror"),
        ("surprise", "distraction", "amazement"),
        ("sadness", "pensiveness", "grief"),
        ("disgust", "boredom", "loathing"),
        ("anger", "annoyance", "rage"),
        ("anticipation", "interest", "vigilance"),
    ],
)
def test_the_wheel_holds_plutchiks_words(petal_name, mild, strong):
    assert petal(mild) == petal(petal_name) == petal(strong) == petal_name


def test_words_between_two_petals_lie_on_none():
    assert [petal(word) for word in ("upset", "frustrated", "hopeful", "proud", "", "x")] == [
        None
    ] * 6


def test_a_wheel_that_contradicts_itself_is_refused():
    listed = [word for words in _MORE_WORDS.values() for word in words.split()]
    assert len(listed) == len(set(listed)) and not set(listed) & set(ALIASES)
    assert len(WHEEL) == len(listed) + len(ALIASES)
    with pytest.raises(ValueError, match="'glad' lies on the petals joy and fear"):
        _build_wheel(_PETAL_OF_EMOTION, {"fear": "glad"})
    with pytest.raises(ValueError, match="has no petal"):
        _build_wheel(_PETAL_OF_EMOTION, {"love": "fond"})
    with pytest.raises(ValueError, match="not the whole taxonomy"):
        _build_wheel({"happy": "joy"}, {})


def test_list_words():
    assert list_words("Happy, sad;  **Angry** and calm/afraid or x\ny。z") == [
        "happy", "sad", "angry", "calm", "afraid", "x", "y", "z"
    ]  # fmt: skip
    assert list_words("['happy', \"sad\"]") == ["happy", "sad"]
    assert list_words(" , ; and ") == []
    assert list_words("candor") == ["candor"]  # "and" and "or" within a word
    assert list_words("x" * 100) == ["x" * 100]


def test_answer_words_are_on_the_wheel():
    assert [petal(ANSWER_WORDS[emotion]) for emotion in EMOTIONS].count(None) == 0
