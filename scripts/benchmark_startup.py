"""What starting takes, and reading one large clip: by the clock, and in seconds of a core.

    python scripts/benchmark_startup.py --out docs/benchmarks/startup.json

Times `import r1omni`, the help of every command, the modules that commands import, a training of
the mini-world up to its first step and to its end (its clips decoded and encoded before), and one
clip of 1280 x 720. Of several runs the medians are told. By the clock a busy machine takes longer;
seconds of a core are those of a process and of all that it started.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))

import av  # noqa: E402
import numpy as np  # noqa: E402
from benchmark_analyze import core_s, descendants  # noqa: E402
from script_options import ScriptParser, file_to_write  # noqa: E402

from r1omni.commands import COMMANDS  # noqa: E402

Figures = dict[str, float]
# What is imported by the name of who needs it.
MODULES = {
    "r1omni": "import r1omni",
    "analyze": "import r1omni.recordings.running",
    "score": "import r1omni.analysis.scores",
    "fit, test": "import r1omni.training.lightning_cli",
    # What no code of ours can be faster than.
    "torch alone": "import torch",
    "lightning alone": "import lightning.pytorch",
    "transformers' Qwen2 alone": "from transformers import Qwen2ForCausalLM",
    "mlflow alone": "import mlflow",
}
TRAINER_COMMANDS = ("fit", "validate", "test", "predict")
CLIP_S, CLIP_RATE, SOUND_HZ = 8, 25, 44_100


def ended(words: Sequence[str], watched: Path | None = None) -> Figures:
    """Run Python to its end; seconds until a file has a line, too, where one is watched."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.monotonic()
    process = subprocess.Popen([sys.executable, *words], env=environment, stdout=subprocess.DEVNULL)
    first: Figures = {}
    while process.poll() is None:
        if watched is not None and not first and watched.exists() and watched.stat().st_size:
            spent = sum(core_s(descendants(process.pid)).values())
            first = {"first_step_s": time.monotonic() - started, "first_step_core_s": spent}
        time.sleep(0.02)
    if process.returncode:
        raise SystemExit(process.returncode)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"s": time.monotonic() - started, "core_s": spent, **first}


def medians(run: Callable[[], Figures], repeats: int) -> Figures:
    """Of several runs, after one that warms up."""
    run()
    found = [run() for _ in range(repeats)]
    return {name: round(median(one[name] for one in found), 2) for name in found[0]}


def training(folder: Path, repeats: int) -> Figures:
    """One step of the mini-world's first stage whose clips are prepared."""
    words = ["-m", "r1omni"]
    ended([*words, "synthesize", "--out", f"{folder}/world", "--clips", "60"])
    texts = [f"{folder}/world/HumanOmni/{name}.json" for name in ("captions", "reasoning")]
    sizes = str(ROOT / "configs" / "mini" / "model.yaml")
    ended([*words, "create", "--sizes", sizes, "--texts", *texts, "--out", f"{folder}/init"])
    runs = iter(range(repeats + 1))

    def run() -> Figures:
        out = folder / f"run{next(runs)}"
        options = {
            "trainer.default_root_dir": out,
            "trainer.max_steps": 1,
            "trainer.log_every_n_steps": 1,
            "model.init_args.init_from": folder / "init",
            "data.root": folder / "world",
            "data.loader.cache_dir": folder / "cache",
            "run.tracking_uri": f"sqlite:///{folder}/mlflow.db",
        }
        given = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        config = str(ROOT / "configs" / "mini" / "emer_sft.yaml")
        return ended([*words, "fit", "--config", config, *given], out / "metrics.jsonl")

    return medians(run, repeats)


