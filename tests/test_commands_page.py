"""docs/commands.md says what the parsers of the commands take."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts"
sys.path.insert(0, str(SCRIPTS))

import write_commands  # noqa: E402

from r1omni.commands import COMMANDS  # noqa: E402

PAGE = write_commands.PAGE.read_text(encoding="utf-8")


def section(name: str) -> str:
    [found] = re.findall(rf"^### {name}\n(.*?)(?=^### |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    return str(found)


def test_the_page_is_up_to_date() -> None:
    assert write_commands.page(PAGE) == PAGE, "write it by `python scripts/write_commands.py`"
    above = PAGE.partition(write_commands.BEGIN)[0]
    for name in (*COMMANDS, "fit", "validate", "test", "predict"):
        assert re.search(rf"^\|.*`(python -m r1omni )?{name}\b", above, re.MULTILINE), name


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_has_a_row_and_says_what_it_is(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the help that a person sees, not by the parser that the page was written from."""
    with pytest.raises(SystemExit):
        COMMANDS[name](["--help"])
    helped = set(re.findall(r"^ +(--[\w-]+)", capsys.readouterr().out, re.MULTILINE)) - {"--help"}
    listed = set(re.findall(r"^\| `(--[\w-]+)`", section(name), re.MULTILINE))
    assert listed == helped and len(listed) > 2
    assert all(action.help for action in write_commands.options_of(name))
