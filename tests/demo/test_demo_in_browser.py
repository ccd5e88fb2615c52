"""The page of `demo` as people use it: in a browser, from a server of its own."""

from __future__ import annotations

import os
import re
import signal
import tempfile
import time
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from browser import chromium, inaccessible, opened
from processes import REPOSITORY, Running
from r1omni import R1Omni
from r1omni.cli import main
from r1omni.demo.front import Demo
from r1omni.serving.config import ServeConfig
from r1omni.serving.uploads import UploadLimits, too_many_bytes
from r1omni.types import ANSWER_MODES, MEDIA_ABLATIONS
from serving.served import served

MODEL = REPOSITORY / "examples" / "mini-model"
CLIP = REPOSITORY / "examples" / "clips" / "a.mp4"
MAX_MB = 0.5
SLOW_MS = 60_000
# What the first answer is like, at each change of it.
WATCH_WRITING = """() => {
  window.written = [];
  new MutationObserver(() => {
    const text = document.querySelector("#writing .words")?.textContent;
    if (text && text !== written.at(-1)) written.push(text);
  }).observe(document.querySelector("#writing"), { childList: true, subtree: true });
}"""


def run_in(folder: Path, words: list[str]) -> int:
    """Run a command whose temporary files lie in a folder; a fork may have settled on another."""
    tempfile.tempdir = str(folder)
    return main(words)


def address_of(server: Running) -> str:
    for _ in range(3000):
        if found := re.search("r1omni demo at (.*)", server.stderr):
            return found[1]
        if server.poll() is not None:
            break
        time.sleep(0.02)
    pytest.fail(f"the demo did not start:\n{server.stderr}")


def ask(page: Page) -> None:
    page.get_by_role("button", name="Ask the model").click()


