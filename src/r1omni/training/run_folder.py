"""The folder of a run: whether it can be written, who trains in it, and what it holds already."""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import socket
import tempfile
import time
from pathlib import Path
from typing import Any

from r1omni.training.checkpoints import CHECKPOINTS, MODEL, newest_checkpoint
from r1omni.types import UsageError

LOCK = "run.lock"
_OPTION = "trainer.default_root_dir"
_HOLDING = {errno.EACCES, errno.EAGAIN}
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_logger = logging.getLogger(__name__)


def check_writable(run_dir: Path, option: str = _OPTION) -> None:
    """See whether a run's folder can be made, or written where it is there; leaves nothing behind.

    Args:
        run_dir: the folder.
        option: that names it, for messages.

    Raises:
        UsageError: it is a file, lies within one, or cannot be written.
    """
    try:
        existing = next(path for path in (run_dir, *run_dir.absolute().parents) if path.exists())
        if existing.is_dir():
            with tempfile.TemporaryFile(dir=existing):
                return
        reason = f"{existing} is a file" if existing != run_dir else "it is a file"
    except OSError as error:
        reason = error.strerror or str(error)
    raise UsageError(
        f"{option} {run_dir} cannot hold a run ({reason}); name a folder that can be written"
    )


def write_whole(file: Path, text: str) -> None:
    """Write a text file as a whole, in the place of an older one, or not at all."""
    partial = file.with_name(f"{file.name}.partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, file)


def check_start(run_dir: Path, init_from: str, command: str) -> None:
    """Refuse to evaluate the model that a run started from in the folder of what it became.

    Args:
        run_dir: folder of the run.
        init_from: the model that would be evaluated, as no checkpoint is given.
        command: "validate", "test" or "predict".

    Raises:
        UsageError: the folder holds a trained model or checkpoints, and `init_from` is another
            model.
    """
    model, newest = run_dir / MODEL, newest_checkpoint(run_dir)
    ways = []
    if newest is not None:
        ways.append("--ckpt_path last")
    if model.is_dir():
        if Path(init_from).resolve() == model.resolve():
            return
        ways.append(f"--model.init_args.init_from {model}")
    if ways:
        raise UsageError(
            f"{run_dir} holds what its run has trained, but `{command}` would take {init_from}; "
            f"add {' or '.join(ways)}, or give another --trainer.default_root_dir"
        )


def check_beginning(run_dir: Path) -> None:
    """Refuse to begin a training where there was one.

    Raises:
        UsageError: the folder holds checkpoints.
    """
    if newest_checkpoint(run_dir) is not None:
        raise UsageError(
            f"{run_dir / CHECKPOINTS} holds checkpoints of an earlier run; add "
            "--ckpt_path last to resume it, or give another --trainer.default_root_dir"
        )


def check_newest(run_dir: Path, checkpoint: Path) -> None:
    """Refuse to resume behind checkpoints of later steps, beside which none could be kept.

    Raises:
        UsageError: the folder holds a newer checkpoint than the one to resume from.
    """
    newest = newest_checkpoint(run_dir)
    if newest is not None and newest.resolve() != checkpoint.resolve():
        raise UsageError(
            f"--ckpt_path {checkpoint}: {newest} is newer, and `fit` resumes from the newest; "
            "use --ckpt_path last, or give another --trainer.default_root_dir"
        )


class FolderLock:
    """Keeps a second training out of a run's folder, whose checkpoints it would delete.

    The lock is the system's, on the file `run.lock`: it ends with the process, however that ends,
    and no later process that is given the same number is taken for the holder. The file says who
    holds it. A machine does not see the locks of another one on every file system, so what a
    process of another machine has left there counts until the file is removed.

    Args:
        run_dir: made where it is missing.
        option: that names it, for messages.

    Raises:
        UsageError: another process trains in the folder, or may do so.
    """

    def __init__(self, run_dir: Path, option: str = f"--{_OPTION}") -> None:
        run_dir.mkdir(parents=True, exist_ok=True)
        self._path = run_dir / LOCK
        self._file = self._path.open("a+", encoding="utf-8")
        try:
            # Not flock: processes that this one forks would hold it too, and outlive it.
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _HOLDING:
                holder = self._holder()
                self._file.close()
                raise UsageError(
                    f"{run_dir} is in use by {_words(holder)}; wait for it, end it, or give "
                    f"another {option}"
                ) from error
            _logger.warning(
                "%s cannot be locked (%s): a second training in this folder would not be noticed",
                self._path, error.strerror,
            )  # fmt: skip
        holder = self._holder()
        if holder and holder.get("host") != socket.gethostname() and holder.get("boot") != _boot():
            self._file.close()
            raise UsageError(
                f"{run_dir} was in use by {_words(holder)}, another machine than this; if that "
                f"process has ended, remove {self._path}"
            )
        self._write(
            {
                "process": os.getpid(),
                "host": socket.gethostname(),
                "boot": _boot(),
                "since": time.strftime("%Y-%m-%d %H:%M:%S"),
            }
        )

    def release(self) -> None:
        """Let others in; the file stays, empty."""
        self._write({})
        self._file.close()

    def _holder(self) -> dict[str, Any]:
        self._file.seek(0)
        try:
            holder = json.loads(self._file.read() or "{}")
        except ValueError:  # cut off by a full disk
            return {}
        return holder if isinstance(holder, dict) else {}

    def _write(self, holder: dict[str, Any]) -> None:
        self._file.seek(0)
        self._file.truncate()
        if holder:
            self._file.write(json.dumps(holder) + "\n")
        self._file.flush()


def _words(holder: dict[str, Any]) -> str:
    if not holder:
        return "another process"
    names = (holder.get(name, "unknown") for name in ("process", "host", "since"))
    return "process {} on {} (since {})".format(*names)


def _boot() -> str:
    """What tells this machine, since it was started, from all others."""
    return _BOOT_ID.read_text(encoding="utf-8").strip() if _BOOT_ID.exists() else ""
