"""Every recording of a set opened: what cannot be read, is silent, doubled, or of another rate.

Recordings are opened in processes of their own, as a run decodes them, so that none takes the check
with it. Which language is spoken is not found out; explanations in another script than their
question are.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from r1omni.data.overlap import HEAD_BYTES, digest
from r1omni.doctor import published
from r1omni.doctor.checks import Finding
from r1omni.doctor.clips import ALLOWED_SHARE, Shelf
from r1omni.media.audio import read_waveform
from r1omni.media.container import MediaError, open_media
from r1omni.media.video import read_frames
from r1omni.media.workers import Remedies, in_workers
from r1omni.types import NUM_EXAMPLES, Clip, Modality

_NUM_FRAMES = 8
# Of full scale: -80 dB, below the noise of any microphone.
_SILENT_PEAK = 1e-4
# Before what was found out; a reason why a recording cannot be read begins otherwise.
_READ = "\0"


def check_recordings(
    title: str, name: str, shelf: Shelf, num_workers: int, report: dict[str, Any]
) -> Iterator[Finding]:
    """Open every recording of a data set that is there.

    Args:
        title: of the set.
        name: in the registry, for what is published.
        shelf: has its clips.
        num_workers: processes.
        report: gets `opened`, how many; `unreadable`, path -> reason; `no_sound` and `silent`,
            paths; `rates_hz`, rate of the sound -> how many; `other_rate`, path -> rate where it is
            not the published one or, where none is published, not the most frequent one; and
            `duplicates`, lists of files with one content.
    """
    clips = {clip: m for clip, m in shelf.clips.get(title, {}).items() if _is_there(clip, shelf)}
    found: dict[Clip, dict[str, Any]] = {}
    broken: dict[str, str] = {}
    by_modality: dict[Modality, list[Clip]] = defaultdict(list)
    for clip, modality in clips.items():
        by_modality[modality].append(clip)
    with tqdm(total=len(clips), desc=title, unit="clip", leave=False) as bar:
        for modality, some in by_modality.items():
            remedies = Remedies("--num-workers", none=None, limit=None)
            for clip, told in in_workers(
                some, partial(look, modality), num_workers, preload=__name__, remedies=remedies
            ):
                bar.update()
                if told is not None and told.startswith(_READ):
                    found[clip] = json.loads(told[len(_READ) :])
                else:
                    broken[_name(clip)] = str(told)
    report |= {
        "opened": len(clips),
        "unreadable": broken,
        "no_sound": [_name(clip) for clip, told in found.items() if told["has_sound"] is False],
        "silent": [_name(clip) for clip, told in found.items() if told["is_silent"]],
        **_rates({_name(clip): told["rate_hz"] for clip, told in found.items()}, name),
        "duplicates": [
            list(map(str, files)) for files in same_contents({clip.path for clip in clips})
        ],
    }
    yield from _findings(title, name, report)


def look(modality: Modality, clip: Clip) -> str:
    """What a recording holds, as text for another process; or why it cannot be read."""
    told: dict[str, Any] = {"rate_hz": None, "is_silent": False, "has_sound": None}
    try:
        if modality != "audio":
            read_frames(clip.path, _NUM_FRAMES, clip.start_s, clip.end_s)
        if modality != "video":
            path = clip.audio_path or clip.path
            with open_media(path) as container:
                streams = container.streams.audio
                told["rate_hz"] = streams[0].rate if streams else None
            told["has_sound"] = bool(streams)
            if streams:
                wave = read_waveform(path, start_s=clip.start_s, end_s=clip.end_s).waveform
                told["is_silent"] = float(wave.abs().max()) < _SILENT_PEAK
    except MediaError as error:
        return str(error)
    except MemoryError:
        return str(MediaError(f"{clip.path}: takes too much memory"))
    return _READ + json.dumps(told)


def _is_there(clip: Clip, shelf: Shelf) -> bool:
    return all(shelf.has(path) for path in (clip.path, clip.audio_path) if path is not None)


def _name(clip: Clip) -> str:
    """A file, and the part of it where that is all that a clip has."""
    if clip.start_s is None and clip.end_s is None:
        return str(clip.path)
    return f"{clip.path} from {clip.start_s or 0:g} s to {clip.end_s or 'its end'}"


def _rates(rates: Mapping[str, int | None], name: str) -> dict[str, Any]:
    counts = Counter(rate for rate in rates.values() if rate is not None)
    wanted = published.RATES_HZ.get(name) or max(counts, key=lambda r: counts[r], default=None)
    return {
        "rates_hz": {str(rate): count for rate, count in counts.most_common()},
        "other_rate": {n: rate for n, rate in rates.items() if rate not in (None, wanted)},
    }


def same_contents(paths: Iterable[Path]) -> list[list[Path]]:
    """Files that have one content, in groups; contents are read only of files of one size.

    Args:
        paths: of files that are there. One that cannot be read is in no group.
    """
    groups = [sorted({path.resolve(): path for path in sorted(paths)}.values())]
    keys: tuple[Callable[[Path], Hashable], ...] = (
        lambda path: path.stat().st_size, partial(digest, limit=HEAD_BYTES), digest
    )  # fmt: skip
    for key in keys:
        parted: list[list[Path]] = []
        for group in groups:
            alike: dict[Hashable, list[Path]] = defaultdict(list)
            for path in group:
                alike[key(path)].append(path)
            parted += [own for of, own in alike.items() if of is not None and len(own) > 1]
        groups = parted
    return groups


def _findings(title: str, name: str, report: Mapping[str, Any]) -> Iterator[Finding]:
    """What is wrong with recordings, one finding a kind; one that all is well where nothing is."""
    opened, broken = report["opened"], report["unreadable"]
    subject = f"{title} recordings"
    if broken:
        yield Finding(
            subject, "fails" if len(broken) > ALLOWED_SHARE * opened else "note",
            f"{len(broken):,} of {opened:,} cannot be read: {_listed(broken.values())}",
            "copy them again; a run leaves them out of training, counts them as wrong, and stops "
            f"where they are more than {ALLOWED_SHARE:.0%} (data.loader.max_broken_ratio)",
        )  # fmt: skip
    known = published.WITHOUT_SOUND.get(name)
    told = f" (published: {known})" if known else ""
    for kind, words, remedy in (
        ("no_sound", f"have no sound{told}", "silence is heard in its place; copy them again"),
        ("silent", "have a sound that is silent", "listen to one, and copy them again"),
    ):
        if report[kind]:
            found = f"{len(report[kind]):,} of {opened:,} {words}: {_files(report[kind])}"
            yield Finding(f"{title} {kind.replace('_', ' ')}", "note", found, remedy)
    if report["other_rate"]:
        rate = published.RATES_HZ.get(name)
        than = f"the published {rate:,} Hz" if rate else "most have"
        rates = ", ".join(f"{n:,} of {int(hz):,} Hz" for hz, n in report["rates_hz"].items())
        yield Finding(
            f"{title} rates", "note",
            f"{len(report['other_rate']):,} have another sampling rate than {than} ({rates}): "
            f"{_files(report['other_rate'])}",
            "sound is read at any rate; a copy at a lower one lacks its high frequencies",
        )  # fmt: skip
    if report["duplicates"]:
        pairs = [" = ".join(Path(path).name for path in same) for same in report["duplicates"]]
        yield Finding(
            f"{title} duplicates", "note",
            f"{len(pairs):,} contents are there more than once: {_listed(pairs)}",
            "a run whose training and test share one is refused; keep one of each",
        )  # fmt: skip
    if not broken:
        yield Finding(subject, "ok", f"{opened:,} can be read")


def other_scripts(title: str, shelf: Shelf) -> Iterator[Finding]:
    """Explanations in another script than their question, where a set has any."""
    splits = [told for subject in shelf.splits.get(title, {}).values() for told in subject.values()]
    names = list(dict.fromkeys(name for told in splits for name in told["other_script"]))
    if names:
        yield Finding(
            f"{title} texts", "note",
            f"{len(names):,} explanations are in another script than the question: "
            f"{_listed(names)}",
            "take the column of the question's language, or ask in that of the explanations",
        )  # fmt: skip


def _files(paths: Iterable[str]) -> str:
    return _listed(Path(path).name for path in paths)


def _listed(words: Iterable[str]) -> str:
    first = list(words)
    more = f" and {len(first) - NUM_EXAMPLES} more" if len(first) > NUM_EXAMPLES else ""
    return "; ".join(first[:NUM_EXAMPLES]) + more
