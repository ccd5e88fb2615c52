"""docs/configuration.md: every option of a configuration file, from the typed classes themselves.

    python scripts/write_configuration.py

Names, types and defaults are those of the constructors, ranges those of `RANGES`, and descriptions
those of the docstrings, so the page cannot say anything else than `--help` does.
"""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import re
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from script_options import ScriptParser

from r1omni.data import EmotionDataModule
from r1omni.data.loader_config import LoaderConfig
from r1omni.data.registry import DatasetSpec, dataset_names, get_loader
from r1omni.data.voting import Voting
from r1omni.models.adapters import LoRAConfig
from r1omni.models.parallelize import ShardingConfig
from r1omni.ops import Chord, GRPOLossConfig, MaskedModality
from r1omni.options import FINITE, Range, choices_of
from r1omni.rewards import COLUMNS, RewardSpec, get_reward
from r1omni.rewards.registry import reward_names
from r1omni.rewards.schedule import RewardGate, RewardSchedule
from r1omni.training import (
    FSDP2Strategy,
    GRPOConfig,
    GRPOModule,
    OptimizerConfig,
    SFTModule,
)
from r1omni.training.adaptive_entropy import AdaptiveEntropy
from r1omni.training.lightning_cli import TRAINER_DEFAULTS
from r1omni.training.logger import KeepBest, RunConfig
from r1omni.training.module import EmotionModule
from r1omni.training.renamed import METRICS, OPTIONS, REWARDS
from r1omni.training.trainer_options import RANGES, REFUSED

PAGE = Path(__file__).resolve().parents[1] / "docs" / "configuration.md"
_ENTRY = re.compile(r"^    (\w+(?:, \w+)*): (.*)$")
_NUMBERS = {int: "whole number", float: "number", bool: "`true`, `false`", str: "text"}
_SHARED = {"root", "split", "instruction", "modality"}
# Which module or data set may be given further options, and what a section holds.
_SECTIONS = {
    LoRAConfig: "section, below",
    OptimizerConfig: "section, below",
    GRPOConfig: "section, below",
    GRPOLossConfig: "section, below",
    MaskedModality: "section, below",
    Chord: "section, below",
    AdaptiveEntropy: "section, below",
    LoaderConfig: "section, below",
    ShardingConfig: "section, below",
    KeepBest: "section, below",
    Voting: "section, below",
    DatasetSpec: "data sets, below",
    RewardSpec: "rewards, below",
    RewardSchedule: "section, below",
    RewardGate: "section, below",
}


@dataclasses.dataclass(frozen=True)
class Option:
    """A row of the page.

    Attributes:
        name: as it is written in YAML, within its section.
        kind: type or choices, in words.
        default: as YAML, or "needed".
        allowed: range in words, or "".
        text: what it is.
    """

    name: str
    kind: str
    default: str
    allowed: str
    text: str


def described(target: Any) -> dict[str, str]:
    """The entries of a docstring's Args or Attributes, each on one line."""
    lines = (inspect.getdoc(target) or "").splitlines()
    entries: dict[str, str] = {}
    names: list[str] = []
    inside = False
    for line in lines:
        if line.rstrip() in ("Args:", "Attributes:"):
            inside = True
        elif line and not line.startswith(" "):
            inside = False
        elif inside and (found := _ENTRY.match(line)):
            names = found[1].split(", ")
            entries |= dict.fromkeys(names, found[2].strip())
        elif inside and line.strip():
            entries |= {name: f"{entries[name]} {line.strip()}" for name in names}
    return entries


def options_of(target: Any, leave_out: set[str] | None = None) -> list[Option]:
    """The options of a class, or of a function's keywords, in the order of its signature."""
    source = target.__init__ if inspect.isclass(target) else target
    hints = typing.get_type_hints(target if dataclasses.is_dataclass(target) else source)
    ranges: Mapping[str, Range] = getattr(target, "RANGES", {})
    texts = {**_own_texts(EmotionModule), **_own_texts(target)}
    return [
        Option(name, in_words(hints[name]), default_of(target, parameter),
               _range(ranges.get(name)), _with_condition(texts.get(name, ""), target, name))
        for name, parameter in inspect.signature(target).parameters.items()
        if name not in (leave_out or set()) and name in hints
    ]  # fmt: skip


def _with_condition(text: str, target: Any, name: str) -> str:
    """A description, and what the option needs to have an effect (`ONLY_WITH`)."""
    needed = {
        OptimizerConfig: {k.removeprefix("optimizer."): c for k, c in SFTModule.ONLY_WITH.items()},
        GRPOLossConfig: {
            k.removeprefix("loss."): replace(c, other=c.other.removeprefix("loss."))
            for k, c in GRPOConfig.ONLY_WITH.items() if k.startswith("loss.")
        },
    }  # fmt: skip
    conditions = {**needed.get(target, {}), **getattr(target, "ONLY_WITH", {})}
    if name not in conditions:
        return text
    condition = conditions[name]
    return f"{text} Only with `{condition.other}` {condition.what}; refused elsewhere."


