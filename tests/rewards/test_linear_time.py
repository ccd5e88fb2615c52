"""That rewards take time in proportion to the text: operations are counted, no clock is read."""

import sys

import pytest
from adversarial_cases import ALL_WORDS, LABEL, tagged

from r1omni.rewards import get_reward
from r1omni.text.cues import read_cues
from r1omni.text.mentions import find_mentions
from r1omni.text.reasoning import named_emotions

LIST = ", ".join(ALL_WORDS) + ", "
# Repeated many times, each keeps some part of the reading busy.
UNITS = ["happy ", "not ", "not happy, ", "happy or ", ", ", "and ", "or and, ", "- ", "a-", "is ",
         "angry is ", "x", ". ", "!", "高", "face ", "no voice, ", "'", "\u0301", LIST]  # fmt: skip
COLUMNS = {
    "modality_use": {"modality": ["video_audio"]},
    "balanced_accuracy": {"class_counts": {"happy": 1}},
    "cue_recall": {"references": ["He smiles."]},
}
NAMES = ["accuracy", "balanced_accuracy", "consistency", "cue_recall", "format", "modality_use",
         "repetition", "supported_accuracy"]  # fmt: skip


def num_operations(function, *arguments, **keywords):
    """Byte codes that a call executes; a call into C counts as one."""
    count = 0

    def counted(*_):
        nonlocal count
        count += 1

    if hasattr(sys, "monitoring"):  # from Python 3.12 on; a trace misses some from 3.13 on
        tool, instruction = sys.monitoring.PROFILER_ID, sys.monitoring.events.INSTRUCTION
        sys.monitoring.use_tool_id(tool, "num_operations")
        sys.monitoring.register_callback(tool, instruction, counted)
        sys.monitoring.set_events(tool, instruction)
        try:
            function(*arguments, **keywords)
        finally:
            sys.monitoring.set_events(tool, 0)
            sys.monitoring.free_tool_id(tool)
        return count

    def trace(frame, event, _):
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        if event == "opcode":
            counted()
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function(*arguments, **keywords)
    finally:
        sys.settrace(before)
    return count


def growth(function, unit, **keywords):
    """How many times more operations four times as much text takes."""
    small, large = (num_operations(function, unit * count, **keywords) for count in (100, 400))
    assert small > 50
    return large / small


@pytest.mark.parametrize("name", [*NAMES, "petal_f1"])
@pytest.mark.parametrize("place", ["bare", "think", "answer"])
def test_four_times_the_text_takes_at_most_four_times_the_work(name, place):
    def earn(text):
        whole = {"bare": text, "think": tagged("happy", text), "answer": tagged(text)}[place]
        get_reward(name)([whole], [LABEL], **COLUMNS.get(name, {}))

    for unit in UNITS:
        assert growth(earn, unit) < 4.2, unit


CLAUSES = ["although happy, ", "but happy ", "whereas ", '"happy ', "relaxed brows, ", "overall ",
           "low and ", "raised, ", "the voice is ", "corners of the ", "would ", "as "]  # fmt: skip


@pytest.mark.parametrize("read", [named_emotions, read_cues])
def test_conclusions_and_cues_too(read):
    for unit in CLAUSES:
        assert growth(read, unit) < 4.2, unit


def test_the_count_sees_quadratic_work():
    def pairs(text):
        return [a + b for a in text for b in text]

    assert growth(pairs, "x") > 12


@pytest.mark.parametrize("unit", ["not ", "happy, ", "a-", "a'", "<", "</think", " \n", "ab", "é"])
@pytest.mark.parametrize("name", [*NAMES, "petal_f1"])
def test_a_large_text_returns(name, unit):
    # Regular expressions run in C, where nothing is counted: in quadratic time this would never
    # end.
    reward, columns = get_reward(name), COLUMNS.get(name, {})
    for text in (unit * 100_000, tagged("happy", "x" + unit * 100_000), tagged(unit * 100_000)):
        assert len(reward([text], [LABEL], **columns)) == 1


def test_a_denial_is_followed_no_further_than_it_reaches():
    assert find_mentions("not " + "x " * 100_000 + "happy", {"happy": "happy"})[0].denied is False
