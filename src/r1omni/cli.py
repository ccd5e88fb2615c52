"""The command line: LightningCLI's fit, validate, test and predict, and the plain commands.

Exit status: 0 on success, 2 on wrong use, 1 on failure, 143 when told to terminate, 130 when
interrupted. An error is one line; `--debug` adds the traceback.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from argparse import ArgumentError
from collections.abc import Callable
from typing import Any

from r1omni import commands
from r1omni.parser_lines import did_you_mean, parser_line
from r1omni.types import R1OmniError, Terminated, UsageError

_TRAINER_COMMANDS = {
    "fit": "Train a model, or resume its training",
    "validate": "Judge a model on the validation sets",
    "test": "Judge a model on the test sets",
    "predict": "Write a model's answers, without judging them",
}
_USAGE = "usage: python -m r1omni COMMAND ...\n\n  fit | validate | test | predict --config FILE"
# The parser's own page names every option, and takes ten seconds to import what they belong to.
_TRAINER_HELP = """usage: python -m r1omni {command} --config FILE [--config OVERLAY] [--OPTION X]

{does}, with the settings of a configuration file.

  --config FILE      settings of the run; what a later file sets takes the place of a former's
  --OPTION X         an option by its dotted name: --trainer.max_steps 100
  --ckpt_path last   go on from the newest checkpoint of the run's folder; best, or a path
  --print_config     print the settings that all of this makes, and do nothing
  --help-all         every option with type and default (some seconds)
  --debug            show the traceback of an error

configs/ has files to begin with; docs/configuration.md lists every option."""


def main(args: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    args = list(sys.argv[1:] if args is None else args)
    debug = "--debug" in args
    args = [arg for arg in args if arg != "--debug"]
    # Read when mlflow is first imported.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    _show_warnings()
    try:
        return _dispatch(args)
    except KeyboardInterrupt:
        return _fail("interrupted", 130, debug)
    except SystemExit as end:
        # What Lightning makes of Ctrl-C while our own answer to it is not yet in place.
        if isinstance(end.__context__, KeyboardInterrupt):
            return _fail("interrupted", 130, debug)
        raise
    except Terminated as stop:
        print(file=sys.stderr)  # off the line of the progress bar
        return _fail(str(stop), 128 + stop.signum, debug)
    except Exception as error:
        # The outermost line of defence: whatever it is, a person gets one line and a status.
        own = _own_error(error)
        if own is not None:
            return _fail(_own_line(own), 2 if isinstance(own, UsageError) else 1, debug)
        if isinstance(error, ArgumentError) or _is_of_parser(error):
            line = parser_line(_one_line(str(error)))
            unknown, is_unknown, _ = line.partition(" is no option")
            if is_unknown:
                from r1omni.training.option_names import option_names

                known = option_names()
                if unknown not in known:  # else it is the other module's, which the line says
                    line = f"{unknown} is no option{did_you_mean(unknown, known)}"
            return _fail(f"{line} (see `python -m r1omni {args[0]} --help`)", 2, debug)
        if type(error).__module__.startswith("omegaconf."):
            return _fail(f"configuration: {_one_line(str(error))}", 2, debug)
        if _is_of_trainer(error):
            return _fail(f"trainer: {_one_line(str(error))}", 2, debug)
        text = f"{type(error).__name__}: {_one_line(str(error))}"
        return _fail(f"{text} (add --debug for the traceback)", 1, debug)


def _show_warnings() -> None:
    """Print this package's warnings; Lightning has a handler of its own."""
    logger = logging.getLogger("r1omni")
    if not logger.handlers:
        handler = _ToStandardError()
        handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
        logger.addHandler(handler)


class _ToStandardError(logging.Handler):
    """Standard error as it is when a message comes; one that was kept may be closed by then."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr)


def _own_error(error: BaseException | None) -> R1OmniError | None:
    """The error of ours that an error was raised from: the parser wraps what a class refuses.

    An error that was merely being handled at the time (`__context__`) is not what went wrong.
    """
    while error is not None:
        if isinstance(error, R1OmniError):
            return error
        error = error.__cause__
    return None


def _is_of_parser(error: BaseException) -> bool:
    """Whether jsonargparse itself raised an error, which may hold several of ours as text."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return str(frame.f_globals.get("__name__")).startswith("jsonargparse.")


def _is_of_trainer(error: BaseException) -> bool:
    """Whether Lightning refuses how it is used. By the name: to import it takes seconds."""
    return any(kind.__name__ == "MisconfigurationException" for kind in type(error).__mro__)


def _own_line(error: R1OmniError) -> str:
    """What an error says, without the traceback that torch adds in a worker of a loader."""
    line = str(error).strip().splitlines()[-1]
    return line.removeprefix(f"{type(error).__module__}.{type(error).__qualname__}: ")


def _dispatch(args: list[str]) -> int:
    plain: dict[str, Callable[[list[str]], None]] = commands.COMMANDS
    if not args or args[0] in ("-h", "--help"):
        width = max(map(len, plain))
        listing = "\n".join(f"  {name:{width}s} {_summary(run)}" for name, run in plain.items())
        print(f"{_USAGE}\n{listing}")
        return 0 if args else 2
    if args[0] in plain:
        plain[args[0]](args[1:])
    elif args[0] in _TRAINER_COMMANDS:
        if {"-h", "--help"} & {*args[1:]}:
            print(_TRAINER_HELP.format(command=args[0], does=_TRAINER_COMMANDS[args[0]]))
            return 0
        run_trainer(["--help" if arg == "--help-all" else arg for arg in args])
    else:
        known = [*_TRAINER_COMMANDS, *plain]
        near = did_you_mean(args[0], known) or f"; use one of {', '.join(known)}"
        raise UsageError(f"unknown command {args[0]!r}{near}")
    return 0


def _summary(function: Callable[..., Any]) -> str:
    return (function.__doc__ or "").strip().splitlines()[0]


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _fail(message: str, status: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    print(f"r1omni: error: {message}", file=sys.stderr)
    return status


def run_trainer(args: list[str]) -> Any:
    """Run fit, validate, test or predict; returns the LightningCLI."""
    from r1omni.training.lightning_cli import R1OmniCLI

    return R1OmniCLI(args)
