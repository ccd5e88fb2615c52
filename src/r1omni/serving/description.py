"""What the API says of itself (OpenAPI): records are those of recordings/record.schema.json."""

from __future__ import annotations

import json
from collections.abc import Collection
from importlib.resources import files
from typing import Annotated, Any, get_args

from pydantic import BaseModel, Field, WithJsonSchema

from r1omni.serving.asking import Asking, AskingOfPath
from r1omni.serving.job import EventKind, State
from r1omni.serving.receiving import FILE

# The beginning of docs/responsible_use.md, and what must not be missed of the rest.
NOTICE = (
    "This software guesses which emotion a person in a video appears to show. It does not know "
    "what anybody feels. It is no diagnosis, and an explanation is not evidence. In the European "
    "Union the AI Act prohibits inferring the emotions of people at the workplace and in education "
    "institutions, except for medical or safety reasons (Article 5(1)(f)); where such a system is "
    "allowed, the people exposed to it must be told (Article 50(3))."
)
TITLE = "r1omni"
_REFERENCE = "#/components/schemas/"
RecordRow = Annotated[dict[str, Any], WithJsonSchema({"$ref": f"{_REFERENCE}Record"})]


class JobView(BaseModel):
    """A job: where it is, and the records so far."""

    id: str
    state: State
    progress: float = Field(ge=0, le=1, description="share of the recording that is answered")
    records: list[RecordRow]
    error: str | None = Field(description="why it failed or was cancelled, in one line")


class Health(BaseModel):
    """Whether the server lives, and what it is."""

    status: str
    version: str
    model: str = Field(description="hash of the model folder, as in records")
    notice: str = Field(description="read it before you use an answer")


class Problem(BaseModel):
    """Why a request was not done, in one line."""

    detail: str


def responses(*codes: int) -> dict[int | str, dict[str, Any]]:
    """Refusals that a route may answer with."""
    return {code: {"model": Problem} for code in codes}


def analyze_body() -> dict[str, Any]:
    """The two kinds of body that a recording comes in."""
    form = Asking.model_json_schema()
    file = {"type": "string", "format": "binary", "description": "the recording"}
    form = {
        **form, "title": "Upload", "properties": {FILE: file, **form["properties"]},
        "required": [FILE],
    }  # fmt: skip
    named = AskingOfPath.model_json_schema()
    content = {
        "multipart/form-data": {"schema": form},
        "application/json": {"schema": named},
    }
    return {"requestBody": {"required": True, "content": content}}


def event_schema() -> dict[str, Any]:
    """The schema of one event of a stream, as readers of descriptions take it."""
    data = {"type": "string", "contentMediaType": "application/json"}
    return {
        "type": "object", "title": "Event", "required": ["id", "event", "data"],
        "properties": {
            "id": {"type": "string"}, "event": {"enum": [*get_args(EventKind)]}, "data": data,
        },
    }  # fmt: skip


def describe_key(described: dict[str, Any], open_paths: Collection[str]) -> None:
    """Say of a server with a key which requests need it.

    Args:
        described: the description, which is changed.
        open_paths: need none.
    """
    scheme = {"type": "http", "scheme": "bearer", "description": "the key of this server"}
    described["components"]["securitySchemes"] = {"key": scheme}
    for path, operations in described["paths"].items():
        if path not in open_paths:
            for operation in operations.values():
                operation["security"] = [{"key": []}]


def record_schema() -> dict[str, Any]:
    """The schema of a record, as a description holds it."""
    file = files("r1omni.recordings").joinpath("record.schema.json")
    schema: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return {name: value for name, value in schema.items() if name != "$schema"}
