"""The page in front of the API: its routes, and what is kept of a job for it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from weakref import WeakKeyDictionary

from fastapi import FastAPI
from fastapi.responses import FileResponse, HTMLResponse, Response

from r1omni.demo.results import shown
from r1omni.media.container import MediaError
from r1omni.media.previews import pictures
from r1omni.media.timeline import scan_timeline
from r1omni.models.answering import Question
from r1omni.pages import render
from r1omni.recordings import page as recordings_page
from r1omni.recordings.segments import recording_of
from r1omni.serving.answering import Answerer
from r1omni.serving.api import Served
from r1omni.serving.config import ServeConfig
from r1omni.serving.job import Job, Refusal
from r1omni.text.emotions import LABEL_SETS
from r1omni.types import MODALITIES, AnswerMode, MediaAblation, UsageError

_logger = logging.getLogger(__name__)
# Seconds that drawing pictures and waveform of an answered recording may take.
_DRAWING_LIMIT_S = 60.0
_SCRIPTS = ("events.js", "clip.js", "writing.js", "demo.js")
_MODALITY_WORDS = {
    "video_audio": "picture and sound", "video": "picture alone", "audio": "sound alone",
}  # fmt: skip
_MODE_WORDS: dict[AnswerMode, str] = {
    "both": "reasoned, direct beside it", "think": "reasoned", "direct": "direct, no reasoning",
}  # fmt: skip
_ABLATION_WORDS: dict[MediaAblation, str] = {
    "none": "no", "direct": "its direct answer", "answer": "a whole answer",
}  # fmt: skip


@dataclass
class Demo:
    """A page to try a model with (docs/demo.md).

    Attributes:
        examples: recordings that the page offers.
        name: what the server says that it is.
        open_paths: need no key: the page itself, which says nothing of anybody's recording.
    """

    examples: Sequence[Path] = ()
    name: str = "r1omni demo"
    open_paths: Collection[str] = ("/",)
    _shown: WeakKeyDictionary[Job, str] = field(default_factory=WeakKeyDictionary)

    def work(self, answerer: Answerer) -> Callable[[Job], None]:
        """Answer, then draw what the page shows, while the upload is still there."""
        num_frames = answerer.omni.processor.config.num_frames

        def answered(job: Job) -> None:
            answerer(job)
            job.check()
            recording = recording_of(job.name, job.records)
            self._shown[job] = shown(recording, job.path, num_frames, _DRAWING_LIMIT_S)

        return answered

    def add_routes(self, app: FastAPI, served: Served) -> None:
        """The page, what it shows of a job, and the examples; none is part of the API."""
        page = self.page(served.config)
        files = {path.name: path for path in self.examples}

        @app.get("/", include_in_schema=False)
        async def whole() -> Response:
            return HTMLResponse(page)

        @app.get("/jobs/{job_id}/shown", include_in_schema=False)
        async def shown_of(job_id: str) -> Response:
            found = self._shown.get(served.jobs.get(job_id))
            if found is None:
                raise Refusal(404, "this job has nothing to show")
            return Response(found, media_type="application/json")

        @app.get("/examples/{name}", include_in_schema=False)
        async def example(name: str) -> Response:
            if name not in files:
                raise Refusal(404, "there is no such example")
            return FileResponse(files[name])

    def page(self, config: ServeConfig) -> str:
        """The page, whole in one text."""
        limits = config.limits
        return "".join(
            render(
                __package__,
                "demo.html",
                scripts=(*recordings_page.SCRIPTS, *_SCRIPTS),
                styles=(*recordings_page.STYLES, "demo.css"),
                media="blob:",
                connect="'self'",
                borrows=(recordings_page.__name__,),
                examples=[(path.name, _picture(path)) for path in self.examples],
                modalities=[(name, _MODALITY_WORDS[name]) for name in MODALITIES],
                label_sets=[(name, name) for name in sorted(LABEL_SETS)],
                modes=list(_MODE_WORDS.items()),
                ablations=list(_ABLATION_WORDS.items()),
                apart=_apart(),
                limits={
                    "bytes": limits.max_bytes, "mb": f"{limits.max_upload_mb:g}",
                    "seconds": limits.max_seconds, "pixels": limits.max_pixels,
                    "length": f"{limits.max_seconds:g} seconds",
                },
            )
        )  # fmt: skip


def _apart() -> dict[AnswerMode, list[MediaAblation]]:
    """By mode of answers, the ablations that a question of it cannot have."""

    def is_refused(mode: AnswerMode, ablation: MediaAblation) -> bool:
        try:
            Question(answer_mode=mode, media_ablation=ablation)
        except UsageError:
            return True
        return False

    return {mode: [a for a in _ABLATION_WORDS if is_refused(mode, a)] for mode in _MODE_WORDS}


def _picture(path: Path) -> str | None:
    """The middle of a recording as a data URL; None for sound alone."""
    try:
        timeline = scan_timeline(path)
        if not timeline.pts:
            return None
        length_s = timeline.seconds(timeline.pts[-1])
        found, _ = pictures(path, timeline, [(length_s / 2, length_s)], 1)
    except MediaError as error:  # it can still be chosen, and the answer says what is wrong
        _logger.warning("an example has no picture: %s", error)
        return None
    return found[0].source if found else None
