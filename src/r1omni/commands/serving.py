"""The command that serves a model; it imports what it needs when it runs."""

from __future__ import annotations

import argparse
from pathlib import Path

from r1omni.commands.arguments import Number, parser_of
from r1omni.extras import require
from r1omni.options import SECONDS, TOKENS, at_least
from r1omni.serving.config import KEY_VARIABLE, PORT, QUEUE, ServeConfig, read_key
from r1omni.serving.limits import UploadLimits
from r1omni.types import DTYPES


def serve(args: list[str]) -> None:
    """Answer over HTTP which emotion recordings show, and why."""
    parser = parser_of("serve", serve)
    default = ServeConfig()
    seconds = Number(SECONDS, float)
    parser.add_argument(
        "--model", required=True, help="model folder, or owner/name[@revision] on the hub"
    )
    parser.add_argument("--host", default=default.host, help="address; this machine alone")
    parser.add_argument("--port", type=Number(PORT), default=default.port, help="0 for a free one")
    parser.add_argument(
        "--api-key-file", type=Path, help=f"what requests have to know; or {KEY_VARIABLE}"
    )
    parser.add_argument(
        "--root", type=Path, help="folder whose recordings may be named by path; none"
    )
    add_limits(parser)
    parser.add_argument(
        "--max-new-tokens", type=Number(TOKENS), default=default.max_new_tokens,
        help="longest answer that a request may ask for",
    )  # fmt: skip
    parser.add_argument(
        "--queue", type=Number(QUEUE), default=default.queue, help="jobs that may wait"
    )
    parser.add_argument(
        "--job-limit-s", type=seconds, default=default.job_limit_s,
        help="seconds that a job may take, and an upload",
    )  # fmt: skip
    parser.add_argument(
        "--keep-s", type=seconds, default=default.keep_s,
        help="seconds for which ended jobs are kept",
    )  # fmt: skip
    parser.add_argument(
        "--grace-s", type=Number(at_least(0, SECONDS.high), float), default=default.grace_s,
        help="seconds that the running job has when the server is told to end",
    )  # fmt: skip
    parser.add_argument("--device", default="cpu", help="torch device")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="of the weights")
    options = parser.parse_args(args)
    config = ServeConfig(
        options.host, options.port, read_key(options.api_key_file), options.root, options.queue,
        options.job_limit_s, options.keep_s, options.grace_s, options.max_new_tokens,
        limits_of(options),
    )  # fmt: skip
    require("serve", "serve")
    from r1omni.serving.server import serve as run

    run(config, options.model, options.device, options.dtype)


def add_limits(parser: argparse.ArgumentParser) -> None:
    """The options of what is accepted of strangers."""
    limits = UploadLimits()
    parser.add_argument(
        "--max-upload-mb", type=Number(UploadLimits.RANGES["max_upload_mb"], float),
        default=limits.max_upload_mb, help="largest file, in 10^6 bytes",
    )  # fmt: skip
    parser.add_argument(
        "--max-seconds", type=Number(SECONDS, float), default=limits.max_seconds,
        help="longest recording",
    )  # fmt: skip
    parser.add_argument(
        "--max-pixels", type=Number(UploadLimits.RANGES["max_pixels"]), default=limits.max_pixels,
        help="largest frame, width times height",
    )  # fmt: skip


def limits_of(options: argparse.Namespace) -> UploadLimits:
    """What `add_limits` reads."""
    return UploadLimits(options.max_upload_mb, options.max_seconds, options.max_pixels)
