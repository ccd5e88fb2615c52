"""Rewards on the reasonings that the mini-world writes: what the cold start teaches must pay."""

import pytest

from r1omni.rewards import get_reward
from r1omni.world.describe import tagged_reasoning
from r1omni.world.story import EMOTIONS, FACES, VOICES

# Every face with every voice, each concluding with another emotion than the one before.
PAIRS = [(face, voice) for face in FACES.values() for voice in VOICES.values()]
WORDS = [list(EMOTIONS)[number % len(EMOTIONS)] for number in range(len(PAIRS))]
TEXTS = [tagged_reasoning(*pair, word) for pair, word in zip(PAIRS, WORDS, strict=True)]


def mean(name, texts=TEXTS, **columns):
    values = get_reward(name)(texts, WORDS, **columns)
    return sum(values) / len(values)


@pytest.mark.parametrize("name", ["accuracy", "format", "consistency", "petal_f1"])
def test_the_taught_reasoning_earns_everything(name):
    assert mean(name) == 1


def test_it_uses_both_media_and_does_not_repeat_itself():
    assert mean("modality_use", modality=["video_audio"] * len(TEXTS)) == 1
    assert mean("modality_use", modality=["video"] * len(TEXTS)) == 0
    assert -0.02 < mean("repetition") <= 0


def test_another_answer_is_not_consistent_with_it():
    nexts = [*WORDS[1:], WORDS[0]]
    swapped = [
        text.replace(f"<answer>{word}<", f"<answer>{other}<")
        for text, word, other in zip(TEXTS, WORDS, nexts, strict=True)
    ]
    assert mean("consistency", swapped) == 0
    assert mean("accuracy", swapped) == 0
    assert mean("format", swapped) == 1
