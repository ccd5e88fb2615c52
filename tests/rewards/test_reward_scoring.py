"""Scoring: several functions on a batch, asynchronous ones, and functions that fail."""

import asyncio
import math
import signal
import threading
import time
from fractions import Fraction

import numpy as np
import pytest
import torch

from r1omni.rewards import RewardSpec, score
from r1omni.rewards.timeout import limited
from r1omni.types import R1OmniError, RunStopped, Terminated, UsageError

HERE = __name__


def spec(function, **options):
    return RewardSpec(f"{HERE}:{function}", options=options)


def tagged(answer):
    return f"<think>x</think><answer>{answer}</answer>"


def test_score():
    values = score(
        [RewardSpec("accuracy"), RewardSpec("format", 0.5)],
        [tagged("happy"), "happy", tagged("sad")],
        ["happy", "happy", None],
        sample_ids=["a", "b", "c"],
    )
    assert values.dtype == torch.float32
    expected = torch.tensor([[1.0, 1.0], [0.0, 0.0], [math.nan, 1.0]])
    torch.testing.assert_close(values, expected, equal_nan=True)


def test_all_shipped_rewards_on_one_batch():
    text = "<think>The face shows a smile. It suggests joy.</think><answer>happy</answer>"
    values = score(
        [
            RewardSpec("accuracy"),
            RewardSpec("balanced_accuracy", options={"class_counts": {"happy": 2, "sad": 2}}),
            RewardSpec("consistency"),
            RewardSpec("format"),
            RewardSpec("modality_use"),
            RewardSpec("overlong", options={"cache_length": 10}),
            RewardSpec("repetition"),
            RewardSpec("petal_f1"),
        ],
        [text, text],
        ["happy", "sad"],
        sample_ids=["a", "b"],
        modality=["video_audio", "video"],
        label_set=["dfew", "dfew"],
        completion_lengths=[20, 15],
        max_new_tokens=[20, 20],
        open_labels=[["glad", "excited"], None],
    )
    assert values.tolist() == [[1, 1, 1, 1, 0.5, -1, 0, 1], [0, 0, 1, 1, 1, -0.5, 0, 0]]


def test_an_empty_batch():
    names = ("accuracy", "format", "repetition", "consistency", "petal_f1")
    assert score([RewardSpec(name) for name in names], [], []).shape == (0, 5)


def test_score_checks_its_input():
    format_only = [RewardSpec("format")]
    with pytest.raises(UsageError, match="labels has 1 entries for 2 completions"):
        score(format_only, ["a", "b"], ["happy"])
    with pytest.raises(UsageError, match="sample_ids has 3 entries"):
        score(format_only, ["a"], ["happy"], sample_ids=[1, 2, 3])
    with pytest.raises(UsageError, match="each once"):
        score(format_only * 2, ["a"], ["happy"])
    with pytest.raises(UsageError, match="at least one"):
        score([], ["a"], ["happy"])


RAN = []


def notes_that_it_ran(completions, labels, **columns):
    RAN.append(len(completions))
    return [0.0] * len(completions)


def test_every_function_is_looked_up_before_the_first_runs():
    RAN.clear()
    with pytest.raises(UsageError, match="option 'size' is unknown"):
        score([spec("notes_that_it_ran"), spec("picky", size=1)], ["ab"], ["happy"])
    assert RAN == []


def greedy(completions, labels, **columns):
    completions.clear()
    columns["sample_ids"].reverse()
    return [0.0, 0.0]


def echoes(completions, labels, *, sample_ids, **columns):
    return [float(sample_id) for sample_id in sample_ids]


def test_a_function_cannot_change_what_the_next_one_sees():
    values = score([spec("greedy"), spec("echoes")], ["a", "b"], [None] * 2, sample_ids=[1, 2])
    assert values[:, 1].tolist() == [1, 2]


# Functions that fail -----------------------------------------------------------------------------


def picky(completions, labels, **columns):
    return [1 / len(text) for text in completions]


def needs_two(completions, labels, **columns):
    raise KeyError("no judge") if len(completions) > 1 else RuntimeError("alone")


def too_few(completions, labels, **columns):
    return [1.0]


def nothing(completions, labels, **columns):
    return None


def values(completions, labels, *, second, **columns):
    return [1.0, second]


async def picky_judge(completions, labels, **columns):
    await asyncio.sleep(0)
    return picky(completions, labels)