def _own_texts(target: Any) -> dict[str, str]:
    """Those of a docstring that do not point to the class above it, in YAML's words."""
    return {
        name: re.sub(r"\bNone\b", "null", text.removeprefix("option; "))
        for name, text in described(target).items()
        if "as for `EmotionModule`" not in text
    }


def in_words(hint: Any) -> str:
    """A type as a reader of YAML understands it."""
    choices, is_list, optional = choices_of(hint)
    if choices:
        words = ", ".join(f"`{choice}`" for choice in choices)
        return ("any of " if is_list else "") + words + (" or null" if optional else "")
    origin, members = typing.get_origin(hint), typing.get_args(hint)
    if type(None) in members:
        others = [in_words(member) for member in members if member is not type(None)]
        return f"{', '.join(others)} or null"
    if origin is tuple:
        return f"{len(members)} {in_words(members[0])}s"
    if origin is not None and origin is not dict:
        return f"list of: {in_words(members[0])}"
    if origin is dict:
        return "mapping"
    return _SECTIONS.get(hint) or _NUMBERS[hint]


def default_of(target: Any, parameter: inspect.Parameter) -> str:
    """The default as YAML has it."""
    value = parameter.default
    if value is inspect.Parameter.empty:
        return "needed"
    if dataclasses.is_dataclass(target):  # some are made anew for each object
        field = target.__dataclass_fields__[parameter.name]
        if field.default_factory is not dataclasses.MISSING:
            value = field.default_factory()
    if not dataclasses.is_dataclass(value):
        return f"`{_as_yaml(value)}`"
    changed = _changed(value)
    return f"as below, but `{_as_yaml(changed)}`" if changed else "as below"


def _changed(value: Any) -> dict[str, Any]:
    """What an options object has otherwise than its class."""
    fields = ((field, getattr(value, field.name)) for field in dataclasses.fields(value))
    usual = {
        field.name: field.default_factory()
        for field in dataclasses.fields(value)
        if field.default_factory is not dataclasses.MISSING
    }
    return {f.name: own for f, own in fields if own != usual.get(f.name, f.default)}


def _as_yaml(value: Any) -> str:
    if dataclasses.is_dataclass(value):
        value = _changed(value)
    if isinstance(value, tuple):
        value = list(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_as_yaml, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_as_yaml(entry)}' for key, entry in value.items())}}}"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def _range(allowed: Range | None) -> str:
    if allowed is None or allowed == FINITE:
        return ""
    parts = []
    if allowed.low > FINITE.low:
        parts.append(f"{'above' if allowed.above else 'from'} {allowed.low:g}")
    if allowed.high < FINITE.high:
        parts.append(f"{'below' if allowed.below else 'to'} {allowed.high:.10g}")
    return " ".join(parts)


