"""Commands that use, judge and check models; each imports what it needs when it runs."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import get_args

from r1omni.commands.arguments import Number, check_out, parser_of
from r1omni.options import SECONDS, SHARE, TOKENS, WORKERS, at_least
from r1omni.text.emotions import LABEL_SETS
from r1omni.types import (
    ANSWER_MODES,
    CONDITIONS,
    DTYPES,
    EMBED_MB,
    MEDIA_ABLATIONS,
    MODALITIES,
    ComparedClips,
    Missing,
    Pairs,
    UsageError,
)

_logger = logging.getLogger(__name__)


def analyze(args: list[str]) -> None:
    """Say which emotion recordings show, and why, in the formats of other tools."""
    parser = parser_of("analyze", analyze)
    parser.add_argument(
        "paths", nargs="+", help="recordings, folders of them, patterns, or - for a list of paths"
    )
    parser.add_argument(
        "--model", required=True, help="model folder, or owner/name[@revision] on the hub"
    )
    parser.add_argument(
        "--modality", choices=MODALITIES, default="video_audio", help="what is given"
    )
    seconds = Number(SECONDS, float)
    parser.add_argument("--window-s", type=seconds, help="seconds of a window; the whole recording")
    parser.add_argument("--hop-s", type=seconds, help="seconds between windows; one window")
    parser.add_argument(
        "--intervals", type=Path,
        help="answer for these spans: TextGrid, .eaf, .srt, .vtt, table, WhisperX; or a folder",
    )  # fmt: skip
    parser.add_argument("--tier", help="of the intervals' file; the only one, or all")
    parser.add_argument("--label-set", choices=[*LABEL_SETS], default="all", help="what is scored")
    parser.add_argument("--instruction", help="the question; R1-Omni's")
    parser.add_argument(
        "--max-new-tokens", type=Number(TOKENS), default=512, help="longest answer, in tokens"
    )
    parser.add_argument(
        "--answer-mode", choices=ANSWER_MODES, default="think",
        help="after reasoning that the model writes, direct (without), or both",
    )  # fmt: skip
    parser.add_argument(
        "--media-ablation", choices=MEDIA_ABLATIONS, default="none",
        help="ask again without the sound and without the picture: direct answers, or all",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=Path, help="folder, or with a suffix a file, to write; standard output"
    )
    parser.add_argument(
        "--format", metavar="NAME,...", default="", help="more files in the folder --out: "
        "csv, parquet, srt, vtt, textgrid, eaf, labelstudio, html",
    )  # fmt: skip
    parser.add_argument(
        "--embed", nargs="?", type=Number(at_least(1)), const=EMBED_MB, default=0, metavar="MB",
        help=f"with html: recordings are in the page, up to so many 10^6 bytes each ({EMBED_MB})",
    )  # fmt: skip
    parser.add_argument("--resume", action="store_true", help="go on where --out stops")
    parser.add_argument(
        "--retry-failed", action="store_true", help="with --resume: try again what failed"
    )
    parser.add_argument("--device", default="cpu", help="torch device")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="of the weights")
    parser.add_argument("--batch-size", type=Number(at_least(1)), default=8, help="spans at once")
    parser.add_argument(
        "--num-workers", type=Number(WORKERS), default=1, help="processes that decode; 0 for none"
    )
    parser.add_argument(
        "--decode-limit-s", type=seconds, default=120.0,
        help="seconds that decoding a window may take, or finding out how long a recording is",
    )  # fmt: skip
    options = parser.parse_args(args)
    if options.tier is not None and options.intervals is None:
        raise UsageError("--tier is of a file of intervals; give --intervals, or leave it out")
    if options.intervals is not None and options.window_s is not None:
        raise UsageError("--intervals stands in place of --window-s; leave one of them out")
    from r1omni.media.windows import windows

    windows(0.0, options.window_s, options.hop_s)  # lengths that are none
    from r1omni.recordings.output import Output

    formats = [name for name in options.format.split(",") if name]
    output = Output.of(options.out, formats, options.resume, options.retry_failed, options.embed)
    from r1omni.models.answering import Question
    from r1omni.recordings.running import analyze as run

    question = Question(
        options.modality, options.instruction, options.max_new_tokens, options.label_set,
        options.answer_mode, options.media_ablation,
    )  # fmt: skip
    run(
        options.paths, options.model, question, output,
        window_s=options.window_s, hop_s=options.hop_s, intervals=options.intervals,
        tier=options.tier, device=options.device, dtype=options.dtype,
        batch_size=options.batch_size, num_workers=options.num_workers,
        limit_s=options.decode_limit_s,
    )  # fmt: skip


def report(args: list[str]) -> None:
    """Write results.json and report.html from tested runs, or from what `score` wrote."""
    parser = parser_of("report", report)
    parser.add_argument(
        "--runs", nargs="+", required=True, metavar="NAME=FOLDER",
        help="names for the page, and the folders of the runs",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--world", type=Path, default=None, help="mini-world folder, for ceilings")
    parser.add_argument("--costs", type=Path, default=None, help="JSON of times and memory")
    # Version 0.1 read the curves from there; accepted until the next one.
    parser.add_argument("--tracking-uri", help=argparse.SUPPRESS)
    options = parser.parse_args(args)
    if options.tracking_uri is not None:
        _logger.warning("--tracking-uri does nothing; curves are read from the runs' folders")
    runs = {}
    for entry in options.runs:
        name, separator, folder = entry.partition("=")
        if not separator:
            raise UsageError(f"--runs {entry}: write NAME=FOLDER")
        if name in runs:
            raise UsageError(f"--runs {entry}: there is a run named {name} already; name it apart")
        runs[name] = Path(folder)
    check_out(options.out)
    from r1omni.analysis.report import table_text, write_report

    results = write_report(runs, options.out, options.world, options.costs)
    print(table_text(results))
    print(f"\n{options.out / 'report.html'} is the page; `mlflow ui` shows the runs")


def score(args: list[str]) -> None:
    """Compute every figure of `test` from predictions, of any system, without a model."""
    parser = parser_of("score", score)
    parser.add_argument(
        "predictions", type=Path, nargs="+", help="<set>.<condition>.jsonl files, or run folders"
    )
    parser.add_argument(
        "--references", type=Path,
        help="table of labels (CSV, JSON Lines): predictions are the answers of another system",
    )  # fmt: skip
    parser.add_argument(
        "--missing", choices=get_args(Missing),
        help="with --references: a clip without an answer; refuse",
    )  # fmt: skip
    parser.add_argument(
        "--calibrate", type=Path, metavar="VALIDATION",
        help="validation predictions, of other clips: fit a temperature of the scores on them",
    )  # fmt: skip
    parser.add_argument(
        "--target-accuracy", type=Number(SHARE, float), metavar="SHARE",
        help="with --calibrate: find the confidence from which on so many answers are right",
    )  # fmt: skip
    parser.add_argument(
        "--label-set", choices=[*LABEL_SETS], help="the classes; as the predictions say"
    )
    parser.add_argument(
        "--wheels", type=Path,
        help="folder emotion_wheel of MERTools, for answers in free words; those of r1omni",
    )  # fmt: skip
    parser.add_argument(
        "--unibench", action="store_true", help="add a table in the manner of MER-UniBench"
    )
    parser.add_argument(
        "--judge", type=Path, help="YAML file of a judge that grades reasonings: docs/judge.md"
    )
    parser.add_argument("--out", type=Path, help="new folder for results.json; none is written")
    options = parser.parse_args(args)
    if options.missing is not None and options.references is None:
        raise UsageError("--missing is about --references; give them, or leave it out")
    if options.target_accuracy is not None and options.calibrate is None:
        raise UsageError("--target-accuracy needs --calibrate; give it, or leave it out")
    from r1omni.analysis.scores import write_scores
    from r1omni.analysis.scores_text import scores_text

    results = write_scores(
        options.predictions, options.out, options.label_set, references=options.references,
        missing=options.missing or "refuse", calibrate=options.calibrate,
        accuracy=options.target_accuracy, wheels=options.wheels, judge=options.judge,
        with_unibench=options.unibench,
    )  # fmt: skip
    print(scores_text(results))


def compare(args: list[str]) -> None:
    """Say which of two or more systems is better on the same clips, and by how much."""
    parser = parser_of("compare", compare)
    parser.add_argument(
        "systems", nargs="+", metavar="[NAME=]PATH",
        help="a file of predictions, or a folder of test or score",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, help="new folder to write")
    parser.add_argument("--label-set", choices=[*LABEL_SETS], help="as the predictions say")
    parser.add_argument(
        "--condition", choices=CONDITIONS, default="full", help="of the predictions in folders"
    )
    parser.add_argument(
        "--pairs", choices=get_args(Pairs), default="all",
        help="every pair, or the first system with each other one",
    )  # fmt: skip
    parser.add_argument(
        "--clips", choices=get_args(ComparedClips), default="same",
        help="same: refuse other clips; shared: compare those that all systems answered",
    )  # fmt: skip
    options = parser.parse_args(args)
    check_out(options.out, is_new=True)
    from r1omni.analysis.comparing import comparison_text, write_comparison

    results = write_comparison(
        options.systems, options.out, options.label_set, options.condition, options.pairs,
        options.clips,
    )  # fmt: skip
    print(comparison_text(results))
    print(f"\n{options.out / 'compare.html'} is the page")


def doctor(args: list[str]) -> None:
    """Check this machine, a model and data, and say what to do about each problem."""
    parser = parser_of("doctor", doctor)
    parser.add_argument("--data", type=Path, help="folder that holds DFEW, MAFW, RAVDESS, ...")
    parser.add_argument(
        "--every-clip",
        action="store_true",
        help="with --data: open every recording, and find the silent and the doubled ones",
    )
    parser.add_argument(
        "--num-workers", type=Number(at_least(1, WORKERS.high)), default=2,
        help="with --every-clip: processes that open recordings",
    )  # fmt: skip
    parser.add_argument("--json", type=Path, help="file for all findings and counts")
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
    if options.every_clip and options.data is None:
        raise UsageError("--every-clip is of data; give --data as well")
    if "num_workers" in parser.given and not options.every_clip:
        raise UsageError("--num-workers opens recordings; give --every-clip as well")
    if options.json is not None and options.json.is_dir():
        raise UsageError(f"--json {options.json}: is a folder; name a file")
    towers = (options.vision_tower, options.audio_tower, options.text_encoder)
    if options.model is None and any(tower is not None for tower in towers):
        raise UsageError("a tower belongs to a model; give --model as well")
    from r1omni.doctor.examine import examine
    from r1omni.doctor.model import ModelRequest

    model = None
    if options.model is not None:
        model = ModelRequest(options.model, *towers, options.device, options.dtype)
    num_workers = options.num_workers if options.every_clip else None
    examine(model, options.data, num_workers, options.json)