async def too_few_judge(completions, labels, **columns):
    return [1.0]


async def cancelled_judge(completions, labels, **columns):
    raise asyncio.CancelledError


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("picky", "failed on completion 1 of sample 'dfew/2', '': ZeroDivisionError: division"),
        ("picky_judge", "failed on completion 1 of sample 'dfew/2', '': ZeroDivisionError"),
        ("cancelled_judge", "failed on completion 0 of sample 'dfew/1', 'ab': CancelledError"),
        ("needs_two", "failed: KeyError: 'no judge'"),
        ("too_few", "1 values for 2 completions, the first of which is .* 'dfew/1', 'ab'"),
        ("too_few_judge", "returned 1 values for 2 completions"),
        ("nothing", "returned None for 2 completions"),
    ],
)
def test_failing_functions_are_named(function, message):
    with pytest.raises(R1OmniError, match=message) as caught:
        score([spec(function)], ["ab", ""], ["happy", "happy"], sample_ids=["dfew/1", "dfew/2"])
    assert f"'{HERE}:{function}'" in str(caught.value)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (math.nan, "nan"),
        (math.inf, "inf"),
        (-math.inf, "-inf"),
        (1e39, r"1e\+39"),
        (10**400, "100000"),
        ("1.0", "'1.0'"),
        ([1.0], r"\[1.0\]"),
        (1j, "1j"),
    ],
)
def test_what_is_no_finite_number_is_refused(value, shown):
    message = f"returned {shown}.* for completion 1 of sample 'dfew/2', 'cd'"
    with pytest.raises(R1OmniError, match=message):
        score([spec("values", second=value)], ["ab", "cd"], [None] * 2, sample_ids=["x", "dfew/2"])


@pytest.mark.parametrize("value", [2, True, np.float32(0.5), np.int64(3), Fraction(1, 4), None])
def test_every_kind_of_number_is_taken(value):
    (_, row) = score([spec("values", second=value)], ["ab", "cd"], [None] * 2)
    expected = math.nan if value is None else float(value)
    assert row.item() == pytest.approx(expected, nan_ok=True)


def test_an_error_shows_the_beginning_of_a_long_completion_alone():
    with pytest.raises(R1OmniError) as caught:
        score([spec("values", second="x")], ["ab", "cd " * 10_000], [None] * 2)
    assert "completion 1, 'cd cd" in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(("length", "shown"), [(60, "'" + "x" * 60 + "';"), (61, "'...;")])
def test_a_completion_is_shown_up_to_sixty_characters(length, shown):
    with pytest.raises(R1OmniError) as caught:
        score([spec("values", second="x")], ["ab", "x" * length], [None] * 2)
    assert shown in str(caught.value)
    assert "x" * 61 not in str(caught.value)


def test_a_label_that_a_reward_refuses_is_wrong_use():
    with pytest.raises(UsageError, match="'accuracy' failed on completion 1 of sample 'own/7'"):
        score(
            [RewardSpec("accuracy")],
            [tagged("sad"), tagged("sad")],
            ["sad", "sadd"],
            sample_ids=["own/6", "own/7"],
        )


# Asynchronous functions --------------------------------------------------------------------------

MEETING: dict[str, asyncio.Barrier] = {}


async def meets(completions, labels, **columns):
    # Goes on only when as many calls wait here as the barrier wants.
    await asyncio.wait_for(MEETING["barrier"].wait(), timeout=20)
    return [float(len(text)) for text in completions]


async def meets_too(completions, labels, **columns):
    return [value + 1 for value in await meets(completions, labels)]


class Judge:
    """A callable object, and what it returns is no coroutine but can be awaited."""

    def __call__(self, completions, labels, **columns):
        return Verdict(completions)


class Verdict:
    def __init__(self, completions):
        self.completions = completions

    def __await__(self):
        yield from asyncio.sleep(0).__await__()
        return [None if text == "b" else 5.0 for text in self.completions]


judge = Judge()
SPECS = [spec("meets"), RewardSpec("format"), spec("meets_too"), spec("judge")]
EXPECTED = [[1.0, 0.0, 2.0, 5.0], [1.0, 0.0, 2.0, math.nan]]


def check_meeting():
    MEETING["barrier"] = asyncio.Barrier(2)
    result = score(SPECS, ["a", "b"], [None, None])
    torch.testing.assert_close(result, torch.tensor(EXPECTED), equal_nan=True)


