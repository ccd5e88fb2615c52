"""docs/configuration.md: up to date, with a description of every option; docs/glossary.md."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from test_options import IN_FILES, argument_types, dataset_options, reached

REPOSITORY = Path(__file__).parents[1]
sys.path.insert(0, str(REPOSITORY / "scripts"))

import write_configuration  # noqa: E402

MAX_WORDS = 30
WRITTEN_BY = "write it by `python scripts/write_configuration.py`"


def test_the_page_is_up_to_date() -> None:
    page = (REPOSITORY / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert page == write_configuration.page(), WRITTEN_BY


def test_every_option_is_there_and_described() -> None:
    sections = write_configuration.sections()
    names = {option.name for section in sections for option in section.options}
    wanted = {name for kind in reached(*IN_FILES) for name in argument_types(kind)}
    wanted |= {parameter.values[1] for parameter in dataset_options()}
    assert wanted - names == set()
    empty = [
        f"{section.key}.{option.name}"
        for section in sections
        for option in section.options
        if not re.search(r"\w{3}", option.text)
    ]
    assert empty == [], "say in the docstring of the class what these are"


def test_the_glossary_is_short_and_its_files_are_there() -> None:
    text = (REPOSITORY / "docs" / "glossary.md").read_text(encoding="utf-8")
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    words = [word for word, _, _ in rows[1:]]
    assert 20 < len(words) <= MAX_WORDS
    assert words == sorted(words, key=str.lower)
    for word, meaning, file in rows[1:]:
        assert len(re.findall(r"[.:](?: |$)", meaning)) <= 3, f"{word}: one or two sentences"
        assert (REPOSITORY / "src" / "r1omni" / file.strip("`")).is_file(), word
