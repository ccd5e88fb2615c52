"""What a person reads when the parser of configurations refuses: one line instead of a report.

jsonargparse tells everything that it tried, over many lines. Which key, which value, and what would
do stand in there; here they are found.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from typing import Any

from r1omni.options import shortened

# Their arguments are in `init_args` beside a `class_path`.
_HOLD_CLASSES = ("model", "trainer.strategy")
_KEY = re.compile(r'Parser key "([^"]+)":')
# It tries a value as the name of a file first.
_NO_PATH = re.compile(r"- Expected a path but .+? either not accessible or invalid")
# Keys that hold a list of settings of one class, in a refusal and behind them what is in an entry.
_IN_LIST = re.compile(
    r"(model\.init_args\.grpo\.rewards|data\.(?:train|val|test|predict))(\.[\w.]+|:) (.*)"
)
# An entry that the parser has read already, and the one that it refuses.
_READ_ENTRY = re.compile(r"Namespace\(class_path='[\w.]+\.(?:RewardSpec|DatasetSpec)'")
_REFUSED_ENTRY = re.compile(
    r"Problem with given class_path '[\w.]+\.(?:RewardSpec|DatasetSpec)'|Expected a dot import path"
)
# Options that one of the two modules alone has.
_OF_ONE_MODULE = {
    "grpo": "GRPOModule",
    "max_target_tokens": "SFTModule",
    "feature_dropout": "SFTModule",
}
# What the command line gives is repeated as it was given.
_GIVEN_LIST = re.compile(r"NestedArg\(key='[^']+', val=(\[.*\])\)")
_WORDS = {"int": "whole number", "float": "number", "bool": "true or false", "str": "text",
          "NoneType": "null", "list": "list"}  # fmt: skip


def parser_line(text: str) -> str:
    """The one line of a refusal.

    Args:
        text: what jsonargparse says, on one line.

    Returns:
        the key in full, the value, and what is expected; `text` itself where nothing is known of
        its form.
    """
    keys: list[str] = []
    for key in _KEY.findall(text):
        if not keys or key != keys[-1]:
            keys.append(key)
    place = _place(keys)
    inner = _NO_PATH.sub("", _KEY.split(text)[-1])
    for told in (_no_option, _is_missing, _no_class, _wrong_value):
        line = told(place, inner)
        if line is not None:
            return _with_index(line, text)
    return text


def _place(keys: list[str]) -> str:
    return ".".join(f"{key}.init_args" if key in _HOLD_CLASSES and key != keys[-1] else key
                    for key in keys)  # fmt: skip


def _with_index(line: str, text: str) -> str:
    """The line, with the place in its list of an entry that is told of, counted from 0."""
    found = _IN_LIST.match(line)
    if found is None or not _REFUSED_ENTRY.search(text):
        return line
    place, below, rest = found.groups()
    index = _index(text, below.strip(".:"), rest)
    return line if index is None else f"{place}[{index}]{below} {rest}"


def _index(text: str, key: str, rest: str) -> int | None:
    if rest.startswith("is missing"):  # that is seen when all entries are read
        entries_read = _READ_ENTRY.split(text.rpartition("Given value: ")[2])[1:]
        lacking = re.compile(rf"[(, ]{re.escape(key)}=None")
        return next((i for i, entry in enumerate(entries_read) if lacking.search(entry)), None)
    given = _GIVEN_LIST.search(text)
    if given is None:  # entries are read in their order
        return len(_READ_ENTRY.findall(text.rpartition("Given value: ")[2]))
    try:
        entries = ast.literal_eval(re.sub(r"\b(nan|inf)\b", r"'\1'", given[1]))
    except (ValueError, SyntaxError):
        return None
    named = [index for index, entry in enumerate(entries) if not isinstance(entry, dict)]
    if key:
        held = {i: _value(entry, key) for i, entry in enumerate(entries) if isinstance(entry, dict)}
        named = [i for i, value in held.items() if value is not None]
        named = [i for i in named if rest.startswith(f"is {held[i]};")] or named
    return named[0] if named else None


def _value(entry: Any, key: str) -> Any:
    """What is at a dotted key, or None."""
    for name in key.split("."):
        entry = entry.get(name) if isinstance(entry, dict) else None
    return entry


def _below(place: str) -> str:
    """Where the arguments of a key's class are."""
    return f"{place}.init_args" if place in _HOLD_CLASSES else place


