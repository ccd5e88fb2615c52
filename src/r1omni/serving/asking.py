"""What a request may ask: the options of `analyze`, and a path below a folder that is served."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from r1omni.media.windows import windows
from r1omni.models.answering import Question
from r1omni.options import SECONDS, TOKENS
from r1omni.recordings.analyzing import Asked
from r1omni.serving.job import Refusal
from r1omni.serving.uploads import shown
from r1omni.text.emotions import LABEL_SETS
from r1omni.types import AnswerMode, Dtype, MediaAblation, Modality, UsageError

_MOST_TEXT = 4096
_LABEL_SETS: list[JsonValue] = [*sorted(LABEL_SETS)]
_NUMBERS = {
    "window_s": f"a number {SECONDS}", "hop_s": f"a number {SECONDS}",
    "max_new_tokens": f"a whole number {TOKENS}",
}  # fmt: skip


class Asking(BaseModel):
    """What is asked of a recording; defaults and meaning are those of `analyze`."""

    model_config = ConfigDict(extra="forbid")

    modality: Modality = "video_audio"
    window_s: float | None = Field(
        None, description="seconds of a window", gt=SECONDS.low, le=SECONDS.high
    )
    hop_s: float | None = Field(
        None, description="seconds between windows", gt=SECONDS.low, le=SECONDS.high
    )
    label_set: str = Field("all", json_schema_extra={"enum": _LABEL_SETS})
    answer_mode: AnswerMode = "think"
    media_ablation: MediaAblation = "none"
    max_new_tokens: int | None = Field(
        None, ge=TOKENS.low, le=TOKENS.high,
        description=f"{Question.max_new_tokens}, or what this server writes at most",
    )  # fmt: skip
    instruction: str | None = Field(
        None, max_length=_MOST_TEXT, description="the question",
        json_schema_extra={"pattern": r"\S"},  # Question refuses an empty one
    )  # fmt: skip
    wait: bool = Field(False, description="answer when the job has ended, with its records")

    def asked(self, dtype: Dtype, max_new_tokens: int) -> Asked:
        """What the model is asked.

        Args:
            dtype: of the weights.
            max_new_tokens: the longest answer that this server writes.

        Raises:
            Refusal: options that contradict each other, or an answer that is too long (422).
        """
        wanted = self.max_new_tokens
        if wanted is None:
            wanted = min(Question.max_new_tokens, max_new_tokens)
        if wanted > max_new_tokens:
            raise Refusal(
                422, f"max_new_tokens is {wanted}; this server writes at most "
                f"{max_new_tokens}",
            )  # fmt: skip
        try:
            windows(0.0, self.window_s, self.hop_s)
            question = Question(
                self.modality, self.instruction, wanted, self.label_set,
                self.answer_mode, self.media_ablation,
            )  # fmt: skip
        except UsageError as error:
            raise Refusal(422, str(error)) from error
        return Asked(question, self.window_s, self.hop_s, dtype=dtype)


class AskingOfPath(Asking):
    """The same about a recording that lies below the folder that is served (`--root`)."""

    path: str = Field(min_length=1, max_length=_MOST_TEXT, description="relative to that folder")


Kind = TypeVar("Kind", bound=Asking)


def read_asking(kind: type[Kind], values: Mapping[str, Any]) -> Kind:
    """Options from what a request says.

    Raises:
        Refusal: an unknown name, or a value that is none of its kind or out of its range (422).
    """
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        lines = [_told(kind, entry, values) for entry in found]
        raise Refusal(422, one_line("; ".join(lines))) from error


def _told(kind: type[Asking], entry: Mapping[str, Any], values: Mapping[str, Any]) -> str:
    """What is wrong with one field, and what it would be."""
    name, fields = ".".join(map(str, entry["loc"])), kind.model_fields
    if entry["type"] == "extra_forbidden":
        near = difflib.get_close_matches(name, fields, 1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(fields)}"
        return f"{shown(name)}: there is no such field; {hint}"
    if name in _NUMBERS:
        value = values[name]
        told = shown(repr(value)) if isinstance(value, str | float) else type(value).__name__
        return f"{name}: must be {_NUMBERS[name]}, not {told}"
    return f"{name}: {entry['msg']}"


def read_json(body: bytes) -> AskingOfPath:
    """Options from the body of a request.

    Raises:
        Refusal: it is no JSON (400), no object or not as above (422).
    """
    try:
        values = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refusal(400, one_line(f"the body is no JSON ({error})")) from error
    if not isinstance(values, dict):
        raise Refusal(422, "the body is no object of JSON; give one with a path")
    return read_asking(AskingOfPath, values)


def below(root: Path | None, name: str) -> Path:
    """The file that a name means below a folder, without links.

    Args:
        root: the folder, or None where none is served.
        name: relative to it. Neither `..` nor a link leads out of it.

    Raises:
        Refusal: it lies outside, or no folder is served (403), or there is none (404).
    """
    if root is None:
        raise Refusal(403, "this server reads no paths (it has no --root); upload the recording")
    told = one_line(name)
    try:
        inside = root.resolve(strict=True)
        path = (inside / name).resolve()
        if not path.is_relative_to(inside):
            raise Refusal(403, f"{told}: lies outside the folder that is served")
        if not path.is_file():
            raise Refusal(404, f"{told}: there is no such file in the folder that is served")
    except (OSError, ValueError, RuntimeError) as error:  # too long, a NUL in it, links in circles
        raise Refusal(404, f"{told}: is no path of a file in the folder that is served") from error
    return path


def one_line(text: str) -> str:
    """More than a name of strangers, as a message shows it."""
    return shown(text, 400)
