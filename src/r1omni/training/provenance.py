"""What a result came from, as it is recorded beside the figures.

Reports state of a run what is recorded here, and nothing else.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import r1omni
from r1omni.data.registry import DatasetSpec, options_in_force
from r1omni.models.parts import PARTS
from r1omni.models.weights import sha256
from r1omni.training.checkpoints import newest_checkpoint
from r1omni.training.stages import run_of, stages
from r1omni.types import Sample

if TYPE_CHECKING:
    from r1omni.training.evaluated import EvaluatedModule

_WEIGHTS = ("*.safetensors", "*.bin", "*.pt", "*.pth")
_PACKAGES = ("torch", "transformers", "lightning", "tokenizers", "av")
# Different questions of a set that are kept; a conversation's are as many as its clips.
_NUM_INSTRUCTIONS = 5


def provenance(module: EvaluatedModule, split: str) -> dict[str, Any]:
    """What is evaluated, on what and how; plain values, for JSON.

    Args:
        module: the model, its trainer attached, and any checkpoint loaded.
        split: "test" or "predict".

    Returns:
        run: name of the run, or None.
        model: its class, number of parameters and sizes.
        start: where its weights came from before a checkpoint's were put over them, the commits
            of what came from the hub, the pretrained parts that `create` was given, and the
            SHA-256 of their files.
        checkpoint: path, SHA-256, optimizer steps, and whether it is the newest of its run; None
            where the start itself was evaluated.
        training: the recorded stages of training, the last one first; see `stages`.
        sets: for each set its data set, split, options (fold, protocol, actors, ..., defaults
            included), what was asked, and the units of resampling, such as actors.
        answers: how answers were drawn.
        versions: of Python and packages.
        source_sha256: of this package's own files, since a version may have several states.
        date: when the evaluation began, UTC.

    Raises:
        R1OmniError: the configuration beside a checkpoint or a model cannot be read.
    """
    trainer = module.trainer
    checkpoint = None if trainer.ckpt_path is None else Path(str(trainer.ckpt_path)).resolve()
    data = module.datamodule
    names = dict.fromkeys(entry.name for entry in data.evaluation_sets(split))
    # What could not be decoded was asked for, too, and counts as wrong.
    asked = [
        [*samples, *(sample for sample, _ in left_out)]
        for samples, left_out in zip(data.samples[split], data.unreadable[split], strict=True)
    ]
    sets = zip(names, data.specs[split], asked, strict=True)
    return {
        "run": getattr(trainer.logger, "run_name", None),
        "model": {
            "class": type(module).__name__,
            "num_parameters": sum(p.numel() for p in module.model.parameters()),
            "architecture": module.model.config.architecture(),
        },
        "start": {
            "init_from": module.init_from,
            "hub": module.omni.origin,
            "parts": module.model.config.released.get(PARTS, {}),
            "sha256": sha256(_weight_files(module.omni.folder.main)),
        },
        "checkpoint": None if checkpoint is None else _checkpoint(checkpoint, module.loaded_step),
        "training": stages(run_of(checkpoint, module.init_from)),
        "sets": {name: _set(spec, samples) for name, spec, samples in sets},
        "answers": {
            "temperature": 0.0,
            "max_new_tokens": module.max_new_tokens,
            "frame_fit": module.omni.processor.config.frame_fit,
            "precision": trainer.precision,
            "num_ranks": trainer.world_size,
            **({} if data.answer_mode == "think" else {"mode": data.answer_mode}),
            **({"voting": asdict(data.voting)} if split == "test" and data.voting.samples else {}),
        },
        "versions": {
            "r1omni": r1omni.__version__,
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in _PACKAGES},
        },
        "source_sha256": sha256(sorted(Path(str(r1omni.__file__)).parent.rglob("*.py"))),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _checkpoint(path: Path, step: int | None) -> dict[str, Any]:
    run = run_of(path, "")
    newest = None if run is None else newest_checkpoint(run)
    files = sorted(f for f in path.rglob("*") if f.is_file()) if path.is_dir() else [path]
    return {
        "path": str(path),
        "sha256": sha256(files),
        "step": step,
        "is_newest": newest is not None and newest.resolve() == path,
    }


def _weight_files(folder: Path) -> list[Path]:
    return sorted(file for pattern in _WEIGHTS for file in folder.glob(pattern))


def _set(spec: DatasetSpec, samples: Sequence[Sample]) -> dict[str, Any]:
    instructions = sorted({sample.instruction for sample in samples})
    groups = {sample.group for sample in samples}
    return {
        "dataset": spec.name,
        "root": str(spec.root),
        "split": spec.split,
        "sampling": spec.sampling,
        "seed": spec.seed,
        "options": options_in_force(spec),
        "num_samples": len(samples),
        "modalities": sorted({sample.modality for sample in samples}),
        "instructions": instructions[:_NUM_INSTRUCTIONS],
        "num_instructions": len(instructions),
        "groups": None if None in groups else sorted(map(str, groups)),
    }
