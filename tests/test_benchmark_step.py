"""scripts/benchmark_step.py: every arm makes the same step, and does what its sizes say."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import benchmark_step
import pytest
from step_parts import expected, ours, release, results, trl_step
from step_parts.watch import Watch
from step_parts.work import Case, noise, prompt_length

from r1omni.models.sizes import config_from_sizes

CASE = Case("mini", prompts=2, group_size=3, completion=5)
OFF = tuple(
    arm for arm in benchmark_step.ARMS["cpu"] if arm not in ("ours", "release", "trl", "trl_rows")
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return noise.model_folder("mini", tmp_path_factory.mktemp("step") / "mini", "cpu")


def one_step(folder: Path, arm: str) -> dict[str, Any]:
    """What a step of an arm computes, and its counts."""
    watch = Watch("cpu", ("counts",))
    if arm == "release":
        release.run(CASE, folder, watch)
    elif arm.startswith("trl"):
        trl_step.run(CASE, folder, arm, watch)
    else:
        ours.run(CASE, folder, "" if arm == "ours" else arm, watch)
    [found] = watch.found
    language = watch.models[0].config.language
    counts = found["counts"]
    through = counts.rows_through(language.intermediate_size, language.hidden_size)
    found["trunk"] = through / language.num_hidden_layers
    found["head"] = counts.rows_through(language.hidden_size, language.vocab_size)
    return found


@pytest.fixture(scope="module")
def our_step(folder: Path) -> dict[str, Any]:
    return one_step(folder, "ours")


@pytest.mark.parametrize("arm", ["ours", *OFF, "release", "trl", "trl_rows"])
def test_an_arm_makes_the_same_step_and_does_what_its_sizes_say(
    folder: Path, our_step: dict[str, Any], arm: str
) -> None:
    if arm.startswith("trl") and not trl_step.is_installed():
        pytest.skip("TRL is not installed; benchmark_step.py says so of its arms")
    found = our_step if arm == "ours" else one_step(folder, arm)
    length = prompt_length(CASE, config_from_sizes(noise.SIZES["mini"]), folder)
    own = expected.expected(arm, CASE, length)
    assert (found["trunk"], found["head"]) == (own.trunk, own.head)
    assert found["clips"] == [own.clips, own.clips]
    # The same rewards, completions and weights: one loss and one gradient, whoever computes them.
    for name, value in our_step["figures"].items():
        assert found["figures"][name] == pytest.approx(value, rel=1e-3, abs=1e-6), name
    assert our_step["figures"]["grad_norm"] > 0.01


def test_the_least_is_below_every_arm() -> None:
    least = expected.least(CASE, 100)
    for arm in ("ours", *OFF, "release", "trl", "trl_rows"):
        own = expected.expected(arm, CASE, 100)
        assert own.trunk > least.trunk and own.head > least.head
    # By hand: 2 prompts of 100 tokens, 6 rows of 5, of which the last tokens predict nothing.
    assert least.phases["update"] == expected.Passes(
        200 + 24, 2 + 24, 2 * 5050 + 6 * (4 * 100 + 10)
    )
    assert expected.expected("release", CASE, 100).clips == 2 * 7


def test_ratios_are_of_the_same_round() -> None:
    def steps(*seconds: float) -> list[list[dict[str, Any]]]:
        return [
            [{"kind": "timed", "whole_s": s, "peak_gib": 1.0, "peak_beyond_gib": 0.5,
              "seconds": {"sampling": s / 2, "reference": s / 4, "update": s / 4}}]
            for s in seconds
        ]  # fmt: skip

    arms = {"ours": {"timed": steps(1.0, 10.0)}, "release": {"timed": steps(3.0, 40.0)}}
    least = {"operations": {"sampling": 50, "reference": 20, "update": 30}}
    found = results.conclude({"peak_operations_per_s": 100.0, "least": least, "arms": arms})
    own = found["arms"]["release"]
    assert own["relative_to_ours"]["whole"] == {"min": 3.0, "median": 3.5, "max": 4.0}
    assert own["times_least"] == 3.0 and own["phases_times_least"]["sampling"] == 3.0
    assert own["seconds"]["update"]["median"] == pytest.approx(21.5 / 4)


def command(patch: pytest.MonkeyPatch, *words: object) -> None:
    patch.setattr(sys, "argv", ["benchmark_step.py", *map(str, words)])
    benchmark_step.main()


def test_a_size_that_a_cpu_only_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What processes of arms find is looked at by test_gpu_check.py, which starts them."""
    out = tmp_path / "step.json"
    command(monkeypatch, "--size", "0.5b", "--arms", "ours", "trl", "--growth", "none",
            "--no-plot", "--out", out)  # fmt: skip
    [case] = json.loads(out.read_text(encoding="utf-8"))["cases"].values()
    assert "formula alone" in case["not_run"] and "whole_s" not in case["arms"]["ours"]
    assert case["arms"]["ours"]["expected"]["trunk"] > case["prompt_tokens"] > 900
    assert case["arms"]["trl"]["expected"]["trunk"] > case["arms"]["ours"]["expected"]["trunk"]


def test_an_arm_that_cannot_run_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(trl_step, "is_installed", lambda: False)
    limits = {"operations_per_s": 1e9}  # which takes a process
    monkeypatch.setattr(benchmark_step.Benchmark, "_start", lambda *words: limits)
    out = tmp_path / "step.json"
    command(monkeypatch, "--size", "mini", "--prompts", 1, "--arms", "trl", "--repeats", 1,
            "--threads", 1, "--growth", "none", "--no-plot", "--out", out)  # fmt: skip
    [case] = json.loads(out.read_text(encoding="utf-8"))["cases"].values()
    assert case["arms"]["trl"]["not_installed"] == "TRL: pip install trl"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--arms", "theirs"), "--arms: theirs is none of ours, fused_always,"),
        (("--group-size", 1), "--group-size must be at least 2"),
        (("--prompts", 0), "--prompts must be at least 1"),
        (("--count-only", "--growth", "mini"), "--growth mini: with --count-only nothing is run"),
        (("--size", "mini", "--growth", "middle"), "--growth middle: it is no --size"),
    ],
)
def test_wrong_use(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    words: tuple[object, ...],
    told: str,
) -> None:
    with pytest.raises(SystemExit) as end:
        command(monkeypatch, *words, "--out", tmp_path / "x.json")
    said = capsys.readouterr().err
    assert end.value.code == 2 and told in said and said.count("\n") == 1
    assert not (tmp_path / "x.json").exists()
