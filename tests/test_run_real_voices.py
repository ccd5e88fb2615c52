"""scripts/run_real_voices.py with a stand-in for its commands: what is run, resumed and refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import run_real_voices

SCRIPTS = Path(__file__).parents[1] / "scripts"
# Writes what the commands write. A training waits while HOLD is there and saves on Ctrl-C; one
# whose folder ends as FAIL says fails.
STUB = """
import json, os, signal, sys, time
from pathlib import Path
here, words = Path(__file__).resolve().parent, sys.argv[1:]
kind = words[0] if Path(__file__).stem == "stub" else Path(__file__).stem
def option(name):
    return words[words.index(name) + 1]
with open(here / "calls.jsonl", "a") as file:
    file.write(json.dumps([kind, *words]) + "\\n")
if kind == "real_voices_page":
    sys.exit()
folder = Path(option("--trainer.default_root_dir" if kind in ("fit", "test") else "--out"))
folder.mkdir(parents=True, exist_ok=True)
if kind == "describe-voices":
    name = option("--dataset")
    row = {"path": f"{name}.wav", "cues": {"pitch": "high"}, "written_by": "stub"}
    (folder / "all.jsonl").write_text(json.dumps(row) + "\\n")
elif kind == "real_voices_tables":
    (folder / f"fold_{option('--fold')}" / "tables").mkdir(parents=True)
elif kind == "real_voices_probe":
    (folder / f"fold_{option('--fold')}").mkdir(exist_ok=True)
    (folder / f"fold_{option('--fold')}" / "probe.json").write_text("{}")
elif kind == "create":
    (folder / "config.json").touch()
elif kind == "real_voices_level":
    pass
elif kind == "fit":
    (folder / "checkpoints").mkdir(exist_ok=True)
    (folder / "checkpoints" / "step_000001.ckpt").touch()
    def save(signum, frame):
        (folder / "saved").touch()
        sys.exit(128 + signum)
    signal.signal(signal.SIGINT, save)
    if (here / "FAIL").exists() and str(folder).endswith((here / "FAIL").read_text()):
        sys.exit(1)
    while (here / "HOLD").exists():
        time.sleep(0.01)
    (folder / "model").mkdir()
    (folder / "model" / "model.safetensors").write_text(str(folder))
    (folder / "model" / "config.json").touch()
else:
    (folder / "test").mkdir()
    tested = {"checkpoint": {"path": option("--ckpt_path") + " that was tested"}}
    (folder / "test" / "results.json").write_text(json.dumps({"provenance": tested}))