def _no_option(place: str, text: str) -> str | None:
    found = (
        re.search(r"unrecognized arguments: --([^ =]+)", text)
        or re.search(r"Option '([^']+)' is not accepted", text)
        or re.search(r"Subcommand '[^']+' does not accept option '([^']+)'", text)
    )
    if found:
        line = f"{_joined(_below(place), found[1])} is no option"
        owner = _OF_ONE_MODULE.get(found[1].partition(".")[0]) if place == "model" else None
        if owner is not None:
            line += f" of this model.class_path, but of r1omni.training.{owner}; leave it out"
        return line
    found = re.search(r"Group '([^']+)' does not accept option '([^']+)'", text)
    return found and f"{_joined(_below(place), f'{found[1]}.{found[2]}')} is no option"


def _joined(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def _is_missing(place: str, text: str) -> str | None:
    found = re.search(r"the following arguments are required: (.+?)(?= - |$| Given value)", text)
    return found and f"{_joined(_below(place), found[1])} is missing; give it"


def _no_class(place: str, text: str) -> str | None:
    found = re.search(
        r"Problem with given class_path '([^']+)': (No module named .+?)(?= - |$)", text
    )
    if found:
        return f"{place}.class_path is {found[1]!r}: {found[2]}"
    found = re.search(r"Import path (\S+) does not correspond to a subclass of (\w+)", text)
    if found:
        kind = f"the import path of {found[2]} or a class of it"
        return f"{place}.class_path is {found[1]!r}; it must be {kind}"
    found = re.search(r"Expected a dot import path string: (.+?)(?= - |$| Given value)", text)
    if found is None:
        return None
    form = "settings, as {name: value}"
    if place in _HOLD_CLASSES or place.startswith("trainer."):
        form = "the import path of a class"
    return f"{place}: {shortened(found[1])!r} is given; it must be {form}"


def _wrong_value(place: str, text: str) -> str | None:
    value = (
        re.search(r"Got value: (.+?)(?= - | Given value|$)", text)
        or re.search(r"Given value: (?!NestedArg)(.+?)(?= - |$)", text)
        or re.search(r"val='?(.+?)'?\)", text)
        or re.search(r"""Unable to load config ['"](.*?)['"](?: - |$)""", text)
    )
    if not (place and value):
        return None
    shown = shortened(value[1])
    kinds = re.search(r"Subtypes: \[(.+?)\] Errors:", text)
    found = re.search(r"Expected an? (.+?)(?=\. Got value| - | Given value|$)", text)
    if "Unable to load config" in text or "Not a valid subclass" in text:
        return f"{place} is {shown}; it must be a section of settings"
    expected = kinds[1] if kinds else found[1] if found else ""
    if place in _HOLD_CLASSES:
        return f"{place}.class_path is {shown!r}; it must be the import path of a class of its kind"
    choices = re.findall(r"Literal\[(.+?)\]", expected)
    if choices:
        names = ", ".join(dict.fromkeys(", ".join(choices).replace("'", "").split(", ")))
        if "Expected a <class 'list'>" in text:
            return f"{place} is {shown}; it must be a list of any of {names}"
        near = did_you_mean(shown.strip("'"), names.split(", "))
        return f"{place}: {shown!r} is unknown; use one of {names}{near}"
    if shown == "None" and "NoneType" in expected:
        return f"{place}: null cannot be set on the command line; set it in a file, with --config"
    finite = "finite " if shown.strip("-") in ("nan", "inf") else ""
    return f"{place} is {shown}; it must be: {finite}{_in_words(expected)}" if expected else None


def _in_words(expected: str) -> str:
    """Types as a reader of YAML has them."""
    words: Callable[[re.Match[str]], str] = lambda m: _WORDS.get(m[1], "section of settings")  # noqa: E731
    text = re.sub(r"<class '(?:[\w.]*\.)?(\w+)'>", words, expected)
    text = re.sub(r"list\[[\w.]+\]", "list", text)
    return text.replace("tuple with 2 elements", "list of 2 numbers").replace(", ", " or ")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """What to add to a refusal of an unknown name: a known one that is near, or nothing.

    Of dotted names the last part may be near alone.
    """
    names = list(known)
    near = get_close_matches(word, names, n=1, cutoff=0.7)
    if not near:
        ends = {name.rpartition(".")[2]: name for name in reversed(names)}
        last = get_close_matches(word.rpartition(".")[2], ends, n=1, cutoff=0.8)
        near = [ends[end] for end in last]
    return f"; did you mean {near[0]}?" if near else ""
