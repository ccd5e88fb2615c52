"""Answers asked for again without a medium: those of evaluation under "muted" and "blanked"."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "media"))

from clips import write_clip

from r1omni.data import DatasetSpec, EmotionDataModule
from r1omni.data.loader_config import LoaderConfig
from r1omni.media.processor import NO_PICTURE
from r1omni.models import R1Omni
from r1omni.models.answering import Answered, Question, answer_prompts
from r1omni.models.spans import analyze_windows
from r1omni.text.answers import read_answer
from r1omni.text.emotions import LABEL_SETS
from r1omni.types import Ablated, Analysis, MediaAblation, PromptInputs, UsageError

EXAMPLES = Path(__file__).parents[2] / "examples"
WORDS = LABEL_SETS["dfew"].words
LENGTH = 80


@pytest.fixture(scope="module")
def mini() -> R1Omni:
    """A model that looks and listens, as one that was not trained hardly does."""
    return R1Omni.from_pretrained(EXAMPLES / "mini-model")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two films, one without a sound, and the list of all."""
    root = tmp_path_factory.mktemp("clips")
    for number, name in enumerate(("a.mp4", "b.mp4")):
        shutil.copy(EXAMPLES / "clips" / name, root / f"{number}.mp4")
    write_clip(root / "2.mp4", num_frames=8, sound=False)
    (root / "labels.csv").write_text("path,label\n0.mp4,happy\n1.mp4,sad\n2.mp4,happy\n")
    return root


def evaluated(omni: R1Omni, root: Path, cache: Path) -> dict[str, Answered]:
    """By condition, answers to the media that evaluation serves, in the order of the list."""
    spec = DatasetSpec("own", ".", split="all", options={"file": "labels.csv"})
    conditions: Any = ["full", "muted", "blanked"]
    module = EmotionDataModule(
        root=str(root), test=[spec], conditions=conditions,
        loader=LoaderConfig(decode_workers=0, eval_batch_size=3, cache_dir=str(cache)),
    )  # fmt: skip
    module.setup("test")
    module.prepare_clips(omni.processor)
    found = {}
    for condition, loader in zip(conditions, module.test_dataloader(), strict=True):
        [batch] = loader
        prompts = [omni.prompt(media, None, "video_audio") for media in batch.media]
        inputs = PromptInputs(
            tuple(prompt.token_ids[0] for prompt in prompts),
            tuple(prompt.instruction_ids[0] for prompt in prompts),
            batch.media,
        )
        found[condition] = answer_prompts(
            omni, omni.model.embed_prompts(inputs), LENGTH, "both", WORDS
        )
    return found


def analyzed(omni: R1Omni, path: Path, ablation: MediaAblation, **options: Any) -> Analysis:
    asked = {"max_new_tokens": LENGTH, "label_set": "dfew", "answer_mode": "both", **options}
    [analysis] = omni.analyze(path, media_ablation=ablation, **asked)
    return analysis


def test_they_are_those_of_evaluation(mini: R1Omni, clips: Path, tmp_path: Path) -> None:
    known = evaluated(mini, clips, tmp_path)
    for row in range(2):
        whole = analyzed(mini, clips / f"{row}.mp4", "answer")
        direct = analyzed(mini, clips / f"{row}.mp4", "direct")
        plain = analyzed(mini, clips / f"{row}.mp4", "none")
        assert plain.ablation is None
        assert (whole.text, whole.scores) == (direct.text, direct.scores)
        assert (plain.text, plain.scores) == (direct.text, direct.scores)
        assert whole.ablation is not None and direct.ablation is not None
        assert [*whole.ablation] == [*direct.ablation] == ["muted", "blanked"]
        for condition, said in whole.ablation.items():
            other = known[condition]
            assert said.label == read_answer(other.texts[row], other.ended[row]).emotion
            assert other.reasoned is not None and other.direct is not None
            assert said.scores == pytest.approx(other.reasoned[row], abs=1e-5)
            assert said.direct_scores == pytest.approx(other.direct[row], abs=1e-5)
            once = direct.ablation[condition]
            assert (once.label, once.scores) == (None, {})
            assert once.direct_scores == pytest.approx(other.direct[row], abs=1e-5)
            assert once.direct_label == max(other.direct[row], key=other.direct[row].__getitem__)
        # Each takes away what it says, and the two are not the same.
        assert plain.direct_scores is not None
        rows = [plain.direct_scores, *(said.direct_scores for said in direct.ablation.values())]
        assert all(
            one != pytest.approx(other, abs=0.02)  # type: ignore[arg-type]
            for place, one in enumerate(rows)
            for other in rows[:place]
        )


