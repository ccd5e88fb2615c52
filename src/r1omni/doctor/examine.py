"""The whole examination, printed as it goes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import r1omni
from r1omni.doctor.checks import Finding, Table, guarded
from r1omni.doctor.environment import check_environment
from r1omni.doctor.model import ModelRequest, check_model


def examine(
    model: ModelRequest | None = None,
    data: Path | None = None,
    num_workers: int | None = None,
    report: Path | None = None,
) -> None:
    """Check the machine, and a model and a folder of data sets where they are given.

    Args:
        model: to be tried.
        data: folder of data sets.
        num_workers: processes that open every recording; None opens one of each data set.
        report: file for all findings, and the counts of data sets, as JSON.

    Raises:
        R1OmniError: a check fails; the line names all that do.
    """
    table = Table()
    sets: dict[str, Any] = {}
    table.show("machine", check_environment())
    if model is not None:
        table.show(f"model {model.path}", guarded("model", check_model, model))
    if data is not None:
        table.show(f"data {data}", guarded("data", _check_data, data, num_workers, sets))
    if report is not None:
        report.parent.mkdir(parents=True, exist_ok=True)
        told = {
            "r1omni": r1omni.__version__,
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "data": None if data is None else str(data),
            "findings": [asdict(finding) for finding in table.findings],
            "sets": sets,
        }
        report.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    table.close()


def _check_data(root: Path, num_workers: int | None, report: dict[str, Any]) -> Iterator[Finding]:
    # Imported here: loaders need torch and transformers, which may be what is broken.
    from r1omni.doctor.data import check_data

    return check_data(root, num_workers, report)
