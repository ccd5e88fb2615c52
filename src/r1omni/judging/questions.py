"""What a judge is asked about a completion, and how a grade is read from what it replies.

A reply that is not what was asked for is a failure, never a low grade: a grade of 0 would teach a
policy that its reasoning was bad where the judge only lost its form.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, Literal

from r1omni.types import UsageError

Reply = Literal["json", "number"]
# What a template may name, and a judge be shown.
PLACEHOLDERS = ("reasoning", "answer", "label", "open_labels", "reference", "modality")
# Those that a completion always has something for.
_ALWAYS = {"reasoning", "answer"}
_PLACEHOLDER = re.compile(r"\{([A-Za-z_]+)\}")
_FENCE = re.compile(r"```(?:json)?\s*\n(.*)\n\s*```", re.DOTALL | re.IGNORECASE)
_NUMBER = re.compile(r"[+-]?\d{1,12}(?:\.\d{1,12})?")


class NoGrade(ValueError):
    """A reply has no grade; the message says in a few words why."""


@dataclass(frozen=True)
class Case:
    """What is known of one completion that a judge grades.

    Attributes:
        reasoning: text inside `<think>`.
        answer: text inside `<answer>`.
        modality: media of the prompt, or None.
        label: class of the clip, or None.
        open_labels: free emotion words of the clip, or None.
        reference: what the clip shows, in the words of somebody who saw it, or None.
    """

    reasoning: str
    answer: str
    modality: str | None = None
    label: str | None = None
    open_labels: Sequence[str] | None = None
    reference: str | None = None

    def value(self, name: str) -> str | None:
        """What stands for a placeholder, or None where it is not known."""
        value = getattr(self, name)
        return ", ".join(value) if name == "open_labels" and value else value or None


def placeholders(template: str) -> tuple[str, ...]:
    """Names of the placeholders of a template, each once.

    Raises:
        UsageError: one that is unknown, or neither the reasoning nor the answer is among them.
    """
    names = tuple(dict.fromkeys(_PLACEHOLDER.findall(template)))
    known = ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
    for name in names:
        if name not in PLACEHOLDERS:
            raise UsageError(f"template has the placeholder {{{name}}}; known are {known}")
    if not {"reasoning", "answer"} & set(names):
        raise UsageError(
            "template shows the judge neither {reasoning} nor {answer}, so every completion would "
            f"be graded alike; placeholders are {known}"
        )
    return names


def needed_of_sample(template: str) -> tuple[str, ...]:
    """The placeholders that a sample may have nothing for; such a sample is not judged."""
    return tuple(name for name in placeholders(template) if name not in _ALWAYS)


def question(template: str, case: Case) -> str | None:
    """The template with what is known of a case, or None where it names what is not known.

    What is put in is never read for placeholders again, so that a completion cannot have the label
    shown by writing "{label}".
    """
    if any(case.value(name) is None for name in needed_of_sample(template)):
        return None
    return _PLACEHOLDER.sub(lambda found: case.value(found[1]) or "", template)


def read_grade(reply: str, form: Reply, score_range: tuple[float, float]) -> float:
    """The grade of a reply, as the judge gave it.

    Args:
        reply: the whole text of the judge.
        form: "json" takes one JSON object (in a code fence, too) with a number under "score" and
            anything beside it; "number" takes one number and nothing else.
        score_range: lowest and highest grade; another is none.

    Raises:
        NoGrade: the reply is not of the form, or its grade is out of the range.
    """
    text = reply.strip()
    if form == "number":
        if not _NUMBER.fullmatch(text):
            raise NoGrade("the reply is not one number")
        value: Any = float(text)
    else:
        value = _json_score(text)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise NoGrade("the reply has no number under score")
    low, high = score_range
    if not (low <= value <= high and isfinite(value)):
        raise NoGrade(f"the grade {value:.6g} is not in {low:g} to {high:g}")
    return float(value)


def _json_score(text: str) -> Any:
    fenced = _FENCE.fullmatch(text)
    try:
        found = json.loads(fenced[1] if fenced else text, object_pairs_hook=_each_key_once)
    except (ValueError, RecursionError):
        raise NoGrade("the reply is no JSON object") from None
    if not isinstance(found, dict):
        raise NoGrade("the reply is no JSON object")
    return found.get("score")


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found
