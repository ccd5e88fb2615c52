"""How much of the code one step of GRPO crosses: files, functions and lines, by running it.

    python scripts/step_lines.py                    # this checkout
    python scripts/step_lines.py --source OTHER     # the package of another one

A step of the paper's settings runs on a small random model; whatever of r1omni is entered while
`training_step` runs is counted. A reader has to follow the files of training/; the others are
looked up by name.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


class Trace:
    """The functions of a package that run while it is set as the profiler of Python."""

    def __init__(self, package: Path) -> None:
        self.package = str(package)
        self.entered: dict[str, set[CodeType]] = defaultdict(set)

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        name = frame.f_code.co_filename
        if event == "call" and name.startswith(self.package):
            self.entered[name].add(frame.f_code)

    def figures(self) -> dict[str, Any]:
        """Of the files that were entered: how many, their lines, and those of what ran in them."""
        rows = {}
        for name, codes in sorted(self.entered.items()):
            lines = {line for code in codes for _, _, line in code.co_lines() if line}
            rows[str(Path(name).relative_to(self.package))] = {
                "lines_of_the_file": len(Path(name).read_text(encoding="utf-8").splitlines()),
                "functions": len({code.co_qualname for code in codes}),
                "lines_that_ran": len(lines),
            }
        return {
            "files": len(rows),
            "lines_of_the_files": sum(row["lines_of_the_file"] for row in rows.values()),
            "lines_that_ran": sum(row["lines_that_ran"] for row in rows.values()),
            "training_files": [name for name in rows if name.startswith("training/")],
            "by_file": rows,
        }


def traced_step() -> dict[str, Any]:
    """The figures of one `training_step`."""
    sys.path.insert(0, str(ROOT / "scripts" / "gpu_parts"))
    import lightning as L
    import noise

    import r1omni
    from r1omni.rewards import RewardSpec
    from r1omni.training import GRPOConfig, GRPOModule

    trace = Trace(Path(r1omni.__file__).parent)

    class Traced(GRPOModule):
        def training_step(self, *arguments: Any) -> None:
            sys.setprofile(trace)
            try:
                super().training_step(*arguments)
            finally:
                sys.setprofile(None)

    with tempfile.TemporaryDirectory() as scratch:
        folder = noise.model_folder("mini", Path(scratch) / "mini", "cpu")
        rewards = [RewardSpec("accuracy"), RewardSpec("format")]
        module = Traced(str(folder), grpo=GRPOConfig(max_new_tokens=8, rewards=rewards))
        data = noise.NoiseData(module.omni.model.config, 2, 1)
        trainer = L.Trainer(
            accelerator="cpu", max_steps=1, logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False,
            use_distributed_sampler=False, default_root_dir=scratch,
        )  # fmt: skip
        trainer.fit(module, data)
    return trace.figures()


def main() -> None:
    # Not `ScriptParser`: it is of this checkout, and `--source` may name another.
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", type=Path, default=ROOT, help="checkout whose src is counted")
    sys.path.insert(0, str(parser.parse_args().source / "src"))
    print(json.dumps(traced_step(), indent=2))


if __name__ == "__main__":
    main()