def large_clip(path: Path) -> None:
    """A moving picture of 1280 x 720 in H.264 with a tone in AAC."""
    rng = np.random.default_rng(0)
    tiles = rng.integers(0, 255, (80, 130, 3), dtype=np.uint8)
    scene = np.kron(tiles, np.ones((11, 11, 1), np.uint8))
    with av.open(os.fspath(path), "w") as out:
        video = out.add_stream("libx264", rate=CLIP_RATE)
        video.width, video.height, video.pix_fmt = 1280, 720, "yuv420p"
        sound = out.add_stream("aac", rate=SOUND_HZ)
        for index in range(CLIP_S * CLIP_RATE):
            part = scene[index // 4 : index // 4 + 720, index // 2 : index // 2 + 1280]
            noise = rng.integers(-6, 7, (720, 1280, 1), dtype=np.int16)
            values = (part + noise).clip(0, 255).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(values, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, CLIP_RATE)
            out.mux(video.encode(frame))
        out.mux(video.encode())
        times = np.arange(CLIP_S * SOUND_HZ) / SOUND_HZ
        tone = (0.3 * np.sin(2 * np.pi * 220 * times)).astype(np.float32)
        heard = av.AudioFrame.from_ndarray(tone[None], format="fltp", layout="mono")
        heard.sample_rate, heard.pts = SOUND_HZ, 0
        out.mux(sound.encode(heard))
        out.mux(sound.encode())


def decoded(path: Path) -> int:
    """Decode every frame by one thread, and do nothing with it."""
    with av.open(os.fspath(path)) as film:
        film.streams.video[0].codec_context.thread_count = 1
        return sum(1 for _ in film.decode(video=0))


def reading(path: Path, repeats: int) -> dict[str, Figures]:
    """The clip as a whole, and the parts of reading it, in milliseconds."""
    import torch

    from r1omni.media.audio import read_waveform
    from r1omni.media.config import MediaConfig
    from r1omni.media.processor import MediaProcessor
    from r1omni.media.video import read_frames
    from r1omni.types import Clip

    torch.set_num_threads(1)  # as in the processes that decode
    processor = MediaProcessor(MediaConfig())
    frames = read_frames(path, processor.config.num_frames).frames
    waveform = read_waveform(path).waveform

    def timed(run: Callable[[], object]) -> Callable[[], Figures]:
        def once() -> Figures:
            clock, core = time.perf_counter(), time.process_time()
            run()
            return {"ms": 1000 * (time.perf_counter() - clock),
                    "core_ms": 1000 * (time.process_time() - core)}  # fmt: skip

        return once

    parts: dict[str, Callable[[], object]] = {
        "whole": lambda: processor.load(Clip(path), "video_audio"),
        "decoding alone": lambda: decoded(path),
        "frames": lambda: read_frames(path, processor.config.num_frames),
        "fit": lambda: processor.fit_frames(frames),
        "sound": lambda: read_waveform(path),
        "log_mel": lambda: processor.mel(waveform),
    }
    return {name: medians(timed(run), repeats) for name, run in parts.items()}


def main() -> None:
    parser = ScriptParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=["import", "help", "fit", "clip"])
    parser.add_argument("--out", type=file_to_write, help="JSON to write")
    options = parser.parse_args()
    if options.repeats < 1:
        parser.error("--repeats must be at least 1")
    wanted, repeats = options.only or ["import", "help", "fit", "clip"], options.repeats
    load_before = round(os.getloadavg()[0], 1)
    result: dict[str, object] = {"repeats": repeats}
    with tempfile.TemporaryDirectory(prefix="r1omni-startup-") as name:
        folder = Path(name)
        if "import" in wanted:
            result["import"] = {
                who: medians(lambda code=code: ended(["-c", code]), repeats)  # type: ignore[misc]
                for who, code in MODULES.items()
            }
        if "help" in wanted:
            result["help"] = {
                command: medians(
                    lambda command=command: ended(["-m", "r1omni", command, "--help"]),  # type: ignore[misc]
                    repeats,
                )
                for command in (*TRAINER_COMMANDS, *COMMANDS)
            }
        if "clip" in wanted:
            large_clip(folder / "clip.mp4")
            result["clip of 1280 x 720"] = reading(folder / "clip.mp4", repeats)
        if "fit" in wanted:
            result["fit of one step"] = training(folder, repeats)
    result["machine"] = {"cpus": os.cpu_count(), "threads": os.environ.get("OMP_NUM_THREADS"),
                         "load_before": load_before,
                         "load_after": round(os.getloadavg()[0], 1)}  # fmt: skip
    text = json.dumps(result, indent=2) + "\n"
    print(text)
    if options.out is not None:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
