"""The plain commands of the command line; each imports what it needs when it runs."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

from r1omni.options import (
    CLIPS,
    SECONDS,
    SEED,
    TOKENS,
    WORKERS,
    Range,
    above,
    at_least,
)
from r1omni.text.emotions import LABEL_SETS
from r1omni.types import ANSWER_MODES, DTYPES, MODALITIES, R1OmniError, UsageError


class _Parser(argparse.ArgumentParser):
    """Wrong use raises one line instead of printing the whole usage."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see `{self.prog} --help`)")


def _parser(name: str, function: Callable[..., None]) -> _Parser:
    return _Parser(prog=f"python -m r1omni {name}", description=function.__doc__)


class Number:
    """An argument that is a number; argparse calls it with the words of the command line.

    Args:
        allowed: its range.
        kind: int or float.
    """

    def __init__(self, allowed: Range, kind: type = int) -> None:
        self.allowed, self.kind = allowed, kind

    def __call__(self, text: str) -> float:
        try:
            value: float = self.kind(text)
        except ValueError:
            value = math.nan
        if value not in self.allowed:
            noun = "whole number" if self.kind is int else "number"
            raise argparse.ArgumentTypeError(f"{text!r} must be a {noun} {self.allowed}")
        return value


def _check_out(out: Path, is_new: bool = False) -> None:
    """Refuse a folder that cannot be made, before anything is computed."""
    if is_new and out.exists():
        raise UsageError(f"--out {out} exists; choose another folder or remove it")
    existing = next(path for path in (out, *out.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise UsageError(f"--out {out} cannot be a folder: {existing} is a file; choose another")


def synthesize(args: list[str]) -> None:
    """Render the mini-world: clips and annotations in the publishers' layouts."""
    parser = _parser("synthesize", synthesize)
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    clips, workers = Number(CLIPS), Number(at_least(1, WORKERS.high))
    parser.add_argument("--clips", type=clips, default=2000, help="clips in all, about")
    parser.add_argument("--seed", type=Number(SEED), default=0)
    parser.add_argument("--num-workers", type=workers, default=None, help="processes; all cores")
    options = parser.parse_args(args)
    _check_out(options.out)
    from r1omni.world.synthesize import synthesize as write_world

    world = write_world(options.out, options.clips, options.seed, options.num_workers)
    print(json.dumps({"out": str(options.out), "ceiling": world["ceiling"]}))


def create(args: list[str]) -> None:
    """Create a model folder with random weights from a file of sizes and some texts."""
    parser = _parser("create", create)
    parser.add_argument("--sizes", type=Path, required=True, help="YAML of model sizes")
    parser.add_argument(
        "--texts", type=Path, nargs="+", required=True, help="JSON or CSV files for the tokenizer"
    )
    parser.add_argument("--out", type=Path, required=True, help="model folder to write")
    parser.add_argument("--seed", type=Number(SEED), default=0)
    options = parser.parse_args(args)
    _check_out(options.out, is_new=True)
    from r1omni.models.fresh import create_model

    texts = [text for file in options.texts for text in _texts(file)]
    count = create_model(options.sizes, texts, options.out, options.seed)
    print(f"{options.out}: {count / 1e6:.1f} million parameters")


def _texts(file: Path) -> Iterator[str]:
    """Every string in a file of annotations."""
    if not file.is_file():
        raise UsageError(f"--texts {file}: there is no such file")
    content = file.read_text(encoding="utf-8")
    if file.suffix != ".json":
        yield from content.splitlines()
        return
    waiting = [json.loads(content)]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)


def pretrain_towers(args: list[str]) -> None:
    """Pretrain the towers of a fresh mini model on rendered faces and voices."""
    parser = _parser("pretrain-towers", pretrain_towers)
    parser.add_argument("--model", type=Path, required=True, help="model folder to start from")
    parser.add_argument("--out", type=Path, required=True, help="model folder to write")
    clips, steps = Number(at_least(2, CLIPS.high)), Number(at_least(1))
    parser.add_argument("--clips", type=clips, default=2000, help="rendered clips")
    parser.add_argument("--vision-steps", type=steps, default=1500, help="optimizer steps")
    parser.add_argument("--audio-steps", type=steps, default=900, help="optimizer steps")
    parser.add_argument("--seed", type=Number(SEED), default=0)
    options = parser.parse_args(args)
    _check_out(options.out, is_new=True)
    from r1omni.training.towers import pretrain_towers as train

    accuracy = train(
        options.model,
        options.out,
        clips=options.clips,
        vision_steps=options.vision_steps,
        audio_steps=options.audio_steps,
        seed=options.seed,
    )
    print(json.dumps({"held_out_accuracy": {k: round(v, 3) for k, v in accuracy.items()}}))


def analyze(args: list[str]) -> None:
    """Say which emotion recordings show, and why, as JSON lines."""
    parser = _parser("analyze", analyze)
    parser.add_argument("paths", type=Path, nargs="+", help="recordings, or folders of them")
    parser.add_argument(
        "--model", required=True, help="model folder, or owner/name[@revision] on the hub"
    )
    parser.add_argument("--modality", choices=MODALITIES, default="video_audio")
    seconds = Number(SECONDS, float)
    parser.add_argument("--window-s", type=seconds, help="seconds of a window; the whole recording")
    parser.add_argument("--hop-s", type=seconds, help="seconds between windows; one window")
    parser.add_argument("--device", default="cpu", help="torch device")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="of the weights")
    parser.add_argument("--max-new-tokens", type=Number(TOKENS), default=512)
    parser.add_argument(
        "--answer-mode", choices=ANSWER_MODES, default="think",
        help="after reasoning that the model writes, direct (without), or both",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, default=None, help="file to write; standard output")
    options = parser.parse_args(args)
    from r1omni.analysis.recordings import find_recordings, open_output, write_analyses
    from r1omni.media.windows import windows

    windows(0.0, options.window_s, options.hop_s)  # lengths that are none
    recordings, missing, notes = find_recordings(options.paths)
    for note in notes:
        print(note, file=sys.stderr)
    with open_output(options.out, recordings) as out:
        from r1omni.models.pipeline import R1Omni

        omni = R1Omni.from_pretrained(options.model, device=options.device, dtype=options.dtype)
        if options.out is not None and options.out.is_file():
            out.truncate(0)  # not before the model is there
        write_analyses(
            omni,
            recordings,
            missing,
            out,
            modality=options.modality,
            window_s=options.window_s,
            hop_s=options.hop_s,
            max_new_tokens=options.max_new_tokens,
            answer_mode=options.answer_mode,
        )


