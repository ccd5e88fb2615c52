"""The description of the API, held against the server by schemathesis."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from benchmark_serve import JSON
from pydantic import ValidationError
from schemathesis.engine import from_schema
from schemathesis.engine.events import FatalError, NonFatalError, ScenarioFinished
from served import Client, served

from r1omni.recordings.records import Record
from r1omni.serving.asking import AskingOfPath
from r1omni.serving.config import ServeConfig
from r1omni.serving.job import Job
from r1omni.serving.uploads import UploadLimits
from r1omni.types import Ablated

KEY = "k" * 32
CLIP = "clip.mp4"
# What a recording is, and which options contradict each other, a description cannot say.
REFUSED = ["2xx", "401", "403", "404", "409", "415", "422", "429"]
# Drawn at random, of each operation, beside the cases that follow from the description.
NUM_EXAMPLES = 12
CONFIG = {
    "headers": {"Authorization": f"Bearer {KEY}"},
    "generation": {"max-examples": NUM_EXAMPLES, "deterministic": True, "database": "none"},
    "checks": {"positive_data_acceptance": {"expected-statuses": REFUSED}},
    "cache": {"enabled": False},
    "request-timeout": 120,  # a machine may have other things to do
}
JOB = "/jobs/{job_id}"
# Of each operation, answers without which the run would have shown little.
SEEN = {
    "POST /analyze": {200, 202, 401, 415, 422},
    f"GET {JOB}": {200, 401, 404},
    f"DELETE {JOB}": {204, 401, 404},
    f"GET {JOB}/events": {200, 401, 404},
    "GET /healthz": {200},
    "GET /metrics": {200, 401},
}


def work(job: Job) -> None:
    """Answers without a model, in every field that a record has."""
    scores = {"happy": 0.75, "sad": 0.25}
    ablation = {"muted": Ablated("sad", scores, None, None)}
    job.write(Record(job.name, 0, 1, None, "happy", scores, "sad", scores, ablation, is_last=True))


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    root = tmp_path_factory.mktemp("root")
    shutil.copy(Path(__file__).parents[2] / "examples" / "clips" / "a.mp4", root / CLIP)
    limits = UploadLimits(max_upload_mb=0.2)
    config = ServeConfig(port=0, api_key=KEY, root=root, queue=64, limits=limits)
    with served(config, work) as client:
        yield client


def described(api: Client) -> Any:
    """What schemathesis knows; what it draws is put to jobs and files that are there, or not."""
    schema = schemathesis.openapi.from_url(
        f"http://127.0.0.1:{api.port}/openapi.json",
        config=schemathesis.Config.from_dict(CONFIG),
    )

    turns = count()

    @schema.hook
    def map_path_parameters(_: Any, parameters: Any) -> Any:
        if parameters and next(turns) % 2:
            return {**parameters, "job_id": api.name(path=CLIP)[1]["id"]}
        return parameters

    @schema.hook
    def map_body(_: Any, body: Any) -> Any:
        try:
            AskingOfPath.model_validate(body)
        except ValidationError:  # it is to be refused for what it is
            return body
        return {**body, "path": CLIP, "wait": bool(next(turns) % 2)}

    return schema


def test_it_answers_as_it_says(api: Client) -> None:
    trouble: list[str] = []
    seen: dict[str, set[int]] = {}
    for event in from_schema(described(api)).execute():
        if isinstance(event, ScenarioFinished):
            for found in event.recorder.interactions.values():
                if found.response is not None:
                    codes = seen.setdefault(str(event.recorder.label), set())
                    codes.add(found.response.status_code)
            for checks in event.recorder.checks.values():
                trouble += [
                    f"{event.recorder.label}: {check.failure_info.failure}"
                    for check in checks
                    if check.failure_info is not None
                ]
        elif isinstance(event, NonFatalError):
            trouble.append(f"{event.label}: {event.value}")
        elif isinstance(event, FatalError):
            trouble.append(str(event.exception))
    assert not trouble, "\n".join(trouble)
    missing = {name: codes - seen.get(name, set()) for name, codes in SEEN.items()}
    assert not any(missing.values()), missing


def test_a_method_that_a_path_lacks_is_told_all_that_it_has(api: Client) -> None:
    code, headers, answer = api.ask("PUT", "/jobs/x")
    assert (code, headers["allow"]) == (405, "DELETE, GET")
    assert answer["detail"] == "PUT is not answered here; DELETE, GET is"
    code, headers, _ = api.ask("OPTIONS", "/analyze", b"{}", JSON)
    assert (code, headers["allow"]) == (405, "POST")


def test_what_needs_the_key_is_described(api: Client) -> None:
    _, _, described = api.ask("GET", "/openapi.json")
    assert described["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    paths = described["paths"].items()
    needs = {path: "security" in next(iter(own.values())) for path, own in paths}
    assert needs.pop("/healthz") is False and needs and all(needs.values())
    strange = Client(api.port)
    for path in needs:
        assert strange.ask("GET", path.format(job_id="x"))[0] == 401
