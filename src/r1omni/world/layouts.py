"""Which clips a world holds: counts a split, publishers' file names, one plan a clip."""

from __future__ import annotations

from r1omni.world.plans import (
    ClipPlan,
    plan_emotion,
    plan_random_cues,
    plan_ravdess,
    ravdess_takes,
    schedule,
)
from r1omni.world.story import class_sets

# Clips of each split in a world of `clips=2000`; other sizes scale in proportion. Few clips are
# explained and many are labelled, as in the paper (580 and 15,306).
SHARES: dict[str, int] = {
    "dfew/train": 380,
    "dfew/test": 280,
    "mafw/train": 320,
    "mafw/test": 140,
    "ravdess": 180,
    "emer": 60,
    "humanomni/reasoning": 80,
    "humanomni/emotions": 70,
    "humanomni/captions": 490,
}
REFERENCE_CLIPS = 2000
# From here on every split holds every class at least once.
FULL_CLASSES_FROM = 60
_WHOLE_ACTORS_FROM = 200
_CLASS_SET: dict[str, str] = {
    "dfew": "dfew",
    "mafw": "mafw",
    "ravdess": "ravdess",
    "emer": "mer",
    "humanomni/reasoning": "mafw",
    "humanomni/emotions": "all",
}


def class_set_of(split: str) -> str:
    """Name of the class set a split is drawn from."""
    return _CLASS_SET.get(split) or _CLASS_SET[split.split("/")[0]]


def count_clips(clips: int) -> dict[str, int]:
    """Clips of each split in a world of size `clips`."""
    sets = class_sets()
    counts = {}
    for split, share in SHARES.items():
        count = max(1, round(clips * share / REFERENCE_CLIPS))
        if split == "ravdess" and clips >= _WHOLE_ACTORS_FROM:
            count = 60 * max(1, round(count / 60))
        if clips >= FULL_CLASSES_FROM and split != "humanomni/captions":
            count = max(count, len(sets[class_set_of(split)].priors))
        counts[split] = count
    return counts


def plan_world(clips: int, seed: int) -> list[ClipPlan]:
    """All clips of a world, split after split in the order of `SHARES`."""
    plans: list[ClipPlan] = []
    number = {"dfew": 0, "mafw": 0, "emer": 0, "humanomni": 0}
    for split, count in count_clips(clips).items():
        if split == "ravdess":
            plans += _plan_ravdess(count, seed)
            continue
        dataset = split.split("/")[0]
        paths = [_path(dataset, number[dataset] + 1 + index) for index in range(count)]
        number[dataset] += count
        plans += _plan_split(split, paths, seed)
    return plans


def _path(dataset: str, number: int) -> str:
    return {
        "dfew": f"DFEW/Clip/original/{number}.mp4",
        "mafw": f"MAFW/data/clips/{number:05d}.mp4",
        "emer": f"MER2023/train/sample_{number:08d}.mp4",
        "humanomni": f"HumanOmni/videos/{number}.mp4",
    }[dataset]


def _plan_split(split: str, paths: list[str], seed: int) -> list[ClipPlan]:
    if split == "humanomni/captions":
        return [
            plan_random_cues(seed=seed, dataset=split, index=index, path=path)
            for index, path in enumerate(paths)
        ]
    classes = class_sets()[class_set_of(split)]
    words = schedule(classes.priors, len(paths), seed, split)
    size = (112, 96) if split.startswith("mafw") else (96, 96)
    return [
        plan_emotion(classes, word, seed=seed, dataset=split, index=index, path=path, size=size)
        for index, (word, path) in enumerate(zip(words, paths, strict=True))
    ]


def _plan_ravdess(count: int, seed: int) -> list[ClipPlan]:
    """Whole actors of 60 takes; fewer than 60 clips are spread evenly over the classes."""
    classes = class_sets()["ravdess"]
    takes = ravdess_takes(list(classes.priors))
    if count < len(takes):
        by_word = {word: [take for take in takes if take[0] == word] for word in classes.priors}
        depth = max(len(rows) for rows in by_word.values())
        takes = [rows[i] for i in range(depth) for rows in by_word.values() if i < len(rows)]
        takes = takes[:count]
    return [
        plan_ravdess(classes, seed=seed, actor=1 + index // 60, take=takes[index % 60], index=index)
        for index in range(count)
    ]
