"""Grades for many questions: from the cache, else from the judge; failures counted and bounded."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from r1omni.judging.cache import GradeCache, content_key
from r1omni.judging.config import JudgeConfig, judge_config
from r1omni.judging.endpoint import Endpoint, Failed
from r1omni.judging.local import LocalModel, folder_fingerprint
from r1omni.judging.questions import Case, NoGrade, question, read_grade
from r1omni.types import NUM_EXAMPLES, RunStopped

_logger = logging.getLogger(__name__)
# Answers below which a share of failures says nothing.
_FEW = 20
# Of what a grade depends on beside the configuration: our own reading and asking.
_JUDGING_VERSION = 1


@dataclass(frozen=True)
class Judgement:
    """What a judge says of one case.

    Attributes:
        score: its grade from 0 to 1, or None.
        failed: why there is none though it was asked for; "" otherwise. A case that lacks what the
            template shows is not asked about: no score, and no failure.
    """

    score: float | None
    failed: str = ""


class Judge:
    """One judge of a process.

    Args:
        config: which one, and its limits.

    Raises:
        UsageError: a local model that is not there, or the variable of the key is not set.
    """

    def __init__(self, config: JudgeConfig) -> None:
        self.config = config
        self._local: LocalModel | None = None
        self._identity = {
            "version": _JUDGING_VERSION,
            "endpoint": config.endpoint,
            "model": config.model,
            "parameters": config.parameters,
            "max_new_tokens": config.max_new_tokens,
            "reply": config.reply,
            "score_range": list(config.score_range),
        }
        if config.endpoint is None:
            self._identity["files"] = folder_fingerprint(Path(config.model))
            self._identity["dtype"] = config.dtype
        config.key()
        self._num_asked = 0
        self._num_failed = 0

    async def judge(self, cases: Sequence[Case]) -> list[Judgement]:
        """Judge cases, those of the same question once.

        Grades that are kept are not asked for again, nor counted. Failures are counted by case:
        a question that fails leaves every case that asks it without a grade.

        Raises:
            RunStopped: the budget is spent, too many judgements fail, or the endpoint refuses to
                answer at all. What was judged until then is kept.
            UsageError: a cache that is none, or a local model that cannot be loaded.
        """
        questions = [question(self.config.template, case) for case in cases]
        keys = [None if q is None else self._key(q) for q in questions]
        asked = {key: q for key, q in zip(keys, questions, strict=True) if key is not None and q}
        with GradeCache(Path(self.config.cache)) as cache:
            grades = cache.find(list(asked))
            missing = {key: q for key, q in asked.items() if key not in grades}
            found, failed = await self._ask(missing, cache) if missing else ({}, {})
        new = [key for key in keys if key in missing]
        self._count(len(new), [failed[key] for key in new if key in failed])
        low, high = self.config.score_range
        scores = {key: (grade - low) / (high - low) for key, grade in {**grades, **found}.items()}
        return [
            Judgement(None) if key is None else Judgement(scores.get(key), failed.get(key, ""))
            for key in keys
        ]

    def _key(self, asked: str) -> str:
        return content_key({**self._identity, "question": asked})

    def _read(self, reply: str) -> float:
        return read_grade(reply, self.config.reply, self.config.score_range)

    async def _ask(
        self, missing: Mapping[str, str], cache: GradeCache
    ) -> tuple[dict[str, float], dict[str, str]]:
        """Grades and failures of questions that are not kept."""
        if self.config.endpoint is None:
            return self._ask_local(missing, cache)
        found: dict[str, float] = {}
        failed: dict[str, str] = {}
        stopped: list[RunStopped] = []
        at_once = asyncio.Semaphore(self.config.at_once)

        async def one(endpoint: Endpoint, key: str, asked: str, deadline: float) -> None:
            try:
                async with asyncio.timeout(deadline - time.monotonic()), at_once:
                    if stopped:  # what would be asked after it would be spent for nothing
                        return
                    reply = await endpoint.ask(asked, self._read, deadline)
            except TimeoutError:
                failed[key] = f"not judged within {self.config.batch_limit_s:g} s of the batch"
            except Failed as error:
                failed[key] = str(error)
            except RunStopped as error:
                stopped.append(error)
            else:
                found[key] = cache.keep(key, self._read(reply), reply)

        async with Endpoint(self.config, cache) as endpoint:
            deadline = time.monotonic() + self.config.batch_limit_s
            await asyncio.gather(*(one(endpoint, *item, deadline) for item in missing.items()))
        if stopped:
            raise stopped[0]
        return found, failed

    def _ask_local(
        self, missing: Mapping[str, str], cache: GradeCache
    ) -> tuple[dict[str, float], dict[str, str]]:
        self._local = self._local or LocalModel(self.config)
        found: dict[str, float] = {}
        failed: dict[str, str] = {}
        end = time.monotonic() + self.config.batch_limit_s
        # Of like length side by side, so that there is little padding.
        waiting = sorted(missing, key=lambda key: (len(missing[key]), key))
        for start in range(0, len(waiting), self.config.at_once):
            keys = waiting[start : start + self.config.at_once]
            left = end - time.monotonic()
            replies: list[str | None] = [None] * len(keys)
            if left > 0:
                replies = self._local.replies([missing[key] for key in keys], left)
            for key, reply in zip(keys, replies, strict=True):
                try:
                    if reply is None:
                        raise NoGrade("the reply was cut by max_new_tokens or batch_limit_s")
                    found[key] = cache.keep(key, self._read(reply), reply)
                except NoGrade as error:
                    failed[key] = str(error)
        return found, failed

    def _count(self, num_asked: int, failed: Sequence[str]) -> None:
        """Count the answers of a batch whose grade was not kept, and why some have none."""
        self._num_asked += num_asked
        self._num_failed += len(failed)
        if not failed:
            return
        most = Counter(failed).most_common(NUM_EXAMPLES)
        reasons = "; ".join(f"{count} x {reason}" for reason, count in most)
        line = (
            f"judge {self.config.model}: {len(failed)} of {num_asked} answers have no grade "
            f"({reasons})"
        )
        if self._num_failed > self.config.max_failed_ratio * max(self._num_asked, _FEW):
            raise RunStopped(
                f"{line}; {self._num_failed} of {self._num_asked} so far are more than "
                f"max_failed_ratio {self.config.max_failed_ratio:g} of at least {_FEW} answers; "
                "mend the judge and go on, what was judged is kept"
            )
        _logger.warning("%s; the judge says nothing of them", line)


def judge_of(options: Mapping[str, Any], place: str = "judge") -> Judge:
    """The judge of this process with these settings: asked for again it is the same one.

    Args:
        options: keys of `JudgeConfig`.
        place: what a message begins with.

    Raises:
        UsageError: as `Judge` and `JudgeConfig`.
    """
    config = judge_config(options, place)
    return _judge(json.dumps(config.as_dict(), sort_keys=True))


@lru_cache(maxsize=8)
def _judge(settings: str) -> Judge:
    return Judge(JudgeConfig(**json.loads(settings)))