def export(args: list[str]) -> None:
    """Write the model of a training checkpoint as a folder in the released layout."""
    parser = _parser("export", export)
    parser.add_argument(
        "--ckpt_path",
        "--ckpt-path",
        type=Path,
        required=True,
        help="checkpoint, or the folder of a run for its newest one",
    )
    parser.add_argument("--out", type=Path, required=True, help="model folder to write")
    parser.add_argument("--model", help="model the run started from; as the checkpoint says")
    parser.add_argument("--dtype", choices=DTYPES, help="of the weights; float32, as trained")
    options = parser.parse_args(args)
    _check_out(options.out)
    from r1omni.training.checkpoints import export_checkpoint

    export_checkpoint(options.ckpt_path, options.out, options.model, options.dtype)
    print(f"{options.out} is a model folder; `analyze --model {options.out}` uses it")


def report(args: list[str]) -> None:
    """Write results.json and report.html from runs that were tested."""
    parser = _parser("report", report)
    parser.add_argument("--runs", nargs="+", required=True, metavar="NAME=FOLDER")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--world", type=Path, default=None, help="mini-world folder, for ceilings")
    parser.add_argument("--costs", type=Path, default=None, help="JSON of times and memory")
    parser.add_argument("--tracking-uri", default="sqlite:///mlflow.db")
    options = parser.parse_args(args)
    runs = {}
    for entry in options.runs:
        name, separator, folder = entry.partition("=")
        if not separator:
            raise UsageError(f"--runs {entry}: write NAME=FOLDER")
        if name in runs:
            raise UsageError(f"--runs {entry}: there is a run named {name} already; name it apart")
        runs[name] = Path(folder)
    _check_out(options.out)
    from r1omni.analysis.report import table_text, write_report

    results = write_report(
        runs, options.out, options.world, options.costs, tracking_uri=options.tracking_uri
    )
    print(table_text(results))
    print(f"\n{options.out / 'report.html'} is the page; `mlflow ui` shows the runs")


