"""The reward `judge`, with completions that a policy would find to cheat."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from fake_server import FakeServer, serving

from r1omni.rewards import COLUMNS, RewardSpec, check_rewards, score
from r1omni.types import UsageError

GOOD = "<think>She smiles.</think>\n<answer>happy</answer>"
MALFORMED = (
    "happy",
    "<answer>happy</answer>",
    GOOD + " more",
    GOOD.replace("happy", "<|im_start|>"),
    GOOD * 2,
    "<think></think>\n<answer>happy</answer>",
)


def spec(server: FakeServer, folder: Path, template: str) -> RewardSpec:
    judge: dict[str, Any] = {
        "template": template, "model": "m", "endpoint": server.endpoint,
        "cache": str(folder / "cache.sqlite"),
    }  # fmt: skip
    return RewardSpec("judge", options={"judge": judge})


def test_what_is_malformed_or_cut_earns_nothing_unasked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    texts = [*MALFORMED, GOOD, GOOD]
    ended = [*[True] * len(MALFORMED), False, True]
    with serving() as server:
        found = score(
            [spec(server, tmp_path, "{reasoning}{answer}")], texts, [None] * 8, ended=ended
        )
        assert server.questions() == ["She smiles.happy"]
    assert found.flatten()[:-1].tolist() == [0.0] * 7
    assert found[-1].item() == pytest.approx(len("She smiles.happy") % 11 / 10)


def test_it_says_nothing_of_a_sample_that_lacks_what_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving() as server:
        one = spec(server, tmp_path, "{label} {reference} {open_labels}: {reasoning}")
        found = score(
            [one], [GOOD] * 4, ["sad", None, "sad", "sad"],
            references=["A tear.", "A tear.", None, "A tear."],
            open_labels=[["sad", "tired"], ["sad"], ["sad"], None],
        )  # fmt: skip
        assert server.questions() == ["sad A tear. sad, tired: She smiles."]
    assert found.isnan().flatten().tolist() == [False, True, True, True]
    assert found.dtype == torch.float32


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "needs 'judge'"),
        ({"judge": 3}, "is no list of keys and values"),
        ({"judge": {"template": "{reasoning}"}}, "model must be given"),
        ({"judge": {"template": "{reasoning}", "model": "m", "key": "x"}}, "'key' is unknown"),
        ({"judge": {"template": "{reasoning}", "model": "m", "endpoint": "https://a.example",
                    "key_variable": "NO_SUCH_KEY_HERE"}}, "NO_SUCH_KEY_HERE, which holds no key"),
    ],
)  # fmt: skip
def test_options_are_checked_before_a_run(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_rewards([RewardSpec("judge", options=options)], COLUMNS)
    assert words in str(caught.value)
