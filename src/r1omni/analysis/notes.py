"""How to read the page, and what is recorded of the runs on it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from r1omni.analysis.differences import CONDITION_NAMES, Difference
from r1omni.analysis.page import Points, Section, Text, joined
from r1omni.analysis.runs import EvaluatedRun, set_names, set_title

_PAPER_PARAMETERS = 500e6  # the language models of the paper, "0.5B"
_METHODS = {"SFT": "supervised training", "GRPO": "GRPO"}


def notes_section(runs: list[EvaluatedRun], found: list[Difference], *, synthetic: bool) -> Section:
    """How to read the page. What a note says of runs is recorded, or the note is not there.

    Args:
        runs: the tested runs.
        found: the paired differences that the page shows.
        synthetic: whether all clips come from a mini-world.
    """
    notes = [
        "Intervals are 95% percentile bootstrap intervals over test clips, or over "
        f"actors where the data set names them{_groups(found)}, since clips of one actor are "
        "alike. They hold what another draw of test clips would "
        "change, not what another seed of training would. With few actors they are rough.",
        _paired(found),
        _checkpoints(runs),
        "An answer that cannot be read is wrong and counted, never dropped. Reading is lenient on "
        "form (a bare emotion word counts), so that models that were trained to answer otherwise "
        "can be compared; the column “in form” is strict.",
        *_trainings(runs),
        *_tested_sets(runs),
        _conditions(runs),
        "Reasoning is what the model wrote before its answer. It need not be the cause of the "
        "answer.",
        _paper(runs, synthetic),
        *_answers(runs),
        "By age or culture: unmeasured.",
    ]
    care = (
        "Responsible use. The models name the apparent expression in a recording, not what a "
        "person feels; no diagnosis, and a professional reviews. In the EU, inferring emotions "
        "of people at work or in education is prohibited except for medical or safety reasons "
        "(AI Act, Article 5(1)(f)); people exposed elsewhere must be informed (Article 50(3))."
    )
    points = Points([note for note in notes if note])
    return Section("notes", "How to read this page", [points, Text(care, "care")])


def recorded_stages(run: EvaluatedRun) -> list[str]:
    """How a model was trained, in words, the last stage first; empty where it is not recorded."""
    return [_stage(stage) for stage in run.provenance.get("training") or []]


def _stage(stage: dict[str, Any]) -> str:
    method = _METHODS.get(stage["method"], stage["method"])
    rewards = joined([reward["name"] for reward in stage["rewards"]])
    paid = f", rewarded by {rewards}" if rewards else ""
    data = joined([_data(entry) for entry in stage["data"]])
    return f"{method} on {data}{paid}, from {stage['init_from']}"


def _data(entry: dict[str, Any]) -> str:
    """A data set in words: "MAFW (train, fold 1)"."""
    options = [f"{name} {value}" for name, value in entry["options"].items() if value is not None]
    parts = [entry["split"], *([] if entry["sampling"] == "all" else [entry["sampling"]]), *options]
    return f"{set_title(entry['name'])} ({', '.join(parts)})"


def _paired(found: list[Difference]) -> str:
    if not found:
        return ""
    return (
        "Two models are compared on the same clips (paired bootstrap). Intervals of single models "
        "may overlap although the paired difference is clear."
    )


def _checkpoints(runs: list[EvaluatedRun]) -> str:
    """Which checkpoint of its run each model is."""
    parts = []
    for run in runs:
        checkpoint = run.provenance.get("checkpoint")
        if checkpoint is None:
            continue
        stages = run.provenance.get("training")
        steps = f"step {checkpoint['step']}" + (f" of {stages[0]['max_steps']}" if stages else "")
        place = "the newest" if checkpoint["is_newest"] else "not the newest"
        parts.append(f"{run.model} is {steps}, {place} checkpoint of its run")
    return f"Tested checkpoints: {'; '.join(parts)}." if parts else ""


def _trainings(runs: list[EvaluatedRun]) -> Iterable[str]:
    for run in runs:
        stages = "; before that ".join(recorded_stages(run))
        if stages:
            yield f"Recorded training of {run.model}: {stages}. Earlier stages are not recorded."


def _tested_sets(runs: list[EvaluatedRun]) -> Iterable[str]:
    """The label set, split, fold and actors of each test set."""
    for name in set_names(runs):
        label_sets = sorted({run.sets[name].label_set for run in runs if name in run.sets})
        records = [(run.provenance.get("sets") or {}).get(name) for run in runs]
        parts = sorted({_part(record) for record in records if record is not None})
        of = f", {' or '.join(parts)}" if parts else ""
        note = f"{set_title(name)} is tested by label set {' or '.join(label_sets)}{of}."
        if label_sets == ["ravdess"]:
            note += " Protocol 8way: all eight classes, with calm and neutral apart."
        yield note


def _part(record: dict[str, Any]) -> str:
    """Which part of a data set was tested."""
    options, groups = record["options"], record["groups"]
    fold, folds = options.get("fold"), options.get("folds")
    words = [f"split {record['split']}"]
    words += (
        [] if fold is None else [f"fold {fold}" + (f" of {folds}, by speakers" if folds else "")]
    )
    words += [] if record["sampling"] == "all" else [f"sampling {record['sampling']}"]
    words += [f"{len(groups)} actors"] if groups else []
    return ", ".join(words)


def _conditions(runs: list[EvaluatedRun]) -> str:
    tested = {c for run in runs for s in run.sets.values() for c in s.conditions}
    if tested.isdisjoint(CONDITION_NAMES):
        return ""
    return (
        "Muted: the sound is replaced by silence. Blanked: the picture is replaced by black "
        "frames. The model is the same one, so these figures say what it takes from each medium, "
        "not how well a model trained on that medium alone would do."
    )


def _paper(runs: list[EvaluatedRun], synthetic: bool) -> str:
    """How far the paper's figures can be set beside these."""
    text = "The paper's figures are of real recordings and models of 0.5 billion parameters"
    sizes = [(run.provenance.get("model") or {}).get("num_parameters") for run in runs]
    known = [size for size in sizes if size is not None]
    apart = []
    if synthetic:
        apart.append("the clips are synthetic")
    if known and max(known) < _PAPER_PARAMETERS:
        apart.append(f"the largest model has {max(known) / 1e6:.1f} million parameters")
    if not apart:
        return f"{text}."
    return f"{text}. Here {joined(apart)}: compare the order of models, not the numbers."


