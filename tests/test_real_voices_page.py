"""The page of real voices, of invented answers: its figures, what is missing, and its plots."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
sys.path.insert(0, str(Path(__file__).parent / "analysis"))

from real_voices_page import PUBLISHED, main, videos, write_page
from real_voices_results import read_study
from real_voices_runs import STAGES, kept_runs
from real_voices_sections import goals
from real_voices_trainings import LEVELS
from synthetic_runs import PLAYERS, Player, write_run

from r1omni.cli import main as command_line
from r1omni.data.folds import speaker_folds
from r1omni.metrics.resampling import interval, resampled_war_uar
from r1omni.text.emotions import LABEL_SETS
from r1omni.types import Clip, Sample

LABELS = {"ravdess": LABEL_SETS["ravdess"].labels, "emodb": LABEL_SETS["emodb_4way"].labels}
CUES = (("audio", "pitch", "low"), ("audio", "rate", "fast"))
TESTED = {
    "emer_sft": PLAYERS["EMER-SFT"],
    "label_sft": PLAYERS["MAFW-DFEW-SFT"],
    "r1omni": Player((0.85, 0.2, 0.2), "tags"),
    "r1omni_after_labels": Player((0.6, 0.2, 0.2), "tags"),
}


def sample(name: str, person: int, number: int, label: str) -> Sample:
    sex = "male" if person % 2 else "female"
    strong = name == "ravdess" and label != "neutral" and number % 2
    return Sample(
        sample_id=f"{name}/{person}-{number}",
        clip=Clip(Path(f"{name}-{person}-{number}.wav")),
        instruction="",
        modality="audio",
        label=label,
        cues=CUES,
        group=f"actor_{person:02d}" if name == "ravdess" else f"speaker_{person:02d}",
        sex=sex,  # type: ignore[arg-type]
        intensity=("strong" if strong else "normal") if name == "ravdess" else None,
    )


def samples_of(name: str, people: list[int]) -> list[Sample]:
    """Two takes a person and class."""
    return [
        sample(name, person, number, label)
        for person in people
        for number, label in enumerate(LABELS[name] * 2)
    ]


def probe_file(samples: dict[str, list[Sample]]) -> dict[str, Any]:
    """Always right on RAVDESS; on Emo-DB always calm, and the second choice is right."""
    predictions = {}
    for name, known in samples.items():
        predictions[name] = [
            {
                "sample_id": s.sample_id, "label": s.label, "group": s.group, "sex": s.sex,
                "intensity": s.intensity, "answer": s.label if name == "ravdess" else "calm",
                "scores": {
                    label: 0.3 if label == s.label else (0.5 if label == "calm" else 0.05)
                    for label in LABELS["ravdess"]
                },
            }
            for s in known
        ]  # fmt: skip
    return {"model": "linear probe", "layer": 4, "C": 0.01, "predictions": predictions}


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two folds of three actors, three stages, two seeds of one of them; nothing else is there."""
    root = tmp_path_factory.mktemp("study")
    told = [(str(n), "male" if n % 2 else "female") for n in range(1, 7)]
    with pytest.MonkeyPatch.context() as patch:
        # Half of the time goes into pictures that nothing here looks at.
        patch.setattr("r1omni.training.evaluation.reliability_svg", lambda *_: "")
        write_folds(root, told)
    (root / "fold_1" / "seed_0" / "base" / "checkpoints").mkdir(parents=True)  # not complete
    costs = {
        f"R1-Omni, fold {fold}, seed 0: fit r1omni": {
            "wall_s": 100.0 * fold, "cpu_s": 90.0 * fold, "peak_memory_gib": 1.0 + fold
        }
        for fold in (1, 2)
    }  # fmt: skip
    (root / "costs.json").write_text(json.dumps(costs))
    return root


