"""What `serve` makes of many requests, a quarter of them malformed: codes, latency, memory, files.

    python scripts/benchmark_serve.py --model examples/mini-model --out docs/benchmarks/serve.json

Starts the command in a process of its own, sends --requests requests, --at-a-time side by side,
ends it by SIGTERM and writes JSON: how often each kind of request had which code, seconds until the
answer of those that were answered (p50, p90, p99, the longest), peak and resident memory of the
server with those that decode, and what it left in its folder for temporary files. OMP_NUM_THREADS
counts the model's threads.
"""

from __future__ import annotations

import http.client
import json
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))

from benchmark_analyze import descendants  # noqa: E402
from script_options import ScriptParser, file_to_write  # noqa: E402

from r1omni.commands.arguments import Number  # noqa: E402
from r1omni.options import at_least  # noqa: E402

LIMIT_S = 300.0
BOUNDARY = "r1omni-benchmark-boundary"
MAX_SECONDS, MAX_PIXELS, MAX_MB = 60, 10**6, 2.0
PLAYLIST = b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile:///etc/passwd\n"


@dataclass(frozen=True)
class Request:
    """One request and what it should be answered with."""

    kind: str
    code: int
    body: bytes
    headers: Mapping[str, str]


def form(fields: Mapping[str, object], data: bytes | None, name: str = "a.mp4") -> bytes:
    """A form with a file, or without one for None, ended by `BOUNDARY`."""
    parts = [
        f'Content-Disposition: form-data; name="{key}"\r\n\r\n{value}'.encode()
        for key, value in fields.items()
    ]
    if data is not None:
        head = f'Content-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
        parts.append(head.encode() + data)
    lines = b"".join(b"--" + BOUNDARY.encode() + b"\r\n" + part + b"\r\n" for part in parts)
    return lines + b"--" + BOUNDARY.encode() + b"--\r\n"


FORM = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
JSON = {"Content-Type": "application/json"}


