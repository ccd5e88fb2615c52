"""A new store of MLflow is a copy of one that MLflow made.

MLflow makes a store by about sixty migrations, which take longer than a short training; the suite
needs hundreds of stores. The first of a session is made by MLflow, and kept.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

# Names the file to copy; of processes that tests start, too.
KEPT = "R1OMNI_TESTS_TRACKING_STORE"


def copy_new_stores() -> None:
    """From now on copy the file that `KEPT` names, or write it where it is not there yet."""
    import sqlalchemy
    from mlflow.store.db import utils

    make = utils._initialize_tables

    def initialize(engine: Any) -> None:
        kept, own = os.environ.get(KEPT), engine.url.database
        is_new = (
            engine.dialect.name == "sqlite" and not sqlalchemy.inspect(engine).get_table_names()
        )
        if not (kept and own and is_new):
            make(engine)
        elif Path(kept).exists():
            _copy(kept, own)
        else:
            make(engine)
            part = f"{kept}.{os.getpid()}"
            _copy(own, part)
            os.replace(part, kept)

    utils._initialize_tables = initialize


def _copy(one: str, other: str) -> None:
    with closing(sqlite3.connect(one)) as source, closing(sqlite3.connect(other)) as target:
        source.backup(target)
