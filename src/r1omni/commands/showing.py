"""The command that shows a model in a browser; it imports what it needs when it runs."""

from __future__ import annotations

from pathlib import Path

from r1omni.commands.arguments import Number, parser_of
from r1omni.commands.serving import add_limits, limits_of
from r1omni.extras import require
from r1omni.serving.config import KEY_VARIABLE, PORT, QUEUE, ServeConfig, read_key
from r1omni.types import DTYPES, UsageError

# Of a checkout; an installed package has none.
_EXAMPLES = Path(__file__).parents[3] / "examples" / "clips"
# Seconds for which a job is kept after its end, if its page does not fetch it.
_KEEP_S = 120.0
_PORT = 7860
_QUEUE = 4


def demo(args: list[str]) -> None:
    """Try a model in a browser: drop or record a clip, and read the answer as it is written."""
    parser = parser_of("demo", demo)
    parser.add_argument(
        "--model", required=True, help="model folder, or owner/name[@revision] on the hub"
    )
    parser.add_argument("--host", default=ServeConfig.host, help="address; this machine alone")
    parser.add_argument("--port", type=Number(PORT), default=_PORT, help="0 for a free one")
    parser.add_argument(
        "--api-key-file", type=Path, help=f"what the page asks for; or {KEY_VARIABLE}"
    )
    parser.add_argument(
        "--examples", type=Path, help="folder of clips to offer; examples/clips of a checkout"
    )
    add_limits(parser)
    parser.add_argument(
        "--queue", type=Number(QUEUE), default=_QUEUE, help="clips that may wait; one is answered"
    )
    parser.add_argument("--device", default="cpu", help="torch device")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="of the weights")
    options = parser.parse_args(args)
    config = ServeConfig(
        options.host, options.port, read_key(options.api_key_file), None, options.queue,
        keep_s=_KEEP_S, grace_s=0.0, limits=limits_of(options),
    )  # fmt: skip
    examples = _examples(options.examples)
    require("demo", "demo")
    from r1omni.demo.front import Demo
    from r1omni.serving.server import serve

    serve(config, options.model, options.device, options.dtype, Demo(examples))


def _examples(folder: Path | None) -> list[Path]:
    """The clips that are offered, by their names."""
    if folder is None and not _EXAMPLES.is_dir():
        return []
    chosen = _EXAMPLES if folder is None else folder
    if not chosen.is_dir():
        raise UsageError(f"--examples {chosen}: there is no such folder; check the path")
    clips = sorted(path for path in chosen.iterdir() if path.is_file() and path.name[0] != ".")
    if not clips:
        raise UsageError(f"--examples {chosen}: holds no files; choose another, or leave it out")
    return clips
