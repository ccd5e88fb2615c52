"""How many small mistakes in a module its tests notice: the mutation score.

    pip install '.[mutation]'
    python scripts/mutation_score.py ops/losses rewards text/tags
    python scripts/mutation_score.py ops --sample 40 --seed 1 --out docs/benchmarks/mutation.json

A mutant is the module with one small change (`mutation_parts/mutants.py` says which), and it is
killed when a test fails on it. Those that survive are written down with their place; a reason that
somebody has put beside one (`"reason"`) stays with it, and other modules' results stay, when the
file is written again. Nothing is changed in the working tree: the tests run in a copy.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

from mutation_parts.judge import Judge  # noqa: E402
from mutation_parts.mutants import Mutant, WrongUse, mutants_of  # noqa: E402
from script_options import ScriptParser, file_to_write  # noqa: E402

PACKAGE = "src/r1omni"
# What pytest is given to judge a module: that of the first name it begins with. Tests of more than
# the module notice more, but each mutant would have to wait for them.
TESTS = {
    "ops": ("tests/ops",),
    "rewards": ("tests/rewards", "--ignore=tests/rewards/test_readers.py"),
    "text": ("tests/text",),
    "training/checkpoints": ("tests/training/test_checkpoints.py",),
    "training/shards": ("tests/training/test_shards.py",),
}


def main() -> int:
    parser = ScriptParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="+", metavar="MODULE", help="as ops/losses, or a folder")
    parser.add_argument("--sample", type=int, help="judge at most N mutants a module, by chance")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument(
        "--survivors", action="store_true", help="judge only what survived in the file of --out"
    )
    parser.add_argument(
        "--out", type=file_to_write, default=ROOT / "docs" / "benchmarks" / "mutation.json"
    )
    options = parser.parse_args()
    if options.sample is not None and options.sample < 1:
        parser.error(f"--sample is {options.sample}; it must be at least 1")
    if options.survivors and options.sample is not None:
        parser.error("--survivors judges all of them; leave --sample out")
    try:
        report = read_report(options.out)
        for tests, modules in by_tests(options.modules).items():
            before = report["modules"] if options.survivors else None
            for name, entry in scores(ROOT, tests, modules, options.sample, options.seed, before):
                keep_reasons(entry, report["modules"].get(name, {}))
                report["modules"][name] = entry
                write_report(options.out, report)
                print(line(name, entry), flush=True)
    except WrongUse as error:
        print(f"mutation_score: error: {error}", file=sys.stderr)
        return 2
    return 0


def by_tests(words: list[str]) -> dict[tuple[str, ...], list[str]]:
    """Module names for each set of tests that judges some.

    Raises:
        WrongUse: a word is no module or folder of the package, or no tests are known for it.
    """
    chosen: dict[tuple[str, ...], list[str]] = {}
    for word in words:
        name = word.removeprefix(PACKAGE + "/").removesuffix(".py").rstrip("/")
        path = ROOT / PACKAGE / name
        if path.is_dir():
            names = [f"{name}/{each.stem}" for each in sorted(path.glob("[!_]*.py"))]
        elif path.with_suffix(".py").is_file():
            names = [name]
        else:
            raise WrongUse(f"{word}: no such module in {PACKAGE}; name it as ops/losses")
        for each in names:
            known = next((key for key in TESTS if f"{each}/".startswith(f"{key}/")), None)
            if known is None:
                raise WrongUse(f"{word}: no tests judge it; add them to TESTS of this script")
            chosen.setdefault(TESTS[known], []).append(each)
    return chosen


def scores(
    root: Path,
    tests: tuple[str, ...],
    modules: list[str],
    sample: int | None,
    seed: int,
    before: dict[str, Any] | None = None,
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each module's name and entry of the report.

    With the entries of an earlier report, only what survived there is judged. The rest stays
    killed, as long as the module is the same and tests were only added.

    Raises:
        WrongUse: the earlier report lacks a module, or has it from another source.
    """
    files = {name: f"{PACKAGE}/{name}.py" for name in modules}
    sources = {name: (root / file).read_text(encoding="utf-8") for name, file in files.items()}
    mutants = {name: mutants_of(source) for name, source in sources.items()}
    digests = {name: sha256(source.encode()).hexdigest() for name, source in sources.items()}
    for name in modules if before is not None else ():
        if name not in before or before[name]["sha256"] != digests[name]:
            raise WrongUse(f"--survivors: the report has no {name} as it is now; judge it whole")
    with tempfile.TemporaryDirectory(prefix="r1omni_mutation_") as scratch:
        judge = Judge(root, Path(scratch) / "copy", tests, list(files.values()))
        for name, file in files.items():
            if before is None:
                entry = score(judge, file, mutants[name], sample, seed)
            else:
                entry = again(judge, file, mutants[name], before[name])
            yield name, entry | {"sha256": digests[name], "tests": list(tests)}


