"""Prompts answered in a stream: where a completion has ended, the next prompt begins.

The rows of a grid share one count of steps. A row that begins later has its tokens in later columns
and does not look at those before; columns that only ended rows have written are let go of. So a row
draws what it would draw alone, and as many columns are looked at as the oldest row has tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from r1omni.models.omni import OmniModel
from r1omni.models.sampler.grid import Grid, begin, empty_grid, fewer_slots
from r1omni.models.sampler.prompts import ReadPrompts, read_prompts
from r1omni.models.sampler.settings import Sampling
from r1omni.models.sampler.writer import Pace, SamplerMemory, Steps
from r1omni.streams import uniform_streams

# The next prompts, embedded, [P_i, D]: at most as many as are asked for; and whether more may come.
NextPrompts = Callable[[int], tuple[Sequence[Tensor], bool]]
# Takes the places of prompts whose completions go on, from 0, and the next tokens of each.
Hear = Callable[[Sequence[int], Sequence[Sequence[int]]], None]

# Share of the rows that are free before prompts are read: several at once cost less.
_FREE = 0.25


@dataclass(frozen=True)
class Ended:
    """Completions that ended together.

    Attributes:
        places: whose completions they are: the place of each prompt, from 0.
        ids: the tokens of each, up to and including the end token.
        read: their prompts.
    """

    places: list[int]
    ids: list[list[int]]
    read: ReadPrompts


@dataclass
class _Row:
    """A completion that is being written; `start` is the column of its first token."""

    place: int
    start: int
    last: Tensor
    ids: list[int] = field(default_factory=list)


class Rows:
    """Completions of different ages in one grid.

    Args:
        model: the policy.
        sampling: how to draw.
        memory: where the grid lies; nobody else uses it meanwhile.
        pace: of the device.
        num_rows: rows of the grid, at most.
        seed_of: the seed of a prompt's completion by the prompt's place; None where the most
            probable token is taken.
    """

    def __init__(
        self,
        model: OmniModel,
        sampling: Sampling,
        memory: SamplerMemory,
        pace: Pace,
        num_rows: int,
        seed_of: Callable[[int], int] | None,
    ) -> None:
        self.model = model
        self.sampling = sampling
        self.pace = pace
        self.seed_of = seed_of
        self.storage = memory.storage
        self.weights = memory.reader.read(model)
        self.steps = Steps(self.weights, sampling, memory, pace)
        self.grid: Grid | None = None
        # Of every row of the grid the completion, or None.
        self.rows: list[_Row | None] = [None] * num_rows
        self.column = self.num_begun = 0

    @property
    def going(self) -> list[int]:
        """Rows of the grid in which a completion goes on."""
        return [slot for slot, row in enumerate(self.rows) if row is not None]

    @property
    def num_free(self) -> int:
        """Prompts that may begin."""
        return self.rows.count(None)

    def begin(self, prompts: Sequence[Tensor]) -> None:
        """Read prompts, at most as many as are free, and draw the first token of each."""
        read = read_prompts(self.model, prompts)
        places = range(self.num_begun, self.num_begun + len(prompts))
        uniforms = None
        if self.seed_of is not None and self.sampling.temperature > 0:
            seeds = [self.seed_of(place) for place in places]
            uniforms = uniform_streams(seeds, self.sampling.max_new_tokens).to(self.model.device)
        multiple = self.pace.prompt
        length = -(-read.embedded.mask.shape[1] // multiple) * multiple
        if self.grid is None:
            shape = (len(self.rows), 1)
            self.grid = empty_grid(
                self.model, self.weights, shape, length, self.sampling, self.storage
            )
            self.steps.begin()
        elif length > self.grid.prompt.shape[4]:
            self.grid.lengthen(self.model, length, self.storage)
            self.steps.begin()
        free = (slot for slot, row in enumerate(self.rows) if row is None)
        slots = [slot for slot, _ in zip(free, prompts, strict=False)]
        begin(self.grid, slots, self.column, self.weights, read, self.sampling, uniforms)
        for slot, place, last in zip(slots, places, read.last, strict=True):
            self.rows[slot] = _Row(place, self.column, last)
        self.num_begun += len(prompts)

    def write(self, hear: Hear | None) -> Ended | None:
        """The next tokens of all completions; what has ended, if anything has."""
        grid = self.grid
        assert grid is not None
        oldest = min(row.start for row in self.rows if row is not None)
        left = self.sampling.max_new_tokens - 1 - (self.column - oldest)
        with torch.autocast(grid.token.device.type, enabled=False):
            for _ in range(min(self.pace.period, left)):
                self.steps.advance(grid, self.column)
                self.column += 1
        ended = self._record(grid, hear)
        return self._end(grid, ended) if ended else None

    def _record(self, grid: Grid, hear: Hear | None) -> list[int]:
        """Take the new tokens from the grid; rows in which a completion has ended."""
        going = self.going
        rows = [row for row in self.rows if row is not None]
        first = min(row.start + len(row.ids) for row in rows)
        found = grid.ids[:, first : self.column + 1].tolist()
        ends, limit = self.sampling.end_ids, self.sampling.max_new_tokens
        ended, heard = [], []
        for slot, row in zip(going, rows, strict=True):
            new = found[slot][row.start + len(row.ids) - first :]
            length = next((i + 1 for i, id_ in enumerate(new) if id_ in ends), 0)
            new = new[:length] if length else new
            row.ids += new
            heard.append(new)
            if length or len(row.ids) == limit:
                ended.append(slot)
        if hear is not None:
            hear([row.place for row in rows], heard)
        return ended

    def _end(self, grid: Grid, slots: list[int]) -> Ended:
        rows = [row for slot in slots if (row := self.rows[slot]) is not None]
        read = grid.read_again(slots, torch.stack([row.last for row in rows]))
        for slot in slots:
            self.rows[slot] = None
        # What only ended rows have written is of no use.
        starts = [row.start for row in self.rows if row is not None]
        unused = min(starts, default=self.column)
        if unused:
            grid.forget(unused, self.column)
            self.column -= unused
            for row in self.rows:
                if row is not None:
                    row.start -= unused
        return Ended([row.place for row in rows], [row.ids for row in rows], read)

    def narrow(self) -> None:
        """Let ended rows leave: no more prompts will come."""
        grid, going = self.grid, self.going
        assert grid is not None
        slots, real = fewer_slots(going, grid.shape, halve=self.pace.halve)
        if len(slots) < len(self.rows):
            grid.narrow(slots, self.column, self.storage)
            self.rows = [
                self.rows[slot] if is_real else None
                for (slot,), (is_real,) in zip(slots, real, strict=True)
            ]


def written(rows: Rows, more: NextPrompts, hear: Hear | None) -> Iterator[Ended | None]:
    """Completions of all prompts, each when it has ended; see `generate_each`."""
    goes_on = True
    while goes_on or rows.going:
        free = rows.num_free
        if goes_on and free >= _FREE * len(rows.rows):
            prompts, goes_on = more(free)
            if not goes_on and rows.grid is None:
                rows.rows = [None] * len(prompts)
            if prompts:
                rows.begin(prompts)
        if not rows.going:
            yield None
            continue
        if not goes_on:
            rows.narrow()
        ended = rows.write(hear)
        if ended is not None:
            yield ended
