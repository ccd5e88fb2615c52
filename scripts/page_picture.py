#!/usr/bin/env python
"""docs/page.png: a picture of the page of recordings, with drawn faces and made voices alone.

    python scripts/page_picture.py --world WORLD --model MODEL

WORLD is a mini-world (`synthesize`), MODEL a model trained on it (the quickstart's `r1omni/model`,
say). Clips of different emotions are joined to a short film, which is analyzed in windows of two
seconds. Needs Chromium and the dev extra.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image
from script_options import ScriptParser, file_to_write

from r1omni.cli import main as run_command
from r1omni.media.audio import read_waveform

ROOT = Path(__file__).resolve().parents[1]
TOLD = (
    "neutral",
    "happy",
    "surprise",
    "happy",
    "fear",
    "sad",
    "angry",
    "neutral",
    "disgust",
    "sad",
)
FPS, RATE_HZ, SIZE_PX = 25, 16_000, 240
WIDTH_PX, COLOURS = 1280, 128


def clips_of(world: Path) -> list[Path]:
    """A clip of DFEW for each of `TOLD`, no clip twice, the clearest of each emotion."""
    lines = (world / "cues.jsonl").read_text(encoding="utf-8").splitlines()
    cues = [cue for cue in map(json.loads, lines) if cue["path"].startswith("DFEW")]
    cues.sort(key=lambda cue: -cue["intensity"])
    chosen: list[Path] = []
    for emotion in TOLD:
        paths = (world / cue["path"] for cue in cues if cue["emotion"] == emotion)
        chosen.append(next(path for path in paths if path not in chosen))
    return chosen


def join(clips: list[Path], file: Path) -> None:
    """One recording of several, picture and sound of each as long as its picture."""
    with av.open(str(file), "w") as out:
        video = out.add_stream("libx264", rate=FPS)
        video.width = video.height = SIZE_PX
        video.pix_fmt = "yuv420p"
        audio = out.add_stream("aac", rate=RATE_HZ, layout="mono")
        num_frames, sound = 0, []
        for clip in clips:
            with av.open(str(clip)) as container:
                frames = list(container.decode(video=0))
            length = round((float(frames[-1].time) + 1 / FPS) * FPS)
            times = np.array([float(frame.time) for frame in frames])
            for index in range(length):
                shown = int(np.searchsorted(times, index / FPS + 1e-6)) - 1
                frame = frames[max(shown, 0)].reformat(SIZE_PX, SIZE_PX, "yuv420p")
                frame.pts, frame.time_base = num_frames, Fraction(1, FPS)
                out.mux(video.encode(frame))
                num_frames += 1
            samples = read_waveform(clip, RATE_HZ).waveform.numpy()
            wanted = round(length / FPS * RATE_HZ)
            sound.append(np.pad(samples[:wanted], (0, max(wanted - len(samples), 0))))
        out.mux(video.encode())
        whole = np.concatenate(sound).astype(np.float32)[None]
        for begin in range(0, whole.shape[1], 1024):
            piece = np.ascontiguousarray(whole[:, begin : begin + 1024])
            heard = av.AudioFrame.from_ndarray(piece, format="fltp", layout="mono")
            heard.sample_rate, heard.pts = RATE_HZ, begin
            out.mux(audio.encode(heard))
        out.mux(audio.encode())


def main() -> None:
    parser = ScriptParser(description=__doc__.split("\n")[0])
    parser.add_argument("--world", type=Path, required=True, help="mini-world")
    parser.add_argument("--model", required=True, help="model folder")
    parser.add_argument("--out", type=file_to_write, default=ROOT / "docs" / "page.png")
    options = parser.parse_args()
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as place:
        film = Path(place) / "interview.mp4"
        join(clips_of(options.world), film)
        page = Path(place) / "page"
        words = ["analyze", str(film), "--model", options.model, "--out", str(page)]
        words += "--window-s 2 --hop-s 1 --answer-mode both --media-ablation answer".split()
        words += ["--format", "html"]
        if run_command(words) != 0:
            raise SystemExit(1)
        with sync_playwright() as driver:
            browser = driver.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
            )
            tab = browser.new_page(viewport={"width": WIDTH_PX, "height": 1200})
            tab.goto((page / "index.html").as_uri())
            for _ in range(6):
                tab.keyboard.press("ArrowRight")
            tab.evaluate("document.querySelector('.facts').firstChild.remove()")  # a passing folder
            tab.wait_for_timeout(1500)
            end = tab.locator(".peaks").bounding_box()
            assert end is not None
            whole = {"x": 0, "y": 0, "width": WIDTH_PX, "height": end["y"] + end["height"] + 16}
            tab.screenshot(path=str(options.out), clip=whole, full_page=True)  # type: ignore[arg-type]
            browser.close()
    shrink(options.out)


def shrink(file: Path) -> None:
    """Give a picture a palette: a fifth of the size, and no difference to be seen."""
    Image.open(file).convert("RGB").quantize(COLOURS).save(file, optimize=True)
    print(f"{file}: {file.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