def write_folds(root: Path, told: list[tuple[str, str]]) -> None:
    """What trainings, tests and probes leave of two folds."""
    for fold, people in enumerate(speaker_folds(told, 2, "here"), start=1):  # type: ignore[arg-type]
        own = {"ravdess": samples_of("ravdess", sorted(map(int, people))),
               "emodb": samples_of("emodb", [3, 8])}  # fmt: skip
        folder = root / f"fold_{fold}"
        for seed in (0, 1):
            for stage, player in TESTED.items():
                if seed == 0 or stage == "r1omni":
                    skill = tuple(share - 0.3 * (fold - 1) - 0.1 * seed for share in player.skill)
                    run, sets = folder / f"seed_{seed}" / stage, {"emodb": "emodb_4way"}
                    write_run(
                        run, Player(skill, player.form), own, ("full", "muted"), "both", sets  # type: ignore[arg-type]
                    )  # fmt: skip
                    if stage == "label_sft":  # worse at the level of the other set
                        none = Player((0.0, 0.0, 0.0), player.form)
                        write_run(run / LEVELS, none, own, ("full",), "think", sets)  # type: ignore[arg-type]
        (folder / "probe.json").write_text(json.dumps(probe_file(own)))


@pytest.fixture(scope="module")
def study(out: Path) -> dict[str, Any]:
    return read_study(out)


def answers(out: Path, stage: str, name: str, condition: str = "full") -> dict[int, list[Any]]:
    """Records by fold, of all seeds."""
    found: dict[int, list[Any]] = {}
    for fold in (1, 2):
        for file in sorted(out.glob(f"fold_{fold}/seed_*/{stage}/test/predictions/{name}.*")):
            if f".{condition}." in file.name:
                found.setdefault(fold, []).append(
                    [json.loads(line) for line in file.read_text().splitlines()]
                )
    return found


def test_means_over_folds_and_intervals_over_speakers(out: Path, study: dict[str, Any]) -> None:
    found = study["models"]["R1-Omni"]["sets"]["ravdess"]
    by_fold = answers(out, "r1omni", "ravdess")
    assert [len(seeds) for seeds in by_fold.values()] == [2, 2]
    right = {
        fold: statistics.mean(
            statistics.mean(r["prediction"] == r["label"] for r in records) for records in seeds
        )
        for fold, seeds in by_fold.items()
    }
    war = found["over_folds"]["war"]
    assert war["folds"]["1"] != war["folds"]["2"]
    assert war["mean"] == pytest.approx(statistics.mean(right.values()))
    assert war["deviation"] == pytest.approx(statistics.stdev(right.values()))
    pooled = [r for seeds in by_fold.values() for records in seeds for r in records]
    assert found["n"] == len(pooled) == 2 * 6 * 16 and found["speakers"] == 6
    assert found["war"] == statistics.mean(r["prediction"] == r["label"] for r in pooled)
    target = np.array([LABELS["ravdess"].index(r["label"]) for r in pooled])
    correct = np.array([r["prediction"] == r["label"] for r in pooled])
    drawn = resampled_war_uar(correct, target, 8, [r["group"] for r in pooled], 1000, 0)
    assert drawn is not None and found["war_interval"] == interval(drawn[0])
    assert sum(map(sum, found["confusion"])) == len(pooled)
    women = [r for r in pooled if r["sex"] == "female"]
    assert found["breakdown"]["sex"]["female"]["war"] == statistics.mean(
        r["prediction"] == r["label"] for r in women
    )


def test_the_restricted_choice_is_a_second_column(out: Path, study: dict[str, Any]) -> None:
    """An answer outside the four classes is wrong; the best-scored of the four may be right."""
    probe = study["models"]["linear probe"]["sets"]["emodb"]
    assert (probe["war"], probe["restricted"]["war"], probe["restricted"]["uar"]) == (0.0, 1.0, 1.0)
    assert sum(row[-1] for row in probe["confusion"]) == probe["n"]
    tuned = study["models"]["R1-Omni"]["sets"]["emodb"]
    pooled = [r for s in answers(out, "r1omni", "emodb").values() for one in s for r in one]
    best = [max(r["scores"], key=lambda k, r=r: r["scores"][k]) == r["label"] for r in pooled]
    assert tuned["restricted"]["war"] == statistics.mean(best) != tuned["war"]