def again(judge: Judge, file: str, mutants: list[Mutant], before: dict[str, Any]) -> dict[str, Any]:
    """A module's entry, brought up to date by judging the survivors of an earlier one."""
    places = {(each["line"], each["change"]) for each in before["survivors"]}
    left = [each for each in mutants if (each.line, each.change) in places]
    entry = score(judge, file, left, None, 0)
    entry["killed"] += before["killed"]
    entry["timed_out"] += before["timed_out"]
    entry |= {key: before[key] for key in ("mutants", "judged", "seed") if key in before}
    add_shares(entry)
    return entry


def score(
    judge: Judge, file: str, mutants: list[Mutant], sample: int | None, seed: int
) -> dict[str, Any]:
    """Judge a module's mutants, or `sample` of them drawn without replacement.

    Returns:
        Counts, the share that was detected (killed or timed out), and every survivor. Of a sample,
        also the 95% interval of that share among all mutants (Wilson, 1927).
    """
    started = time.perf_counter()
    drawn = mutants
    if sample is not None and sample < len(mutants):
        drawn = random.Random(seed).sample(mutants, sample)
    counts: Counter[str] = Counter(killed=0, timed_out=0, survived=0)
    survivors = []
    for mutant in sorted(drawn, key=lambda each: each.line):
        verdict, touching = judge.verdict(file, mutant)
        counts[verdict] += 1
        if verdict == "survived":
            where = {"line": mutant.line, "change": mutant.change}
            survivors.append(where | {"tests_that_run_it": touching})
    entry: dict[str, Any] = {"mutants": len(mutants), "judged": len(drawn), **counts}
    if len(drawn) < len(mutants):
        entry["seed"] = seed
    add_shares(entry)
    entry["seconds"] = round(time.perf_counter() - started, 1)
    return entry | {"survivors": survivors}


def add_shares(entry: dict[str, Any]) -> None:
    """Add the share of mutants that were detected and, of a sample, its interval."""
    detected, judged = entry["killed"] + entry["timed_out"], entry["judged"]
    entry["score"] = round(detected / judged, 4) if judged else None
    if judged < entry["mutants"]:
        entry["interval_95"] = interval(detected, judged)


def interval(hits: int, tries: int) -> list[float]:
    """Ends of the 95% interval of a share, both at most 1."""
    from scipy.stats import binomtest

    found = binomtest(hits, tries).proportion_ci(method="wilson")
    return [round(float(found.low), 4), round(float(found.high), 4)]


def keep_reasons(entry: dict[str, Any], before: dict[str, Any]) -> None:
    """Give survivors the reasons that an earlier report has for the same change of a text."""
    earlier = before.get("survivors", ())
    known = {each["change"]: each["reason"] for each in earlier if "reason" in each}
    for each in entry["survivors"]:
        if each["change"] in known:
            each["reason"] = known[each["change"]]
    count_reasons(entry)


def count_reasons(entry: dict[str, Any]) -> None:
    """Count the survivors that no test could kill, and the score among the rest."""
    explained = sum("reason" in each for each in entry["survivors"])
    rest = entry["judged"] - explained
    detected = entry["killed"] + entry["timed_out"]
    entry["survivors_with_a_reason"] = explained
    entry["score_without_those"] = round(detected / rest, 4) if rest else None


def read_report(path: Path) -> dict[str, Any]:
    """The report at a path, or an empty one.

    Raises:
        WrongUse: the file holds something else.
    """
    if not path.exists():
        return {"modules": {}}
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(report["modules"], dict):
            return dict(report)
    except (ValueError, KeyError, TypeError):
        pass
    raise WrongUse(f"{path} is no report of this script; give another --out")


def write_report(path: Path, report: dict[str, Any]) -> None:
    """Write it whole or not at all."""
    report["modules"] = dict(sorted(report["modules"].items()))
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(part, path)


def line(name: str, entry: dict[str, Any]) -> str:
    """A module's result for people."""
    share = "no mutants" if entry["score"] is None else f"{entry['score']:.1%} detected"
    text = (
        f"{name}: {share}; {entry['judged']} of {entry['mutants']} mutants: "
        f"{entry['killed']} killed, {entry['timed_out']} timed out, {entry['survived']} survived "
        f"({entry['survivors_with_a_reason']} with a reason)"
    )
    if "interval_95" in entry:
        low, high = entry["interval_95"]
        text += f"; 95% interval {low:.1%} to {high:.1%}"
    return text


if __name__ == "__main__":
    sys.exit(main())
