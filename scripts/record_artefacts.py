"""Record one of everything that this version writes, in tests/fixtures/v<version>/.

    python scripts/record_artefacts.py

Run it when a version is released. `tests/test_artefacts.py` holds that later versions read them, so
a folder that is there is never recorded again. Paths inside the files are of a folder in /tmp.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "src")]

from script_options import ScriptParser  # noqa: E402

import artefact_runs  # noqa: E402
import golden_runs  # noqa: E402
from r1omni.cli import main as r1omni  # noqa: E402

START_STEPS = 220


def main() -> None:
    golden_runs.environment()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    name = f"v{project['version'].replace('.', '_')}"
    out, scratch = golden_runs.TESTS / "fixtures" / name, Path("/tmp") / f"r1omni_{name}"
    if out.exists():
        sys.exit(f"{out} is recorded; a later version has to read it as it is")
    scratch.mkdir()
    new = scratch / "new"
    new.mkdir()
    shutil.copytree(start_model(scratch), new / "model")
    for run, words in artefact_runs.RUNS.items():
        steps = ("--trainer.max_steps", artefact_runs.CUT)
        artefact_runs.command("fit", run, new, new / "model", *words, *steps)
        shutil.rmtree(new / run / "model")
    evaluate(new)
    for name in ("data", "cache", "mlruns"):
        shutil.rmtree(new / name, ignore_errors=True)
    for file in new.glob("mlflow.db*"):
        file.unlink()
    expected = {"answers": artefact_runs.answers(new / "model"), "steps": {}}
    for run in artefact_runs.RUNS:
        (scratch / f"on_{run}").mkdir()
        expected["steps"][run] = artefact_runs.go_on(new, run, scratch / f"on_{run}")
    (new / "expected.json").write_text(json.dumps(expected) + "\n", encoding="utf-8")
    shutil.copytree(new, out)
    shutil.rmtree(scratch)
    print(f"wrote {out}: {sum(f.stat().st_size for f in out.rglob('*') if f.is_file())} bytes")


def start_model(scratch: Path) -> Path:
    """A model of the smallest sizes that has learned to answer in tags."""
    texts = golden_runs.table(scratch / "data") / "labels.csv"
    sizes, init = golden_runs.GOLDEN / "sizes.yaml", scratch / "init"
    with golden_runs.one_thread(scratch):
        words = ["create", "--sizes", sizes, "--texts", texts, "--out", init]
        assert r1omni(list(map(str, words))) == 0
    artefact_runs.command(
        "fit", "start", scratch, init,
        "--config", golden_runs.CONFIGS / "mini" / "emer_sft.yaml",
        "--data.loader.batch_size", 6, "--trainer.max_steps", START_STEPS,
        "--model.init_args.optimizer.learning_rate", 1e-2,
    )  # fmt: skip
    return scratch / "start" / "model"


def evaluate(new: Path) -> None:
    """What `test`, `predict`, `analyze` and `report` write, of the run `sft`."""
    words = (*artefact_runs.RUNS["sft"], "--ckpt_path", "last")
    sets = golden_runs.own("train")
    artefact_runs.command("test", "sft", new, new / "model", *words, "--data.test", sets)
    artefact_runs.command("predict", "sft", new, new / "model", *words, "--data.predict", sets)
    clip = new / "data" / "clip.mp4"
    lines: list[object] = ["analyze", clip, "--model", new / "model", "--max-new-tokens", 32]
    with golden_runs.one_thread(new):
        assert r1omni([str(word) for word in [*lines, "--out", new / "analyses.jsonl"]]) == 0
        report = ["report", "--runs", f"SFT={new / 'sft'}", "--out", str(new / "report")]
        assert r1omni(report) == 0
    (new / "report" / "report.html").unlink()  # a page for people, which nothing reads


if __name__ == "__main__":
    ScriptParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    main()
