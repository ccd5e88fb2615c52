"""Settings of a judge that are refused, and the key, which is never shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from r1omni.judging import JudgeConfig, read_judge_file
from r1omni.types import UsageError

SECRET = "sk-very-secret-0123"


def config(**options: Any) -> JudgeConfig:
    return JudgeConfig(template="{reasoning}", model="m", **options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"endpoint": "http://example.org/v1"}, "sends texts unencrypted; use https"),
        ({"endpoint": "http://10.0.0.7:8000/v1"}, "sends texts unencrypted"),
        ({"endpoint": "ftp://example.org"}, "no address"),
        ({"endpoint": "https://"}, "no address"),
        ({"endpoint": "https://[::1"}, "no address"),
        ({"endpoint": "https://a.example:port/v1"}, "no address"),
        ({"endpoint": "https://a.example/v1?x=1"}, "a query"),
        ({"endpoint": "https://a.example/v1#x"}, "a fragment"),
        ({"endpoint": "https://a.example/v1", "plain_http": True}, "leave it out"),
        ({"endpoint": "http://127.0.0.1/v1", "plain_http": True}, "leave it out"),
        ({"endpoint": "https://a.example", "parameters": {"stream": True}}, "parameters has 'str"),
        ({"endpoint": "https://a.example", "parameters": {"x": float("nan")}}, "as JSON"),
        ({"score_range": (1, 1)}, "the first has to be lower"),
        ({"plain_http": True}, "has an effect only with endpoint given"),
        ({"max_requests": 3}, "has an effect only with endpoint given"),
        ({"endpoint": "https://a.example", "device": "cuda"}, "only with endpoint left out"),
    ],
)
def test_a_setting_that_cannot_be_meant_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        config(**options)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "endpoint",
    ["https://api.example.org/v1", "http://localhost:8000/v1", "http://127.0.0.1:8/v1",
     "http://[::1]:8000/v1"],
)  # fmt: skip
def test_encrypted_or_on_this_machine_is_accepted(endpoint: str) -> None:
    assert config(endpoint=endpoint).endpoint == endpoint
    assert config(endpoint="http://10.0.0.7:8000/v1", plain_http=True).plain_http


@pytest.mark.parametrize(
    "options",
    [
        {"endpoint": "https://a.example", "key_variable": SECRET},
        {"endpoint": "https://a.example", "key_variable": [SECRET]},
        {"endpoint": f"https://user:{SECRET}@a.example/v1"},
        {"endpoint": f"https://{SECRET}@a.example/v1"},
        {"endpoint": f"https://a.example/v1?key={SECRET}"},
        {"endpoint": f"nonsense {SECRET}"},
    ],
)
def test_a_key_where_none_belongs_is_refused_and_not_shown(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        config(**options)
    assert SECRET not in str(caught.value)


def test_a_variable_without_a_key_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    judge = config(endpoint="https://a.example", key_variable="JUDGE_KEY_OF_TESTS")
    for value in (None, "", "  ", "two\nlines"):
        monkeypatch.delenv("JUDGE_KEY_OF_TESTS", raising=False)
        if value is not None:
            monkeypatch.setenv("JUDGE_KEY_OF_TESTS", value)
        with pytest.raises(UsageError, match="JUDGE_KEY_OF_TESTS, which holds no key"):
            judge.key()
    monkeypatch.setenv("JUDGE_KEY_OF_TESTS", SECRET)
    assert judge.key() == SECRET
    assert SECRET not in json.dumps(judge.as_dict()) + repr(judge)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- 1", "no list of keys and values"),
        ("a: [", "no YAML file"),
        ("model: m", "template must be given"),
        ("{model: m, template: '{reasoning}', api_key: x}", "'api_key' is unknown; known are"),
        ("{model: m, template: '{reasoning}', at_once: 0}", "at_once is 0"),
    ],
)
def test_a_file_that_is_no_judge_is_refused(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "judge.yaml"
    file.write_text(text)
    with pytest.raises(UsageError) as caught:
        read_judge_file(file)
    assert words in str(caught.value)
    assert str(caught.value).startswith(str(file))
    with pytest.raises(UsageError, match="there is no such file"):
        read_judge_file(tmp_path / "none.yaml")


def test_a_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "judge.yaml"
    file.write_text("{model: m, template: '{reasoning}', score_range: [1, 5]}")
    assert read_judge_file(file) == config(score_range=(1.0, 5.0))
