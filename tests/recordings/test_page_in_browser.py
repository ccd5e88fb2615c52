"""The page of recordings as people use it: in a browser, from the disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from page_cases import FILM, ODD, some_recordings
from playwright.sync_api import Browser, Page, expect

from browser import Watched, chromium, inaccessible, opened
from r1omni.recordings import page as page_of
from r1omni.recordings.formats import write_formats


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`index.html` of four recordings, what the formats hold of them, and `many/`, a page each."""
    root = tmp_path_factory.mktemp("page")
    made = some_recordings(root / "clips")
    page_of.write(made, root / "out", num_frames=8)
    write_formats(["csv", "textgrid", "eaf"], made, root / "out")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page_of, "MAX_RECORDINGS", 2)
        page_of.write(made, root / "many")
    return root


@pytest.fixture
def watched(browser: Browser, written: Path) -> Iterator[Watched]:
    with opened(browser, (written / "out/index.html").as_uri()) as found:
        yield found
    assert found.trouble == []


def until(page: Page, holds: str) -> None:
    """Wait for an expression; playwright's own way is eval, which the page's policy forbids."""
    for _ in range(500):
        if page.evaluate(holds):
            return
        page.wait_for_timeout(20)
    pytest.fail(f"{holds} is never true")


def can_play(page: Page, kind: str = "video") -> None:
    until(page, f"document.querySelector('{kind}')?.readyState > 0")


def time_of(page: Page) -> float:
    until(page, "!document.querySelector('video').seeking")
    return float(page.evaluate("document.querySelector('video').currentTime"))


def cut_off(page: Page) -> list[str]:
    """Texts that have no room and end in "..."."""
    return page.evaluate(
        """() => [...document.querySelectorAll("body *")]
        .filter((e) => getComputedStyle(e).textOverflow === "ellipsis")
        .filter((e) => e.scrollWidth > e.clientWidth).map((e) => e.textContent)"""
    )


def rows(page: Page) -> int:
    return page.locator("#answers tbody tr").count()


def test_a_segment_seeks_and_shows_its_answer(watched: Watched) -> None:
    page, answer = watched.page, watched.page.locator("#answer")
    can_play(page)
    expect(answer).to_contain_text("A smile.")
    expect(answer).to_contain_text("✓ supported")
    expect(answer.locator(".scores").first.locator("tr", has_text="sad")).to_contain_text(
        "75%"
    )  # direct, beside reasoned
    assert page.locator("#seen img").count() == 4
    expect(page.locator("#seen")).to_contain_text("4 of the 8 pictures that the model was shown")
    page.get_by_role("button", name="angry, 0:02.0").click()
    expect(answer).to_contain_text("A low voice.")
    expect(answer).to_contain_text("Ben")
    expect(page.locator("#seen")).to_contain_text(
        "which the model was not shown. It was given sound alone."
    )
    expect(answer.locator(".marks")).to_contain_text("sound alone")
    expect(page.locator("#timeline h2")).to_have_text("Over time: Ben")
    assert time_of(page) == 2.0
    page.get_by_role("button", name="happy, contradicted, 0:01.0").click()
    expect(answer.locator("blockquote")).to_have_text(
        ODD.replace("\udc80", "\ufffd"), use_inner_text=False
    )
    expect(answer).to_contain_text("⚠ the clip is dark")
    expect(answer).to_contain_text("? uncertain")
    assert time_of(page) == 1.0
    assert page.locator(".segment .unsure").count() == 1  # could not be read
    assert page.locator(".cell .unsure").count() == 2
    peak = page.get_by_role("button", name="▼").first
    expect(peak).to_contain_text("happy 90%, 0:00.0 – 0:01.0")
    peak.click()
    expect(answer).to_contain_text("A smile.")
    expect(answer.locator(".when")).to_contain_text("0:00.0 – 0:01.0")  # the same time
    page.locator("#timeline .u-over").last.click(position={"x": 5, "y": 40})
    assert 0 < time_of(page) < 0.1


