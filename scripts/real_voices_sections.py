"""The sections of docs/real_voices.md that show figures: tables of models, and what they mean."""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from real_voices_markdown import NONE, Lines, percent, points, table
from real_voices_plots import BARS, CONFUSION
from real_voices_results import AFTER_LABELS, COLD_START, COMBINED, SUBJECT, SUBJECTS
from real_voices_runs import MODELS

FOLDER = Path("benchmarks") / "real_voices"
LABEL, FAITHFUL = "label SFT", "R1-Omni, faithful"
LONGER = "label SFT, twice as long"
MEASURED = "R1-Omni, measured cues"

Study = Mapping[str, Any]
# What a cell holds of one model on one set; None where that was not measured.
Cell = Callable[[Mapping[str, Any]], str]


def model_rows(study: Study, name: str, cells: Sequence[Cell]) -> list[list[str]]:
    """One row a model, in the order of the stages; a model without the set has only "-"."""
    found = {model: study["models"].get(model, {}).get("sets", {}).get(name) for model in MODELS}
    return [
        [model, *(NONE if figures is None else cell(figures) for cell in cells)]
        for model, figures in found.items()
    ]


def set_against(study: Study, name: str, of_what: str) -> Lines:
    """Of each of some models, a sentence: it minus each other one."""
    lines = []
    for model in SUBJECTS:
        each = (
            f"{other} {points(d['war_difference'], d['war_interval'])}"
            for other, d in study["differences"][model].get(name, {}).items()
        )
        told = f"points of WAR {of_what}: {'; '.join(each) or NONE}."
        lines += ["", f"{model} minus the others, {told}"]
    return lines[1:]


def whole(key: str) -> Cell:
    """A figure of all folds together."""
    return lambda figures: percent(figures[key], figures.get(f"{key}_interval"))


def inner(part: str, key: str) -> Cell:
    """A figure of a part that may not have been measured: restricted, muted."""
    return lambda f: NONE if f[part] is None else percent(f[part][key], f[part][f"{key}_interval"])


def over_folds(key: str) -> Cell:
    """Mean ± deviation over folds."""

    def write(figures: Mapping[str, Any]) -> str:
        found = figures["over_folds"][key]
        deviation = found["deviation"]
        return percent(found["mean"]) + ("" if deviation is None else f" ± {100 * deviation:.1f}")

    return write


def told(key: str) -> Cell:
    """A figure of explanations with its interval."""

    def write(figures: Mapping[str, Any]) -> str:
        found = (figures["explanations"] or {}).get(key)
        return NONE if found is None else percent(*found)

    return write


def runs_of(study: Study, model: str) -> str:
    """How many folds and seeds are complete."""
    found = study["models"].get(model)
    if found is None:
        return NONE
    seeds = f", {len(found['seeds'])} seeds" if len(found["seeds"]) > 1 else ""
    return f"{len(found['folds'])}{seeds}"


