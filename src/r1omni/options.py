"""What a person may set: ranges of numbers, choices among names, and functions by import path.

A class of options names the range of each of its numbers in `RANGES`, annotates what has a fixed
set of values as a `Literal`, says in `ONLY_WITH` what has no effect without another option, and
calls `check_options` when it is made. So a value that could only fail later, do nothing, or
silently do something else, is refused by its name before anything is loaded.
"""

from __future__ import annotations

import importlib
import inspect
import math
import numbers
import os
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from functools import cache
from types import UnionType
from typing import Any

from r1omni.types import UsageError

# What every whole number of a library below us holds, and far more than anything can be counted to.
_MOST = 2**31 - 1
# Characters of a value in a message.
_MOST_SHOWN = 80


@dataclass(frozen=True)
class Range:
    """Which numbers are meant; no range holds NaN or infinity.

    Attributes:
        low, high: the bounds.
        above, below: whether the bound itself is left out.
    """

    low: float = -_MOST
    high: float = _MOST
    above: bool = False
    below: bool = False

    def __contains__(self, value: float) -> bool:
        from_low = value > self.low if self.above else value >= self.low
        to_high = value < self.high if self.below else value <= self.high
        return from_low and to_high and math.isfinite(value)

    def __str__(self) -> str:
        low = f"{'above' if self.above else 'at least'} {self.low:.10g}"
        return f"{low} and {'below' if self.below else 'at most'} {self.high:.10g}"


def at_least(low: float, high: float = _MOST) -> Range:
    """From `low` to `high`, both among them."""
    return Range(low, high)


def above(low: float, high: float = _MOST, below: bool = False) -> Range:
    """From `low`, which is left out, to `high`; `below` leaves that out, too."""
    return Range(low, high, above=True, below=below)


Ranges = Mapping[str, Range]
FINITE = Range()
SHARE = Range(0, 1)
# A generator of Lightning's or NumPy's takes no other seed.
SEED = Range(0, 2**32 - 1)
# Tokens of a text; memory is taken for all of them.
TOKENS = Range(1, 2**20)
# What the system's timers can count; 11 days.
SECONDS = Range(0, 1_000_000, above=True)
# Rendered clips.
CLIPS = Range(1, 1_000_000)
# Of a sampling. Outside, sampling is greedy or uniform to a float32: logits lie within about +-100,
# so below they overflow or differ by more than exp can show, and above they no longer differ.
TEMPERATURE = Range(0.01, 100)
# Processes.
WORKERS = Range(0, 1024)


@dataclass(frozen=True)
class OnlyWith:
    """What an option needs to have an effect.

    Attributes:
        other: the option that decides, dotted.
        what: what it has to be, in words that follow its name, such as "above 0".
        holds: whether it is, of the options object that both are in.
    """

    other: str
    what: str
    holds: Callable[[Any], bool]


Conditions = Mapping[str, OnlyWith]


def check_options(options: Any, prefix: str = "") -> None:
    """Check every option of a class: its type, its range or choice, and whether it has an effect.

    Args:
        options: a dataclass.
        prefix: what a message puts before a key, such as "run.".

    Raises:
        UsageError: naming key and value, and what is expected.
    """
    kind: type = type(options)
    hints = _hints(kind)
    counted = {name for name, *_ in number_fields(kind)}
    for name in (field.name for field in fields(options)):
        if name not in counted and not choices_of(hints[name])[0]:
            check_type(prefix + name, getattr(options, name), hints[name])
    check_numbers(options, prefix)
    check_choices(options, prefix)
    check_effects(options, getattr(kind, "ONLY_WITH", {}), prefix)


@cache
def _hints(kind: type) -> dict[str, Any]:
    """Types of a class's options; reading them takes longer than all checks, and steps ask."""
    return typing.get_type_hints(kind)