def test_a_clip_is_answered_in_the_browser_and_forgotten(tmp_path: Path) -> None:
    words = f"demo --model {MODEL} --port 0 --max-upload-mb {MAX_MB} --max-seconds 20".split()
    env = {**os.environ, "TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    server = Running(run_in, tmp_path, words, cwd=tmp_path, env=env)
    said = R1Omni.from_pretrained(MODEL).analyze(
        CLIP, window_s=1.0, answer_mode="both", media_ablation="direct"
    )
    with chromium() as browser, opened(browser, address_of(server)) as watched:
        page = watched.page
        page.set_default_timeout(SLOW_MS)
        expect(page.locator("header .care")).to_contain_text("not what anybody feels")

        # Too large, or no recording: one line, and nothing else happens.
        large = {"name": "film.mp4", "mimeType": "video/mp4", "buffer": bytes(600_000)}
        page.get_by_label("Drop a clip here").set_input_files(large)  # type: ignore[arg-type]
        told = too_many_bytes(UploadLimits(max_upload_mb=MAX_MB), "film.mp4")
        expect(page.get_by_role("alert")).to_have_text(str(told))
        expect(page.get_by_role("button", name="Ask the model")).to_be_disabled()
        page.get_by_label("Drop a clip here").set_input_files(
            {"name": "x.wav", "mimeType": "audio/wav", "buffer": b"no sound"}  # type: ignore[arg-type]
        )
        expect(page.get_by_label("Given to the model")).to_have_value("audio")
        ask(page)
        expect(page.get_by_role("alert")).to_contain_text("x.wav: ", timeout=SLOW_MS)
        refused = [line for line in watched.trouble if "x.wav" not in line and "415" not in line]
        assert refused == []
        watched.trouble.clear()  # the console tells every refusal

        page.get_by_role("button", name="Example a").click()
        page.get_by_label("Seconds of a window").fill("1")
        page.get_by_label("Again without").select_option("direct")
        page.evaluate(WATCH_WRITING)
        ask(page)
        answer = page.locator("#answer")
        for number, analysis in enumerate(said, 1):
            expect(answer).to_contain_text(f"answer {number} of {len(said)}", timeout=SLOW_MS)
            assert answer.locator("blockquote").inner_text() == analysis.reasoning
            assert answer.locator(".word").inner_text().split() == [
                str(analysis.label), f"{round(100 * analysis.scores[str(analysis.label)])}%",
            ]  # fmt: skip
            scores = answer.locator("table.scores").first
            row = scores.locator("tbody tr", has_text=str(analysis.direct_label))
            direct = (analysis.direct_scores or {})[str(analysis.direct_label)]
            expect(row).to_contain_text(f"{round(100 * direct)}%")
            expect(answer.locator(".verdict")).to_contain_text("supported")
            for words, without in (("sound", "muted"), ("picture", "blanked")):
                again = answer.locator(".ablation tr", has_text=f"without the {words}")
                expect(again).to_contain_text(str((analysis.ablation or {})[without].direct_label))
            page.keyboard.press("ArrowRight")
        # While it was written: ever more of the reasoning, without tags.
        seen = page.evaluate("written")
        partial = [text for text in seen if text != said[0].reasoning]
        assert len(partial) > 3 and len(partial[0]) < 40, seen
        assert all(said[0].reasoning.startswith(text) for text in partial[:3]), seen
        expect(page.get_by_role("alert")).to_have_text("")
        assert page.locator("#answers tbody tr").count() == len(said)
        assert page.locator(".segment").count() >= 1
        expect(page.locator("#player video")).to_be_visible()
        assert inaccessible(page) == []
        page.set_viewport_size({"width": 360, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") == 360

        # A recording of sound alone, made here.
        page.get_by_role("button", name="Record sound").click()
        page.wait_for_timeout(1200)
        page.get_by_role("button", name="Stop").click()
        expect(page.locator("#chosen")).to_contain_text("recorded.webm")
        page.get_by_label("Seconds of a window").fill("")
        ask(page)
        expect(page.locator("#about h2")).to_have_text("recorded.webm", timeout=SLOW_MS)
        expect(answer).to_contain_text("answer 1 of 1")
        expect(page.locator("#seen")).to_contain_text("It was given sound alone.")
        expect(page.locator("#timeline")).to_be_hidden()
        assert watched.trouble == []
        # Of what was sent nothing is left where it was kept.
        assert len(list(tmp_path.glob("r1omni-serve-*"))) == 1
        assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    os.kill(server.pid, signal.SIGTERM)
    assert server.wait() == 143, server.stderr
    assert [path.name for path in tmp_path.iterdir()] == []
    assert server.stderr.splitlines()[1:] == ["", "r1omni: error: terminated"]


def test_the_form_offers_what_the_server_takes_and_keeps_what_is_chosen() -> None:
    config = ServeConfig(port=0)
    with (
        served(config, lambda job: None, Demo()) as client,
        chromium() as browser,
        opened(browser, f"http://127.0.0.1:{client.port}/") as watched,
    ):
        page = watched.page
        answer, again = page.locator("[name=answer_mode]"), page.get_by_label("Again without")
        state = page.locator("#state")
        refused = set()
        for mode in ANSWER_MODES:
            answer.select_option(mode)
            for ablation in MEDIA_ABLATIONS:
                asked = {"answer_mode": mode, "media_ablation": ablation, "wait": "true"}
                status, _ = client.upload(CLIP.read_bytes(), **asked)
                is_disabled = again.locator(f"option[value={ablation}]").is_disabled()
                assert (status, is_disabled) in {(200, False), (422, True)}, asked
                refused |= {(mode, ablation)} if is_disabled else set()
        assert refused == {("think", "direct")}
        # What is chosen already and is refused from now on: another, and the page says it.
        answer.select_option("both")
        again.select_option("direct")
        answer.select_option("think")
        expect(again).to_have_value("none")
        expect(state).to_contain_text("“no” is chosen in its place")
        answer.select_option("both")
        expect(state).to_have_text("")

        given, clip = page.get_by_label("Given to the model"), page.get_by_label("Drop a clip here")
        sound = {"name": "a.wav", "mimeType": "audio/wav", "buffer": b"x"}
        given.select_option("audio")
        clip.set_input_files(CLIP)
        expect(page.locator("#chosen")).to_contain_text("a.mp4")
        expect(given).to_have_value("audio")  # a person's own choice
        given.select_option("video")
        clip.set_input_files(sound)  # type: ignore[arg-type]
        expect(given).to_have_value("audio")
        clip.set_input_files(CLIP)
        expect(given).to_have_value("video")