def goals(study: Study) -> Lines:
    """What was set out for, before any run, and whether it was reached."""

    def war(model: str, name: str = "ravdess") -> float | None:
        return _figure(study, model, name, lambda figures: figures["over_folds"]["war"]["mean"])

    def explained(model: str, key: str) -> float | None:
        return _figure(
            study, model, "ravdess", lambda f: ((f["explanations"] or {}).get(key) or [None])[0]
        )

    wars = [(w, model) for model in (LABEL, SUBJECT) if (w := war(model)) is not None]
    best, best_model = max(wars, default=(None, LABEL))
    longer = war(LONGER)

    def ahead(other: str, name: str, model: str = SUBJECT) -> float | None:
        """A model minus another on the same clips: folds may be complete for one alone."""
        known = study["differences"][model].get(name, {})
        found: float | None = known.get(other, {}).get("war_difference")
        return found

    gain = ahead(COLD_START, "ravdess")
    form = _figure(study, SUBJECT, "ravdess", lambda figures: figures["format_ok"])
    abroad, after, most = (ahead(LABEL, "emodb", model) for model in SUBJECTS)
    combined = war(COMBINED)
    wrong, least = (explained(m, "contradicted_among_right") for m in (FAITHFUL, COMBINED))
    gains = study["cue_precision_gains"]
    cues, paid, both = (gains.get(model) for model in (FAITHFUL, MEASURED, COMBINED))
    rows = [
        ("label SFT or R1-Omni, WAR, mean over folds", "at least 70", percent(best), best,
         lambda value: value >= 0.7, best_model),
        ("the same, label SFT twice as long", "at least 70", percent(longer), longer,
         lambda value: value >= 0.7, LONGER),
        ("the same, R1-Omni combined", "at least 70", percent(combined), combined,
         lambda value: value >= 0.7, COMBINED),
        ("R1-Omni minus its cold start, WAR", "at least 15 points", points(gain), gain,
         lambda value: value >= 0.15, SUBJECT),
        ("R1-Omni, answers in the format", "at least 98", percent(form), form,
         lambda value: value >= 0.98, SUBJECT),
        ("Emo-DB, R1-Omni minus label SFT, WAR", "above 0 points", points(abroad), abroad,
         lambda value: value > 0, SUBJECT),
        ("the same, begun after labels", "above 0 points", points(after), after,
         lambda value: value > 0, AFTER_LABELS),
        ("the same, combined", "above 0 points", points(most), most,
         lambda value: value > 0, COMBINED),
        ("faithful, contradicted among right answers", "at most 7", percent(wrong), wrong,
         lambda value: value <= 0.07, FAITHFUL),
        ("the same, combined", "at most 7", percent(least), least,
         lambda value: value <= 0.07, COMBINED),
        ("faithful minus the cold start, cue precision", "at least 0 points", points(cues), cues,
         lambda value: value >= 0, FAITHFUL),
        ("the same, paid for measured cues", "at least 0 points", points(paid), paid,
         lambda value: value >= 0, MEASURED),
        ("the same, combined", "at least 0 points", points(both), both,
         lambda value: value >= 0, COMBINED),
    ]  # fmt: skip

    def reached(value: float | None, holds: Callable[[float], bool], model: str) -> str:
        """Of fewer folds than others have it cannot be said: folds differ by ten points."""
        if value is None:
            return NONE
        own, every = len(study["models"][model]["folds"]), len(study["folds"])
        if own < every:
            return f"{own} of {every} folds so far"
        return "yes" if holds(value) else "no"

    return [
        "## What was aimed at",
        "",
        'Set down before the first run, but for the rows that begin with "the same": other ways '
        "to the same goal, tried since then. Twice as long is "
        "`configs/ravdess_speech/longer.yaml`. After labels, the cold start and GRPO go on "
        "from label SFT in place of the base, and nothing else differs. Paid for measured cues is "
        "`configs/ravdess_speech/measured_cues.yaml`. Combined is all of these: the cold start "
        "goes on from label SFT that was twice as long, and GRPO is paid for measured cues. A "
        "model's cold start is the one that it was trained from.",
        "",
        *table(
            ["goal", "wanted", "measured", "reached"],
            [
                [goal, wanted, shown, reached(value, holds, model)]
                for goal, wanted, shown, value, holds, model in rows
            ],
        ),
    ]


def _figure(study: Study, model: str, name: str, get: Callable[[Any], Any]) -> float | None:
    """A figure of a model on a set; None where it was not tested."""
    figures = study["models"].get(model, {}).get("sets", {}).get(name)
    found: float | None = None if figures is None else get(figures)
    return found


def ravdess(study: Study) -> Lines:
    """The main table, R1-Omni against the others, and the plots."""
    cells = [over_folds("war"), over_folds("uar"), whole("war"), whole("uar"), whole("format_ok")]
    rows = [
        [row[0], runs_of(study, row[0]), *row[1:]] for row in model_rows(study, "ravdess", cells)
    ]
    found = study["chance"].get("ravdess")
    if found is not None:
        chance = [percent(found["majority"]["war"]), percent(found["majority"]["uar"])]
        rows.append(["chance", NONE, *chance, *chance, NONE])
    layers = "; ".join(
        f"fold {fold}: layer {choice['layer']}, C {choice['C']:g}"
        for fold, choice in study["probe"].items()
    )
    return [
        "## RAVDESS, eight classes",
        "",
        *table(
            ["model", "folds", "WAR, folds", "UAR, folds", "WAR", "UAR", "in the format"], rows
        ),
        "",
        "Chance is always answering the most frequent class. The linear probe is logistic "
        "regression on mean and deviation over time of one layer of the same tower, on the same "
        "clips of the same folds (`scripts/real_voices_probe.py`), its layer and C chosen on the "
        f"validation speakers ({layers or NONE}).",
        "",
        f"![Accuracy of every model]({FOLDER}/{BARS})",
        "",
        *set_against(study, "ravdess", "on the same clips"),
        "",
        f"![Confusions of every model]({FOLDER}/{CONFUSION})",
    ]  # fmt: skip


def parts(study: Study) -> Lines:
    """Accuracy by sex and intensity."""

    def part(field: str, value: str) -> Cell:
        def write(figures: Mapping[str, Any]) -> str:
            found = figures["breakdown"].get(field, {}).get(value)
            return NONE if found is None else percent(found["war"], found["war_interval"])

        return write

    values = [("sex", "female"), ("sex", "male"), ("intensity", "normal"), ("intensity", "strong")]
    cells = [part(*pair) for pair in values]
    return [
        "## By sex of the speaker and intensity of the take",
        "",
        "WAR on RAVDESS. Neutral has no strong take.",
        "",
        *table(["model", "women", "men", "normal", "strong"], model_rows(study, "ravdess", cells)),
    ]


