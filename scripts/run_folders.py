"""What long studies keep in their folders: what is done, what it was made of, what it took."""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from side_by_side import Spent, Stopped


class WrongUse(Exception):
    """What the caller can put right."""


def status_of(work: Callable[[], list[str]], parser: argparse.ArgumentParser) -> int:
    """Do a study's work: the script's exit status, with what went wrong on standard error.

    Args:
        work: gives one line a failure.
        parser: of the script, which ends it for wrong use.
    """
    try:
        failures = work()
    except WrongUse as error:
        parser.error(str(error))
    except Stopped as stopped:
        print("stopped; the same command goes on from here", flush=True)
        return stopped.status
    for failure in failures:
        print(failure, file=sys.stderr)
    return int(bool(failures))


@contextmanager
def held(file: Path, what: str) -> Iterator[None]:
    """Keep a second process of a study out of its folder, by a lock that ends with the process.

    Raises:
        WrongUse: another process holds it.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as lock:
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise WrongUse(f"{file.parent} is in use by another {what}; wait for it") from error
        yield


def has_model(folder: Path) -> bool:
    """Whether a model folder is whole; its config.json is written last."""
    return (folder / "config.json").exists()


def has_checkpoint(run_dir: Path) -> bool:
    """Whether a training was begun that can go on."""
    return any((run_dir / "checkpoints").glob("step_*.ckpt"))


def reads_as_json(file: Path) -> bool:
    """Whether a file is there and was not cut off while it was written."""
    try:
        json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return False
    return True


def sha256(file: Path) -> str:
    """Of a file's content; "absent" where there is none."""
    if not file.exists():
        return "absent"
    return hashlib.sha256(file.read_bytes()).hexdigest()


def write_whole(file: Path, text: str) -> None:
    """Whole or not at all."""
    partial = file.with_name(f"{file.name}.partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, file)


def check_record(file: Path, wanted: Mapping[str, Any]) -> None:
    """Refuse a folder that was made with other settings than those of now.

    Args:
        file: in the folder, what it was made with; one that is not there refuses nothing.
        wanted: the same of now.

    Raises:
        WrongUse: naming the folder and what differs.
    """
    if not file.exists():
        return
    found = json.loads(file.read_text(encoding="utf-8"))
    differing = [key for key in wanted if found.get(key) != wanted[key]]
    if differing:
        raise WrongUse(
            f"{file.parent} was made with another {', '.join(differing)}; give another --out, "
            "or remove that folder"
        )


def read_costs(file: Path) -> dict[str, dict[str, float]]:
    """Command -> `wall_s`, `cpu_s` and whatever else was counted, interrupted ones included."""
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}


def add_costs(file: Path, name: str, spent: Spent, with_memory: bool = False) -> None:
    """Add what a command took to what it took before.

    Args:
        file: of costs.
        name: of the command in it.
        spent: by its newest process.
        with_memory: note the largest memory of its processes as well, `peak_memory_gib`.
    """
    costs = read_costs(file)
    before = costs.get(name, {})
    costs[name] = {
        "wall_s": round(before.get("wall_s", 0.0) + spent.wall_s, 1),
        "cpu_s": round(before.get("cpu_s", 0.0) + spent.cpu_s, 1),
    }
    if with_memory:
        peak_gib = round(spent.peak_memory_gib, 2)
        costs[name]["peak_memory_gib"] = max(before.get("peak_memory_gib", 0.0), peak_gib)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, json.dumps(costs, indent=2) + "\n")