def test_asynchronous_functions_wait_together_beside_synchronous_ones():
    check_meeting()


def test_within_a_running_event_loop():
    async def notebook():
        check_meeting()
        return asyncio.get_running_loop()

    assert asyncio.run(notebook()).is_closed()


@pytest.mark.filterwarnings("error")
def test_a_failure_leaves_no_asynchronous_function_behind():
    FINISHED.clear()
    with pytest.raises(R1OmniError, match=":picky' failed on completion 0"):
        score([spec("finishes"), spec("picky"), spec("picky_judge")], [""], [None])
    assert FINISHED == [1]


FINISHED = []


async def finishes(completions, labels, **columns):
    await asyncio.sleep(0)
    FINISHED.append(len(completions))
    return [0.0] * len(completions)


async def fails_on_b(completions, labels, **columns):
    if "b" in completions:
        if len(completions) == 1:
            # The other single completions are under way at the same time.
            await asyncio.wait_for(MEETING["barrier"].wait(), timeout=20)
        raise ValueError("no verdict")
    await asyncio.wait_for(MEETING["barrier"].wait(), timeout=20)
    return [0.0]


def test_a_failing_judge_is_asked_about_all_completions_at_once():
    MEETING["barrier"] = asyncio.Barrier(3)
    with pytest.raises(R1OmniError, match="failed on completion 1 of sample 's2', 'b': ValueError"):
        score([spec("fails_on_b")], ["a", "b", "c"], [None] * 3, sample_ids=["s1", "s2", "s3"])


# Functions that hang -----------------------------------------------------------------------------


def hangs_on_b(completions, labels, **columns):
    if "b" in completions:
        time.sleep(5)
    return [0.0] * len(completions)


async def judge_hangs_on_b(completions, labels, **columns):
    if "b" in completions:
        await asyncio.sleep(5)
    return [1.0] * len(completions)


@pytest.mark.parametrize("function", ["hangs_on_b", "judge_hangs_on_b"])
def test_a_function_that_hangs_is_named_with_its_input(function):
    limited = RewardSpec(f"{HERE}:{function}", timeout_s=0.3)
    with pytest.raises(R1OmniError, match=r"on completion 1 of sample 'y', 'b': TimeoutError: no"):
        score([limited], ["a", "b", "c"], [None] * 3, sample_ids=["x", "y", "z"])
    assert score([limited], ["a"], [None]).numel() == 1


def test_a_call_that_hangs_does_not_keep_the_process():
    """Its thread cannot be stopped, so it must be one that the process does not wait for."""
    before, released = set(threading.enumerate()), threading.Event()
    with pytest.raises(TimeoutError, match=r"no answer within 0\.01 s"):
        limited(released.wait, 0.01)()
    left = set(threading.enumerate()) - before
    assert left and all(thread.daemon for thread in left)
    released.set()


def test_errors_and_values_come_through_a_limit():
    slow = RewardSpec(f"{HERE}:picky", timeout_s=30)
    assert score([slow], ["ab"], [None]).tolist() == [[0.5]]
    with pytest.raises(R1OmniError, match="completion 1, '': ZeroDivisionError"):
        score([slow], ["ab", ""], [None] * 2)
    with pytest.raises(UsageError, match="timeout_s is 0"):
        RewardSpec("format", timeout_s=0)


given_up = threading.Event()


async def judge_waits(completions, labels, **columns):
    try:
        await asyncio.sleep(20)
    except asyncio.CancelledError:
        given_up.set()
        raise


def test_a_signal_ends_a_wait_at_once():
    """Inside a task, what its handler raises would become the result of the task."""

    def stop(signum, frame):
        raise Terminated("told to end")

    before = signal.signal(signal.SIGALRM, stop)
    begin = time.monotonic()
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        with pytest.raises(Terminated):
            score([spec("judge_waits")], ["a"], [None])
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert time.monotonic() - begin < 10
    assert given_up.wait(10)


def cannot_go_on(completions, labels, **columns):
    calls.append(len(completions))
    raise RunStopped("the budget is spent")


calls = []


def test_what_stops_a_run_is_of_no_completion():
    with pytest.raises(RunStopped, match=r"^reward '.*:cannot_go_on': the budget is spent$"):
        score([spec("cannot_go_on")], ["a", "b"], [None] * 2)
    assert calls == [2]
