"""Every option of SFT and GRPO, in any division of the training: equal, or refused by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from divided import Learned, train
from option_matrix import (
    ELSEWHERE,
    FOLLOWS,
    NEEDS,
    NO_INFLUENCE,
    OF_BATCHES,
    REFUSED_BY_GRPO,
    SHOWN,
    WITH,
    Options,
    bound_of,
    follows,
    groups_of,
    has_no_influence,
    needs_of,
    options_with_values,
    refusal,
    training_of,
    with_value,
)
from step_cases import halves

from r1omni.training import evidence
from r1omni.training.trainer_options import RANGES as TRAINER_RANGES
from r1omni.types import UsageError

OPTIONS = {method: options_with_values(method) for method in ("sft", "grpo")}
# Of GRPO, the options of SFT and those of the loss, each value of which test_step_invariance.py
# divides, are tried several at a time.
_TOGETHER = ("model", "optimizer", "lora", "loader", "trainer", "loss")
Run = Callable[..., Learned]


def shows(method: str, option: str) -> bool:
    """Whether an option has an influence of its own."""
    elsewhere = {*ELSEWHERE, *(REFUSED_BY_GRPO if method == "grpo" else ())}
    return not (option in elsewhere or follows(method, option) or has_no_influence(option))


def is_together(option: str) -> bool:
    return option.split(".")[0] in _TOGETHER


def most_together(option: str) -> int:
    """SFT has every value of what it shares with GRPO."""
    return 2 if shows("grpo", option) and is_together(option) else 0


def most_idle(option: str) -> int:
    return 2 if has_no_influence(option) else 0


ALONE = [
    (method, option)
    for method, options in OPTIONS.items()
    for option in options
    if shows(method, option) and not (method == "grpo" and is_together(option))
]
TOGETHER = groups_of("grpo", most_together)
IDLE = [(method, group) for method in OPTIONS for group in groups_of(method, most_idle)]


@pytest.fixture(scope="module")
def run(smallest_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Train by a method with options: undivided (kept for later), or divided."""
    out = tmp_path_factory.mktemp("runs")

    @cache
    def whole(method: str, told: str) -> tuple[Learned, Path]:
        file = out / f"{abs(hash((method, told)))}.ckpt"
        training = training_of(method, known[told])
        return train(training, smallest_world, out, save=file), file

    known: dict[str, Options] = {}

    def found(method: str, options: Options, micro: int | None = None, **divided: int) -> Learned:
        told = repr(sorted(options.items()))
        known[told] = options
        learned, file = whole(method, told)
        if not divided and micro is None:
            return learned
        resume = file if divided.pop("resumed", 0) else None
        training = training_of(method, options, micro)
        return train(training, smallest_world, out, resume=resume, **divided)

    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parents[1]))
        patch.setattr(evidence, "described", halves)
        yield found


def distance(one: Learned, other: Learned) -> float:
    """The larger of the differences of moments and of the ways gone, over the first's norms."""
    if one.moments.shape != other.moments.shape or one.way.shape != other.way.shape:
        return float("inf")
    pairs = ((one.moments, other.moments), (one.way, other.way))
    return max(float((a - b).norm() / a.norm().clamp(min=1e-30)) for a, b in pairs)


def check_divisions(run: Run, method: str, options: Options, thoroughly: bool = True) -> None:
    """Two ranks that go on from a checkpoint of one, and parts of a step, are one undivided run.

    Accumulated batches cannot be changed by a resume, so they begin anew: `thoroughly`.
    """
    axes = {"ranks": 2, "resumed": 1}
    if method == "grpo":
        axes["micro"] = 1
    whole, several = run(method, options), [axes]
    if method == "sft" and thoroughly and not OF_BATCHES & options.keys():
        several.append({"batches": 4})
    for division in several:
        if distance(whole, run(method, options, **division)) <= bound_of(options):
            continue
        apart = {axis: distance(whole, run(method, options, **{axis: number}))
                 for axis, number in division.items()}  # fmt: skip
        raise AssertionError(f"{method} {dict(options)} is not as divided by: {apart}")


def refused(option: str, make: Callable[[], Any]) -> bool:
    """Whether it is refused by name; any other error is passed on."""
    try:
        make()
    except UsageError as error:
        if option.split(".")[-1] not in str(error):
            raise
        return True
    return False


@pytest.mark.parametrize(("method", "option"), ALONE)
def test_an_option_is_the_same_in_every_division(run: Run, method: str, option: str) -> None:
    beside = needs_of(method, option)
    plain = run(method, beside)
    shown, taken = 0.0, []
    for value in OPTIONS[method][option]:
        options = with_value(method, option, value)
        if not refused(option, lambda: run(method, options)):  # noqa: B023 - called at once
            taken.append(options)
            shown = max(shown, distance(plain, run(method, options)))
    assert taken, f"{option} is refused whatever its value; say in NEEDS what it needs beside it"
    assert shown > SHOWN, f"{option} shows no influence ({shown}); NEEDS says what is set beside it"
    for options in taken:
        is_last = options is taken[-1]
        refused(option, lambda: check_divisions(run, method, options, is_last))  # noqa: B023


@pytest.mark.parametrize("group", TOGETHER)
def test_options_of_grpo_are_the_same_in_every_division(run: Run, group: Options) -> None:
    check_divisions(run, "grpo", group)


@pytest.mark.parametrize(("method", "group"), IDLE)
def test_what_has_no_influence_changes_nothing(run: Run, method: str, group: Options) -> None:
    try:
        run(method, group)
    except UsageError as error:
        named = [option for option in group if option.split(".")[-1] in str(error)]
        if not named:
            raise
        group = {option: value for option, value in group.items() if option not in named}
    beside = {key: value for key, value in group.items() if not has_no_influence(key)}
    assert distance(run(method, beside), run(method, group)) == 0
    # Ranks are threads here, of which a fork would take one along.
    check_divisions(run, method, {**group, "loader.num_workers": 0})


@pytest.mark.parametrize("method", OPTIONS)
def test_every_option_has_its_place(method: str) -> None:
    """A new option of the classes is tried without being named; what is named must exist."""
    for option, values in OPTIONS[method].items():
        assert values, f"{option} has no value to try beside its base"
        taken = []
        for value in values:
            said = refusal(method, with_value(method, option, value))
            if said is None:
                taken.append(value)
            else:
                assert option.split(".")[-1] in said and "\n" not in said
        assert bool(taken) != follows(method, option), (option, taken)
    known = {*OPTIONS["sft"], *OPTIONS["grpo"]}
    needing = {*NEEDS} - {"lora", "loss", "gate", "masked", "entropy", "chord"}
    for named in (needing, WITH, NO_INFLUENCE, ELSEWHERE, FOLLOWS):
        assert {name.split(":")[-1] for name in named} <= known
    assert {name.removeprefix("trainer.") for name in known if "trainer." in name} == {
        *TRAINER_RANGES, "precision",
    }  # fmt: skip


@pytest.mark.parametrize("option", sorted(REFUSED_BY_GRPO))
def test_what_grpo_has_in_another_form_is_refused(run: Run, option: str) -> None:
    for value in OPTIONS["grpo"][option]:
        assert refused(option, lambda: run("grpo", {option: value})), value  # noqa: B023
