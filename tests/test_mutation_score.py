"""scripts/mutation_score.py: a change that tests notice is killed, any other is written down.

The mutants are given, as the package that makes them is not needed to run the tests.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODULE = """
def added(a, b):
    return a + b


def unseen(a, b):
    return a - b


def imprecise(a):
    return a > 0


def endless(a):
    while a:
        a -= 1
    return a
"""
TESTS = """
from toy import added, endless, imprecise

def test_added():
    assert added(2, 3) == 5

def test_imprecise():
    assert imprecise(4)

def test_endless():
    assert endless(3) == 0
"""
# Judges changes of the toy module in a process of its own, for it forks.
DRIVER = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import mutation_score as script
from mutation_parts.mutants import mutant
root, changes = Path(sys.argv[2]), json.loads(sys.argv[3])
source = (root / "src" / "toy.py").read_text()
mutants = [mutant(source, source.replace(*change)) for change in changes]
judge = script.Judge(root, root.parent / "copy", ["tests"], ["src/toy.py"], grace_s=0.5)
entry = script.score(judge, "src/toy.py", mutants, None, 0)
script.keep_reasons(entry, {"survivors": [{"change": mutants[1].change, "reason": "a toy"}]})
print(json.dumps(entry))
"""
# The third is as long as the first, which is killed, and its file is written in the same second.
CHANGES = [
    ("a + b", "a * b"), ("a - b", "a + b"), ("a > 0", "a < 9"), ("a -= 1", "a -= 0"),
]  # fmt: skip


def test_a_toy_module(tmp_path: Path) -> None:
    root = tmp_path / "repository"
    for name, text in (("src/toy.py", MODULE), ("tests/test_toy.py", TESTS)):
        (root / name).parent.mkdir(parents=True)
        (root / name).write_text(text, encoding="utf-8")
    before = sorted(root.rglob("*"))
    words = [sys.executable, "-c", DRIVER, str(ROOT / "scripts"), str(root), json.dumps(CHANGES)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    entry = json.loads(done.stdout)
    assert (entry["killed"], entry["timed_out"], entry["survived"]) == (1, 1, 2)
    assert [(each["line"], each["tests_that_run_it"]) for each in entry["survivors"]] == [
        (7, 0),
        (11, 1),
    ]
    assert entry["survivors"][0]["change"] == "return a - b  ->  return a + b"
    assert (entry["score"], entry["score_without_those"]) == (0.5, 0.6667)
    assert sorted(root.rglob("*")) == before
    assert (root / "src" / "toy.py").read_text(encoding="utf-8") == MODULE


def test_wrong_use_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text("[]", encoding="utf-8")
    for words, text in (
        (["ops/nothing"], "ops/nothing: no such module"),
        (["media/audio"], "media/audio: no tests judge it"),
        (["ops/kl", "--out", str(tmp_path / "other.json")], "no report of this script"),
    ):
        done = subprocess.run(
            [sys.executable, str(ROOT / "scripts" / "mutation_score.py"), *words],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        )
        assert (done.returncode, done.stdout) == (2, "")
        assert text in done.stderr
        assert len(done.stderr.splitlines()) == 1
