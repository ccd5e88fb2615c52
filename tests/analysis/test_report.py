"""The report of invented runs: its figures, its words, and what it does without them."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

import pytest
from synthetic_runs import PLAYERS, Player, invented_samples, write_clip, write_figures, write_run

from browser import chromium, inaccessible, opened
from r1omni.analysis.explanations import NUM_CONTRADICTIONS, worst_contradictions
from r1omni.analysis.report import table_text, write_report
from r1omni.analysis.runs import read_run
from r1omni.analysis.scores import write_scores
from r1omni.training.logger import METRICS_FILE
from r1omni.types import UsageError

CEILING = {"dfew": {"video": 0.85, "audio": 0.84, "video_audio": 0.986}}
COSTS = {
    "seconds": {"fit R1-Omni": 61.0, "create": 2.5},
    "elapsed_seconds": 62.0,
    "peak_memory_gib": 3.25,
}
_VOID = {"meta", "img", "br"}


class Reader(HTMLParser):
    """Collects text and attributes, and checks that every tag is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.open):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@dataclass(frozen=True)
class Written:
    """Four runs, and what was written about them."""

    runs: dict[str, Path]
    out: Path
    world: Path
    costs: Path

    @property
    def page(self) -> str:
        return (self.out / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    root = tmp_path_factory.mktemp("runs")
    clips = [write_clip(root / "a.mp4"), write_clip(root / "b.mp4", sound=False)]
    clips.append(root / "gone.mp4")
    samples = invented_samples(clips)
    runs = {m: write_run(root / m, player, samples) for m, player in PLAYERS.items()}
    write_figures(list(runs.values()))
    world = root / "world"
    world.mkdir()
    facts = {"seed": 7, "counts": {"total": 123}, "ceiling": CEILING}
    (world / "world.json").write_text(json.dumps(facts))
    costs = root / "costs.json"
    costs.write_text(json.dumps(COSTS))
    result = Written(runs, root / "out", world, costs)
    write_report(runs, result.out, world, costs)
    return result


@pytest.fixture(scope="module")
def reader(written: Written) -> Reader:
    return Reader(written.page)


def test_results_json_has_the_agreed_form(written: Written) -> None:
    results = json.loads((written.out / "results.json").read_text())
    assert [row["model"] for row in results["rows"]] == list(PLAYERS)
    tested = json.loads((written.runs["R1-Omni"] / "test/results.json").read_text())["sets"]
    row = results["rows"][-1]
    assert list(row) == ["model", "dfew", "mafw", "ravdess"]
    for name in ("dfew", "mafw", "ravdess"):
        full = tested[name]["full"]
        for key in ("war", "uar", "format_ok", "n", "war_interval", "uar_interval", "parse_rate"):
            assert row[name][key] == full[key]
        for condition in ("muted", "blanked"):
            expected = {key: tested[name][condition][key] for key in ("war", "uar")}
            assert row[name][condition] == expected
        assert row[name]["label_set"] == name
    assert {key: results[key] for key in COSTS} == COSTS
    assert results["ceiling"] == CEILING


def test_the_page_needs_nothing_else(written: Written, reader: Reader) -> None:
    assert len(written.page) < 3_000_000
    assert not {"link", "iframe"} & {tag for tag, _ in reader.tags}
    assert "default-src &#39;none&#39;; script-src &#39;sha256-" in written.page
    for _, attributes in reader.tags:
        for key in ("src", "href"):
            assert (attributes.get(key) or "#").startswith(("#", "data:image/"))
    assert "url(" not in written.page
    assert "@import" not in written.page


def test_a_browser_shows_it_all(written: Written, tmp_path: Path) -> None:
    write_report({"R1-Omni": written.runs["R1-Omni"]}, tmp_path)
    with chromium() as browser:
        with opened(browser, (written.out / "report.html").as_uri(), 360) as watched:
            page = watched.page
            assert page.locator(".plot canvas").count() == page.locator(".plot").count() == 8
            page.locator(".plot").first.hover()
            assert re.search(r"smoothed:?\s*1\.\d", page.locator(".plot").first.inner_text())
            assert page.evaluate("document.documentElement.scrollWidth") == 360
            assert watched.trouble == []
        with opened(browser, (tmp_path / "report.html").as_uri(), scheme="dark") as watched:
            assert inaccessible(watched.page) == []


def test_the_page_can_be_heard(reader: Reader) -> None:
    images = [attributes for tag, attributes in reader.tags if tag == "img"]
    assert len(images) % 4 == 0
    assert images
    assert all(attributes.get("alt") for attributes in images)
    charts = [a for tag, a in reader.tags if tag == "svg" or a.get("role") == "img"]
    assert len(charts) > 20
    assert all(attributes.get("aria-label") for attributes in charts)
    headers = [attributes for tag, attributes in reader.tags if tag == "th"]
    assert all(attributes.get("scope") for attributes in headers)
    anchors = {attributes["id"] for tag, attributes in reader.tags if tag == "section"}
    links = {a["href"] for tag, a in reader.tags if tag == "a" and a["href"]}
    assert links == {f"#{anchor}" for anchor in anchors}
    assert len(anchors) == 13


def test_the_words_follow_the_figures(reader: Reader) -> None:
    assert "R1-Omni is clearly better than EMER-SFT on all 3 sets." in reader.text
    assert "By WAR, the models rank as in the paper on DFEW, MAFW and RAVDESS." in reader.text
    assert "a synthetic mini-world: 123 clips" in reader.text
    assert "65.83" in reader.text
    assert "arXiv 2503.05379" in reader.text
    # Eight clips of each of seven classes: either chance is one in seven.
    assert "14.3" in reader.text
    assert "98.6" in reader.text
    assert "1 min 01 s" in reader.text
    assert "3.25 GiB" in reader.text
    assert "Protocol 8way" in reader.text
    assert "not a person's inner state" in reader.text


def test_parts_are_shown_where_they_are_known(written: Written) -> None:
    tested = json.loads((written.runs["R1-Omni"] / "test/results.json").read_text())
    parts = tested["breakdown"]["ravdess"]["full"]
    shown = {field: values for field, values in parts.items() if field != "speaker"}
    assert [list(values) for values in shown.values()] == [["female", "male"], ["normal", "strong"]]
    assert len(parts["speaker"]) == 4  # too many to show of a whole data set
    assert parts["sex"]["male"]["num_groups"] == 2
    table = re.search(r'<section id="parts".*?</section>', written.page, re.DOTALL)
    assert table is not None and table[0].count("<table") == 1
    text = Reader(table[0]).text
    assert "actor_" not in text
    for field, values in shown.items():
        for value, part in values.items():
            assert f"{field}: {value} {part['n']} " in text
            assert f"{100 * part['war']:.1f} " in text
    row = json.loads((written.out / "results.json").read_text())["rows"][-1]
    assert row["ravdess"]["breakdown"] == parts and "breakdown" not in row["dfew"]


def test_a_run_that_lost_is_called_worse(written: Written, tmp_path: Path) -> None:
    swapped = {"EMER-SFT": written.runs["R1-Omni"], "R1-Omni": written.runs["EMER-SFT"]}
    write_report(swapped, tmp_path)
    text = Reader((tmp_path / "report.html").read_text()).text
    assert "R1-Omni is clearly worse than EMER-SFT on all 3 sets." in text
    assert "rank otherwise than in the paper, from low to high R1-Omni, EMER-SFT" in text
    assert json.loads((tmp_path / "results.json").read_text())["ceiling"] is None


def test_equal_runs_are_not_called_different(written: Written, tmp_path: Path) -> None:
    same = {"first": written.runs["R1-Omni"], "second": written.runs["R1-Omni"]}
    write_report(same, tmp_path)
    text = Reader((tmp_path / "report.html").read_text()).text
    assert "second is not clearly different from first on all 3 sets." in text


def test_answers_are_shown_as_text_with_a_mark(written: Written, reader: Reader) -> None:
    assert written.page.count('<article class="clip">') == 12 + NUM_CONTRADICTIONS
    for mark in ("✓ right", "✗ wrong", "? unreadable", "✗ no class of the set"):
        assert mark in reader.text
    assert "a <b>person</b> who might be" in reader.text
    assert "the voice is <low>." in reader.text
    assert "<b>person" not in written.page
    assert "No picture:" in reader.text
    assert "silence is used" in reader.text


def test_explanations_are_shown(written: Written, reader: Reader) -> None:
    results = json.loads((written.out / "results.json").read_text())
    told = json.loads((written.runs["R1-Omni"] / "test/results.json").read_text())["explanations"]
    for name in ("dfew", "mafw", "ravdess"):
        row, full = results["rows"][-1][name], told[name]["full"]
        assert 0.5 < row["supported"] == full["supported"] < 0.9
        assert row["contradicted_among_right"] == full["among_right"]["contradicted"] > 0
        assert row["cues"]["video"]["precision"] == full["cues"]["video"]["precision"] == 0.5
        assert row["invented"]["muted"]["share"] == told[name]["muted"]["invented"]["share"] > 0.5
        assert results["rows"][2][name]["supported"] == 0  # bare labels
        assert f"{row['supported']:.1%}" in table_text(results)
    assert "R1-Omni: the worst contradictions" in reader.text
    assert "brows raised, eyes narrowed not there: eyes wide" in reader.text
    worst = worst_contradictions(read_run("R1-Omni", written.runs["R1-Omni"]), 4)
    assert [name for name, _ in worst] == ["dfew", "dfew", "mafw", "ravdess"]
    for _, record in worst:
        assert record["verdict"] == "contradicted" and record["prediction"] == record["label"]


def test_explanations_of_an_earlier_version_are_a_dash(written: Written, tmp_path: Path) -> None:
    run = shutil.copytree(written.runs["R1-Omni"], tmp_path / "run")
    content = json.loads((run / "test/results.json").read_text())
    del content["explanations"], content["breakdown"]
    (run / "test/results.json").write_text(json.dumps(content))
    runs = {"new": written.runs["R1-Omni"], "old": run}
    results = write_report(runs, tmp_path / "both")
    assert "supported" not in results["rows"][1]["dfew"]
    [old] = [line for line in table_text(results).split("\n\n")[0].splitlines() if "old" in line]
    assert old.endswith("-")
    both = (tmp_path / "both/report.html").read_text()
    parts = re.search(r'<section id="parts".*?</section>', both, re.DOTALL)
    assert parts is not None and parts[0].count("not measured") == 4  # female, male, normal, strong
    write_report({"old": run}, tmp_path / "old")
    alone = (tmp_path / "old/report.html").read_text()
    assert "Explanations were not measured" in alone and 'id="parts"' not in alone


def test_curves_come_from_the_run_folders(reader: Reader) -> None:
    labels = [a.get("aria-label") or "" for _, a in reader.tags if a.get("role") == "img"]
    for title in ("Reward", "Accuracy reward", "Format reward", "KL to the start", "Length"):
        assert any(label.startswith(f"{title}: ") for label in labels), title
    assert any(re.match(r"EMER-SFT: 3\.\d+ at step 0, 0\.\d+ at step 58", la) for la in labels)
    assert "R1-Omni: the run logged no value of entropy." in reader.text


def test_a_page_without_curves_predictions_or_conditions(written: Written, tmp_path: Path) -> None:
    samples = {"dfew": invented_samples([tmp_path / "gone.mp4"])["dfew"]}
    run = write_run(tmp_path / "run", Player((0.5, 0, 0), "tags"), samples, ["full"])
    shutil.rmtree(run / "test/predictions")
    named = tmp_path / "named"
    shutil.copytree(run, named)
    (run / METRICS_FILE).touch()
    write_report({"mine": named, "own": run}, tmp_path / "out")
    text = Reader((tmp_path / "out/report.html").read_text()).text
    assert "named/metrics.jsonl is missing" in text
    assert "run/metrics.jsonl holds no figures" in text
    assert "The runs kept no predictions." in text
    assert "No run was tested under the conditions muted and blanked." in text
    assert "No times were recorded." in text


def test_what_score_wrote_is_reported_beside_a_run_of_fewer_sets(
    written: Written, tmp_path: Path
) -> None:
    write_scores([written.runs["R1-Omni"]], tmp_path / "scored")
    run = shutil.copytree(written.runs["EMER-SFT"], tmp_path / "run")
    content = json.loads((run / "test/results.json").read_text())
    del content["sets"]["ravdess"]
    (run / "test/results.json").write_text(json.dumps(content))
    runs = {"few": run, "scored": tmp_path / "scored"}
    rows = write_report(runs, tmp_path / "out")["rows"]
    wanted = json.loads((written.out / "results.json").read_text())["rows"][-1]
    assert rows[1] == wanted | {"model": "scored"}
    text = Reader((tmp_path / "out/report.html").read_text()).text
    assert "answers exactly in the answer format on DFEW and MAFW: few " in text


def test_the_same_runs_give_the_same_page(written: Written, tmp_path: Path) -> None:
    write_report(written.runs, tmp_path, written.world, written.costs)
    assert (tmp_path / "report.html").read_text() == written.page


def test_a_run_that_was_not_tested_is_named(tmp_path: Path) -> None:
    (tmp_path / "run" / "model").mkdir(parents=True)
    (tmp_path / "scored" / "predictions").mkdir(parents=True)  # by a `score` that was stopped
    (tmp_path / "file").touch()
    for name, complaint in (
        ("run", r"run/test/results\.json.*python -m r1omni test"),
        ("scored", r"scored/results\.json: .*python -m r1omni score \S*scored --out"),
        ("nowhere", r"nowhere: there is no such folder.* test .*score PREDICTIONS --out"),
        ("file", "file: is a file; name the folder of a run"),
    ):
        with pytest.raises(UsageError, match=complaint):
            write_report({"R1-Omni": tmp_path / name}, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("{", "is no JSON"),
        ("[]", "expected one JSON object"),
        ("{}", "is no result of `test`"),
        ('{"fold_sets": {}}', "is of `folds`; name one of its folders fold_K$"),
        ('{"sets": {"dfew": {"muted": {}}}, "label_sets": {}}', "condition full"),
        ('{"sets": {}, "label_sets": {}}', "no run has a test set"),
    ],
)
def test_broken_results_are_refused(tmp_path: Path, content: str, complaint: str) -> None:
    (tmp_path / "run/test").mkdir(parents=True)
    (tmp_path / "run/test/results.json").write_text(content)
    with pytest.raises(UsageError, match=complaint):
        write_report({"R1-Omni": tmp_path / "run"}, tmp_path / "out")


def test_missing_world_or_costs_are_refused(written: Written, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"world\.json: there is no such file"):
        write_report(written.runs, tmp_path, world=tmp_path)
    with pytest.raises(UsageError, match=r"none\.json: there is no such file"):
        write_report(written.runs, tmp_path, costs=tmp_path / "none.json")
    (tmp_path / "other.json").write_text('{"synthesize": 61.0}')
    with pytest.raises(UsageError, match=r"other\.json: not the costs of a table"):
        write_report(written.runs, tmp_path, costs=tmp_path / "other.json")
    with pytest.raises(UsageError, match="there is no run"):
        write_report({}, tmp_path)
