"""What `analyze` costs on long recordings: memory, speed against real time, and the last window.

    python scripts/benchmark_analyze.py --model outputs/quickstart/r1omni/model \\
        --out docs/benchmarks/analyze.json

Makes films of one and of --minutes minutes (a drawn loop with a tone, joined without encoding it
again), analyzes each in windows of 5 seconds by the command itself, in a process of its own, and
writes JSON: peak memory of the process with those that decode, times real time without the start,
and the seconds of a core that a record takes at the end over those at the beginning (by the clock
they would say what else the machine did meanwhile). A model that was not trained
answers up to the limit of tokens, so give a trained one. OMP_NUM_THREADS counts its threads:
where other programs take the cores, threads that wait for each other cost more than they bring.

With --ablations it compares instead what a window costs with and without `--media-ablation`, on the
long film alone:

    python scripts/benchmark_analyze.py --model examples/mini-model --minutes 10 --ablations \\
        --out docs/benchmarks/analyze_ablation.json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))

import av  # noqa: E402
from clean_media import encode  # noqa: E402
from script_options import ScriptParser, file_to_write  # noqa: E402

WINDOW_S = 5.0
LOOP_S = 20.0
# Of the records, those of the first and of the last windows that are compared.
SHARE = 0.2
# Answer mode and ablation that are compared.
ABLATIONS = (("think", "none"), ("both", "none"), ("both", "direct"), ("think", "answer"))
# Seconds between two looks at the memory.
LOOK_S = 0.25


def film(path: Path, seconds: float, size: tuple[int, int]) -> None:
    """A film of so many seconds: one encoded loop, its packets written again and again."""
    loop = path.with_name("loop.mp4")
    frames = int(LOOP_S * 10)
    encode(loop, "mpeg4", "aac", size=size, times=range(frames), sound_s=LOOP_S)
    with av.open(os.fspath(path), "w") as out:
        streams: dict[int, Any] = {}
        last: dict[int, int] = {}
        for turn in range(round(seconds / LOOP_S)):
            with av.open(os.fspath(loop)) as source:
                for stream in source.streams:
                    if stream.index not in streams:
                        streams[stream.index] = out.add_stream_from_template(stream)
                for packet in source.demux():
                    if packet.dts is None or packet.time_base is None:
                        continue
                    offset = round(turn * LOOP_S / packet.time_base)
                    packet.pts = (packet.pts or 0) + offset
                    packet.dts += offset
                    if packet.dts <= last.get(packet.stream_index, -1):
                        continue  # what a codec puts before the first moment of each turn
                    last[packet.stream_index] = packet.dts
                    packet.stream = streams[packet.stream_index]
                    out.mux(packet)


def analyzed(
    path: Path, model: str, folder: Path, batch_size: int, workers: int, *more: str
) -> dict[str, Any]:
    """The command on one film: when each record came, and what all its processes took."""
    out = folder / f"{'_'.join([path.stem, *more])}.jsonl"
    words = ["-m", "r1omni", "analyze", path, "--model", model, "--window-s", WINDOW_S,
             "--batch-size", batch_size, "--num-workers", workers, "--max-new-tokens", 64,
             "--out", out, *more]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    process = subprocess.Popen([sys.executable, *map(str, words)], env=environment)
    times: list[float] = []
    spent: list[tuple[int, float]] = []
    seconds: dict[int, float] = {}
    peak = looked_s = 0.0
    while process.poll() is None:
        lines = out.read_bytes().count(b"\n") if out.exists() else 0
        times += [time.monotonic()] * (lines - len(times))
        if time.monotonic() > looked_s + LOOK_S:  # looking takes time of the cores, too
            processes = descendants(process.pid)
            peak = max(peak, memory_mb(processes))
            seconds |= core_s(processes)  # one that has ended has taken what it took
            spent.append((lines, sum(seconds.values())))
            looked_s = time.monotonic()
        time.sleep(0.1)
    if process.returncode:
        raise SystemExit(process.returncode)
    lines = out.read_bytes().count(b"\n")
    times += [time.monotonic()] * (lines - len(times))
    return {"times": times, "peak_mb": peak, "windows": lines, "spent": spent}


def core_s(processes: set[int]) -> dict[int, float]:
    """Seconds of a core that each process has taken."""
    taken = {}
    for process in processes:
        try:
            stat = Path(f"/proc/{process}/stat").read_text()
        except OSError:
            continue
        ticks = sum(map(int, stat.rpartition(")")[2].split()[11:13]))
        taken[process] = ticks / os.sysconf("SC_CLK_TCK")
    return taken


def a_record_s(spent: list[tuple[int, float]], first: float, last: float) -> float:
    """Seconds of a core that a record took, of those between two shares of all."""
    total = spent[-1][0]
    part = [look for look in spent if first * total <= look[0] <= last * total and look[0]]
    return (part[-1][1] - part[0][1]) / (part[-1][0] - part[0][0])


def memory_mb(processes: set[int]) -> float:
    """Memory of processes, what they share counted once, in MB."""
    total = 0.0
    for process in processes:
        try:
            rollup = Path(f"/proc/{process}/smaps_rollup").read_text()
        except OSError:
            continue
        found = [line for line in rollup.splitlines() if line.startswith("Pss:")]
        total += sum(int(line.split()[1]) for line in found) / 1000
    return total


def descendants(pid: int) -> set[int]:
    """A process and those that it started, or that these did."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def compared(film_path: Path, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Seconds of a core that a window takes, by answer mode and ablation; and over the first."""
    costs = {}
    for mode, ablation in ABLATIONS:
        found = analyzed(
            film_path, options.model, folder, options.batch_size, options.num_workers,
            "--answer-mode", mode, "--media-ablation", ablation,
        )  # fmt: skip
        costs[f"{mode}, {ablation}"] = a_record_s(found["spent"], 0.0, 1.0)
    first = next(iter(costs.values()))
    return {
        name: {"core_s_a_window": round(cost, 4), "over_first": round(cost / first, 2)}
        for name, cost in costs.items()
    }


