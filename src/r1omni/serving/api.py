"""The routes of the API."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from python_multipart.multipart import parse_options_header
from starlette.requests import ClientDisconnect
from starlette.routing import Match, Route

from r1omni.serving.asking import Asking, below, one_line, read_asking, read_json
from r1omni.serving.config import ServeConfig
from r1omni.serving.description import (
    NOTICE,
    TITLE,
    Health,
    JobView,
    analyze_body,
    describe_key,
    event_schema,
    record_schema,
    responses,
)
from r1omni.serving.guard import OPEN
from r1omni.serving.job import Event, Job, Refusal, delete
from r1omni.serving.jobs import Jobs
from r1omni.serving.metrics import CONTENT_TYPE_LATEST, Metrics
from r1omni.serving.receiving import OTHER_BYTES, receive_form, receive_small
from r1omni.serving.uploads import (
    UploadError,
    UploadNotKept,
    UploadTooLarge,
    check_upload,
    too_many_bytes,
)
from r1omni.types import Dtype, R1OmniError

# Processes that look at uploads at a time.
_NUM_PROBES = 2
# A connection without a word for longer is closed by what lies between.
_SILENCE_S = 15.0


@dataclass(frozen=True)
class Served:
    """What the routes need.

    Attributes:
        config: what is allowed.
        jobs: the queue.
        metrics: the counts.
        folder: private, for uploads.
        digest: of the model folder.
        dtype: of its weights.
        version: of r1omni.
    """

    config: ServeConfig
    jobs: Jobs
    metrics: Metrics
    folder: Path
    digest: str
    dtype: Dtype
    version: str


def make_app(served: Served) -> FastAPI:
    """The application, without what `Guard` puts around it."""
    receiver = _Receiver(served, CapacityLimiter(_NUM_PROBES))
    jobs = served.jobs

    @asynccontextmanager
    async def sweeping(_: FastAPI) -> AsyncIterator[None]:
        task = asyncio.create_task(_sweep(jobs, served.config.keep_s))
        yield
        task.cancel()

    app = FastAPI(
        title=TITLE, version=served.version, description=NOTICE, lifespan=sweeping,
        docs_url=None, redoc_url=None,  # these pages load code from elsewhere
    )  # fmt: skip
    _add_errors(app)

    @app.post(
        "/analyze", status_code=202, response_model=JobView, openapi_extra=analyze_body(),
        responses={
            200: {"model": JobView, "description": "With `wait`: the job has ended."},
            **responses(400, 401, 403, 404, 408, 409, 413, 415, 422, 429, 500, 503, 504, 507),
        },
    )  # fmt: skip
    async def analyze(request: Request) -> Response:
        """Analyze a recording: an upload, or one that lies below the folder that is served."""
        with jobs.reserved():
            job, waits = await receiver.job(request)
        jobs.add(job)
        if waits:
            await _wait(job, request, jobs)
            if job.failure is not None:
                raise job.failure
            return JSONResponse(job.row())
        return JSONResponse(job.row(), 202, {"Location": f"/jobs/{job.id}"})

    @app.get("/jobs/{job_id}", response_model=JobView, responses=responses(401, 403, 404))
    async def job_of(job_id: str) -> Response:
        """A job: its state, its progress and the records so far."""
        return JSONResponse(jobs.get(job_id).row())

    @app.delete(
        "/jobs/{job_id}", status_code=204,
        responses={
            202: {"model": JobView, "description": "The job is cancelled."},
            204: {"description": "The job had ended, and is deleted."},
            **responses(401, 403, 404),
        },
    )  # fmt: skip
    async def cancel(job_id: str) -> Response:
        """Cancel a job, or delete one that has ended; its upload is deleted in either case."""
        job = jobs.get(job_id)
        is_deleted = await run_sync(jobs.cancel, job_id)
        return Response(status_code=204) if is_deleted else JSONResponse(job.row(), 202)

    @app.get(
        "/jobs/{job_id}/events", response_class=StreamingResponse,
        responses={
            200: {
                "description": "Server-sent events: `text` (start_s, end_s, text), a piece of an "
                "answer while it is written; `record`, an answer; `end`, the job without records.",
                "content": {"text/event-stream": {"schema": event_schema()}},
            },
            **responses(401, 403, 404),
        },
    )  # fmt: skip
    async def events(job_id: str) -> Response:
        """What a job tells, from its beginning on."""
        return StreamingResponse(_events(jobs.get(job_id)), media_type="text/event-stream")

    @app.get("/healthz", response_model=Health, responses={503: {"model": Health}})
    async def healthz() -> Response:
        """Whether jobs are taken; needs no key."""
        status = "stopping" if jobs.is_stopping else "ok" if jobs.is_alive else "dead"
        health = Health(status=status, version=served.version, model=served.digest, notice=NOTICE)
        return JSONResponse(health.model_dump(), 200 if status == "ok" else 503)

    @app.get("/metrics", response_class=Response, responses=responses(401, 403))
    async def metrics() -> Response:
        """Counts, as Prometheus reads them."""
        return Response(served.metrics.page(), media_type=CONTENT_TYPE_LATEST)

    described = app.openapi()
    described["components"]["schemas"]["Record"] = record_schema()
    if served.config.api_key is not None:
        describe_key(described, OPEN)
    return app


@dataclass(frozen=True)
class _Receiver:
    """Makes a job of a request."""

    served: Served
    probes: CapacityLimiter

    async def job(self, request: Request) -> tuple[Job, bool]:
        """The job, and whether its end is waited for."""
        config = self.served.config
        kind, options = parse_options_header(request.headers.get("content-type"))
        if kind == b"application/json":
            body = await receive_small(request.stream(), config.job_limit_s)
            asking: Asking = (named := read_json(body))
            path = await run_sync(below, config.root, named.path)
            return await self._made(asking, path, named.path, None), asking.wait
        if kind != b"multipart/form-data" or b"boundary" not in options:
            raise Refusal(415, "send a form (multipart/form-data) with a file, or JSON with a path")
        length = request.headers.get("content-length", "0")
        if length.isdecimal() and int(length) > config.limits.max_bytes + OTHER_BYTES:
            raise too_many_bytes(config.limits, "the upload")
        folder = Path(await run_sync(tempfile.mkdtemp, "", "", self.served.folder))
        try:
            form = await receive_form(
                request.stream(), options[b"boundary"], folder, config.limits, config.job_limit_s
            )
            assert form.path is not None
            asking = read_asking(Asking, form.fields)
            return await self._made(asking, form.path, form.name, folder), asking.wait
        except BaseException:  # of whatever kind, nothing of it is left
            delete(folder)
            raise

    async def _made(self, asking: Asking, path: Path, name: str, folder: Path | None) -> Job:
        config = self.served.config
        asked = asking.asked(self.served.dtype, config.max_new_tokens)
        await run_sync(check_upload, path, config.limits, name, limiter=self.probes)
        return Job(path, name, asked, folder)


async def _sweep(jobs: Jobs, keep_s: float) -> None:
    while True:
        await asyncio.sleep(min(keep_s, 5.0))
        jobs.sweep()


async def _wait(job: Job, request: Request, jobs: Jobs) -> None:
    """Wait for the end of a job; who goes meanwhile has cancelled it."""
    async for _ in _told(job, 1.0):
        if not job.has_ended and await request.is_disconnected():
            await run_sync(jobs.cancel, job.id)
            raise Refusal(409, "nobody waits for the answer any more")


async def _told(job: Job, silence_s: float) -> AsyncIterator[list[Event]]:
    """What a job tells, from its beginning on; nothing at times, so that others are looked at."""
    changed, loop = asyncio.Event(), asyncio.get_running_loop()
    number = 0
    with job.listening(lambda: loop.call_soon_threadsafe(changed.set)):
        while True:
            changed.clear()
            new = job.events_from(number)
            yield new
            if new:
                number = new[-1].number + 1
                if new[-1].kind == "end":
                    return
            try:
                await asyncio.wait_for(changed.wait(), silence_s)
            except TimeoutError:
                continue


async def _events(job: Job) -> AsyncIterator[str]:
    """As the standard of server-sent events has it; a line with a colon is for nobody."""
    async for new in _told(job, _SILENCE_S):
        yield (
            "".join(
                f"id: {event.number}\nevent: {event.kind}\ndata: {json.dumps(event.data)}\n\n"
                for event in new
            )
            or ": still here\n\n"
        )


def _add_errors(app: FastAPI) -> None:
    """Every failure is one line of JSON; what is no refusal goes to the log, and not to anybody."""
    Handler = Callable[[Request, Any], Awaitable[Response]]

    def answer(status: int, line: str | None = None) -> Handler:
        async def handler(_: Request, error: Exception) -> Response:
            headers = error.headers if isinstance(error, Refusal) else None
            code = error.status if isinstance(error, Refusal) else status
            return JSONResponse({"detail": line or str(error)}, code, headers)

        return handler

    for kind, status in (
        (Refusal, 500), (UploadTooLarge, 413), (UploadNotKept, 507), (UploadError, 415),
        (R1OmniError, 500),
    ):  # fmt: skip
        app.add_exception_handler(kind, answer(status))

    async def not_allowed(request: Request, _: Exception) -> Response:
        # A path may have a route for each method, and the error names those of the first one alone.
        routes = [route for route in app.routes if isinstance(route, Route)]
        there = [r for r in routes if r.matches(request.scope)[0] != Match.NONE]
        allowed = ", ".join(sorted({method for route in there for method in route.methods or ()}))
        line = f"{request.method} is not answered here; {allowed} is"
        return JSONResponse({"detail": line}, 405, {"Allow": allowed})

    async def not_there(request: Request, _: Exception) -> Response:
        paths = app.openapi()["paths"].items()
        there = ", ".join(f"{' or '.join(map(str.upper, does))} {path}" for path, does in paths)
        line = f"{one_line(request.url.path)}: there is nothing here; there are {there}"
        return JSONResponse({"detail": f"{line}, described at {app.openapi_url}"}, 404)

    app.add_exception_handler(404, not_there)
    app.add_exception_handler(405, not_allowed)
    app.add_exception_handler(ClientDisconnect, answer(400, "the body did not come to its end"))
    app.add_exception_handler(Exception, answer(500, "failed inside the server; its log says why"))
