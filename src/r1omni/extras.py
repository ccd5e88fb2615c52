"""What extras of the package install, and what a person reads where one is missing.

The package, `r1omni --help`, analyze, fit, validate, test, predict and export need no extra. So no
module imports a library of one before a function is called that computes with it, but for the
writers of formats, which are imported when their format is asked for, and `serving/` and `demo/`,
whose commands look first.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Literal

from r1omni.types import UsageError

Extra = Literal["world", "reports", "voices", "formats", "serve", "demo", "memory"]
_SERVER = ("fastapi", "uvicorn", "python_multipart", "prometheus_client")
# Extra of pyproject.toml -> what is imported of what it installs.
EXTRAS: Mapping[Extra, tuple[str, ...]] = {
    "world": ("scipy", "threadpoolctl", "openpyxl"),
    "reports": ("matplotlib",),
    "voices": ("parselmouth", "scipy"),
    "formats": ("praatio", "pympi", "pyarrow", "webvtt"),
    "serve": _SERVER,
    "demo": _SERVER,
    "memory": ("bitsandbytes",),
}


def missing(*libraries: str) -> list[str]:
    """Those of the libraries that are not installed, by the names they are imported under."""
    return [name for name in libraries if importlib.util.find_spec(name) is None]


def how_to_install(extra: Extra) -> str:
    """The command that installs an extra."""
    return f"pip install 'r1omni[{extra}]'"


def require(purpose: str, extra: Extra, *libraries: str) -> None:
    """Refuse what cannot be done without an extra, before any work is done for it.

    Args:
        purpose: what needs it, which the message begins with.
        extra: what installs it.
        libraries: those of the extra that are needed; all of them where none is named.

    Raises:
        UsageError: one is not installed.
    """
    lacking = missing(*(libraries or EXTRAS[extra]))
    if lacking:
        verb = "is" if len(lacking) == 1 else "are"
        raise UsageError(
            f"{purpose}: needs {' and '.join(lacking)}, which {verb} not installed; run "
            f"{how_to_install(extra)}"
        )