def machine(load_before: float) -> dict[str, Any]:
    """Where it was measured."""
    return {
        "cpus": os.cpu_count(), "architecture": platform.machine(),
        "threads_of_the_model": os.environ.get("OMP_NUM_THREADS", "all"),
        "load_before": load_before, "load_after": round(os.getloadavg()[0], 1),
    }  # fmt: skip


def tell(result: dict[str, Any], out: Path | None) -> None:
    """Print a result, and write it."""
    text = json.dumps(result, indent=2) + "\n"
    print(text)
    if out is not None:
        out.write_text(text, encoding="utf-8")


def main() -> None:
    parser = ScriptParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="a trained model folder")
    parser.add_argument("--minutes", type=float, default=60.0, help="of the long film")
    parser.add_argument("--size", type=int, nargs=2, default=(320, 240), help="of its picture")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--num-workers", type=int, default=1)
    parser.add_argument("--ablations", action="store_true", help="compare --media-ablation instead")
    parser.add_argument("--out", type=file_to_write, help="JSON to write")
    parser.add_argument("--model-name", help="what the model is, for the JSON")
    options = parser.parse_args()
    load_before = round(os.getloadavg()[0], 1)
    seconds = {"short": 60.0, "long": 60 * options.minutes}
    of = {
        "minutes": options.minutes, "size": list(options.size), "window_s": WINDOW_S,
        "batch_size": options.batch_size, "num_workers": options.num_workers,
    }  # fmt: skip
    name_of_model = options.model_name or Path(options.model).name
    found = {}
    with tempfile.TemporaryDirectory(prefix="r1omni-analyze-") as name:
        folder = Path(name)
        if options.ablations:
            film(folder / "long.mp4", seconds["long"], tuple(options.size))
            costs = compared(folder / "long.mp4", options, folder)
            where = machine(load_before)
            tell({**of, "ablations": costs, "model": name_of_model, "machine": where}, options.out)
            return
        for film_name, length_s in seconds.items():
            film(folder / f"{film_name}.mp4", length_s, tuple(options.size))
            found[film_name] = analyzed(
                folder / f"{film_name}.mp4", options.model, folder, options.batch_size,
                options.num_workers,
            )  # fmt: skip
    times, spent = found["long"]["times"], found["long"]["spent"]
    first, last = a_record_s(spent, 0.0, SHARE), a_record_s(spent, 1.0 - SHARE, 1.0)
    result = {
        **of,
        "windows": found["long"]["windows"],
        "peak_mb": {key: round(value["peak_mb"]) for key, value in found.items()},
        "more_mb": round(found["long"]["peak_mb"] - found["short"]["peak_mb"]),
        "times_real_time": round(WINDOW_S * (len(times) - 1) / (times[-1] - times[0]), 1),
        "core_s_a_window": round(a_record_s(spent, 0.0, 1.0), 4),
        "last_over_first": round(last / first, 2),
        "model": name_of_model,
        "machine": machine(load_before),
    }
    tell(result, options.out)


if __name__ == "__main__":
    main()
