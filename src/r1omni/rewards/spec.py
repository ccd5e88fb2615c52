"""Which rewards a run uses: names, weights and options, checked before the run begins."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Any, ClassVar

from r1omni.options import FINITE, SECONDS, Ranges, check_options
from r1omni.rewards.registry import RewardFunction, get_reward, option_check
from r1omni.rewards.schedule import RewardSchedule
from r1omni.rewards.timeout import limited
from r1omni.types import UsageError

COLUMNS: Mapping[str, str] = MappingProxyType(
    {
        "sample_ids": "unique name of the sample",
        "modality": "media of the prompt: video_audio, video or audio",
        "label_set": "name of the label set in force for the sample, or None",
        "completion_lengths": "tokens of the completion, the end token included",
        "ended": "whether an end token closed the completion, not the limit of tokens",
        "max_new_tokens": "limit of the sampling, in tokens",
        "open_labels": "list of free emotion words for the clip, or None",
        "references": "what the clip shows, in the words of somebody who saw it, or None",
        "cues": "what the clip is known to show: list of (medium, attribute, value), or None",
        "direct_confidence": "share of each emotion when the policy answers at once, or None",
    }
)


@dataclass(frozen=True)
class RewardSpec:
    """A reward function, its share in the total, and its options.

    Attributes:
        name: registered name or "package.module:function".
        weight: factor of the reward in the total; 0 only logs it.
        options: keyword arguments of the function, the same for every completion.
        timeout_s: seconds that a batch may take before the run stops; None waits for ever.
        schedule: when the weight begins and how it grows; None has it from the first step on.

    Raises:
        UsageError: a number out of its range, or a schedule for a weight of 0.
    """

    name: str
    weight: float = 1.0
    options: dict[str, Any] = field(default_factory=dict)
    timeout_s: float | None = None
    schedule: RewardSchedule | None = None

    RANGES: ClassVar[Ranges] = {"weight": FINITE, "timeout_s": SECONDS}

    def __post_init__(self) -> None:
        check_options(self, f"reward {self.name!r}: ")
        if self.schedule is not None and not self.weight:
            raise UsageError(
                f"reward {self.name!r}: schedule has no effect on the weight 0; leave it out, or "
                "give the reward a weight"
            )


def check_rewards(
    specs: Sequence[RewardSpec], columns: Collection[str], place: str = "rewards"
) -> None:
    """Refuse rewards that could not be computed.

    Args:
        specs: the rewards.
        columns: names of the columns that will be passed to `score`, besides labels.
        place: what a message calls the list; of an entry it names the index, too.

    Raises:
        UsageError: no reward, one named twice, one whose gate watches a reward that is not there,
            none that weighs from the first step on though some weigh later, or as `bind`.
    """
    try:
        names = _names(specs)
    except UsageError as error:
        raise UsageError(f"{place}: {error}") from error
    for index, spec in enumerate(specs):
        try:
            bind(spec, columns)
            _check_gate(spec, names)
        except UsageError as error:
            raise UsageError(f"{place}[{index}]: {error}") from error
    if any(s.weight for s in specs) and all(s.schedule or not s.weight for s in specs):
        raise UsageError(
            f"{place}: every reward with a weight has a schedule, so the first steps may learn "
            "nothing; leave out the schedule of one of them"
        )


def bind_all(specs: Sequence[RewardSpec], columns: Collection[str]) -> list[RewardFunction]:
    """The functions of all rewards of a run; arguments and errors as for `check_rewards`."""
    _names(specs)
    return [bind(spec, columns) for spec in specs]


def _names(specs: Sequence[RewardSpec]) -> list[str]:
    names = [spec.name for spec in specs]
    if not names or len(set(names)) != len(names):
        raise UsageError(f"{names} are chosen; name at least one function, and each once")
    return names


def _check_gate(spec: RewardSpec, names: Sequence[str]) -> None:
    gate = spec.schedule and spec.schedule.gate
    if gate and gate.reward not in names:
        raise UsageError(
            f"reward {spec.name!r}: schedule.gate.reward {gate.reward!r} is no reward of this "
            f"run; use one of {', '.join(names)}, or add it with weight 0"
        )


def bind(spec: RewardSpec, columns: Collection[str]) -> RewardFunction:
    """The function of a reward with its options.

    Args:
        spec: the reward.
        columns: names of the columns that it will be called with, besides labels.

    Raises:
        UsageError: no such function; an option that it does not have, that is a column, or whose
            value its check refuses; a column that it needs and does not get.
    """
    function = get_reward(spec.name)
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except ValueError:  # some functions written in C do not tell theirs
        if spec.options:
            raise UsageError(f"reward {spec.name!r}: its options cannot be known") from None
        return function
    _check_names(spec, parameters, {"labels", *COLUMNS, *columns})
    for parameter in parameters[2:]:
        given = parameter.name in columns or parameter.name in spec.options
        optional = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        if parameter.default is parameter.empty and not (given or optional):
            raise UsageError(
                f"reward {spec.name!r} needs {parameter.name!r}, which is neither among its "
                f"options nor a column; columns are {', '.join(sorted(columns)) or 'none'}"
            )
    check = option_check(spec.name)
    if check is not None:
        try:
            check(spec.options, columns)
        except UsageError as error:
            raise UsageError(f"reward {spec.name!r}: {error}") from error
    bound = partial(function, **spec.options) if spec.options else function
    return bound if spec.timeout_s is None else limited(bound, spec.timeout_s)


def asks_for(spec: RewardSpec, column: str, needed: bool = False) -> bool:
    """Whether a reward function names a column among its parameters; `needed`: without a default.

    Raises:
        UsageError: no such function.
    """
    try:
        found = inspect.signature(get_reward(spec.name)).parameters.get(column)
    except ValueError:  # some functions written in C do not tell theirs
        return False
    return found is not None and not (needed and found.default is not found.empty)


def _check_names(
    spec: RewardSpec, parameters: Sequence[inspect.Parameter], columns: Collection[str]
) -> None:
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    named = [parameter.name for parameter in parameters[2:] if parameter.kind in by_name]
    known = [name for name in named if name not in columns]
    for option in spec.options:
        if option in columns:
            raise UsageError(
                f"reward {spec.name!r}: {option!r} is a column, one value a completion, and no "
                "option"
            )
        if option not in known:
            raise UsageError(
                f"reward {spec.name!r}: option {option!r} is unknown; known are "
                f"{', '.join(known) or 'none'}"
            )
    if all(parameter.kind != parameter.VAR_KEYWORD for parameter in parameters):
        raise UsageError(
            f"reward {spec.name!r} does not take every column; end its parameters with **columns"
        )
