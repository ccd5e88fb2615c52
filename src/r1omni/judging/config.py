"""Which model judges, what it is asked, and within which limits."""

from __future__ import annotations

import ipaddress
import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

import yaml

from r1omni.judging.questions import Reply, placeholders
from r1omni.options import (
    FINITE,
    SECONDS,
    SHARE,
    TOKENS,
    Conditions,
    OnlyWith,
    Range,
    Ranges,
    at_least,
    check_options,
)
from r1omni.types import Dtype, UsageError, why_no_file

_OF_ENDPOINT = OnlyWith("endpoint", "given", lambda c: c.endpoint is not None)
_OF_FOLDER = OnlyWith("endpoint", "left out", lambda c: c.endpoint is None)
_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
# What a request is made of; the rest of it is `parameters`.
_OURS = ("messages", "model", "n", "stream")


@dataclass(frozen=True)
class JudgeConfig:
    """A judge. Without `endpoint` it is a local model, and nothing leaves the machine.

    Attributes:
        template: the question, with placeholders for what is known of a completion
            (`questions.PLACEHOLDERS`) in braces.
        model: the name of the model at the endpoint, or the folder of a local one.
        endpoint: address of an OpenAI-compatible API, up to `/v1`; None for a local model.
        key_variable: name of the environment variable that holds the key; None sends none.
        plain_http: send texts and key unencrypted to another machine, at an address of http.
        parameters: more fields of a request, or others than ours; null leaves a field out. Ours are
            temperature 0 and max_tokens.
        max_new_tokens: longest reply, in tokens.
        reply: what the template asks for: "json", an object with a number under "score", or a
            "number" alone.
        score_range: lowest and highest grade; they become 0 and 1.
        cache: file that keeps every grade, and counts the requests that were made with it.
        at_once: requests at once, or prompts of a local batch.
        request_limit_s: seconds that one request may take in all.
        batch_limit_s: seconds that the judgements of a batch may take in all.
        max_retries: more tries of a request that failed.
        backoff_s: seconds before the second try, about; they double with every further one.
        max_failed_ratio: share of the answers asked about, of at least 20, that may be left without
            a grade; more stop the run.
        max_requests: budget of requests, tries included, over all runs with the same cache; None
            has no bound.
        max_total_tokens: budget of tokens as the endpoint counts them, likewise.
        device: of a local model.
        dtype: of a local model's weights.

    Raises:
        UsageError: a value that cannot be used, naming its key.
    """

    template: str
    model: str
    endpoint: str | None = None
    key_variable: str | None = None
    plain_http: bool = False
    parameters: dict[str, Any] = field(default_factory=dict)
    max_new_tokens: int = 256
    reply: Reply = "json"
    score_range: tuple[float, float] = (0.0, 10.0)
    cache: str = "outputs/judge.sqlite"
    at_once: int = 8
    request_limit_s: float = 60.0
    batch_limit_s: float = 600.0
    max_retries: int = 4
    backoff_s: float = 1.0
    max_failed_ratio: float = 0.1
    max_requests: int | None = None
    max_total_tokens: int | None = None
    device: str = "cpu"
    dtype: Dtype = "float32"

    RANGES: ClassVar[Ranges] = {
        "max_new_tokens": TOKENS,
        "score_range": FINITE,
        "at_once": Range(1, 1024),
        "request_limit_s": SECONDS,
        "batch_limit_s": SECONDS,
        "max_retries": Range(0, 100),
        "backoff_s": SECONDS,
        "max_failed_ratio": SHARE,
        "max_requests": at_least(1),
        "max_total_tokens": at_least(1),
    }
    ONLY_WITH: ClassVar[Conditions] = {
        **dict.fromkeys(
            ("key_variable", "plain_http", "parameters", "request_limit_s", "max_retries",
             "backoff_s", "max_requests", "max_total_tokens"),
            _OF_ENDPOINT,
        ),
        "device": _OF_FOLDER,
        "dtype": _OF_FOLDER,
    }  # fmt: skip

    def __post_init__(self) -> None:
        _check_key_variable(self.key_variable)  # first: what is no name must not be shown
        check_options(self)
        # What a YAML file has is a list.
        object.__setattr__(self, "score_range", tuple(map(float, self.score_range)))
        placeholders(self.template)
        low, high = self.score_range
        if not low < high:
            raise UsageError(f"score_range is [{low:g}, {high:g}]; the first has to be lower")
        for name in _OURS:
            if name in self.parameters:
                raise UsageError(f"parameters has {name!r}, which is not to be set; leave it out")
        if self.endpoint is not None:
            _check_address(self.endpoint, self.plain_http)
        try:
            json.dumps(self.parameters, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise UsageError(f"parameters cannot be sent as JSON ({error})") from error

    def key(self) -> str | None:
        """The key, from the environment.

        Raises:
            UsageError: the variable is not set.
        """
        if self.key_variable is None:
            return None
        key = os.environ.get(self.key_variable, "").strip()
        if not key or not key.isascii() or not key.isprintable():
            raise UsageError(
                f"key_variable names {self.key_variable}, which holds no key; set it in the "
                "environment, not in a file of the project"
            )
        return key

    def as_dict(self) -> dict[str, Any]:
        """All settings as what JSON knows; the key is none of them."""
        return {**asdict(self), "score_range": list(self.score_range)}


def _check_key_variable(name: Any) -> None:
    if name is not None and (not isinstance(name, str) or not _VARIABLE.fullmatch(name)):
        raise UsageError(
            "key_variable is no name of an environment variable in capitals, such as "
            "JUDGE_API_KEY; give the name, and never the key itself (the value is not shown)"
        )


def _check_address(endpoint: str, plain_http: bool) -> None:
    try:
        parts = urlsplit(endpoint)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host, parts = None, urlsplit("")
    if parts.scheme not in ("http", "https") or not host or any(map(str.isspace, endpoint)):
        # An address that cannot be read may hold a key as well.
        raise UsageError("endpoint is no address such as https://api.example.org/v1")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise UsageError(
            f"endpoint at {host} has a name, a password, a query or a fragment; give the address "
            "up to /v1, and a key by key_variable"
        )
    if parts.scheme == "http" and not plain_http and not _is_this_machine(host):
        raise UsageError(
            f"endpoint {endpoint} sends texts unencrypted; use https, or set plain_http: true for "
            "a network that you trust"
        )
    if plain_http and (parts.scheme == "https" or _is_this_machine(host)):
        raise UsageError(
            f"plain_http is true, but has an effect only with an endpoint of http on another "
            f"machine, which {endpoint} is not; leave it out"
        )


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def judge_config(options: Mapping[str, Any], place: str) -> JudgeConfig:
    """A judge's settings from what a file has.

    Args:
        options: keys of `JudgeConfig`.
        place: what a message begins with.

    Raises:
        UsageError: an unknown key, one that lacks, or as `JudgeConfig`.
    """
    if not isinstance(options, Mapping):
        raise UsageError(f"{place}: is no list of keys and values; give at least template, model")
    known = [entry.name for entry in fields(JudgeConfig)]
    unknown = [key for key in options if key not in known]
    if unknown:
        raise UsageError(f"{place}: {unknown[0]!r:.60} is unknown; known are {', '.join(known)}")
    lacking = [name for name in ("template", "model") if name not in options]
    if lacking:
        raise UsageError(f"{place}: {' and '.join(lacking)} must be given")
    try:
        return JudgeConfig(**options)
    except UsageError as error:
        raise UsageError(f"{place}: {error}") from error


def read_judge_file(path: Path) -> JudgeConfig:
    """The judge that a YAML file describes by the keys of `JudgeConfig`.

    Raises:
        UsageError: a file that cannot be read, or as `JudgeConfig`.
    """
    if not path.is_file():
        raise UsageError(f"{path}: {why_no_file(path)}")
    try:
        options = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        line = " ".join(str(error).split())
        raise UsageError(f"{path}: is no YAML file ({line:.200})") from error
    return judge_config(options, str(path))
