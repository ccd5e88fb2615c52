"""Bodies of requests, taken piece by piece: uploads go to the disk, the rest is small."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path, PurePosixPath

from anyio.to_thread import run_sync
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from r1omni.serving.asking import one_line
from r1omni.serving.job import Refusal
from r1omni.serving.uploads import UNNAMED, Spool, UploadLimits, too_many_bytes

# Of a part that is no file, and of all such parts, names and boundaries together.
_FIELD_BYTES = 2**14
OTHER_BYTES = 2**18
_MOST_PARTS = 32
FILE = "file"
PATH = "path"  # of `AskingOfPath`, which is no form


class Form:
    """A form that holds one file, taken piece by piece; `write` and `finish` wait for the disk.

    Args:
        boundary: between its parts, as the header has it.
        folder: takes the file.
        limits: of the file.

    Attributes:
        fields: its other parts, by name.
        name: of the file, as its owner calls it.
        path: of the file here, None until there is one.
    """

    def __init__(self, boundary: bytes, folder: Path, limits: UploadLimits) -> None:
        self.fields: dict[str, str] = {}
        self.name = UNNAMED
        self.path: Path | None = None
        self._folder, self._limits = folder, limits
        self._header, self._value = b"", b""
        self._disposition = ""
        self._field: str | None = None
        self._data = bytearray()
        self._spool: Spool | None = None
        self._num_parts = 0
        self._has_ended = False
        # The parser calls these with its buffer and where in it the news is.
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._part_begins,
                "on_header_begin": self._header_begins,
                "on_header_field": self._header_name,
                "on_header_value": self._header_value,
                "on_header_end": self._header_ends,
                "on_headers_finished": self._headers_end,
                "on_part_data": self._part_data,
                "on_part_end": self._part_ends,
                "on_end": self._form_ends,
            },
        )

    def write(self, piece: bytes) -> None:
        """Take the next piece of the body.

        Raises:
            UploadTooLarge, UploadNotKept: as `Spool`.
            Refusal: it is no form, or one with too much in it.
        """
        try:
            self._parser.write(piece)
        except FormParserError as error:
            raise Refusal(400, one_line(f"the body is no form ({error})")) from error

    def finish(self) -> Path:
        """The file.

        Raises:
            Refusal: the form has no end, or no file.
            UploadNotKept: as `Spool`.
        """
        if not self._has_ended:
            raise Refusal(400, "the body ends before its form does; send it again")
        if self.path is None:
            raise Refusal(422, f"{FILE}: the form has no file of this name; send one")
        return self.path

    def close(self) -> None:
        """Let go of a file that is half there."""
        if self._spool is not None:
            self._spool.close()
            self._spool = None

    def _part_begins(self) -> None:
        self._num_parts += 1
        if self._num_parts > _MOST_PARTS:
            raise Refusal(422, f"the form has more than {_MOST_PARTS} parts")
        self._disposition, self._field = "", None

    def _header_begins(self) -> None:
        self._header, self._value = b"", b""

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_ends(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value.decode("latin-1")  # as bytes, to that parser

    def _headers_end(self) -> None:
        _, options = parse_options_header(self._disposition)
        name = _text(options.get(b"name", b""))
        if b"filename" in options or name == FILE:
            if name != FILE or self.path is not None:
                raise Refusal(422, f"{one_line(name)}: a form has one file, named {FILE}")
            self.name = own_name(_text(options.get(b"filename", b"")))
            self._spool = Spool(self._folder, self._limits, self.name)
            self.path = self._spool.path
            return
        if name == PATH:
            raise Refusal(
                422, f"{PATH}: goes in a body of JSON (Content-Type: application/json); a form has "
                f"the recording itself, as {FILE}",
            )  # fmt: skip
        if not name or name in self.fields:
            raise Refusal(422, f"{one_line(name)!r}: a field has a name, and is there once")
        self._field = name
        self._data = bytearray()

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._spool is not None:
            self._spool.write(data[start:end])
            return
        self._data += data[start:end]
        if len(self._data) > _FIELD_BYTES:
            raise Refusal(413, f"{one_line(str(self._field))}: has more than {_FIELD_BYTES} bytes")

    def _part_ends(self) -> None:
        if self._spool is not None:
            self.close()
        elif self._field is not None:
            self.fields[self._field] = _text(bytes(self._data))

    def _form_ends(self) -> None:
        self._has_ended = True


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def own_name(name: str) -> str:
    """The last part of a name, as an owner of a file knows it; never a path here."""
    last = PurePosixPath(name.replace("\\", "/")).name
    return last if last not in ("", ".", "..") else UNNAMED


async def receive_form(
    pieces: AsyncIterator[bytes],
    boundary: bytes,
    folder: Path,
    limits: UploadLimits,
    limit_s: float,
) -> Form:
    """A form with its file on the disk; the event loop never waits for the disk.

    Args:
        pieces: of the body, however long it says it is.
        boundary, folder, limits: as for `Form`.
        limit_s: seconds within which all of it has to come.

    Raises:
        UploadError: the file is too large, or cannot be kept.
        Refusal: the body is no such form, has too much in it, or comes too slowly (408).
    """
    try:
        form = Form(boundary, folder, limits)
    except FormParserError as error:
        raise Refusal(400, one_line(f"the body is no form ({error})")) from error
    num_bytes = 0
    try:
        async with asyncio.timeout(limit_s):
            async for piece in pieces:
                num_bytes += len(piece)
                if num_bytes > limits.max_bytes + OTHER_BYTES:
                    raise too_many_bytes(limits, form.name)
                await run_sync(form.write, piece)
        form.finish()
    except TimeoutError as error:
        raise Refusal(408, f"the body did not come within {limit_s:g} s; send it again") from error
    finally:
        await run_sync(form.close)
    return form


async def receive_small(pieces: AsyncIterator[bytes], limit_s: float) -> bytes:
    """A small body.

    Raises:
        Refusal: it is larger than `OTHER_BYTES` (413), or comes too slowly (408).
    """
    body = bytearray()
    try:
        async with asyncio.timeout(limit_s):
            async for piece in pieces:
                body += piece
                if len(body) > OTHER_BYTES:
                    raise Refusal(413, f"the body has more than {OTHER_BYTES} bytes")
    except TimeoutError as error:
        raise Refusal(408, f"the body did not come within {limit_s:g} s; send it again") from error
    return bytes(body)