def check_effects(options: Any, conditions: Conditions, prefix: str = "") -> None:
    """Refuse an option that was given another value than its default and would do nothing.

    Args:
        options: what the conditions are about.
        conditions: of options that do not always have an effect, by their dotted names.
        prefix: what a message puts before a key, such as "grpo.".

    Raises:
        UsageError: naming the option, the one that it needs, and what to do.
    """
    for name, condition in conditions.items():
        *sections, last = name.split(".")
        holder = options
        for section in sections:
            holder = getattr(holder, section)
        value = getattr(holder, last)
        if value != _default(type(holder), last) and not condition.holds(options):
            raise UsageError(
                f"{prefix}{name} is {value}, but has an effect only with {prefix}{condition.other} "
                f"{condition.what}; leave {last} out, or set that"
            )


def _default(kind: Any, name: str) -> Any:
    [field] = (field for field in fields(kind) if field.name == name)
    return field.default if field.default_factory is MISSING else field.default_factory()


def check_number(name: str, value: Any, allowed: Range, kind: type = float) -> None:
    """Refuse what is no number, or one out of range.

    Args:
        name: the key, as a person writes it.
        value: what was given.
        allowed: the range.
        kind: int for whole numbers, float for any.

    Raises:
        UsageError: naming key, value and range.
    """
    if not _fits(value, kind) or value not in allowed:
        noun = "whole number" if kind is int else "number"
        raise UsageError(f"{name} is {value!r}; it must be a {noun} {allowed}")


def check_numbers(options: Any, prefix: str = "") -> None:
    """Check every number of an options class by the range that its `RANGES` names.

    A number without a range may be any finite one. None passes where the field allows it.

    Args:
        options: a dataclass.
        prefix: what a message puts before a key, such as "run.".

    Raises:
        UsageError: naming key, value and range.
    """
    ranges: Mapping[str, Range] = getattr(type(options), "RANGES", {})
    for name, kind, length, optional in number_fields(options.__class__):
        value = getattr(options, name)
        if value is None and optional:
            continue
        key = prefix + name
        allowed = ranges.get(name, FINITE)
        if length is None:
            check_number(key, value, allowed, kind)
            continue
        if not isinstance(value, tuple | list) or len(value) != length:
            raise UsageError(f"{key} is {value!r}; it must be {length} numbers")
        for index, entry in enumerate(value):
            check_number(f"{key}[{index}]", entry, allowed, kind)


def check_choice(name: str, value: Any, hint: Any) -> None:
    """Refuse what a Literal does not name.

    Args:
        name: the key, as a person writes it.
        value: what was given; of a list or a tuple every entry is checked, and there must be one.
        hint: a Literal, a list or tuple of one, or one of them or None. Of any other type nothing
            is checked.

    Raises:
        UsageError: naming key, value and choices.
    """
    choices, is_list, optional = choices_of(hint)
    if not choices or (value is None and optional):
        return
    entries = value if is_list and isinstance(value, list | tuple) else [value]
    unknown = [entry for entry in entries if entry not in choices]
    if unknown or not entries:
        shown = repr(unknown[0]) + " is unknown" if unknown else "is empty"
        words = "any of" if is_list else "one of"
        raise UsageError(f"{name} {shown}; use {words} {', '.join(map(str, choices))}")


def check_choices(options: Any, prefix: str = "") -> None:
    """Check every option of a dataclass that is a Literal, or a list of one.

    Args:
        options: a dataclass.
        prefix: what a message puts before a key, such as "grpo.".

    Raises:
        UsageError: naming key, value and choices.
    """
    kind: type = type(options)
    hints = _hints(kind)
    for name in getattr(kind, "__dataclass_fields__", {}):
        check_choice(prefix + name, getattr(options, name), hints[name])


def choices_of(hint: Any) -> tuple[tuple[Any, ...], bool, bool]:
    """The values of a Literal (none for other types), whether it is in a list, and None allowed."""
    members = _members(hint)
    optional = type(None) in members
    named = [member for member in members if member is not type(None)]
    hint = named[0] if len(named) == 1 else Any
    is_list = typing.get_origin(hint) in (list, tuple, Sequence)
    entry = typing.get_args(hint)[0] if is_list else hint
    is_literal = typing.get_origin(entry) is typing.Literal
    return typing.get_args(entry) if is_literal else (), is_list, optional