def _answers(runs: list[EvaluatedRun]) -> Iterable[str]:
    """How and when the answers were drawn; runs that were tested alike share a note."""
    models: dict[str, list[str]] = {}
    for run in runs:
        text = "; ".join(part(run.provenance[key]) for key, part in _DRAWN if key in run.provenance)
        if text:
            models.setdefault(text, []).append(run.model)
    for text, names in models.items():
        yield f"{joined(names)}: {text}."


def _drawn(answers: dict[str, Any]) -> str:
    way = f"sampled at temperature {answers['temperature']}"
    if answers["temperature"] == 0:
        way = "the most probable token each time"
    written = f"answers of {way}, at most {answers['max_new_tokens']} tokens"
    direct = "direct answers after an empty reasoning"
    modes = {"direct": direct, "both": f"{written}, and {direct}"}  # absent where only written
    return f"{modes.get(answers.get('mode', ''), written)}, {answers['precision']}"


def _versions(versions: dict[str, str]) -> str:
    return "by " + ", ".join(f"{name} {version}" for name, version in versions.items())


def _date(date: str) -> str:
    return f"tested on {date[:10]}"


_DRAWN: tuple[tuple[str, Callable[[Any], str]], ...] = (
    ("answers", _drawn), ("versions", _versions), ("date", _date),
)  # fmt: skip


def _groups(found: list[Difference]) -> str:
    """The sets with actors, as " (RAVDESS: 24)"."""
    counts = {d.test_set: d.num_groups for d in found if d.num_groups is not None}
    named = [f"{set_title(name)}: {count}" for name, count in counts.items()]
    return f" ({joined(named)})" if named else ""
