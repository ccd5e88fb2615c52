"""How to read the page."""

from __future__ import annotations

from html import escape

from r1omni.analysis.differences import Difference
from r1omni.analysis.markup import joined, paragraph, section
from r1omni.analysis.runs import EvaluatedRun, set_title


def notes_section(runs: list[EvaluatedRun], found: list[Difference]) -> str:
    """How to read the page."""
    protocols = {
        name: run.sets[name].label_set for run in runs for name in run.sets if name == "ravdess"
    }
    notes = [
        "Intervals are 95% percentile bootstrap intervals over test clips, or over "
        f"actors where the data set names them{_groups(found)}, since clips of one actor are "
        "alike. They hold what another draw of test clips would "
        "change, not what another seed of training would. With few actors they are rough.",
        "Two models are compared on the same clips (paired bootstrap). Intervals of single models "
        "may overlap although the paired difference is clear.",
        "Nothing was selected on the test sets: each model is the last checkpoint of its run.",
        "An answer that cannot be read is wrong and counted, never dropped. Reading is lenient on "
        "form (a bare emotion word counts), so that models that were trained to answer otherwise "
        "can be compared; the column “in form” is strict.",
        "By the recipe, R1-Omni and MAFW-DFEW-SFT are trained on other clips of DFEW and MAFW, "
        "HumanOmni and EMER-SFT on none of theirs, and no model on RAVDESS, which is out of "
        f"distribution. {_protocol(protocols)}",
        "Muted: the sound is replaced by silence. Blanked: the picture is replaced by black "
        "frames. The model is the same one, so these figures say what it takes from each medium, "
        "not how well a model trained on that medium alone would do.",
        "Reasoning is what the model wrote before its answer. It need not be the cause of the "
        "answer.",
        "The paper's figures are of real recordings and larger models: compare the order of "
        "models, not the numbers.",
        "By gender, age or culture: unmeasured.",
    ]
    items = "".join(f"<li>{escape(note)}</li>" for note in notes)
    return section(
        "notes",
        "How to read this page",
        f'<ul class="points">{items}</ul>',
        paragraph(
            "Responsible use. The models name the apparent expression in a recording, not what a "
            "person feels; no diagnosis, and a professional reviews. In the EU, inferring emotions "
            "of people at work or in education is prohibited except for medical or safety reasons "
            "(AI Act, Article 5(1)(f)); people exposed elsewhere must be informed (Article 50(3)).",
            "care",
        ),
    )


def _protocol(protocols: dict[str, str]) -> str:
    label_set = protocols.get("ravdess")
    if label_set == "ravdess":
        return "Protocol 8way: all eight classes, with calm and neutral apart."
    return "" if label_set is None else f"Label set: {label_set}."


def _groups(found: list[Difference]) -> str:
    """The sets with actors, as " (RAVDESS: 24)"."""
    counts = {d.test_set: d.num_groups for d in found if d.num_groups is not None}
    named = [f"{set_title(name)}: {count}" for name, count in counts.items()]
    return f" ({joined(named)})" if named else ""