def test_others_on_the_same_clips(study: dict[str, Any]) -> None:
    differences = study["differences"]["R1-Omni"]["ravdess"]
    assert differences.keys() == {
        "EMER-SFT", "label SFT", "R1-Omni after labels", "linear probe"
    }  # fmt: skip
    models = study["models"]
    # The probe stands beside both seeds, the cold start beside the seed that it has.
    assert differences["linear probe"]["n"] == 2 * differences["EMER-SFT"]["n"]
    after = study["differences"]["R1-Omni after labels"]["emodb"]["label SFT"]
    label = models["label SFT"]["sets"]["emodb"]
    war = models["R1-Omni after labels"]["sets"]["emodb"]["war"]
    assert after["war_difference"] == pytest.approx(war - label["war"]) and war != label["war"]
    own = models["R1-Omni"]["sets"]["ravdess"]["war"]
    assert differences["linear probe"]["war_difference"] == pytest.approx(own - 1)
    assert study["chance"]["ravdess"]["majority"] == {"war": 1 / 8, "uar": 1 / 8}
    assert study["chance"]["emodb"]["majority"]["war"] == 1 / 4


def test_cues_are_set_against_the_cold_start_of_the_same_folds(out: Path, tmp_path: Path) -> None:
    part = shutil.copytree(out, tmp_path / "part")
    shutil.rmtree(part / "fold_2" / "seed_0" / "emer_sft")
    for fold, every in ((1, 3), (2, 1)):  # so many of what is named is wrong
        [file] = part.glob(f"fold_{fold}/seed_0/r1omni/test/predictions/ravdess.full.jsonl")
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        for row in rows[::every]:
            row["cue_truth"]["audio"]["hits"] = 0
        file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))

    def precision(stage: str) -> float:
        truth = [r["cue_truth"]["audio"] for r in answers(part, stage, "ravdess")[1][0]]
        return sum(t["hits"] for t in truth) / sum(t["named"] for t in truth)

    gains = read_study(part)["cue_precision_gains"]
    own, start = precision("r1omni"), precision("emer_sft")
    assert own < 0.9 * start and gains["R1-Omni"] == pytest.approx(own - start)


def test_why_the_other_set_is_harder(out: Path, study: dict[str, Any]) -> None:
    probe, tuned, labels = (
        study["abroad"][model] for model in ("linear probe", "R1-Omni", "label SFT")
    )
    assert probe["said"] == {label: {"calm": 1.0} for label in LABELS["emodb"]}
    home, away = (probe["same_classes"][name] for name in ("ravdess", "emodb"))
    assert (home["n"], away["n"]) == (2 * 3 * 8, 2 * 2 * 8)
    assert (home["answers"]["war"], home["restricted"]["war"]) == (1.0, 1.0)
    assert (away["answers"]["war"], away["restricted"]["war"]) == (0.0, 1.0)
    for label, said in tuned["said"].items():
        assert sum(said.values()) == pytest.approx(1)
        wrong = [r for fold in answers(out, "r1omni", "emodb").values() for one in fold for r in one
                 if r["label"] == label and r["prediction"] != label]  # fmt: skip
        assert 1 - said.get(label, 0.0) == pytest.approx(len(wrong) / (4 * 2 * 2))
    assert tuned["levels"] == probe["levels"] == {}
    for name in ("ravdess", "emodb"):
        as_is = study["models"]["label SFT"]["sets"][name]["war"]
        level = labels["levels"][name]
        assert level["n"] == study["models"]["label SFT"]["sets"][name]["n"]
        assert level["war"] < 0.2 < as_is
        assert level["minus_as_is"]["war_difference"] == pytest.approx(level["war"] - as_is)


