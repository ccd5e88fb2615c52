"""The plain commands of the command line, by their names."""

from __future__ import annotations

from collections.abc import Callable

from r1omni.commands import making, serving, showing, using

COMMANDS: dict[str, Callable[[list[str]], None]] = {
    "synthesize": making.synthesize,
    "create": making.create,
    "pretrain-towers": making.pretrain_towers,
    "describe-voices": making.describe_voices,
    "folds": making.folds,
    "analyze": using.analyze,
    "export": making.export,
    "report": using.report,
    "score": using.score,
    "compare": using.compare,
    "doctor": using.doctor,
    "serve": serving.serve,
    "demo": showing.demo,
}