def test_scores_with_and_without_a_medium(watched: Watched) -> None:
    page, table = watched.page, watched.page.locator("#answer .ablation")
    lines = table.locator("tbody tr")
    told = [
        ("picture and sound", "90%", "happy"), ("without the sound", "20%", "sad"),
        ("without the picture", "10%", "unreadable"),
    ]  # fmt: skip
    for line, words in zip(lines.all(), told, strict=True):
        expect(line).to_have_text("".join(words))
    widths = [bar.bounding_box() for bar in table.locator(".bar i").all()]
    assert all(widths) and widths[0]["width"] == pytest.approx(9 * widths[2]["width"], rel=0.05)  # type: ignore[index]
    expect(table).to_contain_text("score of happy")
    assert table.locator(".note").count() == 0
    page.keyboard.press("ArrowRight")  # it was not asked for there
    expect(page.locator("#answer")).to_contain_text("answer 2 of 4")
    assert table.count() == 0
    # Of sound alone, and of direct answers alone: the answer's own emotion is none of theirs.
    page.locator("#listing").get_by_text("sound.wav").click()
    page.keyboard.press("ArrowRight")
    expect(table.locator("h3")).to_have_text("With and without, before any reasoning")
    told = [("sound alone", "75%", "sad"), ("without the sound", "88%", "sad")]
    for line, words in zip(lines.all(), told, strict=True):
        expect(line).to_have_text("".join(words))
    expect(table.locator(".note")).to_contain_text("given the sound alone. Without it nothing is")


def test_the_keyboard_does_it_all(watched: Watched) -> None:
    page, answer = watched.page, watched.page.locator("#answer")
    can_play(page)
    page.keyboard.press("ArrowRight")
    expect(answer).to_contain_text("answer 2 of 4")
    page.keyboard.press("ArrowLeft")
    expect(answer).to_contain_text("answer 1 of 4")
    page.keyboard.press("Shift+ArrowRight")
    expect(answer).to_contain_text("unreadable answer")
    expect(answer).to_contain_text("<think>and so")
    assert time_of(page) == 3.0
    page.keyboard.press("Shift+ArrowLeft")
    page.keyboard.press(" ")
    until(page, "document.querySelector('video').currentTime > 1.2")
    expect(answer).to_contain_text("answer 2 of 4")  # the answer follows the player
    page.keyboard.press(" ")
    assert page.evaluate("document.querySelector('video').paused")
    # Each lane is one stop of the Tab key, and what has the focus is to be seen.
    stops = page.evaluate("[...document.querySelectorAll('.track button')].map((b) => b.tabIndex)")
    assert stops.count(0) == 4
    page.locator(".segment[tabindex='0']").first.focus()
    page.keyboard.press("Tab")
    focused = "getComputedStyle(document.activeElement)"
    assert page.evaluate("document.activeElement.className").startswith("cell")
    assert page.evaluate(f"{focused}.outlineStyle") == "solid"
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    expect(answer).to_contain_text("answer 1 of 4")


def test_answers_are_filtered_and_sorted(watched: Watched) -> None:
    page = watched.page
    assert rows(page) == 4
    for field, value, left in (
        ("Emotion", "happy", 2), ("Speaker", "Ben", 1), ("Reasoning", "contradicted", 1),
    ):  # fmt: skip
        select = page.locator("#answers").get_by_label(field)
        select.select_option(value)
        assert rows(page) == left, field
        select.select_option("")
    for box, left in (("unreadable", 1), ("uncertain", 2)):
        page.get_by_label(box, exact=True).check()
        assert rows(page) == left, box
        page.get_by_label(box, exact=True).uncheck()
    page.get_by_label("Text").fill("<b>RISES")
    assert rows(page) == 1
    page.get_by_label("Text").fill("")
    page.get_by_role("button", name="Score").click()
    first = page.locator("#answers tbody tr").first
    expect(first).to_contain_text("90%")
    page.get_by_role("button", name="Score").click()
    expect(first).to_contain_text("55%")
    page.get_by_label("all recordings").check()
    expect(page.locator(".count")).to_have_text("7 of 7 answers")
    expect(page.locator(".failed")).to_contain_text("is no recording")
    page.locator("#answers tbody tr", has_text="fear").get_by_role("button").click()
    expect(page.locator("#about h2")).to_have_text("sound.wav")
    expect(page.locator("#answer")).to_contain_text("answer 2 of 2")
    can_play(page, "audio")


def test_recordings_that_cannot_be_shown_are_said(watched: Watched) -> None:
    page = watched.page
    page.locator("#listing").get_by_text("gone.mp4").click()
    expect(page.locator("#player")).to_contain_text("The recording is not where it was")
    expect(page.locator("#answer")).to_contain_text("calm")
    page.locator("#listing").get_by_text("broken.mp4").click()
    # Why is where the answer would be, and nothing is offered that needs answers.
    expect(page.locator("#answer h2")).to_have_text("Not analyzed")
    expect(page.locator("#answer .failure")).to_have_text("is no recording")
    expect(page.locator("#about .facts")).not_to_contain_text(
        "0:00"
    )  # how long it is, nobody knows
    expect(page.locator("#answers")).to_be_hidden()
    expect(page.locator("#timeline")).to_be_hidden()
    page.keyboard.press("ArrowRight")
    page.locator("#listing").get_by_text(FILM).click()
    expect(page.locator("#answer")).to_contain_text("answer 1 of 4")
    # With the answers of all recordings, their table stays.
    page.get_by_label("all recordings").check()
    page.locator("#listing").get_by_text("broken.mp4").click()
    expect(page.locator(".count")).to_have_text("7 of 7 answers")


