"""Completions that try to earn a reward without deserving it, and what each must earn.

The label is always "happy". `CASES` and `token_cases` are what tests read; the groups below only
save writing the same two numbers again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from r1omni.rewards import reward_names
from r1omni.text.cue_words import VALUES
from r1omni.text.emotions import ANSWER_WORDS, EMOTIONS
from r1omni.text.prompt import R1OMNI_INSTRUCTION
from r1omni.text.reasoning import Verdict

LABEL = "happy"
# A judge is no function of texts: what it earns is in tests/judging.
PURE = tuple(name for name in reward_names() if name != "judge")
ALL_WORDS = [ANSWER_WORDS[emotion] for emotion in EMOTIONS]
T, A = "<think>he smiles</think>", "<answer>happy</answer>"


@dataclass(frozen=True)
class Case:
    """A completion, and what accuracy and format give for it."""

    text: str
    accuracy: int
    format: int


def tagged(answer: str, reasoning: str = "he smiles") -> str:
    return f"<think>{reasoning}</think><answer>{answer}</answer>"


def thinking(reasoning: str) -> str:
    return f"<think>{reasoning}</think>" + A


_MALFORMED = {
    # nothing, or nothing of the form
    "empty": "",
    "white space": " \n\t ",
    "bare word": "happy",
    "bare list": ", ".join(ALL_WORDS),
    "10k bare words": "happy " * 10_000,
    "no think": A,
    "no answer": T,
    "wrong order": A + T,
    # empty blocks, also those that only look filled
    "empty think": "<think></think>" + A,
    "blank think": "<think> \n </think>" + A,
    "empty answer": T + "<answer></answer>",
    "blank answer": T + "<answer>  </answer>",
    "both empty": "<think></think><answer></answer>",
    "zero-width think": thinking("\u200b\u200b"),
    "zero-width answer": T + "<answer>\u200d</answer>",
    "soft-hyphen think": thinking("\u00ad"),
    "byte-order-mark think": thinking("\ufeff"),
    "Hangul-filler think": thinking("\u3164"),
    "Braille-blank think": thinking("\u2800"),
    "variation-selector think": thinking("\ufe0f"),
    "control think": thinking("\x00\x07"),
    "no-break-space think": thinking("\u00a0"),
    "line-separator think": thinking("\u2028\u2029"),
    "language-tag think": thinking("\U000e0068\U000e0061"),
    "private-use think": thinking("\ue000"),
    "lone-surrogate think": thinking("\ud800"),
    "combining mark as answer": T + "<answer>\u0301</answer>",
    # several blocks
    "two thinks": T + T + A,
    "three thinks around the answer": T + T + A + T,
    "two answers": T + A + A,
    "two different answers": T + "<answer>sad</answer>" + A,
    "all answers": T + "".join(f"<answer>{word}</answer>" for word in ALL_WORDS),
    "thinks again after the answer": T + A + T,
    "answers before and after": A + T + A,
    "whole twice": (T + A) * 2,
    "whole five times": (T + A) * 5,
    "10k thinks": T * 10_000 + A,
    "10k answers": T + A * 10_000,
    # nested and stray tags
    "nested think": "<think><think>x</think></think>" + A,
    "nested answer": T + "<answer><answer>happy</answer></answer>",
    "answer in think": "<think>x" + A + "</think>",
    "answer in think too": "<think>x" + A + "</think>" + A,
    "think in answer": "<think>x</think><answer><think>y</think>happy</answer>",
    "think around all": "<think>" + T + A + "</think>",
    "stray open think": "<think>x<think>y</think>" + A,
    "stray close think": "<think>x</think></think>" + A,
    "stray open answer": T + "<answer>" + A,
    "stray close answer": T + A + "</answer>",
    "unclosed think": "<think>x" + A,
    "unclosed answer": T + "<answer>happy",
    "unopened think": "x</think>" + A,
    "unopened answer": T + "happy</answer>",
    "swapped closers": "<think>x</answer><answer>happy</think>",
    "only closers": "</think></answer>",
    "self closing": "<think/>" + T + A,
    "doubled brackets": "<<think>>x<</think>><<answer>>happy<</answer>>",
    "10k open tags": "<think>" * 10_000,
    "10k brackets": "<" * 10_000 + T + A,
    "10k words, never closed": "<think>" + "he smiles " * 10_000 + A,
    "cut off after 10k words": "<think>" + "he smiles " * 10_000,
    # something around or between
    "text before": "Sure! " + T + A,
    "text after": T + A + " I am certain.",
    "text between": T + " so " + A,
    "full stop after": T + A + ".",
    "zero width between": T + "\u200b" + A,
    "null between": T + "\x00" + A,
    "right-to-left mark before": "\u202e" + T + A,
    "code fence": "```\n" + T + A + "\n```",
    "quoted": '"' + T + A + '"',
    "comment": "<!-- " + T + A + " -->",
    "wrapped in another tag": "<output>" + T + A + "</output>",
    "special token": T + A + "<|im_end|>",
    "special token in think": thinking("x <|endoftext|>"),
    "special token as think": thinking("<|im_start|>"),
    "special token in answer": tagged("happy<|im_start|>"),
    "200 spaces after": T + A + " " * 200,
    "200 lines after": T + A + "\n" * 200,
    "200 wide spaces after": T + A + "\u3000" * 200,
    "200 lines between": T + "\n" * 200 + A,
    "200 lines before": "\n" * 200 + T + A,
    "chat template echo": "<|im_start|>assistant\n" + T + A,
    # tags in another spelling
    "upper case": "<THINK>x</THINK><ANSWER>happy</ANSWER>",
    "title case": "<Think>x</Think><Answer>happy</Answer>",
    "mixed case": "<think>x</Think>" + A,
    "other case inside think": thinking("x <ANSWER>sad</ANSWER>"),
    "long s inside": thinking("x <an\u017fwer>"),
    "kelvin sign inside": thinking("x <thin\u212a>"),
    "full-width tags": "＜think＞x＜/think＞＜answer＞happy＜/answer＞",
    "Cyrillic think": "<th\u0456nk>x</th\u0456nk>" + A,
    "Cyrillic answer": T + "<\u0430nswer>happy</\u0430nswer>",
    "dotless i": "<th\u0131nk>x</th\u0131nk>" + A,
    "zero width in tag": "<th\u200bink>x</think>" + A,
    "combining mark on tag": "<think\u0301>x</think>" + A,
    "spaces in tags": "< think >x</ think >< answer >happy</ answer >",
    "space in closing tag": "<think>x</think ><answer>happy</answer>",
    "line end in tag": "<think\n>x</think>" + A,
    "attribute": '<think a="b">x</think>' + A,
    "attribute inside": thinking("x <answer id=1>sad"),
    "other names": "<thinking>x</thinking>" + A,
    "square brackets": "[think]x[/think][answer]happy[/answer]",
    "backslash": "<think>x<\\think><answer>happy<\\answer>",
    "escaped": "&lt;think&gt;x&lt;/think&gt;&lt;answer&gt;happy&lt;/answer&gt;",
    # the prompt itself
    "prompt only": R1OMNI_INSTRUCTION,
    "prompt echo": R1OMNI_INSTRUCTION + T + A,
    "prompt echo in think": thinking(R1OMNI_INSTRUCTION),
    "prompt echo in answer": tagged(R1OMNI_INSTRUCTION),
}

_SENTENCES = ". ".join(ALL_WORDS)
# Every value of every attribute, in the words that the reader knows.
EVERY_CUE = ", ".join(
    f"{'voice' if name == 'steadiness' else name} {value}"
    for attributes in VALUES.values()
    for name, values in attributes.items()
    for value in values
)
# Reasonings of the answer "happy" that try to look like evidence for it -> their verdict.
EXPLANATIONS: dict[str, tuple[str, Verdict]] = {
    "every emotion, then the answer": (f"It may be {', '.join(ALL_WORDS)}. Happy.", "silent"),
    "every emotion, a sentence each": (f"{_SENTENCES}. He is happy.", "silent"),
    "every emotion but in one word": ("".join(ALL_WORDS), "silent"),
    "every cue": (EVERY_CUE, "silent"),
    "every cue and another emotion": (f"{EVERY_CUE}. He is sad.", "contradicted"),
    "a safe cue": ("He smiles.", "silent"),
    "neither cue nor emotion": ("The emotion is the one that the person feels.", "silent"),
    "answer denied": ("He is not happy.", "silent"),
    "answer denied after another": ("He is sad, not happy.", "contradicted"),
    "answer denied and repeated": ("He is sad. " + "He is not happy. " * 50, "contradicted"),
    "answer asked for": ("He is sad. Or is he happy?", "contradicted"),
    "answer quoted": ('He is sad. "I am so happy and so full of joy", he says.', "contradicted"),
    "answer conceded": ("Although he looks happy, he is sad.", "contradicted"),
    "answer before the conclusion": ("Happy, happy, happy. Overall he is sad.", "contradicted"),
    "answer after the conclusion": ("Overall he is sad. Happy, happy, happy.", "contradicted"),
    "two conclusions": ("Overall he is happy. Overall he is sad.", "contradicted"),
    "the question without its tags": (R1OMNI_INSTRUCTION.partition("\n")[0], "silent"),
    "the question in other tags": (
        R1OMNI_INSTRUCTION.replace("think>", "t>").replace("answer>", "a>"), "silent",
    ),
    # Known limits: a conclusion without evidence, and one that is chosen among two or three.
    "the answer alone": ("Happy.", "supported"),
    "conclusion repeated": ("He is happy. " * 50, "supported"),
    "three conclusions in one": ("He is happy, sad and afraid.", "supported"),
}  # fmt: skip

# In the answer format, but the answer is not the label.
_WRONG = {
    "other emotion": tagged("sad"),
    "list": tagged("happy, sad"),
    "all emotions": tagged(", ".join(ALL_WORDS)),
    "all without commas": tagged(" ".join(ALL_WORDS)),
    "all on lines": tagged("\n".join(ALL_WORDS)),
    "full-width comma": tagged("happy，sad"),
    "emphasised list": tagged("**happy**, **sad**"),
    "numbered": tagged("1. happy"),
    "slash": tagged("happy/sad"),
    "arrow": tagged("happy -> sad"),
    "or": tagged("happy or sad"),
    "twice": tagged("happy happy"),
    "negation": tagged("not happy"),
    "negating prefix": tagged("un-happy"),
    "unhappy": tagged("unhappy"),
    "sentence": tagged("The man is happy."),
    "prefix": tagged("happ"),
    "joined": tagged("happysad"),
    "label inside a word": tagged("slaphappy"),
    "backwards": tagged("yppah"),
    "backwards, shown forwards": tagged("\u202eyppah"),
    "Cyrillic a": tagged("h\u0430ppy"),
    "zero width inside": tagged("hap\u200bpy"),
    "zero width after": tagged("happy\u200b"),
    "soft hyphen inside": tagged("hap\u00adpy"),
    "null after": tagged("happy\x00"),
    "zero width list": tagged("happy\u200bsad"),
    "markup": tagged("<b>happy</b>"),
    "quoted tag": tagged("&lt;answer&gt;happy"),
    "JSON": tagged('{"emotion": "happy"}'),
    "with its probability": tagged("happy (0.9)"),
    "another language": tagged("高兴"),
    "number": tagged("1"),
    "punctuation": tagged("?!"),
    "emoji": tagged("\U0001f600"),
    "the label's key": tagged("label"),
    "the prompt's words": tagged("final emotion"),
    "refusal": tagged("I cannot tell."),
    "reasoning right, answer wrong": tagged("angry", "he is happy, happy, happy"),
    "10k words as answer": tagged("happy " * 10_000),
    "10k combining marks": tagged("happy" + "\u0301\u0323" * 10_000),
}

# What earns both: being strict must not cost an honest answer. The last ones are known limits of
# the two rewards; other rewards look at the reasoning.
_RIGHT = {
    "plain": tagged("happy"),
    "alias": tagged("joyful"),
    "capital and full stop": tagged("Happy."),
    "emphasised": tagged("**happy**"),
    "full width": tagged("ｈａｐｐｙ"),
    "mathematical letters": tagged("\U0001d421\U0001d41a\U0001d429\U0001d429\U0001d432"),
    "white space": " <think>\nx\n</think>\n<answer>\nhappy\n</answer> ",
    "ideographic space around": "\u3000" + T + "\u3000" + A,
    "10k words of reasoning": tagged("happy", "he smiles " * 10_000),
    "brackets in reasoning": tagged("happy", "1 < 2 and <b>he</b> smiles"),
    "escaped tag in reasoning": tagged("happy", "&lt;answer&gt;sad&lt;/answer&gt;"),
    "reasoning names others": tagged("happy", "neither sad nor angry"),
    "reasoning names all": tagged("happy", ", ".join(ALL_WORDS)),
    "reasoning says otherwise": tagged("happy", "he is sad"),
    "reasoning is a full stop": tagged("happy", "."),
    **{name: tagged("happy", reasoning) for name, (reasoning, _) in EXPLANATIONS.items()},
}

CASES: dict[str, Case] = {
    **{name: Case(text, 0, 0) for name, text in _MALFORMED.items()},
    **{name: Case(text, 0, 1) for name, text in _WRONG.items()},
    **{name: Case(text, 1, 1) for name, text in _RIGHT.items()},
}


@dataclass(frozen=True)
class TokenCase:
    """The tokens of a completion, and what accuracy and format give for them."""

    ids: tuple[int, ...]
    accuracy: int
    format: int


def token_cases(
    tokenizer: PreTrainedTokenizerBase, end_ids: Sequence[int], vocab_size: int
) -> dict[str, TokenCase]:
    """Completions that a text does not show: tokens that decoding leaves out, and no end.

    The tokens are every special token that ends nothing, and the ids for which the model has a
    place and the tokenizer no token.
    """
    think, answer, end = tokenizer.encode(T), tokenizer.encode(A), list(end_ids[:1])
    whole = think + answer
    cut = answer.index(tokenizer.encode("</answer>")[-1])
    cases = {
        "ended": TokenCase((*whole, *end), 1, 1),
        "never ended": TokenCase(tuple(whole), 0, 0),
        "ended at once": TokenCase(tuple(end), 0, 0),
        "spaces to the limit": TokenCase((*whole, *tokenizer.encode("\n" * 200)), 0, 0),
        "spaces, then ended": TokenCase((*whole, *tokenizer.encode("\n" * 200), *end), 0, 0),
        "a line end, then ended": TokenCase((*whole, *tokenizer.encode("\n"), *end), 1, 1),
    }
    hidden = {f"special {id_}": id_ for id_ in tokenizer.all_special_ids if id_ not in end_ids}
    hidden |= {f"unknown {id_}": id_ for id_ in range(len(tokenizer), vocab_size)}
    for name, id_ in hidden.items():
        places = {
            "before": [id_, *whole],
            "between": [*think, id_, *answer],
            "after": [*whole, id_],
            "40 after": [*whole, *[id_] * 40],
            "inside the answer": [*think, *answer[:cut], id_, *answer[cut:]],
            "as the reasoning": [
                *tokenizer.encode("<think>"), id_, *tokenizer.encode("</think>"), *answer,
            ],
        }  # fmt: skip
        for place, ids in places.items():
            cases[f"{name} {place}, then ended"] = TokenCase((*ids, *end), 0, 0)
        cases[f"{name} 40 after, never ended"] = TokenCase((*whole, *[id_] * 40), 0, 0)
    return cases
