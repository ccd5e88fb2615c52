#!/usr/bin/env python
"""docs/demo.png: a picture of the page of `demo`, with drawn faces and made voices alone.

    python scripts/demo_picture.py

The clips of examples/ are joined to a short film, which examples/mini-model answers in windows of a
second. Needs Chromium and the extras dev and demo.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from page_picture import ROOT, WIDTH_PX, join, shrink
from script_options import ScriptParser, file_to_write

CLIPS = ("a.mp4", "b.mp4")


def main() -> None:
    parser = ScriptParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default=str(ROOT / "examples" / "mini-model"))
    parser.add_argument("--out", type=file_to_write, default=ROOT / "docs" / "demo.png")
    parser.add_argument("--width", type=int, default=WIDTH_PX, help="pixels")
    options = parser.parse_args()
    from playwright.sync_api import expect, sync_playwright

    with tempfile.TemporaryDirectory() as place:
        film = Path(place) / "film.mp4"
        join([ROOT / "examples" / "clips" / name for name in CLIPS], film)
        words = [sys.executable, "-m", "r1omni", "demo", "--model", options.model, "--port", "0"]
        server = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
        assert server.stderr is not None
        try:
            address = server.stderr.readline().split()[-1]
            with sync_playwright() as driver:
                browser = driver.chromium.launch(
                    executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
                )
                tab = browser.new_page(viewport={"width": options.width, "height": 1000})
                tab.goto(address)
                tab.get_by_label("Drop a clip here").set_input_files(film)
                tab.get_by_label("Seconds of a window").fill("1")
                tab.get_by_role("button", name="Ask the model").click()
                expect(tab.locator("#answer .word")).to_be_visible(timeout=120_000)
                tab.wait_for_timeout(1500)
                end = tab.locator(".peaks").bounding_box()
                assert end is not None
                height = end["y"] + end["height"] + 16 + tab.evaluate("scrollY")
                clip = {"x": 0, "y": 0, "width": options.width, "height": height}
                tab.screenshot(path=str(options.out), clip=clip, full_page=True)  # type: ignore[arg-type]
                browser.close()
        finally:
            server.terminate()
            server.wait()
    shrink(options.out)


if __name__ == "__main__":
    main()
