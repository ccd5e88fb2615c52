"""When rewards weigh: steps, gates and ramps, by hand."""

from __future__ import annotations

import math

import pytest
from jsonargparse import ArgumentParser

from r1omni.rewards import COLUMNS, RewardGate, RewardSchedule, RewardSpec, check_rewards
from r1omni.rewards.schedule import RewardWeights
from r1omni.training import GRPOConfig
from r1omni.types import UsageError

ACCURACY = RewardSpec("accuracy")


def late(gate: RewardGate | None = None, weight: float = 0.5, **steps: int) -> RewardSpec:
    return RewardSpec("consistency", weight, schedule=RewardSchedule(gate=gate, **steps))


def weights_of(spec: RewardSpec, steps: int) -> list[float]:
    run = RewardWeights([ACCURACY, spec])
    return [run.begin(step)[1].weight for step in range(steps)]


def test_a_weight_begins_at_a_step_and_ramps() -> None:
    assert weights_of(late(start_step=2), 4) == [0, 0, 0.5, 0.5]
    assert weights_of(late(start_step=1, ramp_steps=4), 7) == [0, 0, 0.125, 0.25, 0.375, 0.5, 0.5]
    assert weights_of(late(start_step=1, ramp_steps=2, weight=-1.0), 4) == [0, 0, -0.5, -1]
    assert weights_of(late(), 2) == [0.5, 0.5]


def test_without_a_schedule_the_rewards_are_those_of_the_run() -> None:
    specs = [ACCURACY, RewardSpec("format", 0.3)]
    run = RewardWeights(specs)
    assert run.begin(7) == specs and run.begin(7)[0] is specs[0]
    assert not run.has_gates and run.figures() == {} and run.state([]) == {}
    run.load(None)  # of a checkpoint from before there were schedules


def test_a_gate_opens_when_the_running_mean_passes() -> None:
    run = RewardWeights([ACCURACY, late(RewardGate("accuracy", 0.5, rate=0.5), ramp_steps=2)])
    assert run.has_gates
    weights, means = [], []
    for step, accuracy in enumerate([0.2, 0.6, math.nan, 0.8, 0.0, 0.0]):
        weights.append(run.begin(step)[1].weight)
        run.observe({"accuracy": accuracy, "consistency": 1.0})
        run.end_rollout()
        means.append(run.figures()["rewards/consistency/gate_mean"])
        assert run.figures()["rewards/consistency/weight"] == weights[-1]
    # 0.2; (0.1/2 + 0.6/2) / (3/4); no change; ...: the first rollout is not drawn to 0.
    expected = [0.2, 0.35 / 0.75, 0.35 / 0.75, 0.575 / 0.875, 0.2875 / 0.9375, 0.14375 / 0.96875]
    assert means == pytest.approx(expected)
    # Passed in rollout 3: it opens at step 4, and stays open when the mean falls.
    assert weights == [0, 0, 0, 0, 0, 0.25]
    assert run.state([])["consistency"]["opened"] == 4


def test_a_gate_opens_no_earlier_than_its_step() -> None:
    run = RewardWeights([ACCURACY, late(RewardGate("accuracy", 0.5, rate=1.0), start_step=3)])
    weights = []
    for step, accuracy in enumerate([0.9, 0.4, 0.4, 0.9, 0.1]):
        weights.append(run.begin(step)[1].weight)
        run.observe({"accuracy": accuracy})
        run.end_rollout()
    assert weights == [0, 0, 0, 0, 0.5]  # what was reached too early has to be reached again


def test_the_state_goes_on_where_it_was_kept() -> None:
    specs = [ACCURACY, late(RewardGate("accuracy", 0.5, rate=0.3), ramp_steps=3)]
    whole, first = RewardWeights(specs), RewardWeights(specs)
    earned = [0.1, 0.7, 0.9, 0.9, 0.2, 0.4]

    def go_on(run: RewardWeights, steps: range) -> list[float]:
        weights = []
        for step in steps:
            weights.append(run.begin(step)[1].weight)
            run.observe({"accuracy": earned[step]})
            run.end_rollout()
        return weights

    expected = go_on(whole, range(6))
    assert 0 < expected[-1] < 0.5
    for half in range(6):
        # A rollout that was given up leaves nothing, and is had again.
        first, resumed = RewardWeights(specs), RewardWeights(specs)
        begun = go_on(first, range(half))
        first.begin(half)
        first.observe({"accuracy": earned[half]})
        resumed.load(first.state([]))
        assert begun + go_on(resumed, range(half, 6)) == expected
        assert resumed.state([]) == whole.state([])  # to the bit

    other = RewardWeights([ACCURACY, late(RewardGate("consistency", 0.5))])
    other.load(whole.state([]))
    assert other.state([])["consistency"]["opened"] is None  # what it watches has not been seen


@pytest.mark.parametrize(
    ("rewards", "message"),
    [
        (
            [ACCURACY, late(RewardGate("format", 0.5))],
            "'consistency': schedule.gate.reward 'format' is no reward of this run; use one of "
            "accuracy, consistency, or add it with weight 0",
        ),
        ([late(start_step=5)], "every reward with a weight has a schedule"),
        ([late(), RewardSpec("format", 0.0)], "leave out the schedule of one"),
    ],
)
def test_schedules_that_cannot_work_are_refused(rewards: list[RewardSpec], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_rewards(rewards, COLUMNS)
    with pytest.raises(UsageError, match=rf"grpo.rewards(\[1\])?: .*{message}"):
        GRPOConfig(rewards=rewards)


def test_numbers_are_named_by_their_keys() -> None:
    with pytest.raises(UsageError, match=r"grpo\.rewards\[\]\.schedule\.start_step is -1"):
        RewardSchedule(start_step=-1)
    with pytest.raises(UsageError, match=r"grpo\.rewards\[\]\.schedule\.gate\.rate is 0"):
        RewardGate("accuracy", 0.5, rate=0)
    with pytest.raises(UsageError, match="schedule has no effect on the weight 0"):
        late(weight=0)
    watched = [ACCURACY, late(RewardGate("format", 0.5)), RewardSpec("format", 0.0)]
    GRPOConfig(rewards=watched)  # what is only logged can be watched


def test_a_yaml_file_sets_a_schedule() -> None:
    parser = ArgumentParser(parser_mode="omegaconf", exit_on_error=False)
    parser.add_argument("--rewards", type=list[RewardSpec])
    text = (
        "[{name: accuracy}, {name: consistency, weight: 0.5, schedule: {start_step: 10, "
        "ramp_steps: 20, gate: {reward: accuracy, threshold: 0.6}}}]"
    )
    specs = parser.instantiate(parser.parse_args(["--rewards", text])).rewards
    gate = RewardGate("accuracy", 0.6)
    assert specs == [ACCURACY, late(gate, start_step=10, ramp_steps=20)]
