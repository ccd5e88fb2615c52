import pytest

from r1omni.rewards import get_reward
from r1omni.types import UsageError

SEEN = "The brows are raised and the jaw dropped."
HEARD = "The voice is high, loud and trembling."
NEITHER = "This person seems to be afraid."


def modality_use(reasoning, modality):
    text = f"<think>{reasoning}</think><answer>fear</answer>"
    (value,) = get_reward("modality_use")([text], [None], modality=[modality])
    return value


@pytest.mark.parametrize(
    ("reasoning", "video_audio", "video", "audio"),
    [
        (SEEN + HEARD, 1, 0, 0),
        (SEEN, 0.5, 1, 0),
        (HEARD, 0.5, 0, 1),
        (NEITHER, 0, 0, 0),
        # the instruction itself says "video", whatever was given
        ("Throughout the video the person is sad.", 0, 0, 0),
        # a medium that is missing is not described
        (SEEN + " No voice can be heard.", 0.5, 1, 0),
        (SEEN + " There is no sound.", 0.5, 1, 0),
        (HEARD + " The face is not visible.", 0.5, 0, 1),
        # what is not there to be seen was looked for
        ("There is no smile.", 0.5, 1, 0),
        ("The voice is not loud.", 0.5, 0, 1),
        # words that are seen and heard, and idioms, prove nothing
        ("She laughs and cries, on the other hand she looks upset.", 0, 0, 0),
    ],
)
def test_by_hand(reasoning, video_audio, video, audio):
    assert modality_use(reasoning, "video_audio") == video_audio
    assert modality_use(reasoning, "video") == video
    assert modality_use(reasoning, "audio") == audio


def test_naming_both_media_always_loses_where_one_was_given():
    dump = "face eyes brows mouth voice tone pitch loud"
    assert [modality_use(dump, given) for given in ("video_audio", "video", "audio")] == [1, 0, 0]


def test_words_outside_the_reasoning_do_not_count():
    texts = [
        "<think>x</think><answer>face voice</answer>",
        "face voice",
        f"{SEEN}{HEARD}<think>x</think><answer>fear</answer>",
    ]
    assert get_reward("modality_use")(texts, [None] * 3, modality=["video_audio"] * 3) == [0, 0, 0]


def test_an_unknown_modality():
    assert modality_use(SEEN, None) is None
    with pytest.raises(UsageError, match="modality 'sound' is unknown; use one of video_audio"):
        modality_use(SEEN, "sound")
