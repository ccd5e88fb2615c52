"""What a server is started with."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from r1omni.options import SECONDS, TOKENS, Range, Ranges, at_least, check_options
from r1omni.serving.limits import UploadLimits
from r1omni.types import UsageError, why_no_file

KEY_VARIABLE = "R1OMNI_API_KEY"
# A shorter one can be found by trying.
_SHORTEST_KEY = 16
PORT = Range(0, 65535)
QUEUE = Range(1, 10_000)


@dataclass(frozen=True)
class ServeConfig:
    """Where a server listens, and what it allows.

    Attributes:
        host: address; without a key one of this machine alone.
        port: 0 takes a free one.
        api_key: what requests have to know, or None.
        root: folder whose recordings may be named by path, or None.
        queue: jobs that may wait, those among them whose upload is under way.
        job_limit_s: seconds that a job may take once it is begun, and that an upload may.
        keep_s: seconds for which a job is kept after its end.
        grace_s: seconds that the running job has when the server is told to end.
        max_new_tokens: the longest answer that a request may ask for, in tokens.
        limits: of uploads.

    Raises:
        UsageError: a number out of its range, a host without a key that others reach, or a root
            that is no folder.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    api_key: str | None = field(default=None, repr=False)
    root: Path | None = None
    queue: int = 8
    job_limit_s: float = 600.0
    keep_s: float = 3600.0
    grace_s: float = 10.0
    max_new_tokens: int = 1024
    limits: UploadLimits = field(default_factory=UploadLimits)

    RANGES: ClassVar[Ranges] = {
        "port": PORT,
        "queue": QUEUE,
        "job_limit_s": SECONDS,
        "keep_s": SECONDS,
        "grace_s": at_least(0, SECONDS.high),
        "max_new_tokens": TOKENS,
    }

    def __post_init__(self) -> None:
        check_options(self)
        if self.api_key is None and not self.is_local:
            raise UsageError(
                f"--host {self.host}: others reach it, and without a key anybody could upload; set "
                f"{KEY_VARIABLE} or give --api-key-file, or use 127.0.0.1"
            )
        if self.root is not None and not self.root.is_dir():
            raise UsageError(f"--root {self.root}: there is no such folder; check the path")

    @property
    def is_local(self) -> bool:
        """Whether only this machine reaches the host."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:  # a name
            return self.host == "localhost"


def read_key(file: Path | None, environment: Mapping[str, str] = os.environ) -> str | None:
    """The key of requests, from a file or the environment; None where neither has one.

    Raises:
        UsageError: both have one, the file cannot be read, or the key is too short, or no text
            that a header can carry.
    """
    key, place = environment.get(KEY_VARIABLE), KEY_VARIABLE
    if file is not None:
        if key is not None:
            raise UsageError(f"--api-key-file and {KEY_VARIABLE} both give a key; give one of them")
        place = f"--api-key-file {file}"
        if not file.is_file():
            raise UsageError(f"{place}: {why_no_file(file)}")
        try:
            key = file.read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            raise UsageError(f"{place}: cannot be read ({error}); mend the file") from error
    if key is None:
        return None
    if len(key) < _SHORTEST_KEY or not key.isascii() or not key.isprintable() or " " in key:
        raise UsageError(
            f"{place}: a key has at least {_SHORTEST_KEY} plain characters without spaces; make "
            "one with `openssl rand -hex 32`"
        )
    return key