def test_each_button_saves_a_file(watched: Watched, written: Path) -> None:
    page = watched.page
    lines = {"CSV of answers": 4, "CSV of segments": 3}
    for label in ("CSV of answers", "CSV of segments", "TextGrid", "EAF"):
        with page.expect_download() as download:
            page.get_by_role("button", name=label).click()
        text = Path(download.value.path()).read_text(encoding="utf-8")
        name = download.value.suggested_filename
        if label in ("TextGrid", "EAF"):
            beside = (written / "out" / name).read_text(encoding="utf-8")
            assert text.splitlines()[3:] == beside.splitlines()[3:], label
        else:
            assert FILM in text and text.count("\n") == 1 + lines[label], label


def test_the_curves_are_zoomed_together(watched: Watched) -> None:
    page = watched.page
    page.get_by_role("button", name="angry, 0:02.0").click()
    before = page.locator(".segment.chosen").bounding_box()
    page.get_by_role("button", name="Zoom in").click()
    after = page.locator(".segment.chosen").bounding_box()
    assert before and after and 1.9 < after["width"] / before["width"] < 2.1
    marks = page.evaluate(
        "[...document.querySelectorAll('.u-over .span')].map((s) => s.getBoundingClientRect().left)"
    )
    assert len(marks) == 2 and all(abs(left - after["x"]) < 3 for left in marks)
    chart = page.locator("#timeline .u-over").last
    chart.dblclick()
    again = page.locator(".segment.chosen").bounding_box()
    assert again and abs(again["width"] - before["width"]) < 1


@pytest.mark.parametrize(
    ("file", "width", "scheme"),
    [("out", 1280, "dark"), ("out", 360, "light"), ("many", 360, "light")],
)
def test_everybody_can_read_it(
    browser: Browser, written: Path, file: str, width: int, scheme: str
) -> None:
    with opened(browser, (written / file / "index.html").as_uri(), width, scheme) as watched:
        assert inaccessible(watched.page) == []
        assert watched.page.evaluate("document.documentElement.scrollWidth") == width
        assert "not what anybody feels" in watched.page.inner_text("header .care")
        assert cut_off(watched.page) == []
        if file == "out":
            expect(watched.page.locator("#answers td.why").first).to_be_visible()
            watched.page.locator("#listing").get_by_text("sound.wav").click()
            expect(watched.page.locator(".lane .who").first).to_have_text("Segments")
            assert cut_off(watched.page) == []
        assert watched.trouble == []


def test_what_is_embedded_plays_and_nothing_else_runs(browser: Browser, tmp_path: Path) -> None:
    page_of.write(some_recordings(tmp_path / "clips")[:1], tmp_path, embed=True)
    (tmp_path / "clips" / FILM).unlink()
    with opened(browser, (tmp_path / "index.html").as_uri()) as watched:
        page = watched.page
        can_play(page)
        assert watched.trouble == []
        page.evaluate(
            "() => { const script = document.createElement('script');"
            "script.textContent = 'ran = 1'; document.body.append(script) }"
        )
        assert page.evaluate("typeof ran") == "undefined"
        assert page.evaluate("fetch('http://127.0.0.1:9/').catch((error) => error.name)")
        page.evaluate("() => { new Image().src = 'http://127.0.0.1:9/x.png' }")
        until(page, "true")
        refused = [line for line in watched.trouble if "Content Security Policy" in line]
        for what in ("inline script", "127.0.0.1:9/'", "127.0.0.1:9/x.png'"):
            assert any(what in line for line in refused), watched.trouble


def test_many_recordings_are_found_in_the_index(browser: Browser, written: Path) -> None:
    with opened(browser, (written / "many/index.html").as_uri()) as watched:
        page = watched.page
        lines = page.locator("#overview tbody tr")
        assert lines.count() == 4
        page.get_by_label("With").select_option("error")
        assert lines.count() == 2
        page.get_by_label("With").select_option("")
        page.get_by_label("Emotion").select_option("angry")
        lines.get_by_role("link").click()
        can_play(page)
        page.get_by_role("link", name="Next").click()
        expect(page.locator("#about h2")).to_have_text("sound.wav")
        page.get_by_role("link", name="All recordings").click()
        assert lines.count() == 4
        assert watched.trouble == []