def test_every_mode_asks_for_what_it_is_compared_with(mini: R1Omni, clips: Path) -> None:
    def said(mode: str, ablation: MediaAblation) -> Ablated:
        found = analyzed(mini, clips / "0.mp4", ablation, answer_mode=mode).ablation
        assert found is not None
        return found["muted"]

    both = said("both", "answer")
    think = said("think", "answer")
    assert (think.label, think.direct_label, think.direct_scores) == (both.label, None, None)
    assert think.scores == pytest.approx(both.scores, abs=1e-6)
    for ablation in ("direct", "answer"):  # direct answers are all that there is
        direct = said("direct", ablation)  # type: ignore[arg-type]
        assert direct.scores == direct.direct_scores == pytest.approx(both.direct_scores, abs=1e-6)
        assert direct.label == direct.direct_label == both.direct_label
    with pytest.raises(UsageError, match="answer_mode 'think' has none; use answer_mode 'both'"):
        Question(media_ablation="direct")
    with pytest.raises(UsageError, match="media_ablation 'sound' is unknown; use one of none, dir"):
        Question(media_ablation="sound")  # type: ignore[arg-type]


def test_only_a_medium_that_is_there_is_taken_away(
    mini: R1Omni, clips: Path, tmp_path: Path
) -> None:
    cases = (
        ("0.mp4", {"modality": "video"}, ["blanked"]),
        ("0.mp4", {"modality": "audio"}, ["muted"]),
        ("2.mp4", {}, ["blanked"]),  # silence stands in
    )
    for name, options, wanted in cases:
        found = analyzed(mini, clips / name, "answer", **options).ablation
        assert found is not None and [*found] == wanted, (name, options)
    # A sound among films keeps its own question; a span of nothing is asked nothing.
    windows = [*mini.processor.load_windows(clips / "0.mp4", window_s=1.5)]
    windows += mini.processor.load_windows(clips / "0.mp4", intervals=[(50, 51)])
    question = Question(max_new_tokens=2, answer_mode="both", media_ablation="direct")
    *answered, nothing = analyze_windows(mini, windows, question, 8)
    assert [[*(one.ablation or {})] for one in answered] == [["muted", "blanked"]] * 2
    assert nothing.label is None and nothing.ablation is None
    sound = tmp_path / "0.mka"
    write_sound(clips / "0.mp4", sound)
    heard = analyzed(mini, sound, "direct")
    assert NO_PICTURE in heard.warnings and [*(heard.ablation or {})] == ["muted"]
    alone = analyzed(mini, sound, "direct", modality="audio")
    assert heard.ablation == alone.ablation


def write_sound(film: Path, sound: Path) -> None:
    """The sound of a film, as it is encoded."""
    import av

    with av.open(str(film)) as source, av.open(str(sound), "w") as out:
        stream = out.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(source.streams.audio[0]):
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)


def test_whoever_hears_can_end_them(mini: R1Omni, clips: Path) -> None:
    windows = [*mini.processor.load_windows(clips / "0.mp4")]
    told: list[int] = []

    def hear(spans: Any, part: Any) -> None:
        told.append(len(spans))
        assert len(part) == len(spans)
        if not spans:
            raise InterruptedError

    question = Question(max_new_tokens=20, media_ablation="answer")
    with pytest.raises(InterruptedError):
        list(analyze_windows(mini, windows, question, 8, hear))
    assert told[-1] == 0  # before its own answer is written: what is said without a medium


def test_intervals_are_answered_in_the_order_they_were_given_in(mini: R1Omni, clips: Path) -> None:
    given = [(1.0, 2.0), (0.0, 0.5), (0.2, 2.0), (0.0, 1.0)]
    options: dict[str, Any] = {"answer_mode": "direct", "intervals": given}
    found = mini.analyze(clips / "0.mp4", **options)
    assert [(one.start_s, one.end_s) for one in found] == given
    read = [(a.start_s, a.end_s) for a in mini.iter_analyses(clips / "0.mp4", **options)]
    assert read == [(0.0, 0.5), (0.0, 1.0), (0.2, 2.0), (1.0, 2.0)]
