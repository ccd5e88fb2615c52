"""Completions that try to earn a reward without deserving it."""

import pytest

from r1omni.rewards import get_reward
from r1omni.text.emotions import ANSWER_WORDS
from r1omni.text.prompt import R1OMNI_INSTRUCTION

T, A = "<think>he smiles</think>", "<answer>happy</answer>"
LABEL = "happy"
ALL_WORDS = list(ANSWER_WORDS.values())


def tagged(answer, reasoning="he smiles"):
    return f"<think>{reasoning}</think><answer>{answer}</answer>"


MALFORMED = {
    "empty": "",
    "white space": " \n\t ",
    "bare word": "happy",
    "bare list": ", ".join(ALL_WORDS),
    "no think": A,
    "no answer": T,
    "wrong order": A + T,
    "empty think": "<think></think>" + A,
    "blank think": "<think> \n </think>" + A,
    "empty answer": T + "<answer></answer>",
    "blank answer": T + "<answer>  </answer>",
    "both empty": "<think></think><answer></answer>",
    "zero-width think": "<think>\u200b\u200b</think>" + A,
    "zero-width answer": T + "<answer>\u200d</answer>",
    "soft-hyphen think": "<think>\u00ad</think>" + A,
    "byte-order-mark think": "<think>\ufeff</think>" + A,
    "Hangul-filler think": "<think>\u3164</think>" + A,
    "Braille-blank think": "<think>\u2800</think>" + A,
    "variation-selector think": "<think>\ufe0f</think>" + A,
    "control think": "<think>\x00\x07</think>" + A,
    "no-break-space think": "<think>\u00a0</think>" + A,
    "two thinks": T + T + A,
    "two answers": T + A + A,
    "two different answers": T + "<answer>sad</answer>" + A,
    "whole twice": (T + A) * 2,
    "whole five times": (T + A) * 5,
    "nested think": "<think><think>x</think></think>" + A,
    "nested answer": T + "<answer><answer>happy</answer></answer>",
    "answer in think": "<think>x" + A + "</think>",
    "answer in think too": "<think>x" + A + "</think>" + A,
    "think in answer": "<think>x</think><answer><think>y</think>happy</answer>",
    "stray open think": "<think>x<think>y</think>" + A,
    "stray close think": "<think>x</think></think>" + A,
    "stray open answer": T + "<answer>" + A,
    "stray close answer": T + A + "</answer>",
    "unclosed think": "<think>x" + A,
    "unclosed answer": T + "<answer>happy",
    "unopened think": "x</think>" + A,
    "unopened answer": T + "happy</answer>",
    "text before": "Sure! " + T + A,
    "text after": T + A + " I am certain.",
    "text between": T + " so " + A,
    "full stop after": T + A + ".",
    "zero width between": T + "\u200b" + A,
    "code fence": "```\n" + T + A + "\n```",
    "special token": T + A + "<|im_end|>",
    "upper case": "<THINK>x</THINK><ANSWER>happy</ANSWER>",
    "title case": "<Think>x</Think><Answer>happy</Answer>",
    "mixed case": "<think>x</Think>" + A,
    "other case inside think": "<think>x <ANSWER>sad</ANSWER></think>" + A,
    "long s inside": "<think>x <an\u017fwer></think>" + A,
    "kelvin sign inside": "<think>x <thin\u212a></think>" + A,
    "full-width tags": "＜think＞x＜/think＞＜answer＞happy＜/answer＞",
    "Cyrillic tag": "<th\u0456nk>x</th\u0456nk>" + A,
    "zero width in tag": "<th\u200bink>x</think>" + A,
    "spaces in tags": "< think >x</ think >< answer >happy</ answer >",
    "attribute": '<think a="b">x</think>' + A,
    "attribute inside": "<think>x <answer id=1>sad</think>" + A,
    "self closing": "<think/>" + T + A,
    "other names": "<thinking>x</thinking>" + A,
    "square brackets": "[think]x[/think][answer]happy[/answer]",
    "escaped": "&lt;think&gt;x&lt;/think&gt;&lt;answer&gt;happy&lt;/answer&gt;",
    "comment": "<!-- " + T + A + " -->",
    "prompt echo": R1OMNI_INSTRUCTION + T + A,
    "prompt echo in think": f"<think>{R1OMNI_INSTRUCTION}</think>" + A,
    "prompt only": R1OMNI_INSTRUCTION,
    "all answers": T + "".join(f"<answer>{w}</answer>" for w in ALL_WORDS),
    "swapped closers": "<think>x</answer><answer>happy</think>",
    "only closers": "</think></answer>",
    "10k open tags": "<think>" * 10_000,
    "10k answers": T + A * 10_000,
    "10k words, never closed": "<think>" + "he smiles " * 10_000 + A,
    "10k brackets": "<" * 10_000 + T + A,
}

# Of the asked form, but the answer is not the label.
WRONG = {
    "other emotion": tagged("sad"),
    "list": tagged("happy, sad"),
    "all emotions": tagged(", ".join(ALL_WORDS)),
    "all without commas": tagged(" ".join(ALL_WORDS)),
    "slash": tagged("happy/sad"),
    "or": tagged("happy or sad"),
    "lines": tagged("happy\nsad"),
    "twice": tagged("happy happy"),
    "negation": tagged("not happy"),
    "unhappy": tagged("unhappy"),
    "sentence": tagged("The man is happy."),
    "prefix": tagged("happ"),
    "joined": tagged("happysad"),
    "label inside a word": tagged("slaphappy"),
    "Cyrillic a": tagged("h\u0430ppy"),
    "zero width inside": tagged("hap\u200bpy"),
    "zero width list": tagged("happy\u200bsad"),
    "markup": tagged("<b>happy</b>"),
    "quoted tag": tagged("&lt;answer&gt;happy"),
    "number": tagged("1"),
    "punctuation": tagged("?!"),
    "the label's key": tagged("label"),
    "emoji": tagged("\U0001f600"),
    "reasoning right, answer wrong": tagged("angry", "he is happy, happy, happy"),
    "10k words as answer": tagged("happy " * 10_000),
    "combining marks": tagged("happy" + "\u0301\u0323" * 20_000),
}

RIGHT = {
    "plain": tagged("happy"),
    "alias": tagged("joyful"),
    "capital and full stop": tagged("Happy."),
    "white space": " <think>\nx\n</think>\n<answer>\nhappy\n</answer> ",
    "long reasoning": tagged("happy", "he smiles " * 10_000),
    "reasoning names others": tagged("happy", "neither sad nor angry"),
}


def earned(name, text):
    return get_reward(name)([text], [LABEL])[0]


def test_there_are_enough():
    assert len(MALFORMED) + len(WRONG) >= 60


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_earns_nothing(case):
    assert earned("format", MALFORMED[case]) == 0
    assert earned("accuracy", MALFORMED[case]) == 0


@pytest.mark.parametrize("case", WRONG)
def test_wrong_answer_earns_no_accuracy(case):
    assert earned("accuracy", WRONG[case]) == 0
    assert earned("format", WRONG[case]) == 1


@pytest.mark.parametrize("case", RIGHT)
def test_right_answer_earns_both(case):
    assert earned("accuracy", RIGHT[case]) == 1
    assert earned("format", RIGHT[case]) == 1