"""
GRPO = ("r1omni", "r1omni_faithful", "r1omni_measured_cues")
FROM_LABELS = (
    "emer_sft_after_labels", "r1omni_after_labels", "emer_sft_combined", "r1omni_combined",
)  # fmt: skip
LABELS = ("label_sft", "label_sft_longer")
STAGES = ("base", "emer_sft", *LABELS, *GRPO, *FROM_LABELS)
STARTS = {
    "base": "../init", "emer_sft": "base/model", **dict.fromkeys(LABELS, "base/model"),
    "emer_sft_after_labels": "label_sft/model",
    "r1omni_after_labels": "emer_sft_after_labels/model",
    "emer_sft_combined": "label_sft_longer/model",
    "r1omni_combined": "emer_sft_combined/model",
    **dict.fromkeys(GRPO, "emer_sft/model"),
}  # fmt: skip
# Of these the last step is taken.
COLD_STARTS = ("base", "emer_sft", "emer_sft_after_labels", "emer_sft_combined")


class Table:
    """The script on folders of its own, with the stub for every command."""

    def __init__(self, root: Path) -> None:
        self.root, self.out = root, root / "out"
        self.scripts = root / "stubs"
        self.scripts.mkdir()
        for name in (
            "stub",
            "real_voices_tables",
            "real_voices_probe",
            "real_voices_page",
            "real_voices_level",
        ):
            (self.scripts / f"{name}.py").write_text(STUB)
        for name in ("speech", "berlin", "tower"):
            (root / name).mkdir()
        (root / "tower" / "model.safetensors").write_text("weights")
        self.program = [sys.executable, "-SE", str(self.scripts / "stub.py")]
        self.words = [
            "--data", str(root / "speech"), "--tower", str(root / "tower"),
            "--emodb", str(root / "berlin"), "--out", str(self.out), "--only-folds", "1",
        ]  # fmt: skip

    def run(self, *more: str) -> int:
        usual = zip(self.words[::2], self.words[1::2], strict=True)
        words = [word for pair in usual if pair[0] not in more for word in pair]
        return run_real_voices.main([*words, *more], self.program, self.scripts)

    def calls(self) -> list[list[str]]:
        """The commands since this was asked last."""
        file = self.scripts / "calls.jsonl"
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        file.unlink()
        return lines


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Table:
    monkeypatch.setattr(run_real_voices, "open_store", lambda out: None)
    return Table(tmp_path)


def value(words: list[str], option: str) -> str:
    return words[words.index(option) + 1]


def folder_of(words: list[str], out: Path) -> str:
    return str(Path(value(words, "--trainer.default_root_dir")).relative_to(out.resolve()))


def test_the_whole_table_is_made_once(table: Table, capsys: pytest.CaptureFixture[str]) -> None:
    both = ["--only-folds", "1", "3", "--seeds", "0", "4", "--jobs", "4"]
    assert table.run(*both) == 0
    calls, out = table.calls(), table.out.resolve()
    described = [words for words in calls if words[0] == "describe-voices"]
    assert [Path(value(words, "--out")).name for words in described] == [
        "ravdess_plain.partial", "ravdess.partial", "emodb.partial"
    ]  # fmt: skip
    assert "--without-labels" in described[0] and value(described[2], "--leave-out") == "loudness"
    cues = [json.loads(line)["path"] for line in (out / "data/cues.jsonl").open()]
    assert cues == ["RAVDESS/ravdess.wav", "EmoDB/emodb.wav"]
    assert (out / "data/RAVDESS").resolve() == (table.root / "speech").resolve()
    assert sum(words[0] == "create" for words in calls) == 2

    again = [
        words for words in calls if words[0] == "test" and folder_of(words, out)[-7:] == "/levels"
    ]
    assert len(again) == 2 * 2 * (len(STAGES) - 1)  # the base answers with no emotion
    for words in again:
        folder = Path(folder_of(words, out)).parent
        chosen = "last" if folder.name in COLD_STARTS else "best"
        assert value(words, "--ckpt_path") == f"{chosen} that was tested"
        roots = [entry["root"] for entry in json.loads(value(words, "--data.test"))]
        assert roots == ["levels/RAVDESS", "levels/EmoDB"]
    calls = [words for words in calls if words not in again]
    order = [(words[0], folder_of(words, out)) for words in calls if words[0] in ("fit", "test")]
    assert sorted(order) == sorted(
        (kind, f"fold_{fold}/seed_{seed}/{stage}")
        for kind in ("fit", "test") for fold in (1, 3) for seed in (0, 4) for stage in STAGES
    )  # fmt: skip
    fits = {folder_of(words, out): words for words in calls if words[0] == "fit"}
    for folder, words in fits.items():
        fold, seed, stage = folder.split("/")
        start = os.path.normpath(out / fold / seed / STARTS[stage])
        assert value(words, "--model.init_args.init_from") == start
        assert value(words, "--seed_everything") == seed.removeprefix("seed_")
        train, test = (json.loads(value(words, f"--data.{name}")) for name in ("train", "test"))
        own = {"folds": 5, "fold": int(fold.removeprefix("fold_")), "hold_out_val": True}
        assert [entry["options"] for entry in test] == [own, {"protocol": "4way"}]
        assert test[0]["split"] == "test"
        if stage in COLD_STARTS:
            assert train[0]["root"] == f"{fold}/tables"
            assert train[0]["options"]["video_root"] == str(out / "data/RAVDESS")
        else:
            assert train[0]["options"] == own and train[0].get("split", "train") == "train"
        if stage != "base":
            val = json.loads(value(words, "--data.val"))
            assert (val[0]["split"], val[0]["options"]) == ("val", own)
            before = start.removesuffix("/model").removeprefix(f"{out}/")
            assert order.index(("fit", before)) < order.index(("fit", folder))
    for words in calls:
        if words[0] == "test":  # what other speakers chose is tested, where they choose at all
            chosen = folder_of(words, out).split("/")[2] not in COLD_STARTS
            assert value(words, "--ckpt_path") == ("best" if chosen else "last")
    laid = ("r1omni", "faithful", "measured_cues")
    for count, stage in [*enumerate(GRPO, start=1), (len(laid), "r1omni_combined")]:
        own = fits[f"fold_1/seed_0/{stage}"]
        configs = [word for i, word in enumerate(own) if own[i - 1] == "--config"]
        assert tuple(Path(name).stem for name in configs) == laid[:count]
    assert calls[-1][:2] == ["real_voices_page", str(out)]
    costs = json.loads((out / "costs.json").read_text())
    assert len(costs) == 3 + 1 + 2 + 2 * 2 + 4 * (2 + 3 * (len(STAGES) - 1))
    assert {"wall_s", "cpu_s", "peak_memory_gib"} == costs["linear probe: probe fold 3"].keys()

    # Once more: nothing is left but the page, which tells of what is complete.
    assert "R1-Omni, faithful, fold 3, seed 4: test r1omni_faithful" in capsys.readouterr().out
    assert table.run(*both) == 0
    assert [words[0] for words in table.calls()] == ["real_voices_page"]
    assert capsys.readouterr().out == ""


def test_a_failure_ends_what_needs_it_and_nothing_else(
    table: Table, capsys: pytest.CaptureFixture[str]
) -> None:
    (table.scripts / "FAIL").write_text("fold_1/seed_0/emer_sft")
    assert table.run("--only-folds", "1", "2") == 1
    tested = {folder_of(words, table.out) for words in table.calls() if words[0] == "test"}
    assert {folder for folder in tested if not folder.endswith("/levels")} == {
        "fold_1/seed_0/base",
        *(f"fold_1/seed_0/{stage}" for stage in (*LABELS, *FROM_LABELS)),
        *(f"fold_2/seed_0/{stage}" for stage in STAGES),
    }  # fmt: skip
    assert capsys.readouterr().err.splitlines() == [
        "EMER-SFT, fold 1, seed 0: fit emer_sft ended with status 1; see "
        f"{table.out.resolve()}/fold_1/seed_0/emer_sft/fit.log",
        "R1-Omni, fold 1, seed 0: not begun, since what it needs is not there",
        "R1-Omni, faithful, fold 1, seed 0: not begun, since what it needs is not there",
        "R1-Omni, measured cues, fold 1, seed 0: not begun, since what it needs is not there",
    ]
    (table.scripts / "FAIL").unlink()
    (table.out / "data" / "cues.jsonl").unlink()  # as if killed before it was written
    assert table.run("--only-folds", "1", "2") == 0
    calls = table.calls()
    resumed = [folder_of(words, table.out) for words in calls if words[0] == "fit"]
    # Two run side by side, and say so in either order.
    assert resumed[0] == "fold_1/seed_0/emer_sft"
    assert sorted(resumed) == sorted(f"fold_1/seed_0/{stage}" for stage in ("emer_sft", *GRPO))
    assert value(next(w for w in calls if w[0] == "fit"), "--ckpt_path") == "last"
    assert (table.out / "data" / "cues.jsonl").read_text().count("\n") == 2


@pytest.fixture
def begun(table: Table) -> Iterator[subprocess.Popen[str]]:
    """A process of its own, whose first training is held up when it has a checkpoint."""
    (table.scripts / "HOLD").touch()
    code = (
        "import sys, run_real_voices as r; from pathlib import Path; r.open_store = lambda out: 0; "
        f"sys.exit(r.main({table.words}, {table.program}, Path({str(table.scripts)!r})))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(SCRIPTS)},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    yield process
    (table.scripts / "HOLD").unlink(missing_ok=True)
    process.kill()
    process.communicate()


def test_a_stopped_table_goes_on(
    table: Table, begun: subprocess.Popen[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    base = table.out / "fold_1/seed_0/base"
    while not (base / "checkpoints/step_000001.ckpt").exists():
        assert begun.poll() is None
    with pytest.raises(SystemExit):
        table.run()
    assert "is in use by another table of real voices; wait for it" in capsys.readouterr().err
    begun.send_signal(signal.SIGINT)
    output, _ = begun.communicate(timeout=30)
    assert begun.returncode == 130 and "the same command goes on from here" in output
    assert (base / "saved").exists()
    table.calls()
    (table.scripts / "HOLD").unlink()
    assert table.run() == 0
    first = next(words for words in table.calls() if words[0] == "fit")
    assert folder_of(first, table.out) == "fold_1/seed_0/base"
    assert value(first, "--ckpt_path") == "last"


def test_other_settings_and_wrong_use_are_refused(
    table: Table, capsys: pytest.CaptureFixture[str]
) -> None:
    assert table.run("--dry-run") == 0
    assert not table.out.exists()
    # Voices, levels, probe, fold; fit and test of the base, which answers with no emotion.
    num_commands = 3 + 1 + 1 + 2 + 2 + 3 * (len(STAGES) - 1)
    assert f"\n{num_commands} commands, about " in capsys.readouterr().out
    assert table.run() == 0
    recipe = table.out / "fold_1/seed_0/label_sft/recipe.json"
    made = json.loads(recipe.read_text())
    for more, complaint in (
        (["--folds", "4"], "out was made with another folds; give another --out, or remove"),
        (["--explained", "9"], "fold_1 was made with another explained clips"),
        (["--tower", str(table.root / "berlin")], "fold_1 was made with another tower"),
        (["--data", str(table.root / "tower")], "out was made with another data"),
        (["--data", "/nowhere"], "--data /nowhere: there is no such folder"),
        (["--folds", "2"], "--folds begins at 3 (train, validation, test)"),
        (["--only-folds", "6"], "--only-folds 6: there are folds 1 to 5"),
        (["--seeds", "1", "1"], "--seeds: give each once, from 0 on"),
        ([], "label_sft was made with another configuration"),
        ([], "data/EmoDB leads to "),
    ):
        if not more:
            recipe.write_text(json.dumps({**made, "configuration": ["of before"]}))
        if "leads to" in complaint:
            (table.out / "data/EmoDB").unlink()
            (table.out / "data/EmoDB").symlink_to(table.root / "tower")
        with pytest.raises(SystemExit) as stopped:
            table.run(*more)
        assert stopped.value.code == 2
        assert complaint in capsys.readouterr().err