def _members(hint: Any) -> tuple[Any, ...]:
    """The types of a union, or the type itself."""
    is_union = isinstance(hint, UnionType) or typing.get_origin(hint) is typing.Union
    return typing.get_args(hint) if is_union else (hint,)


def check_type(name: str, value: Any, hint: Any) -> None:
    """Refuse a value of another type than the one that is meant.

    Args:
        name: the key, as a person writes it.
        value: what was given.
        hint: a type, a union, a Literal, or a list or sequence of one of them.

    Raises:
        UsageError: naming key, value and type.
    """
    if not _fits(value, hint):
        raise UsageError(f"{name} is {shortened(repr(value))}; it must be: {_in_words(hint)}")


def shortened(text: str) -> str:
    """A value as a message shows it: on one line, and not all of a long one."""
    line = " ".join(text.split())
    return line if len(line) <= _MOST_SHOWN else f"{line[:_MOST_SHOWN]}..."


def _in_words(hint: Any) -> str:
    """A type, short: without the modules that it comes from."""
    if inspect.isclass(hint) and not typing.get_args(hint):
        return "None" if hint is type(None) else hint.__name__
    if len(_members(hint)) > 1:
        return " | ".join(map(_in_words, _members(hint)))
    if typing.get_origin(hint) is typing.Literal:
        return " | ".join(map(repr, typing.get_args(hint)))
    origin = typing.get_origin(hint)
    entries = ", ".join(_in_words(entry) for entry in typing.get_args(hint) if entry is not ...)
    return f"{getattr(origin, '__name__', origin)}[{entries}]" if origin else str(hint)


def _fits(value: Any, hint: Any) -> bool:
    origin, members = typing.get_origin(hint), typing.get_args(hint)
    if len(_members(hint)) > 1:
        return any(_fits(value, member) for member in _members(hint))
    if origin is typing.Literal:
        return value in members
    if hint is int or hint is float:
        wanted = numbers.Integral if hint is int else numbers.Real
        # bool is a kind of int in Python, and `true` is no number of anything.
        return isinstance(value, wanted) and not isinstance(value, bool)
    if hint is Any:
        return True
    if hint is str:
        return isinstance(value, str | os.PathLike)
    if origin is None:
        return isinstance(value, hint)
    if origin is dict:
        return isinstance(value, Mapping) and all(_fits(key, members[0]) for key in value)
    # A text is a sequence of texts in Python, and never meant as one.
    is_list = isinstance(value, list | tuple)
    return is_list and all(_fits(entry, members[0]) for entry in value)


def imported(what: str, path: str) -> Callable[..., Any]:
    """The function that an import path `package.module:function` names.

    Args:
        what: what the function is, for messages: "reward", "dataset".
        path: the import path.

    Raises:
        UsageError: no such module or function.
    """
    module_name, _, attribute = path.partition(":")
    try:
        module = importlib.import_module(module_name)
    except (ImportError, ValueError) as error:
        raise UsageError(
            f"{what} {path!r}: cannot import module {module_name!r}: {error}"
        ) from error
    function = getattr(module, attribute, None)
    if not callable(function):
        raise UsageError(f"{what} {path!r}: module {module_name!r} has no function {attribute!r}")
    return function  # type: ignore[no-any-return]


@cache
def number_fields(cls: type) -> tuple[tuple[str, type, int | None, bool], ...]:
    """Name, int or float, length where it is a tuple, and whether None is allowed."""
    hints, found = _hints(cls), []
    for name in getattr(cls, "__dataclass_fields__", {}):
        members = [member for member in _members(hints[name]) if member is not type(None)]
        hint = members[0] if len(members) == 1 else hints[name]
        entries = typing.get_args(hint) if typing.get_origin(hint) is tuple else ()
        kind, length = (entries[0], len(entries)) if entries else (hint, None)
        if kind in (int, float) and all(entry == kind for entry in entries):
            found.append((name, kind, length, type(None) in _members(hints[name])))
    return tuple(found)
