"""Make a mini-world: clips and label files in the publishers' layouts, below one folder."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from r1omni.extras import require
from r1omni.options import CLIPS, SEED, WORKERS, at_least, check_number
from r1omni.text.cues import CUES_FILE
from r1omni.types import UsageError
from r1omni.world.card import write_card
from r1omni.world.ceiling import ceilings
from r1omni.world.layouts import class_set_of, count_clips, plan_world
from r1omni.world.plans import ClipPlan
from r1omni.world.render import limit_threads, render_clip
from r1omni.world.story import class_sets
from r1omni.world.writers import write_cues, write_labels

# Raised whenever the same seed would give other clips.
VERSION = 4
_log = logging.getLogger(__name__)


def synthesize(
    out: Path,
    clips: int = 2000,
    seed: int = 0,
    num_workers: int | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Write a mini-world, or return the one that is already there.

    Args:
        out: folder to write into; must be empty, new, or hold a world of the same settings.
        clips: size of the world; `layouts.SHARES` says how many clips each split gets.
        seed: the same seed gives the same bytes, whatever `num_workers` is.
        num_workers: rendering processes; None takes one for every usable core, 1 stays in
            this process.
        progress: whether to show a bar.

    Returns:
        What `world.json` holds: version, seed, clips, counts, classes and ceiling.

    Raises:
        UsageError: `out` holds something else, a number is out of its range, or the extra `world`
            is not installed.
    """
    require("synthesize", "world")
    out = Path(out)
    check_number("clips", clips, CLIPS, int)
    check_number("seed", seed, SEED, int)
    if num_workers is not None:
        check_number("num_workers", num_workers, at_least(1, WORKERS.high), int)
    world = describe_world(clips, seed)
    if _holds(out, world):
        if progress:
            tqdm.write(f"{out} already holds this world: it is reused", file=sys.stderr)
        else:
            _log.info("%s already holds this world: it is reused", out)
        return world
    plans = plan_world(clips, seed)
    for folder in sorted({(out / plan.path).parent for plan in plans}):
        folder.mkdir(parents=True, exist_ok=True)
    measured = _render(plans, out, _worker_count(num_workers), progress)
    write_labels(out, plans, seed)
    write_cues(out / CUES_FILE, plans, measured)
    write_card(out, world)
    partial_file = out / "world.json.partial"
    partial_file.write_text(json.dumps(world, indent=1) + "\n", encoding="utf-8")
    os.replace(partial_file, out / "world.json")
    return world


def describe_world(clips: int, seed: int) -> dict[str, Any]:
    """What `world.json` says of a world, without rendering it."""
    counts = count_clips(clips)
    sets = class_sets()
    best = ceilings()
    return {
        "version": VERSION,
        "seed": seed,
        "clips": clips,
        "counts": {**counts, "total": sum(counts.values())},
        "classes": {name: dict(classes.labels) for name, classes in sets.items()},
        "class_sets": {s: class_set_of(s) for s in counts if s != "humanomni/captions"},
        "ceiling": {
            name: {modality: round(row.accuracy, 6) for modality, row in rows.items()}
            for name, rows in best.items()
        },
        "ceiling_recall": {
            name: {
                modality: {word: round(value, 6) for word, value in row.recall.items()}
                for modality, row in rows.items()
            }
            for name, rows in best.items()
        },
    }


def _holds(out: Path, world: dict[str, Any]) -> bool:
    """Whether `out` holds exactly this world; False when it is empty or missing."""
    if not out.exists():
        return False
    if not out.is_dir():
        raise UsageError(f"{out} is not a folder: name a new or empty folder for the world")
    if not any(out.iterdir()):
        return False
    file = out / "world.json"
    if not file.is_file():
        raise UsageError(
            f"{out} is not empty and has no world.json (an interrupted run, or not a world): "
            "delete it or name another folder"
        )
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(f"{file} cannot be read ({error}): delete {out} or name another") from None
    keys = ("version", "seed", "clips")
    if not isinstance(found, dict) or any(found.get(key) != world[key] for key in keys):
        have = {key: found.get(key) for key in keys} if isinstance(found, dict) else found
        want = {key: world[key] for key in keys}
        raise UsageError(
            f"{out} holds another world ({have}, wanted {want}): delete it or name another folder"
        )
    return True


def _worker_count(num_workers: int | None) -> int:
    if num_workers is None:
        usable = getattr(os, "sched_getaffinity", None)
        return len(usable(0)) if usable else (os.cpu_count() or 1)
    return num_workers


def _render(
    plans: list[ClipPlan], out: Path, num_workers: int, progress: bool
) -> list[dict[str, Any]]:
    """Render every plan, in order; one worker needs no processes."""
    work = partial(render_clip, out=out)
    bar = partial(tqdm, total=len(plans), desc="mini-world", unit="clip", disable=not progress)
    if num_workers == 1:
        return list(bar(map(work, plans)))
    # Spawned, not forked: a parent that has used torch holds threads and locks.
    context = multiprocessing.get_context("spawn")
    with context.Pool(min(num_workers, len(plans)), initializer=limit_threads) as pool:
        return list(bar(pool.imap(work, plans, chunksize=4)))