def ask(
    port: int, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
) -> tuple[int, Mapping[str, str], bytes]:
    """Send a request; returns code, headers by their names in small letters, and body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT_S)
    try:
        connection.request(method, path, body or None, dict(headers or {}))
        answer = connection.getresponse()
        found = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, found, answer.read()
    finally:
        connection.close()


def requests_of(clips: list[bytes], count: int) -> Iterator[Request]:
    """So many requests, of which every fourth is malformed in one way after the other."""
    fields = {"wait": "true", "max_new_tokens": 24}
    clip = clips[0]
    malformed = [
        ("cut off", 415, form(fields, clip[: len(clip) // 20]), FORM),
        ("0 bytes", 415, form(fields, b""), FORM),
        ("text", 415, form(fields, b"no recording " * 500, "a.txt"), FORM),
        ("playlist", 415, form(fields, PLAYLIST, "a.m3u8"), FORM),
        ("too large", 413, form(fields, clip + bytes(int(MAX_MB * 10**6))), FORM),
        ("form without end", 400, form(fields, clip)[:-200], FORM),
        ("unknown option", 422, form({**fields, "windows": 1}, clip), FORM),
        ("wrong JSON", 400, b'{"path": ', JSON),
        ("path outside", 403, b'{"path": "../config.json"}', JSON),
        ("no form", 415, b"hello", {"Content-Type": "text/plain"}),
    ]
    for number in range(count):
        if number % 4 == 3:
            yield Request(*malformed[number // 4 % len(malformed)])
        else:
            whole = form(fields, clips[number % len(clips)])
            yield Request("recording", 200, whole, FORM)


def load(port: int, count: int, at_a_time: int) -> dict[str, Any]:
    """Send requests; returns codes by kind, those that were unexpected, and seconds of answers."""
    clips = [path.read_bytes() for path in sorted((ROOT / "examples" / "clips").glob("*.mp4"))]
    codes: dict[str, Counter[int]] = defaultdict(Counter)
    wrong: list[str] = []
    seconds: list[float] = []
    lock = threading.Lock()

    def send(request: Request) -> None:
        begun_s = time.monotonic()
        code, _, body = ask(port, "POST", "/analyze", request.body, request.headers)
        took_s = time.monotonic() - begun_s
        answer = json.loads(body)
        is_told = "records" in answer if code == 200 else set(answer) == {"detail"}
        with lock:
            codes[request.kind][code] += 1
            if code != request.code or not is_told or (b"\\n" in body and code != 200):
                wrong.append(f"{request.kind}: {code} {body[:200]!r}")
            if code == 200:
                seconds.append(took_s)

    with ThreadPoolExecutor(at_a_time) as pool:
        list(pool.map(send, requests_of(clips, count)))
    ordered = sorted(seconds)
    return {
        "codes": {kind: {str(c): n for c, n in sorted(of.items())} for kind, of in codes.items()},
        "unexpected": wrong,
        "answered_s": {
            name: round(ordered[min(int(share * len(ordered)), len(ordered) - 1)], 2)
            for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("longest", 1.0))
        },
    }


def memory_mb(pid: int) -> float:
    """Resident memory of a process and of all below it, in 10^6 bytes."""
    pages = 0
    for process in descendants(pid):
        try:
            statm = Path(f"/proc/{process}/statm").read_text(encoding="ascii")
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended meanwhile
        pages += int(statm.split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)


def port_of(line: str) -> int:
    """The port that the command says it serves at."""
    found = re.search(r"r1omni serves at http://127\.0\.0\.1:(\d+)", line)
    if found is None:
        raise SystemExit(f"benchmark_serve.py: error: the server said {line!r}")
    return int(found[1])


def left(folder: Path) -> list[str]:
    """What a server left of uploads among temporary files."""
    return sorted(path.name for path in folder.glob("r1omni-*"))


def measure(model: str, count: int, at_a_time: int) -> dict[str, Any]:
    """The command under load, from its start to its end."""
    with tempfile.TemporaryDirectory() as name:
        words = ["-m", "r1omni", "serve", "--model", model, "--port", "0", "--max-upload-mb",
                 MAX_MB, "--max-seconds", MAX_SECONDS, "--max-pixels", MAX_PIXELS, "--root",
                 ROOT / "examples" / "clips", "--queue", at_a_time]  # fmt: skip
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "TMPDIR": name}
        server = subprocess.Popen(
            [sys.executable, *map(str, words)], env=environment, stderr=subprocess.PIPE, text=True
        )
        assert server.stderr is not None
        try:
            port = port_of(server.stderr.readline())
            load(port, 8, at_a_time)  # what is imported at the first request
            before_mb = memory_mb(server.pid)
            begun_s = time.monotonic()
            found = load(port, count, at_a_time)
            found["seconds"] = round(time.monotonic() - begun_s, 1)
            found["memory_mb"] = {"before": before_mb, "after": memory_mb(server.pid)}
            peak = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{server.pid}/status").read_text())
            assert peak is not None
            found["memory_mb"]["peak_of_server"] = round(int(peak[1]) * 1024 / 1e6, 1)
            # The folder of the server is there while it runs, and empty.
            uploads = [path for path in Path(name).glob("r1omni-*/*")]
            found["files_left"] = {"running": len(uploads)}
        finally:
            server.send_signal(signal.SIGTERM)
            status = server.wait(120)
        found["files_left"]["ended"] = len(left(Path(name)))
        return {**found, "status": status}


def main() -> None:
    """Measure, and write what was found."""
    parser = ScriptParser(prog=Path(__file__).name, description=__doc__)
    parser.add_argument("--model", required=True, help="model folder")
    parser.add_argument("--out", type=file_to_write, required=True, help="JSON to write")
    parser.add_argument("--requests", type=Number(at_least(8, 100_000)), default=200)
    parser.add_argument("--at-a-time", type=Number(at_least(1, 64)), default=8)
    options = parser.parse_args()
    found = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, "
        f"{os.environ.get('OMP_NUM_THREADS', 'all')} threads of the model",
        "requests": options.requests,
        "at_a_time": options.at_a_time,
        **measure(options.model, options.requests, options.at_a_time),
    }
    options.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
