import pytest

from r1omni.rewards import get_reward
from r1omni.types import UsageError
from r1omni.world.describe import describe_both, observation
from r1omni.world.story import FACES, VOICES

# Two cues of the face, three of the voice.
SEEN = "The mouth corners are up and the eyes narrowed. The voice is high, fast and bright."


def both(reasoning, reference=SEEN, **columns):
    """Precision and recall."""
    text = f"<think>{reasoning}</think><answer>happy</answer>"
    values = [
        get_reward(name)([text], [None], references=[reference], **columns)
        for name in ("cue_precision", "cue_recall")
    ]
    return values[0][0], values[1][0]


@pytest.mark.parametrize(
    ("reasoning", "precision", "recall"),
    [
        (SEEN, 1, 1),
        ("Narrowed eyes, and a fast voice.", 1, 2 / 5),
        ("The eyes are narrowed, the brows raised.", 1 / 2, 1 / 5),
        ("The eyes are narrowed and wide.", 1 / 2, 1 / 5),
        ("The brows are raised.", 0, 0),
        ("The eyes are not narrowed.", 0, 0),
        ("Narrowed eyes. " * 20, 1, 1 / 5),
        ("It is joy.", 0, 0),
        (".", 0, 0),
    ],
)
def test_by_hand(reasoning, precision, recall):
    assert both(reasoning) == pytest.approx((precision, recall))


@pytest.mark.parametrize("reference", [None, "He is glad.", "No voice is heard."])
def test_a_reference_that_names_nothing_says_nothing_of_any_completion(reference):
    for reasoning in (SEEN, ".", "The brows are raised."):
        assert both(reasoning, reference) == (None, None)
    malformed = get_reward("cue_recall")(["happy"], [None], references=[reference])
    assert malformed == [None]


def test_media_that_the_prompt_does_not_have():
    only_heard = {"modality": ["audio"]}
    assert both("The voice is high.", **only_heard) == pytest.approx((1, 1 / 3))
    # Seen without a picture: invented, though it was there.
    assert both("The eyes are narrowed. The voice is high.", **only_heard) == (1 / 2, 1 / 3)
    assert both(SEEN, "The eyes are narrowed.", **only_heard) == (None, None)
    with pytest.raises(UsageError, match="modality 'smell' is unknown"):
        both(SEEN, modality=["smell"])


def test_what_the_reference_does_not_tell_of_is_not_known():
    """Nothing is held against a voice where the reference is about the face alone."""
    assert both("The eyes are narrowed. The voice is high.", "The eyes are narrowed.") == (1, 1)
    assert both("The brows are raised.", "The eyes are narrowed.") == (0, 0)


def test_states_of_rest_need_not_be_named():
    whole = "Brows relaxed, eyes narrowed, nose relaxed, mouth corners up, jaw closed."
    assert both("The eyes are narrowed and the mouth corners up.", whole) == (1, 1)
    assert both("The brows are relaxed, the eyes narrowed.", whole) == (1, 1 / 2)
    assert both("The brows are raised, the jaw is dropped.", whole) == (0, 0)


def test_the_mini_worlds_reasonings_earn_everything_of_their_own_clip():
    for face, voice in zip(FACES.values(), VOICES.values(), strict=False):
        told = observation(face, voice)
        for reference in (told, describe_both(face, voice)):
            assert both(told, reference) == (1, 1)


def test_against_what_the_clip_is_known_to_show():
    known = [[("video", "brows", "raised"), ("video", "eyes", "relaxed")]]
    truth = {"cues": known, "against": "known_cues"}
    assert both("The brows are raised.", **truth) == (1, 1)
    assert both("The eyes are narrowed and the brows raised.", None, **truth) == (1 / 2, 1)
    # By default the reference alone is read, though the truth is known.
    assert both("The brows are raised.", cues=known) == (0, 0)
    assert both("The brows are raised.", None, cues=known) == (None, None)
    assert both("The brows are raised.", cues=[None], against="known_cues") == (None, None)


def test_what_is_malformed_or_cut_earns_nothing():
    for name in ("cue_precision", "cue_recall"):
        reward = get_reward(name)
        assert reward([SEEN], [None], references=[SEEN]) == [0]
        text = f"<think>{SEEN}</think><answer>happy</answer>"
        assert reward([text], [None], references=[SEEN], ended=[False]) == [0]
