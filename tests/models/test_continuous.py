"""A stream of prompts: where a completion has ended the next begins, and nothing else changes."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from short_prompts import MIXED, embed, prompts_of
from torch import Tensor
from torch.testing import assert_close

from r1omni.media.windows import Window
from r1omni.models import R1Omni
from r1omni.models.answering import Question
from r1omni.models.sampler import (
    Ended,
    Sampling,
    continuous,
    engine,
    generate,
    generate_each,
    read_prompts,
    writer,
)
from r1omni.models.scoring import emotion_scores
from r1omni.models.spans import NOT_ANSWERED, analyze_windows
from r1omni.streams import stream_seed
from r1omni.text.emotions import LABEL_SETS
from r1omni.text.tags import EMPTY_REASONING
from r1omni.types import ClipMedia

PAD = 385
ENDS = tuple(range(0, 384, 8))
LENGTH = 14
WORDS = LABEL_SETS["mafw"].words


@pytest.fixture(scope="module")
def prompts(tiny: R1Omni) -> list[Tensor]:
    """Nineteen prompts; the longest comes late, so a grid must grow."""
    found = embed(tiny, prompts_of(tiny, [*MIXED * 4][:19]))
    found.sort(key=len)
    found = [*found[:4], *found[:-9:-1], *found[4:-8]]
    assert (
        len(found) == 19
        and max(map(len, found[:4])) < len(found[4])
        and len({len(p) for p in found}) > 2
    )
    return found


@pytest.fixture(params=["cpu", "cuda"])
def pace(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways of writing, on the CPU."""
    paces = {"cpu": writer.CPU_PACE, "cuda": writer.CUDA_PACE}
    monkeypatch.setattr(engine, "pace_of", lambda _: paces[request.param])


def source(prompts: Sequence[Tensor]) -> Callable[[int], tuple[list[Tensor], bool]]:
    left = iter(prompts)

    def more(count: int) -> tuple[list[Tensor], bool]:
        taken = list(itertools.islice(left, count))
        return taken, len(taken) == count

    return more


def stream(
    omni: R1Omni, prompts: Sequence[Tensor], temperature: float, num_rows: int, **options: Any
) -> Iterator[Ended]:
    sampling = Sampling(LENGTH, temperature, ENDS, PAD)
    seed_of = options.pop("seed_of", stream_seed)
    more = options.pop("more", None) or source(prompts)
    found = generate_each(omni.model, more, sampling, num_rows, seed_of=seed_of, **options)
    return (ended for ended in found if ended is not None)


def alone(omni: R1Omni, prompts: Sequence[Tensor], temperature: float) -> list[list[int]]:
    """Completions of one prompt after the other."""
    sampling = Sampling(LENGTH, temperature, ENDS, PAD)
    rows = []
    for place, prompt in enumerate(prompts):
        found = generate(omni.model, [prompt], sampling, seeds=[stream_seed(place)])
        rows.append(found.ids[0, : int(found.mask[0].sum())].tolist())
    return rows


@pytest.mark.usefixtures("pace")
@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("num_rows", [1, 3, 8, 40])
def test_completions_are_those_of_prompts_alone(
    tiny: R1Omni, prompts: list[Tensor], temperature: float, num_rows: int
) -> None:
    wanted = alone(tiny, prompts, temperature)
    assert len({len(row) for row in wanted}) > (4 if temperature else 1)
    found: dict[int, list[int]] = {}
    heard: dict[int, list[int]] = {}
    going: list[int] = []

    def hear(places: Sequence[int], parts: Sequence[Sequence[int]]) -> None:
        assert len(set(places)) == len(places) <= num_rows
        going.append(len(places))
        for place, part in zip(places, parts, strict=True):
            heard.setdefault(place, []).extend(part)

    for ended in stream(tiny, prompts, temperature, num_rows, hear=hear):
        assert found.keys().isdisjoint(ended.places)
        found.update(zip(ended.places, ended.ids, strict=True))
    assert [found[place] for place in range(len(prompts))] == wanted
    assert heard == found
    if temperature and num_rows in (3, 8):  # others began while some went on
        assert going[0] == num_rows and sum(going) < len(wanted) * max(map(len, wanted))
        assert len(going) < sum(max(map(len, wanted[i : i + num_rows]))
                                for i in range(0, len(wanted), num_rows))  # fmt: skip


@pytest.mark.usefixtures("pace")
def test_prompts_can_be_scored_after_their_completion(tiny: R1Omni, prompts: list[Tensor]) -> None:
    befores = ["<think>A smile.</think>\n<answer>", EMPTY_REASONING]
    seen = 0
    for ended in stream(tiny, prompts, 1.0, 3):
        texts = [befores] * len(ended.places)
        found = emotion_scores(tiny.model, tiny.tokenizer, ended.read, texts, WORDS)
        read = read_prompts(tiny.model, [prompts[place] for place in ended.places])
        wanted = emotion_scores(tiny.model, tiny.tokenizer, read, texts, WORDS)
        for one, other in zip(found, wanted, strict=True):
            for mine, theirs in zip(one, other, strict=True):
                assert mine == pytest.approx(theirs, abs=1e-6)
        assert_close(ended.read.last, read.last, rtol=0, atol=1e-5)
        seen += len(ended.places)
    assert seen == len(prompts)


