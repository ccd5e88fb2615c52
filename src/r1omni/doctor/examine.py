"""The whole examination, printed as it goes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from r1omni.doctor.checks import Finding, Table, guarded
from r1omni.doctor.environment import check_environment
from r1omni.doctor.model import ModelRequest, check_model


def examine(model: ModelRequest | None = None, data: Path | None = None) -> None:
    """Check the machine, and a model and a folder of data sets where they are given.

    Raises:
        R1OmniError: a check fails; the line names all that do.
    """
    table = Table()
    table.show("machine", check_environment())
    if model is not None:
        table.show(f"model {model.path}", guarded("model", check_model, model))
    if data is not None:
        table.show(f"data {data}", guarded("data", _check_data, data))
    table.close()


def _check_data(root: Path) -> Iterator[Finding]:
    # Imported here: loaders need torch and transformers, which may be what is broken.
    from r1omni.doctor.data import check_data

    return check_data(root)
