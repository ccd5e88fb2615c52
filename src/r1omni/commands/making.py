"""Commands that make worlds, models and explanations; each imports what it needs when it runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from r1omni.commands.arguments import Number, check_out, parser_of
from r1omni.options import CLIPS, SEED, WORKERS, above, at_least
from r1omni.types import DTYPES, R1OmniError, UsageError, why_no_file


def synthesize(args: list[str]) -> None:
    """Render the mini-world: clips and annotations in the publishers' layouts."""
    parser = parser_of("synthesize", synthesize)
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    clips, workers = Number(CLIPS), Number(at_least(1, WORKERS.high))
    parser.add_argument("--clips", type=clips, default=2000, help="clips in all, about")
    parser.add_argument("--seed", type=Number(SEED), default=0, help="of all that is drawn")
    parser.add_argument("--num-workers", type=workers, default=None, help="processes; all cores")
    options = parser.parse_args(args)
    check_out(options.out)
    from r1omni.world.synthesize import synthesize as write_world

    world = write_world(options.out, options.clips, options.seed, options.num_workers)
    print(json.dumps({"out": str(options.out), "ceiling": world["ceiling"]}))


def create(args: list[str]) -> None:
    """Create a model folder from sizes and texts, around pretrained parts where they are given."""
    parser = parser_of("create", create)
    parser.add_argument(
        "--sizes", type=Path,
        help="YAML of model sizes: omni, and a section for each part that is not given; not needed "
        "where all four are",
    )  # fmt: skip
    parser.add_argument(
        "--texts", type=Path, nargs="+",
        help="JSON or CSV files for the tokenizers; not needed with --language-model",
    )  # fmt: skip
    for option, family in (
        ("--language-model", "a Qwen2 model, its tokenizer too"),
        ("--vision-tower", "SigLIP"),
        ("--audio-tower", "Whisper of any size, of which the encoder is used"),
        ("--text-encoder", "BERT, its tokenizer too"),
    ):
        parser.add_argument(option, help=f"folder or hub id of {family}; random weights")
    parser.add_argument("--out", type=Path, required=True, help="model folder to write")
    parser.add_argument(
        "--dtype", choices=DTYPES, default="float32", help="of all weights; float32"
    )
    parser.add_argument("--seed", type=Number(SEED), default=0, help="of random weights; 0")
    options = parser.parse_args(args)
    check_out(options.out, is_new=True)
    from r1omni.models.fresh import create_model

    texts = options.texts and [text for file in options.texts for text in _texts(file)]
    parts = {
        "language": options.language_model,
        "vision": options.vision_tower,
        "audio": options.audio_tower,
        "text": options.text_encoder,
    }
    given = {name: source for name, source in parts.items() if source is not None}
    count = create_model(
        options.sizes, texts, options.out, options.seed, parts=given, dtype=options.dtype
    )
    print(f"{options.out}: {count / 1e6:.1f} million parameters")


def _texts(file: Path) -> Iterator[str]:
    """Every string in a file of annotations."""
    if not file.is_file():
        raise UsageError(f"--texts {file}: {why_no_file(file)}")
    try:
        content = file.read_text(encoding="utf-8")
        waiting = [json.loads(content)] if file.suffix == ".json" else [content.splitlines()]
    except ValueError as error:  # of either
        raise UsageError(f"--texts {file}: cannot be read ({error}); mend the file") from error
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
    parser = parser_of("pretrain-towers", pretrain_towers)
    parser.add_argument("--model", type=Path, required=True, help="model folder to start from")
    parser.add_argument("--out", type=Path, required=True, help="model folder to write")
    clips, steps = Number(at_least(2, CLIPS.high)), Number(at_least(1))
    parser.add_argument("--clips", type=clips, default=2000, help="rendered clips")
    parser.add_argument("--vision-steps", type=steps, default=1500, help="optimizer steps")
    parser.add_argument("--audio-steps", type=steps, default=900, help="optimizer steps")
    parser.add_argument("--seed", type=Number(SEED), default=0, help="of all that is drawn")
    options = parser.parse_args(args)
    check_out(options.out, is_new=True)
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