def explanations(study: Study) -> Lines:
    """Verdicts, and cues of the voice."""
    keys = (
        "supported", "contradicted_among_right", "right_and_supported", "cue_precision",
        "cue_recall", "invented_muted",
    )  # fmt: skip
    head = [
        "model", "supported", "contradicted among right", "right for the right reason",
        "cue precision, voice", "cue recall, voice", "tells of a voice when muted",
    ]  # fmt: skip
    return [
        "## Whether explanations are evidence",
        "",
        "RAVDESS. What the columns are is told in [explanations.md](explanations.md). What a voice "
        "shows was measured by `describe-voices` ([voices.md](voices.md)): cues are true as far as "
        "these measures are. The base has no answers in tags, and label SFT and the probe explain "
        "nothing.",
        "",
        *table(head, model_rows(study, "ravdess", [told(key) for key in keys])),
    ]


def ways(study: Study) -> Lines:
    """Reasoned answers, direct ones, and those without the sound."""

    def direct(figures: Mapping[str, Any]) -> str:
        found = figures["modes"]
        if found is None:
            return NONE
        return percent(found["direct"]["war"], found["direct"]["war_interval"])

    def gain(figures: Mapping[str, Any]) -> str:
        found = (figures["modes"] or {}).get("think_minus_direct")
        return NONE if found is None else points(found["war_difference"], found["war_interval"])

    cells = [whole("war"), direct, gain, inner("muted", "war")]
    return [
        "## With reasoning, without, and without the sound",
        "",
        "WAR on RAVDESS. Direct: the best-scored emotion after an empty reasoning "
        "([evaluation.md](evaluation.md#with-reasoning-and-without)), a form that label SFT and "
        "the base never saw. Muted: silence in place of the sound; what is left is what a model "
        "says without hearing.",
        "",
        *table(
            ["model", "as trained", "direct", "reasoned minus direct", "muted"],
            model_rows(study, "ravdess", cells),
        ),
    ]


def emodb(study: Study) -> Lines:
    """Answers, and the best of the four classes."""
    cells = [
        over_folds("war"), whole("war"), whole("uar"), inner("restricted", "war"),
        inner("restricted", "uar"), inner("muted", "war"),
    ]  # fmt: skip
    rows = model_rows(study, "emodb", cells)
    found = study["chance"].get("emodb")
    if found is not None:
        war, uar = percent(found["majority"]["war"]), percent(found["majority"]["uar"])
        rows.append(["chance", war, war, uar, war, uar, NONE])
    return [
        "## Emo-DB, German, never trained on",
        "",
        "Anger, happiness, neutral and sadness. Models were trained on eight classes: an answer "
        "outside the four is wrong in the columns \"answers\". \"Of the four\" takes the "
        "best-scored of the four classes in place of the answer; a reasoned answer is scored "
        "after its own reasoning. The models of all folds answer the same clips.",
        "",
        *table(
            [
                "model", "WAR answers, folds", "WAR answers", "UAR answers", "WAR of the four",
                "UAR of the four", "WAR answers, muted",
            ],
            rows,
        ),
        "",
        *set_against(study, "emodb", "(answers)"),
    ]  # fmt: skip


def costs(study: Study) -> Lines:
    """What each kind of command took."""
    known: Mapping[str, Mapping[str, float]] | None = study["costs"]
    if not known:
        return ["## What it costs", "", "Not recorded."]
    kinds: dict[str, list[Mapping[str, float]]] = {}
    for name, cost in known.items():
        kind = re.sub(r" fold \d+$", "", name.rpartition(": ")[2])
        kinds.setdefault(kind, []).append(cost)
    rows = [
        [
            kind,
            str(len(own)),
            *(f"{statistics.mean(cost[key] for cost in own):.0f}" for key in ("wall_s", "cpu_s")),
            f"{max(cost['peak_memory_gib'] for cost in own):.1f}",
        ]
        for kind, own in kinds.items()
    ]
    hours = sum(cost["cpu_s"] for cost in known.values()) / 3600
    return [
        "## What it costs",
        "",
        "Means over folds and seeds, of processes of one thread; memory is the most that one held.",
        "",
        *table(["command", "times", "seconds", "CPU seconds", "peak memory, GiB"], rows),
        "",
        f"In all {hours:.1f} CPU hours for {len(study['folds'])} folds.",
    ]
