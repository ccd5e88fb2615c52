import pytest

from r1omni.rewards import get_reward
from r1omni.text.emotions import ANSWER_WORDS, EMOTIONS
from r1omni.types import UsageError

WORDS = [ANSWER_WORDS[emotion] for emotion in EMOTIONS]
EVERY_EMOTION = ", ".join(WORDS)


def consistency(reasoning, answer, **arguments):
    text = f"<think>{reasoning}</think><answer>{answer}</answer>"
    (value,) = get_reward("consistency")([text], [None], **arguments)
    return value


@pytest.mark.parametrize(
    ("reasoning", "answer", "expected"),
    [
        ("The brows are raised. Together they suggest surprise.", "surprise", 1),
        ("The brows are raised. Together they suggest surprise.", "astonished", 1),
        ("The brows are raised. Together they suggest surprise.", "angry", 0),
        # another emotion is weighed first
        ("The smile looks happy. The trembling voice means fear.", "fear", 1),
        ("The smile looks happy. The trembling voice means fear.", "happy", 0),
        ("Sad, sad, sad eyes. In the end it is anger.", "sad", 0),
        # what is denied is no conclusion
        ("The man is sad. There is no sign of anger.", "sad", 1),
        ("The man is sad. There is no sign of anger.", "angry", 0),
        ("He is not happy but angry.", "angry", 1),
        ("He is not happy but angry.", "happy", 0),
        ("Sadness rather than fear.", "sad", 1),
        ("Sadness rather than fear.", "fear", 0),
        ("She isn’t afraid; she is calm.", "calm", 1),
        ("He cannot hide his anger.", "angry", 1),
        ("Not only angry, he is disgusted too.", "angry", 1),
        # a conclusion of two
        ("A mix of grief and disappointment.", "disappointed", 1),
        ("A mix of grief and disappointment.", "sad", 1),
        ("A mix of grief and disappointment.", "happy", 0),
        # the answer names no emotion, or several
        ("It is joy.", "the mouth", 0),
        ("It is joy and fear.", "happy, fear", 0),
        # nothing to agree with
        ("The brows are raised.", "surprise", None),
        ("He does not look angry.", "sad", None),
        ("他很高兴。", "happy", None),
    ],
)
def test_by_hand(reasoning, answer, expected):
    assert consistency(reasoning, answer) == expected


@pytest.mark.parametrize("answer", WORDS)
def test_listing_every_emotion_supports_no_answer(answer):
    assert consistency(EVERY_EMOTION, answer) == 0
    assert consistency(f"It may be {EVERY_EMOTION}. It is {answer}.", answer) == 0
    assert consistency(f"{EVERY_EMOTION.replace(', ', '. ')}. {answer}", answer) == 0


def test_how_many_emotions_a_reasoning_may_name():
    four = "happy, sad, angry and afraid"
    assert consistency(f"It is {four}.", "sad") == 0
    assert consistency(f"It is {four}.", "sad", max_concluded=4) == 1
    assert consistency(f"It may be {four}. It is grief.", "sad") == 1
    assert consistency(f"It may be {four}. It is grief.", "sad", max_named=3) == 0
    assert consistency("It is joy and fear.", "fear", max_concluded=1) == 0


def test_repeating_the_answer_does_not_outvote_the_conclusion():
    assert consistency("happy " * 1_000 + ". He is furious.", "happy") == 0


@pytest.mark.parametrize("text", ["happy", "<answer>happy</answer>", "<think>joy</think>joy", ""])
def test_a_malformed_completion_earns_nothing(text):
    assert get_reward("consistency")([text], [None]) == [0]


def test_merged_emotions_count_as_one():
    merged = {"label_set": ["ravdess_7way_calm_as_neutral"]}
    assert consistency("He seems calm.", "neutral") == 0
    assert consistency("He seems calm.", "neutral", **merged) == 1
    assert consistency("He seems neutral.", "calm", **merged) == 1
    assert consistency("He seems sad.", "calm", **merged) == 0
    with pytest.raises(UsageError, match="label set 'nope' is unknown"):
        consistency("He seems calm.", "neutral", label_set=["nope"])


def test_a_further_class_is_named_where_the_label_set_has_it():
    six = {"label_set": ["iemocap_6way"]}
    assert consistency("She smiles. Excitement speaks from her.", "excited", **six) == 1
    assert consistency("She is excited. It is joy.", "excited", **six) == 0
    assert consistency("He is happy. It is frustration.", "happy", **six) == 0
    # Elsewhere the word stands for no emotion, as before.
    assert consistency("He is happy. It is frustration.", "happy") == 1
    assert consistency("She is excited.", "happy") is None


def test_supported_accuracy_pays_for_what_is_right_and_supported():
    texts = [
        f"<think>{reasoning}</think><answer>{answer}</answer>"
        for reasoning, answer in (
            ("He smiles. It is joy.", "happy"), ("It is joy.", "sad"), ("It is joy.", "fear"),
            ("The mouth smiles.", "happy"), ("It is sadness.", "sad"),
        )
    ]  # fmt: skip
    reward = get_reward("supported_accuracy")
    assert reward(texts, ["happy", "sad", "sad", "happy", None]) == [1, 0, 0, 0, None]
    calm = "<think>He seems calm.</think><answer>neutral</answer>"
    merged = {"label_set": ["ravdess_7way_calm_as_neutral"]}
    assert (reward([calm], ["calm"]), reward([calm], ["calm"], **merged)) == ([0], [1])
    many = "<think>Joy or fear.</think><answer>happy</answer>"
    assert reward([many], ["happy"], max_concluded=1) == [0] != reward([many], ["happy"])


def test_the_label_is_no_matter():
    text = "<think>It is joy.</think><answer>happy</answer>"
    assert get_reward("consistency")([text] * 2, ["sad", None]) == [1, 1]