def table(options: list[Option]) -> Iterator[str]:
    yield "| option | value | default | range | |"
    yield "|---|---|---|---|---|"
    for option in options:
        cells = (option.kind, option.default, option.allowed, option.text)
        row = " | ".join(cell.replace("|", "\\|") for cell in cells)
        yield f"| `{option.name}` | {row} |"
    yield ""


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        title: what a reader is after.
        key: where the options stand in YAML, or "".
        text: a few words on it.
        options: the options, or none.
    """

    title: str
    key: str
    text: str
    options: list[Option]


def sections() -> list[Section]:
    """The page, in its order."""
    grpo, sft = (options_of(kind) for kind in (GRPOModule, SFTModule))
    both = {option.name for option in options_of(EmotionModule)}
    shared = [option for option in sft if option.name in both]
    model = "model.init_args"
    return [
        Section("What is trained, and from where", model,
                "`model.class_path` is `r1omni.training.SFTModule` or "
                "`r1omni.training.GRPOModule`; these are for both.", shared),
        Section("Supervised training", model, "Of `SFTModule` alone.",
                [option for option in sft if option not in shared]),
        Section("Rates", f"{model}.optimizer", "AdamW.", options_of(OptimizerConfig)),
        Section("Adapters (LoRA)", f"{model}.lora", "`configs/overlay/lora.yaml`.",
                options_of(LoRAConfig)),
        Section("Reinforcement learning: what differs", model,
                "Of `GRPOModule`: its own `grpo`, and another default of these.",
                [option for option in grpo if option not in shared]),
        Section("Sampling, rewards and updates", f"{model}.grpo",
                "The defaults are R1-Omni's. `configs/overlay/` has named variants.",
                options_of(GRPOConfig)),
        Section("Loss", f"{model}.grpo.loss", "Names are TRL's.", options_of(GRPOLossConfig)),
        Section("Dependence on the media", f"{model}.grpo.masked_modality",
                "A term of the loss; [explanations.md](explanations.md#training-the-dependence) "
                "has its formula.", options_of(MaskedModality)),
        Section("Imitation beside the rollouts (CHORD)", f"{model}.grpo.chord",
                "A supervised term on `data.expert`.", options_of(Chord)),
        Section("An entropy to hold", f"{model}.grpo.adaptive_entropy", "",
                options_of(AdaptiveEntropy)),
        Section("Rewards", f"{model}.grpo.rewards[]",
                "[rewards.md](rewards.md) says what each pays for.", options_of(RewardSpec)),
        *_functions("Reward", reward_names(), lambda name: get_reward(name),
                    {"completions", "labels", "columns", "return", *COLUMNS}),
        Section("When a reward weighs", f"{model}.grpo.rewards[].schedule",
                "[rewards.md](rewards.md#late-rewards) has an example.",
                options_of(RewardSchedule)),
        Section("What a reward waits for", f"{model}.grpo.rewards[].schedule.gate", "",
                options_of(RewardGate)),
        Section("Data", "data", "", options_of(EmotionDataModule)),
        Section("Data sets",
                "data.train[], data.val[], data.test[], data.predict[], data.expert[]", "",
                options_of(DatasetSpec)),
        *_functions("Data set", dataset_names(), get_loader, {*_SHARED, "return"}),
        Section("Batches, processes and the cache of clips", "data.loader", "",
                options_of(LoaderConfig)),
        Section("Answers that vote", "data.voting",
                "[evaluation.md](evaluation.md#several-answers-that-vote) has what comes of it.",
                options_of(Voting)),
        Section("Tracking and checkpoints", "run", "", options_of(RunConfig)),
        Section("The best checkpoint", "run.keep_best", "", options_of(KeepBest)),
        Section("Several GPUs: FSDP2", "trainer.strategy.init_args",
                "`trainer.strategy.class_path` is `r1omni.training.FSDP2Strategy`: "
                "`configs/overlay/fsdp.yaml`. `configs/overlay/ddp.yaml` has Lightning's DDP.",
                options_of(FSDP2Strategy)),
        Section("Sharding", "trainer.strategy.init_args.sharding", "",
                options_of(ShardingConfig)),
    ]  # fmt: skip


def _functions(
    what: str, names: tuple[str, ...], find: Callable[[str], Any], leave_out: set[str]
) -> Iterator[Section]:
    """Options of rewards and data sets that have some."""
    for name in names:
        options = options_of(find(name), leave_out)
        if options:
            yield Section(f"{what} `{name}`", "options", "", options)


def page() -> str:
    """The text of the page."""
    lines = [
        "# Configuration",
        "",
        "Every option of a configuration file, written from the classes that take them by "
        "`python scripts/write_configuration.py`; a test holds that it is up to date. `python "
        "-m r1omni fit --help-all` says the same. An option is given in a file, in an overlay, "
        "or on the command line by its dotted name, such as `--data.loader.batch_size 8`. A "
        "value of another type, outside its range or that is none of the choices is refused by "
        "its name, with status 2, before anything is loaded. So is another `class_path` than a "
        "file's where settings of the file's own class would be lost, and a setting that a file "
        "has twice. A list of sections that is given again, such as data sets, rewards or "
        "callbacks, takes the place of the former one as a whole; `--data.train+` appends.",
        "",
        "It does not list what a model folder fixes (architecture, frames, sampling rate), and the "
        "arguments of `analyze`, `export` and the other plain commands, which `--help` of each "
        "does.",
        "",
        "`seed_everything` (0) is the one seed of a run: of fresh adapters, and of whatever has a "
        "seed of its own that is not given. Which clips a `sampling` takes is no matter of a run, "
        "and follows the data set's own `seed`.",
        "",
    ]
    for section in sections():
        is_part = section.key == "options"
        lines += [f"{'###' if is_part else '##'} {section.title}", ""]
        if not is_part:
            lines += [f"In `{section.key}`. {section.text}".rstrip(), ""]
        lines += table(section.options)
    return "\n".join([*lines, *_trainer(), *_renamed()])


def _trainer() -> Iterator[str]:
    yield from (
        "## Lightning's Trainer",
        "",
        "In `trainer`. Options are [Lightning's](https://lightning.ai/docs/pytorch/2.6.1/common/"
        "trainer.html). `default_root_dir` is the run's folder and has to be set; `max_steps` is "
        "where a training and its schedule end; `precision` is `32-true` or `bf16-mixed`. Other "
        "defaults than Lightning's:",
        "",
        *(f"- `{name}`: `{_as_yaml(value)}`" for name, value in TRAINER_DEFAULTS.items()),
        "",
        "Numbers that are refused outside their range in a training:",
        "",
        *(f"- `{name}`: {_range(allowed)}" for name, allowed in RANGES.items()),
        "",
        "What a run has in other places; values that could not be honoured are refused:",
        "",
        *(f"- `{name}`: {instead}" for name, (_, instead) in REFUSED.items()),
        "",
    )


def _renamed() -> Iterator[str]:
    yield from (
        "## Old names",
        "",
        "Accepted for one release, with a warning (`src/r1omni/training/renamed.py`); `init_args` "
        "left out.",
        "",
        "| old | new |",
        "|---|---|",
        *(f"| `{old}` | `{new}` |" for old, new in OPTIONS.items()),
        *(f"| figure `{old}` | `{new}` |" for old, new in METRICS.items()),
        *(f"| reward `{old}` | `{new}` |" for old, new in REWARDS.items()),
        "",
    )


if __name__ == "__main__":
    ScriptParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE)