class Replayed:
    """Stands in for graphs: a step of a known shape has to find everything where it was."""

    now: tuple[Any, ...] = ()  # where the step that runs finds it

    def __init__(self) -> None:
        self.places: dict[Any, tuple[Any, ...]] = {}
        self.addresses: list[tuple[int, ...]] = []
        self.num_replayed = 0

    def run(self, shape: Any, addresses: tuple[int, ...], step: Callable[[], None]) -> None:
        if not self.addresses or self.addresses[-1] != addresses:
            self.addresses.append(addresses)
            self.places.clear()
        step()
        self.num_replayed += shape in self.places
        assert self.places.setdefault(shape, self.now) == self.now


def test_a_recorded_step_finds_everything_where_it_was(
    tiny: R1Omni, prompts: list[Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = alone(tiny, prompts, 1.0)
    advance = writer.advance

    def watched(weights: Any, grid: Any, columns: int, temperature: float) -> None:
        tensors = [value for value in vars(grid).values() if isinstance(value, Tensor)]
        laid = [(tensor.data_ptr(), tensor.shape, tensor.stride()) for tensor in tensors]
        Replayed.now = (*weights.addresses(), *laid, columns)
        advance(weights, grid, columns, temperature)

    monkeypatch.setattr(engine, "pace_of", lambda _: writer.CUDA_PACE)
    for module in (engine, writer):
        monkeypatch.setattr(module, "uses_graphs", lambda *_: True)
    monkeypatch.setattr(writer, "advance", watched)
    monkeypatch.setattr(writer, "StepGraphs", Replayed)
    memory = writer.SamplerMemory()
    replayed: Any = memory.graphs
    monkeypatch.setattr(tiny.model, "sampler_memory", memory)
    rows = []
    for ended in stream(tiny, prompts, 1.0, 8):
        assert tiny.model.sampler_memory is not memory  # another call may not write there
        rows += zip(ended.places, ended.ids, strict=True)
        generate(tiny.model, prompts[:2], Sampling(2, 0.0, (), PAD))
    assert tiny.model.sampler_memory is memory
    assert [ids for _, ids in sorted(rows)] == wanted
    sizes = {shape[0][2] for shape in replayed.places}
    assert sizes <= {8, 4, 2, 1} and replayed.num_replayed > len(replayed.places)
    # Known again in the next call, which takes the same memory.
    before, count = len(replayed.addresses), replayed.num_replayed
    assert sum(len(ended.places) for ended in stream(tiny, prompts, 1.0, 8)) == len(prompts)
    assert len(replayed.addresses) == before and replayed.num_replayed > count


def test_what_raises_ends_the_stream_and_nothing_is_lost(
    tiny: R1Omni, prompts: list[Tensor]
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        next(stream(tiny, prompts, 1.0, 3, hear=stop))
    with pytest.raises(ValueError, match="needs the seed"):
        next(stream(tiny, prompts, 1.0, 3, seed_of=None))
    # Prompts may come in drops, or none at all.
    drops = iter([([], True), (prompts[:1], True), ([], True), (prompts[1:3], True), ([], False)])
    found = [e for e in stream(tiny, [], 1.0, 8, more=lambda _: next(drops))]
    assert sorted(place for ended in found for place in ended.places) == [0, 1, 2]
    assert not [*stream(tiny, [], 1.0, 8, more=lambda _: ([], False))]


# Spans of recordings -----------------------------------------------------------------------------


def spans(omni: R1Omni, clip: Path) -> Iterator[Window]:
    """Windows of a clip, some of them with nothing in them."""
    nothing = ClipMedia(None, None, ("nothing here",))
    for window in omni.processor.load_windows(clip, 0.2, 0.15, "video_audio", None):
        yield window._replace(media=nothing) if window.place % 7 == 3 else window


@pytest.mark.parametrize("mode", ["think", "direct", "both"])
def test_spans_are_told_in_order_and_let_go_of(
    tiny: R1Omni, tiny_dir: Path, mode: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiny, "end_ids", tuple(range(0, 384, 12)))
    question = Question(max_new_tokens=12, label_set="mafw", answer_mode=mode)
    windows = list(spans(tiny, tiny_dir / "clip.mp4"))
    wanted = [a for w in windows for a in analyze_windows(tiny, [w], question, 1)]
    alive: list[weakref.ref[Tensor]] = []
    most = 0

    def given() -> Iterator[Window]:
        nonlocal most
        for window in spans(tiny, tiny_dir / "clip.mp4"):
            if window.media.mel is not None:
                alive.append(weakref.ref(window.media.mel))
            most = max(most, sum(ref() is not None for ref in alive))
            yield window

    found = list(analyze_windows(tiny, given(), question, 4))
    assert 1 < most <= 6 < len(alive)
    assert len(found) > 12 and (mode == "direct" or len({len(a.text) for a in found}) > 2)
    told = [(a.start_s, a.end_s, a.label, a.text, a.warnings) for a in found]
    assert told == [(a.start_s, a.end_s, a.label, a.text, a.warnings) for a in wanted]
    assert [i for i, a in enumerate(found) if NOT_ANSWERED in a.warnings] == [
        w.place for w in windows if w.place % 7 == 3
    ]
    for one, other in zip(found, wanted, strict=True):
        assert one.scores == pytest.approx(other.scores, abs=1e-5)
        assert (one.direct_scores is None) == (mode == "think" or not one.scores)


def test_rows_that_end_are_replaced_when_a_share_of_them_is_free(
    tiny: R1Omni, prompts: list[Tensor]
) -> None:
    asked: list[int] = []
    inner = source(prompts)

    def more(count: int) -> tuple[list[Tensor], bool]:
        asked.append(count)
        return inner(count)

    assert sum(len(e.places) for e in stream(tiny, prompts, 1.0, 8, more=more)) == len(prompts)
    assert asked[0] == 8 and len(asked) > 2
    assert all(8 * continuous._FREE <= count <= 8 for count in asked[1:])
