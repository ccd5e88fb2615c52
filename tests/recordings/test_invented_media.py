"""An answer that describes what the model was not given carries a warning that says so."""

from __future__ import annotations

import shutil
from pathlib import Path

import av
import pytest

from processes import REPOSITORY
from r1omni.cli import main
from r1omni.models.spans import INVENTED
from r1omni.recordings.log import read_log
from r1omni.recordings.records import Record
from r1omni.text.cues import read_cues
from r1omni.text.reasoning import told_media

CLIP = REPOSITORY / "examples" / "clips" / "a.mp4"


def without_sound(clip: Path, out: Path) -> Path:
    """The picture of a clip, packet by packet, in a file without a sound track."""
    with av.open(str(clip)) as source, av.open(str(out), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    return out


def analyzed(clip: Path, out: Path, *words: str) -> Record:
    model = str(REPOSITORY / "examples" / "mini-model")
    assert main(["analyze", str(clip), "--model", model, "--out", str(out), *words]) == 0
    [record] = read_log(out)
    return record


def test_the_shipped_model_invents_what_it_was_not_given(tmp_path: Path) -> None:
    """It was trained with both media alone, and its reasonings tell of both whatever there is."""
    both = analyzed(CLIP, tmp_path / "both.jsonl")
    assert "the voice is" in both.reasoning and "video" in both.reasoning
    assert both.warnings == ()
    seen = analyzed(CLIP, tmp_path / "seen.jsonl", "--modality", "video")
    assert "the voice is" in seen.reasoning and seen.warnings == (INVENTED["audio"],)
    heard = analyzed(CLIP, tmp_path / "heard.jsonl", "--modality", "audio")
    assert "eyes" in heard.reasoning and heard.warnings == (INVENTED["video"],)
    # Silence that stands in for a sound is none.
    silent = analyzed(without_sound(CLIP, tmp_path / "silent.mp4"), tmp_path / "silent.jsonl")
    assert silent.media == ("video",)
    assert silent.warnings == ("no audio track: silence is used", INVENTED["audio"])
    # A direct answer has no reasoning that could tell of anything.
    at_once = shutil.copy(CLIP, tmp_path / "at_once.mp4")
    words = ("--modality", "video", "--answer-mode", "direct")
    assert analyzed(Path(at_once), tmp_path / "at_once.jsonl", *words).warnings == ()


@pytest.mark.parametrize(
    ("reasoning", "told"),
    [
        ("The voice trembles.", ("audio",)),
        ("She smiles, and no voice can be heard.", ("video",)),
        ("High pitch.", ("audio",)),
        ("He frowns while he speaks softly.", ("video", "audio")),
        ("It is sad.", ()),
    ],
)
def test_what_a_reasoning_tells_of(reasoning: str, told: tuple[str, ...]) -> None:
    assert told_media(reasoning, read_cues(reasoning)) == told
