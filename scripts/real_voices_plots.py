"""The plots of docs/real_voices.md, from the figures that real_voices_results.py computes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

TITLES = {"ravdess": "RAVDESS, 8 classes", "emodb": "Emo-DB, 4 classes, never trained on"}
BARS, CONFUSION = "accuracy.png", "confusion.png"
_ANSWERS, _RESTRICTED = "#3b6ea5", "#c9d9ea"


def draw(study: Mapping[str, Any], folder: Path) -> None:
    """Write both plots into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    draw_bars(study, folder / BARS)
    draw_confusions(study, folder / CONFUSION)


def draw_bars(study: Mapping[str, Any], path: Path) -> None:
    """WAR of every model with its interval over speakers, and one dot a fold; a panel a set."""
    names = [name for name in TITLES if name in study["chance"]]
    models = list(study["models"])
    height = 1.4 + 0.5 * len(models)
    figure, panels = plt.subplots(
        1, len(names), figsize=(5.2 * len(names) + 1, height), layout="constrained", squeeze=False,
        sharey=True,
    )  # fmt: skip
    for panel, name in zip(panels[0], names, strict=True):
        known = [(i, study["models"][m]["sets"].get(name)) for i, m in enumerate(models)]
        two = name == "emodb"  # where the model was trained on more classes than there are
        for place, figures in known:
            if figures is None:
                panel.text(1, place, "not measured", va="center", color="0.45", fontsize=8)
                continue
            thick = 0.36 if two else 0.6
            _bar(panel, place - (thick / 2 if two else 0), figures, thick, _ANSWERS, "answers")
            panel.plot(
                [100 * value for value in figures["over_folds"]["war"]["folds"].values()],
                [place - (thick / 2 if two else 0)] * len(figures["over_folds"]["war"]["folds"]),
                "o", color="white", markeredgecolor="black", markersize=4, clip_on=False,
            )  # fmt: skip
            if two and figures["restricted"] is not None:
                label = "best-scored of the four"
                _bar(panel, place + thick / 2, figures["restricted"], thick, _RESTRICTED, label)
        share = 100 * study["chance"][name]["majority"]["war"]
        panel.axvline(share, color="0.3", linestyle=":", linewidth=1.2)
        panel.set_title(f"{TITLES[name]}", fontsize=10)
        panel.set_xlabel("WAR, %; circles: folds; dotted: the most frequent class", fontsize=9)
        panel.set_xlim(0, 101)
        panel.grid(axis="x", alpha=0.3)
        panel.set_axisbelow(True)
        if two:
            handles, labels = panel.get_legend_handles_labels()
            once = dict(zip(labels, handles, strict=True))
            figure.legend(
                once.values(), once.keys(), fontsize=8, ncols=2, loc="outside lower right"
            )
    panels[0, 0].set_yticks(range(len(models)), models)
    panels[0, 0].invert_yaxis()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _bar(
    panel: Any, place: float, figures: Mapping[str, Any], thick: float, color: str, label: str
) -> None:
    war = 100 * figures["war"]
    panel.barh(place, war, thick, color=color, label=label)
    if figures["war_interval"] is not None:
        low, high = (100 * end for end in figures["war_interval"])
        reach = [[max(war - low, 0)], [max(high - war, 0)]]
        panel.errorbar(war, place, xerr=reach, color="black", capsize=3, linewidth=1)


def draw_confusions(study: Mapping[str, Any], path: Path) -> None:
    """A matrix a model, RAVDESS, all folds together: rows are what was acted, in percent."""
    found = {
        model: figures["sets"]["ravdess"]
        for model, figures in study["models"].items()
        if "ravdess" in figures["sets"]
    }
    columns = min(3, len(found))
    rows = -(-len(found) // columns)
    figure, panels = plt.subplots(
        rows, columns, figsize=(4.6 * columns, 4.4 * rows), layout="constrained", squeeze=False
    )
    for panel in panels.flat[len(found) :]:
        panel.axis("off")
    for panel, (model, figures) in zip(panels.flat, found.items(), strict=False):
        labels = [*figures["labels"], "other"]
        shares = [
            [100 * count / sum(row) if sum(row) else 0.0 for count in row]
            for row in figures["confusion"]
        ]
        panel.imshow(shares, cmap="Blues", vmin=0, vmax=100, aspect="auto")
        for i, row in enumerate(shares):
            for j, share in enumerate(row):
                if share >= 0.5:
                    color = "white" if share > 55 else "black"
                    panel.text(j, i, f"{share:.0f}", ha="center", va="center", color=color,
                               fontsize=7.5)  # fmt: skip
        panel.set_title(model, fontsize=10)
        panel.set_xticks(range(len(labels)), labels, rotation=60, ha="right", fontsize=8)
        panel.set_yticks(range(len(labels) - 1), labels[:-1], fontsize=8)
    for panel in panels[:, 0]:
        panel.set_ylabel("acted")
    figure.supxlabel("answered (other: unreadable, or no class)", fontsize=9)
    figure.savefig(path, dpi=110)
    plt.close(figure)
