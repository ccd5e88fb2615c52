"""Values to try for every option of a class, from its types and `RANGES` alone."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from r1omni.options import Range, choices_of, number_fields

# A lower bound beyond this is there to refuse nonsense: no size that anybody would train with.
_ORDINARY = 4
# An upper bound this many times what is usual trains nothing.
_TOO_FAR = 100
_WIDTH = 1.0


@cache
def options_of(kind: type) -> dict[str, tuple[Any, Any]]:
    """Type and default of each option of a dataclass, or of a constructor."""
    hints = typing.get_type_hints(kind if dataclasses.is_dataclass(kind) else kind.__init__)
    found = {}
    for name, parameter in inspect.signature(kind).parameters.items():
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            found[name] = (hints[name], parameter.default)
    if dataclasses.is_dataclass(kind):  # where a default is made anew each time
        for field in dataclasses.fields(kind):
            if field.default_factory is not dataclasses.MISSING:
                found[field.name] = (hints[field.name], field.default_factory())
    return found


def values_of(kind: type, name: str, base: Any) -> list[Any]:
    """Values of an option beside `base`; none where it is neither number, bool nor choice."""
    hint, _ = options_of(kind)[name]
    found = [value for value in _values(kind, name, hint, base) if value != base]
    return [value for i, value in enumerate(found) if value not in found[:i]]


def _values(kind: type, name: str, hint: Any, base: Any) -> Iterator[Any]:
    choices, is_list, _ = choices_of(hint)
    is_tuple = typing.get_origin(hint) is tuple
    numbers = {entry: rest for entry, *rest in number_fields(_stand_in(kind))}
    if choices:
        for choice in choices:
            yield ((choice,) if is_tuple else [choice]) if is_list else choice
    elif hint is bool:
        yield from (True, False)
    elif name in numbers:
        number, length, _ = numbers[name]
        allowed: Range = kind.RANGES[name]  # type: ignore[attr-defined]
        if length is None:
            yield from numbers_near(base, allowed, number)
        else:
            for place in range(length):
                for value in numbers_near(base[place], allowed, number):
                    yield (*base[:place], value, *base[place + 1 :])
    else:
        return
    if type(None) in typing.get_args(hint):
        yield None


def numbers_near(base: float | None, allowed: Range, kind: type) -> list[Any]:
    """Numbers of a range on either side of `base`: half, double, and bounds of ordinary size.

    Where `base` is None the lowest number is in its place.
    """
    low = allowed.low if abs(allowed.low) <= _ORDINARY else 0
    near = low if base is None else base
    width = min(_WIDTH, allowed.high - allowed.low)
    if kind is int:
        tried = [low, near // 2, near * 2 or 1, near + (base is None)]
    else:
        tried = [low, near / 2, near * 2 or width / 2]
        if base is None or near * 2 not in allowed:
            tried.append((near + min(allowed.high, near + width)) / 2)
        if near == 0 or allowed.low < 0:
            tried.append(-width / 2)
        if base is None and low == 0:  # nothing says of what size it usually is
            tried.append(low + width / 100)
    if allowed.high <= _TOO_FAR * (near or width / _TOO_FAR):
        tried.append(allowed.high)
    found = [kind(value) for value in tried if kind(value) in allowed and kind(value) != base]
    return sorted(set(found))


@cache
def _stand_in(kind: type) -> type:
    """What `number_fields` reads the options of a constructor from."""
    hints = {name: hint for name, (hint, _) in options_of(kind).items()}
    return type("Options", (), {"__annotations__": hints, "__dataclass_fields__": hints})


def is_tried(kind: type, name: str) -> bool:
    """Whether an option is a number, a bool or a choice."""
    hint, _ = options_of(kind)[name]
    choices = choices_of(hint)[0]
    numbers = {entry for entry, *_ in number_fields(_stand_in(kind))}
    return bool(choices) or hint in (bool, bool | None) or name in numbers


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted names as sections of YAML."""
    content: dict[str, Any] = {}
    for name, value in values.items():
        *sections, leaf = name.split(".")
        place = content
        for section in sections:
            place = place.setdefault(section, {})
        place[leaf] = value
    return content