def score(args: list[str]) -> None:
    """Compute every figure of `test` again from its predictions, without a model."""
    parser = _parser("score", score)
    parser.add_argument(
        "predictions", type=Path, nargs="+", help="<set>.<condition>.jsonl files, or run folders"
    )
    parser.add_argument(
        "--label-set", choices=[*LABEL_SETS], help="the classes; as the predictions say"
    )
    parser.add_argument("--out", type=Path, help="new folder for results.json; none is written")
    options = parser.parse_args(args)
    from r1omni.analysis.scores import scores_text, write_scores

    print(scores_text(write_scores(options.predictions, options.out, options.label_set)))


def doctor(args: list[str]) -> None:
    """Check this machine, a model and data, and say what to do about each problem."""
    parser = _parser("doctor", doctor)
    parser.add_argument("--data", type=Path, help="folder that holds DFEW, MAFW, RAVDESS, ...")
    parser.add_argument("--model", help="model folder, or owner/name[@revision] on the hub")
    for tower, kind in (
        ("--vision-tower", "SigLIP tower"),
        ("--audio-tower", "Whisper tower"),
        ("--text-encoder", "BERT encoder"),
    ):
        parser.add_argument(tower, help=f"folder or hub id of the {kind}; found by itself")
    parser.add_argument("--device", default="cpu", help="torch device the model is tried on")
    parser.add_argument(
        "--dtype", default="float32", choices=DTYPES,
        help="type of the weights while the model is tried",
    )  # fmt: skip
    options = parser.parse_args(args)
    if options.data is not None and not options.data.is_dir():
        raise UsageError(f"--data {options.data}: there is no such folder")
    towers = (options.vision_tower, options.audio_tower, options.text_encoder)
    if options.model is None and any(tower is not None for tower in towers):
        raise UsageError("a tower belongs to a model; give --model as well")
    from r1omni.doctor.examine import examine
    from r1omni.doctor.model import ModelRequest

    model = None
    if options.model is not None:
        model = ModelRequest(options.model, *towers, options.device, options.dtype)
    examine(model, options.data)


def describe_voices(args: list[str]) -> None:
    """Measure the voices of a data set and write explanations of them, by machine."""
    parser = _parser("describe-voices", describe_voices)
    parser.add_argument("--dataset", required=True, help="dfew, mafw, ravdess, emer, own, ...")
    parser.add_argument("--root", required=True, help="its folder, or the table of own clips")
    parser.add_argument("--split", default="all", help="train, test or all")
    parser.add_argument(
        "--option", action="append", default=[], metavar="NAME=VALUE",
        help="option of the loader, such as fold=1; may be repeated",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, help="new folder to write")
    parser.add_argument("--count", type=Number(CLIPS), help="describe so many clips; all")
    parser.add_argument("--share", type=Number(above(0, 1), float), help="describe this share")
    parser.add_argument("--without-labels", action="store_true", help="do not read any label")
    parser.add_argument(
        "--leave-out", nargs="+", default=(), metavar="MEASURE", help="loudness, ..."
    )
    parser.add_argument("--seed", type=Number(SEED), default=0, help="of the wording, the choice")
    workers = Number(at_least(1, WORKERS.high))
    parser.add_argument("--num-workers", type=workers, default=2, help="processes")
    options = parser.parse_args(args)
    _check_out(options.out, is_new=True)
    from r1omni.data.registry import DatasetSpec
    from r1omni.voices import describe

    loading = dict(_setting(entry) for entry in options.option)
    spec = DatasetSpec(options.dataset, options.root, split=options.split, options=loading)
    request = describe.Request(
        spec, options.out, options.count, options.share, not options.without_labels,
        tuple(options.leave_out), options.seed, options.num_workers,
    )  # fmt: skip
    done = describe.describe_voices(request)
    print(json.dumps(done))
    if done["unreadable"]:
        failed = f"{done['unreadable']} clips could not be read, see above"
        raise R1OmniError(f"{failed}; the others are described in {options.out}")


def _setting(entry: str) -> tuple[str, Any]:
    """NAME=VALUE, the value as YAML reads it."""
    import yaml

    name, separator, value = entry.partition("=")
    if not (separator and name):
        raise UsageError(f"--option {entry}: write NAME=VALUE")
    try:
        return name, yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise UsageError(f"--option {entry}: its value cannot be read as YAML") from error


COMMANDS: dict[str, Callable[[list[str]], None]] = {
    "synthesize": synthesize,
    "create": create,
    "pretrain-towers": pretrain_towers,
    "analyze": analyze,
    "export": export,
    "report": report,
    "score": score,
    "doctor": doctor,
    "describe-voices": describe_voices,
}
