"""A `python` whose imports are made already, for what starts interpreters by itself.

Scripts, shells, torchrun and Lightning start `python -m ...` or `python FILE ...`, each of which
imports torch and Lightning for eight seconds. The `python` that is written here asks a process of
`processes.py`, which has imported them, for a fork that runs the same words in the same directory
and environment with the same standard streams. It passes signals on and ends as the fork ends;
where it is killed, so is the fork with all that it started. The package under test is imported
from where `PYTHONPATH` says, as ever. `sys.executable` is this `python` again, so that what a fork
starts is a fork, too.

Other words (`python -c`, further options) go to the interpreter itself. What a fresh interpreter
does is left to tests that start one: of the command line, of the extras and of the hub.
"""

from __future__ import annotations

import contextlib
import json
import os
import runpy
import select
import signal
import socket
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import processes

# What is asked of the interpreter: `-m MODULE` or a file, after `-u`.
_CLIENT = """#!{interpreter} -IS
import json, os, signal, socket, sys
words = sys.argv[1:]
own = [word for word in words[:1] if word == "-u"]
wanted = words[len(own):]
if not wanted or (wanted[0].startswith("-") and (wanted[0] != "-m" or len(wanted) == 1)):
    os.execv({interpreter!r}, [{interpreter!r}, *words])
line = socket.socket(socket.AF_UNIX)
line.connect({address!r})
told = {{"words": wanted, "cwd": os.getcwd(), "env": dict(os.environ), "python": sys.argv[0],
        "unbuffered": bool(own)}}
socket.send_fds(line, [b"."], [0, 1, 2])
line.sendall(json.dumps(told).encode() + b"\\n")
answers = line.makefile()
pid = int(answers.readline())
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, lambda number, frame: os.kill(pid, number))
status = int(answers.readline())
if status < 0:
    signal.signal(-status, signal.SIG_DFL)
    os.kill(os.getpid(), -status)
os._exit(status)
"""


def write_python(folder: Path) -> tuple[Path, processes.Running]:
    """Write `folder/bin/python`, and start the process that it asks.

    Returns:
        the file, and the process, which ends with this one at the latest.
    """
    python, address = folder / "bin" / "python", f"\0r1omni's tests {os.getpid()}"
    python.parent.mkdir(parents=True)
    text = _CLIENT.format(interpreter=sys.executable, address=address)
    python.write_text(text, encoding="utf-8")
    python.chmod(0o755)
    running = processes.Running(_listen, address, cwd=folder, env=os.environ)
    with socket.socket(socket.AF_UNIX) as line:
        while line.connect_ex(address) != 0:
            assert running.poll() is None, running.stderr
            time.sleep(0.02)
    return python, running


def _listen(address: str) -> None:
    """Answer every `python`, each in a fork, for as long as there is who started this process."""
    parent = os.getppid()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        listener.settimeout(1)
        while os.getppid() == parent:
            with contextlib.suppress(ChildProcessError):  # there is none
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            try:
                line, _ = listener.accept()
            except TimeoutError:
                continue
            if os.fork() == 0:
                listener.close()
                _answer(line)
                os._exit(0)
            line.close()


def _answer(line: socket.socket) -> None:
    """Run what is asked in a fork, and tell its number and how it ended."""
    line.setblocking(True)
    said, streams, *_ = socket.recv_fds(line, 1, 3)
    if not said:  # it was looked whether anyone listens
        return
    with line.makefile("rb") as asked:
        told = json.loads(asked.readline())
    pid = os.fork()
    if pid == 0:
        os.setsid()
        line.close()
        _become(told, streams)
    line.sendall(f"{pid}\n".encode())
    end = os.pidfd_open(pid)
    if line in select.select([line, end], [], [])[0]:  # who asked is gone
        os.killpg(pid, signal.SIGKILL)
        return
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    line.sendall(f"{status}\n".encode())


def _become(told: dict[str, Any], streams: list[int]) -> None:
    """Be the interpreter that was asked for, to its end."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(told["cwd"])
    os.environ.clear()
    os.environ.update(told["env"])
    sys.executable = told["python"]
    if told["unbuffered"] or os.environ.get("PYTHONUNBUFFERED"):
        sys.stdout.reconfigure(write_through=True)  # type: ignore[union-attr]
    processes.as_imported_now()
    words = told["words"]
    is_module = words[0] == "-m"
    own = told["cwd"] if is_module else str(Path(words[0]).resolve().parent)
    given = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    libraries = [p for p in sys.path if p.startswith((sys.prefix, sys.base_prefix))]
    sys.path[:] = [own, *map(os.path.abspath, given), *libraries]
    sys.argv = words[1:] if is_module else words
    for name in ("forked_python", "processes", "tracking_store"):
        del sys.modules[name]  # a script may have one of that name, too
    try:
        if is_module:
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(words[0], run_name="__main__")
        status = 0
    except SystemExit as end:
        status = processes.status_of(end)
    except KeyboardInterrupt:
        traceback.print_exc()
        status = 128 + signal.SIGINT
    except BaseException:
        traceback.print_exc()
        status = 1
    processes.end(status)