def test_kept_answers_are_enough(
    out: Path, study: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One fold here, the other one from where it was kept: the figures are those of both."""
    kept, docs = tmp_path / "answers", ["--docs", str(tmp_path / "docs" / "page.md")]
    (tmp_path / "docs").mkdir()
    assert main([str(out), "--answers", str(kept), *docs]) == 0
    assert len(list(kept.iterdir())) == 2 * (1 + len(TESTED) + 1)
    assert str(tmp_path) not in "".join(map(str, kept_runs(kept)))
    part = tmp_path / "part"
    shutil.copytree(out / "fold_1", part / "fold_1")
    for known in (read_study(None, kept), read_study(part, kept)):
        same(known, {**study, "costs": None})
    (kept / "fold_1.jsonl.xz").touch()
    assert main(["--answers", str(kept), *docs]) == 2
    assert "is not named fold_K.seed_S.STAGE.jsonl.xz" in capsys.readouterr().err


def same(one: Any, other: Any) -> None:
    """Equal, but for the fifth digit of scores, which at an edge moves them to another bin."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one.keys() - {"ece", "ece_interval", "bins"}:
            same(one[key], other[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for mine, theirs in zip(one, other, strict=True):
            same(mine, theirs)
    else:
        assert one == (pytest.approx(other, abs=1e-4) if isinstance(other, float) else other)


def test_the_page(study: dict[str, Any], tmp_path: Path) -> None:
    page = tmp_path / "docs" / "real_voices.md"
    page.parent.mkdir()
    write_page(study, page)
    text = page.read_text(encoding="utf-8")
    for link in re.findall(r"\]\((benchmarks/real_voices/[^)]+)\)", text):
        there = PUBLISHED if link.endswith("published.json") else page.parent / link
        assert there.is_file() and there.stat().st_size > 1000
    assert json.loads((page.parent / "benchmarks/real_voices/results.json").read_text())
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")]
    for model in ("base", "R1-Omni, faithful"):  # not tested: nothing but "-" in every table
        own = [row for row in rows if row[0] == f"| {model}"]
        assert len(own) == 5 and all({c.strip(" |") for c in row[1:]} == {"-"} for row in own)
    reached = {row[0]: row[-1].strip(" |") for row in rows if len(row) == 4}
    assert reached["| R1-Omni minus its cold start, WAR"] == "yes"
    assert reached["| faithful, contradicted among right answers"] == "-"
    fewer = "\n".join(goals({**study, "folds": [*study["folds"], 9]}))
    assert fewer.count("2 of 3 folds so far") >= 3 and " yes |" not in fewer
    war = study["models"]["label SFT"]["sets"]["ravdess"]["over_folds"]["war"]
    assert f"{100 * war['mean']:.1f} ± {100 * war['deviation']:.1f}" in text
    for row in json.loads(PUBLISHED.read_text(encoding="utf-8"))["rows"]:
        assert row["who"] in text and row["source"] in text
    assert "| fit r1omni | 2 | 150 | 135 | 3.0 |" in text
    widths = [row.count("|") for row in text.splitlines() if row.startswith("|")]
    assert min(widths) >= 4  # a cell that held "|" would break its table
    assert str(tmp_path) not in text


def test_the_command_for_the_films_makes_a_page_that_says_what_was_heard(
    study: dict[str, Any], tmp_path: Path
) -> None:
    section = "\n".join(videos(study))
    [command] = re.findall(r"python -m r1omni (analyze(?:.*\\\n)*.*)\n", section)
    [model] = re.findall(r"OUT/fold_\S+/r1omni/model", command)
    examples = Path(__file__).parents[1] / "examples"
    places = {model: examples / "mini-model", "FILMS": examples / "clips", "OUT": tmp_path}
    for name, place in places.items():
        command = command.replace(name, str(place))
    assert command_line(shlex.split(command.replace("\\\n", " "))) == 0
    [page] = re.findall(r"`OUT/(films/\S+\.html)`", section)
    text = (tmp_path / page).read_text(encoding="utf-8")
    contents = re.findall(r'<script type="application/json" class="content">(.*)</script>', text)
    assert len(contents) == 2
    for content in map(json.loads, contents):
        [record] = content["records"]
        assert record["media"] == ["audio"] and [*record["ablation"]] == ["audio"]
        assert content["video"] and (tmp_path / "films" / content["media"]).is_file()
        assert set(record["scores"]) == set(LABELS["ravdess"])


def test_every_published_figure_names_its_source() -> None:
    rows = json.loads(PUBLISHED.read_text(encoding="utf-8"))["rows"]
    assert len(rows) >= 4
    for row in rows:
        assert re.match(r"(arXiv \d{4}\.\d{5}|doi 10\.\d+/\S+)$", row["source"]), row["who"]
        assert row["war"] is not None or row["uar"] is not None
        assert all(row[key] for key in ("actors", "input", "trained", "read"))


def test_wrong_use(out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    docs = ["--docs", str(tmp_path / "page.md")]
    assert main([str(tmp_path / "nowhere"), *docs]) == 2
    assert "run scripts/run_real_voices.py first" in capsys.readouterr().err
    (tmp_path / "fold_x").mkdir()
    assert main([str(tmp_path), *docs]) == 2
    assert "named neither fold_K nor seed_S" in capsys.readouterr().err
    assert not (tmp_path / "page.md").exists()
    assert STAGES["r1omni_faithful"] == "R1-Omni, faithful"