def describe_voices(args: list[str]) -> None:
    """Measure the voices of a data set and write explanations of them, by machine."""
    from r1omni.voices.vocabulary import COMPARISONS, MEASURES

    parser = parser_of("describe-voices", describe_voices)
    parser.add_argument("--dataset", required=True, help="dfew, mafw, ravdess, emer, own, ...")
    parser.add_argument("--root", required=True, help="its folder, or the table of own clips")
    parser.add_argument("--split", default="all", help="train, test or all")
    parser.add_argument(
        "--option", action="append", default=[], metavar="NAME=VALUE",
        help="option of the loader, such as vocal=song; may be repeated",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, help="new folder to write")
    parser.add_argument("--count", type=Number(CLIPS), help="describe so many clips; all")
    parser.add_argument("--share", type=Number(above(0, 1), float), help="describe this share")
    parser.add_argument("--without-labels", action="store_true", help="do not read any label")
    parser.add_argument(
        "--reference", choices=COMPARISONS, default="neutral",
        help="compare with the speaker's neutral clips (neutral), or with all of them",
    )  # fmt: skip
    parser.add_argument(
        "--leave-out", nargs="+", default=(), choices=MEASURES, help="do not use these measures"
    )
    parser.add_argument("--seed", type=Number(SEED), default=0, help="of the wording, the choice")
    workers = Number(at_least(1, WORKERS.high))
    parser.add_argument("--num-workers", type=workers, default=2, help="processes")
    options = parser.parse_args(args)
    check_out(options.out, is_new=True)
    from r1omni.data.registry import DatasetSpec
    from r1omni.voices import describe

    loading = dict(_setting(entry) for entry in options.option)
    spec = DatasetSpec(options.dataset, options.root, split=options.split, options=loading)
    request = describe.Request(
        spec, options.out, options.count, options.share, not options.without_labels,
        options.reference, tuple(options.leave_out), options.seed, options.num_workers,
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


def export(args: list[str]) -> None:
    """Write the model of a training checkpoint as a folder in the released layout."""
    parser = parser_of("export", export)
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
    check_out(options.out)
    from r1omni.training.export import export_checkpoint

    export_checkpoint(options.ckpt_path, options.out, options.model, options.dtype)
    print(f"{options.out} is a model folder; `analyze --model {options.out}` uses it")


def folds(args: list[str]) -> None:
    """Train and test a model on each fold of its data sets: mean and deviation over folds."""
    parser = parser_of("folds", folds)
    parser.epilog = (
        "All other options are those of `fit`, --config FILE among them. {fold} in any of their "
        "texts, and in those of the files, stands for the number of the fold."
    )
    parser.allow_abbrev = False
    number = Number(at_least(2))
    parser.add_argument("--folds", type=number, required=True, help="how many there are")
    parser.add_argument("--out", type=Path, required=True, help="folder to write, or to go on in")
    parser.add_argument(
        "--only", type=Number(at_least(1)), nargs="+", default=[], metavar="FOLD",
        help="train and test these; all",
    )  # fmt: skip
    parser.add_argument(
        "--whole", nargs="+", default=[], metavar="DATASET",
        help="data sets that are the same in every fold; none",
    )  # fmt: skip
    options, words = parser.parse_known_args(args)
    beyond = [fold for fold in options.only if fold > options.folds]
    if beyond:
        raise UsageError(f"--only {beyond[0]}: there are folds 1 to {options.folds}")
    if not any(word.partition("=")[0] == "--config" for word in words):
        raise UsageError("folds needs --config FILE, as `fit` does (see `folds --help`)")
    from r1omni.studies.fold_runs import run_folds
    from r1omni.studies.fold_sets import Folding

    folding = Folding(options.folds, frozenset(options.whole))
    print(run_folds(words, options.out, folding, sorted({*options.only})))
    print(f"\n{options.out / 'results.json'} has every figure")
