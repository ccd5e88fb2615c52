"""Files of strangers: kept within limits, looked at in a process of its own, deleted afterwards."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing import forkserver
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import BinaryIO, NoReturn

from r1omni.media.container import (
    MediaError,
    decode,
    open_media,
    picture_streams,
    read_packets,
)
from r1omni.media.timeline import scan_extent, video_stream
from r1omni.media.workers import Remedies, fork_server, in_workers
from r1omni.serving.limits import UploadLimits
from r1omni.types import Clip, R1OmniError

# What a message calls a file without a name of its own.
UNNAMED = "the upload"
_PIECE_BYTES = 2**16
# The first module that anybody asks for is the one that a fork server imports: that of `analyze`,
# with which this one here costs nothing more.
PRELOAD = "r1omni.recordings.decoding"
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,8}")
# Nobody who uploads can change how it is looked at.
_REMEDIES = Remedies("uploads at a time", None, None)


class UploadError(R1OmniError):
    """An upload that is not accepted: one line with its name, the reason and what to do."""


class UploadTooLarge(UploadError):
    """It has more bytes, seconds or pixels than the limits allow."""


class UploadUnreadable(UploadError):
    """It is no recording that can be opened, or its decoder failed on it."""


class UploadNotKept(UploadError):
    """It cannot be written to the disk of this machine."""


class Spool:
    """A file that takes an upload piece by piece, and no more of it than the limits allow.

    Args:
        folder: a private one; the file is new in it.
        limits: of the upload.
        name: what whoever uploads calls it. Of it only a plain suffix is used on the disk.
    """

    def __init__(self, folder: Path, limits: UploadLimits, name: str = UNNAMED) -> None:
        suffix = Path(name).suffix
        self.path = folder / f"upload{suffix if _SUFFIX.fullmatch(suffix) else ''}"
        self.num_bytes = 0
        self._limits, self._name = limits, name
        self._file = self.path.open("xb")

    def write(self, piece: bytes) -> None:
        """Append a piece.

        Raises:
            UploadTooLarge: with it the file has too many bytes; it is not written.
            UploadNotKept: the disk is full, say.
        """
        self.num_bytes += len(piece)
        if self.num_bytes > self._limits.max_bytes:
            raise too_many_bytes(self._limits, self._name)
        try:
            self._file.write(piece)
        except OSError as error:
            self._fail(error)

    def close(self) -> None:
        """Have everything on the disk.

        Raises:
            UploadNotKept: the disk is full, say.
        """
        try:
            self._file.close()
        except OSError as error:
            self._fail(error)

    def _fail(self, error: OSError) -> NoReturn:
        raise UploadNotKept(
            f"{shown(self._name)}: cannot be kept ({error.strerror}); try again later"
        ) from error

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:  # whatever closing it says, that error is the one to tell
            try:
                self._file.close()
            except OSError as closing:
                error.add_note(f"closing {self.path} failed, too: {closing}")


@contextmanager
def accept(
    source: BinaryIO | Path, limits: UploadLimits, name: str | None = None
) -> Iterator[Path]:
    """A file of a stranger that is within the limits, as a path that may be decoded.

    A stream is written to a private folder, which is deleted afterwards, whatever happens. A path
    is looked at where it lies, and stays.

    Args:
        source: opened for reading bytes, or a path.
        limits: what is accepted.
        name: what messages call it, and a stream's suffix; of a path its last part.

    Raises:
        UploadTooLarge, UploadUnreadable, UploadNotKept: it is not accepted.
    """
    if isinstance(source, Path):
        check_upload(source, limits, source.name if name is None else name)
        yield source
        return
    with TemporaryDirectory(prefix="r1omni-") as folder:  # for nobody else to read
        with Spool(Path(folder), limits, UNNAMED if name is None else name) as spool:
            while piece := source.read(_PIECE_BYTES):
                spool.write(piece)
        check_upload(spool.path, limits, name)
        yield spool.path


def check_upload(path: Path, limits: UploadLimits, name: str | None = None) -> None:
    """Refuse a file that is no recording, has too many bytes, is too long or has too large frames.

    A process of its own opens it, reads its packets and decodes one frame, within limits of time
    and memory. Playlists and other texts that name files or addresses are never followed.

    Args:
        path: the file.
        limits: what is accepted.
        name: what messages call it; None for `UNNAMED`.

    Raises:
        UploadTooLarge, UploadUnreadable: it is not accepted.
        R1OmniError: no process can be started.
    """
    name = UNNAMED if name is None else name
    try:
        num_bytes = path.stat().st_size
    except OSError as error:
        raise UploadUnreadable(
            f"{shown(name)}: cannot be read ({error.strerror}); check the path"
        ) from error
    if num_bytes > limits.max_bytes:
        raise too_many_bytes(limits, name)
    look = partial(_look, limits=limits)
    try:
        ((_, ended),) = in_workers(
            [Clip(path)], look, 1, limits.probe_limit_s, preload=PRELOAD, remedies=_REMEDIES
        )
    except UploadError as error:
        raise type(error)(named(str(error), path, name)) from error
    if ended is not None:  # how its process ended
        raise UploadUnreadable(named(ended, path, name))


def start_processes() -> None:
    """Start what starts processes, so that the first upload does not wait for its imports."""
    fork_server(PRELOAD)
    forkserver.ensure_running()


def _look(clip: Clip, limits: UploadLimits) -> None:
    """In the process: every limit but that of bytes."""
    path = clip.path
    try:
        with open_media(path) as container:
            pictures, sounds = picture_streams(container), container.streams.audio
            if not pictures and not sounds:
                raise MediaError(f"{path}: has neither picture nor sound; give a recording")
            contexts = [s.codec_context for s in pictures if s.codec_context is not None]
            for width, height in ((context.width, context.height) for context in contexts):
                if width * height > limits.max_pixels:
                    raise UploadTooLarge(
                        f"{path}: frames of {width}x{height} pixels exceed the limit of "
                        f"{limits.max_pixels} pixels; scale it down"
                    )
        length_s = scan_extent(path).length_s
        if length_s > limits.max_seconds:
            raise UploadTooLarge(
                f"{path}: lasts {length_s:.1f} s, the limit is {limits.max_seconds:g} s; cut it"
            )
        if pictures:
            _decode_one(path, limits.max_pixels)
    except MediaError as error:
        raise UploadUnreadable(str(error)) from error


def _decode_one(path: Path, max_pixels: int) -> None:
    """One frame of the picture; a header may lie about its size, and the decoder knows."""
    with open_media(path) as container:
        stream = video_stream(path, container, max_pixels)
        for packet in read_packets(container, [stream]):
            if decode(path, stream, packet):
                return
    raise MediaError(f"{path}: holds no frame that can be decoded; copy it again")


def too_many_bytes(limits: UploadLimits, name: str) -> UploadTooLarge:
    """What is said of a file with too many bytes."""
    return UploadTooLarge(
        f"{shown(name)}: is larger than the limit of {limits.max_upload_mb:g} MB; shorten it, or "
        "encode it smaller"
    )


def named(message: str, path: Path, name: str) -> str:
    """A message about a file, with the name that its owner knows in place of the path here."""
    own = str(MediaError(str(path)))  # as messages have it
    return message.replace(own, shown(name))


def shown(text: str, most: int = 80) -> str:
    """A text of strangers as a message shows it: printable, and not all of a long one.

    Args:
        text: a name, or more with another `most`.
        most: characters that are shown.
    """
    printable = str(MediaError(text))
    return printable if len(printable) <= most else f"{printable[:most]}..."
