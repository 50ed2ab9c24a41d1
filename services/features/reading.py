"""Values and statuses as of a moment, of several views and many rows in one go.

A call costs some hundred NumPy operations whatever it asks for, so the states of all views are put end to end: a *cell*
is a row of a view; its state's entries and tiles that a window reaches become rows of one partial layout, grouped by
window, cell and column.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.chassis.clock import from_us, rfc3339
from services.chassis.errors import OutOfRange
from services.contracts.features.v1 import features_pb2
from services.features.definitions import Aggregation, Function
from services.features.merging import (
    COUNT,
    GREATEST,
    LAST,
    LEAST,
    SQUARES,
    SUM,
    Floats,
    Ints,
    PartialLayout,
    run_starts,
)
from services.features.state import ABOUT, BEFORE_ALL, DISTINCT, NEVER, Records, StateLayout, owners, split
from services.features.windows import window_start

PRESENT = features_pb2.FEATURE_STATUS_PRESENT
MISSING = features_pb2.FEATURE_STATUS_MISSING
STALE = features_pb2.FEATURE_STATUS_STALE

Statuses = NDArray[np.uint8]
_VALUE = "value"
# The part that is a function's value, but for what is divided.
_PART = {
    Function.COUNT: COUNT,
    Function.SUM: SUM,
    Function.MEAN: SUM,
    Function.STDDEV: SQUARES,
    Function.MIN: LEAST,
    Function.MAX: GREATEST,
    Function.LAST: LAST,
}


class Asked(NamedTuple):
    """Of one view: row i is the state `blobs[rows[i]]` as of `as_of_us[i]`."""

    blobs: Sequence[bytes | None]
    rows: Ints
    as_of_us: Ints


@dataclass(frozen=True, slots=True)
class Answers:
    """`values` [rows, aggregations] float64, NaN for none; `statuses` likewise; `newest_us` event time for each row."""

    values: Floats
    statuses: Statuses
    newest_us: Ints


def too_far_back(as_of_us: int, earliest_us: int) -> OutOfRange:
    """The error for a moment that the online state does not reach back to."""
    return OutOfRange(
        f"as_of_us: {rfc3339(from_us(as_of_us))} lies before {rfc3339(from_us(earliest_us))}, "
        "how far back the online state can be read; a training set reaches further"
    )


class Reader:
    """Knows how to read the states of some views."""

    def __init__(self, layouts: Sequence[StateLayout]) -> None:
        self._layouts = layouts
        aggregations = [layout.view.aggregations for layout in layouts]
        windows = [list(dict.fromkeys((e.window_us, e.slide_us) for e in each)) for each in aggregations]
        self._windows = max(map(len, windows), default=0)
        # A window that a view does not have begins after all time.
        padded = [each + [(-NEVER, 1)] * (self._windows - len(each)) for each in windows]
        self._windows_us, self._slides_us = np.array(padded, np.int64).reshape(len(layouts), -1, 2).T
        self._columns = np.array([len(layout.columns) for layout in layouts], np.int64)
        self._most_columns = int(self._columns.max(initial=0))
        self._ttl_us = np.array([layout.view.ttl_us or NEVER for layout in layouts], np.int64)
        everything = [replace(each, column=_VALUE) for each in chain.from_iterable(aggregations)]
        self._partials = PartialLayout((_VALUE,), everything)
        self._tile_parts = _TileParts(layouts, self._partials)
        self._finish = _Finish(layouts, windows, self._partials)
        self._distinct = any(slide.distinct for layout in layouts for slide in layout.slides)

    def read(self, asked: Sequence[Asked]) -> list[Answers]:
        """The answers of each view. Raises OutOfRange for a moment before a state's mark."""
        stack = _stack(self._layouts, asked)
        cells = self._cells(asked, stack)
        entries = self._entries(stack, cells)
        rows, groups = [self._partials.of_values(*entries.partial)], [entries.groups]
        if stack.tile_sizes.any():
            tile_rows, tile_groups = self._tiles(stack, cells)
            rows.append(tile_rows)
            groups.append(tile_groups)
        merged, places = self._merge(np.concatenate(rows), np.concatenate(groups), cells)
        items = self._finish.items(cells, self._most_columns)
        values = self._finish.values(merged[places[items.groups]], items)
        if self._distinct:
            counts = self._count_distinct(stack, cells, entries)
            values[items.distinct] = counts[items.groups[items.distinct]]
        values[(cells.first_us > cells.as_of_us)[items.cell]] = np.nan
        statuses = np.where(cells.stale(entries.newest_us)[items.cell], STALE, PRESENT).astype(np.uint8)
        statuses[np.isnan(values)] = MISSING
        return self._by_view(asked, values, statuses, entries.newest_us)

    def _cells(self, asked: Sequence[Asked], stack: _Stack) -> _Cells:
        view = np.arange(len(asked)).repeat([len(each.rows) for each in asked])
        bases = np.array([0, *(len(each.blobs) for each in asked[:-1])]).cumsum()
        state = np.concatenate([each.rows for each in asked]) + bases[view]
        as_of_us = np.concatenate([each.as_of_us for each in asked])
        marks_us = stack.marks_us[state]
        if (marks_us > as_of_us).any():
            raise too_far_back(int(as_of_us.min()), int(marks_us.max()))
        return _Cells(
            view=view,
            state=state,
            as_of_us=as_of_us,
            first_us=stack.first_us[state],
            tiled_us=stack.newest_us[state],
            ttl_us=self._ttl_us[view],
            columns=self._columns[view],
            slides_us=self._slides_us[:, view],
            starts_us=window_start(as_of_us, self._windows_us[:, view], self._slides_us[:, view]),
        )

    def _entries(self, stack: _Stack, cells: _Cells) -> _EntryValues:
        """One element for each value that is not null of an entry in a window."""
        entry, cell = _expand(stack.entry_sizes, cells.state)
        times_us, available_us = stack.about["time"][entry], stack.about["available"][entry]
        known = available_us <= cells.as_of_us[cell]
        newest_us = cells.tiled_us.copy()
        np.maximum.at(newest_us, cell, np.where(known, times_us, BEFORE_ALL))
        window, inside = (known & (times_us >= cells.starts_us[:, cell])).nonzero()
        entry, cell = entry[inside], cell[inside]
        of, column = _spread(cells.columns[cell])
        values = stack.values[stack.value_offsets[entry][of] + column]
        filled = (~np.isnan(values)).nonzero()[0]
        of, column, values = of[filled], column[filled], values[filled]
        groups = self._group(window, cell, cells)[of] + column
        inside = inside[of]
        return _EntryValues(newest_us, groups, (times_us[inside], available_us[inside], values[:, None]))

    def _tiles(self, stack: _Stack, cells: _Cells) -> tuple[Floats, Ints]:
        """A row for each column of a tile in a window, and its group."""
        tile, cell = _expand(stack.tile_sizes, cells.state)
        of_slide = stack.tile_slides_us[tile] == cells.slides_us[:, cell]
        window, inside = (of_slide & (stack.tile_starts_us[tile] >= cells.starts_us[:, cell])).nonzero()
        tile, cell = tile[inside], cell[inside]
        rows = self._tile_parts.rows(stack.parts, stack.part_offsets[tile], cells.view[cell], cells.columns[cell])
        of, column = _spread(cells.columns[cell])
        return rows, self._group(window, cell, cells)[of] + column

    def _group(self, window: Ints, cell: Ints, cells: _Cells) -> Ints:
        """The number of the group of the first column."""
        return (window * len(cells.view) + cell) * self._most_columns

    def _merge(self, rows: Floats, groups: Ints, cells: _Cells) -> tuple[Floats, Ints]:
        """The merged rows, a last one for nothing, and for each group which one is its own."""
        order = groups.argsort(kind="stable")
        groups = groups[order]
        runs = run_starts(groups)
        merged = self._partials.merge(rows[order], runs)
        places = np.full(self._windows * len(cells.view) * self._most_columns, len(runs))
        places[groups[runs]] = np.arange(len(runs))
        return np.concatenate((merged, self._partials.nothing[None])), places

    def _count_distinct(self, stack: _Stack, cells: _Cells, entries: _EntryValues) -> Ints:
        """How many values each group has."""
        record, cell = _expand(stack.distinct_sizes, cells.state)
        records = stack.distinct[record]
        of_slide = stack.distinct_slides_us[record] == cells.slides_us[:, cell]
        window, inside = (of_slide & (records["start"] >= cells.starts_us[:, cell])).nonzero()
        tiled = self._group(window, cell[inside], cells) + records["column"][inside]
        groups = np.concatenate((entries.groups, tiled))
        values = np.concatenate((entries.partial[2][:, 0], records["value"][inside]))
        order = np.lexsort((values, groups))
        groups, values = groups[order], values[order]
        runs = run_starts(groups, values)
        return np.bincount(groups[runs], minlength=self._windows * len(cells.view) * self._most_columns)

    def _by_view(self, asked: Sequence[Asked], values: Floats, statuses: Statuses, newest_us: Ints) -> list[Answers]:
        answers, cell, item = [], 0, 0
        for layout, each in zip(self._layouts, asked, strict=True):
            shape = len(each.rows), len(layout.view.aggregations)
            items = slice(item, item + shape[0] * shape[1])
            cells = slice(cell, cell + shape[0])
            answers.append(Answers(values[items].reshape(shape), statuses[items].reshape(shape), newest_us[cells]))
            cell, item = cells.stop, items.stop
        return answers


@dataclass(frozen=True, slots=True)
class _Cells:
    """One element for each cell; `slides_us` and `starts_us` [windows, cells]."""

    view: Ints
    state: Ints
    as_of_us: Ints
    first_us: Ints
    tiled_us: Ints
    ttl_us: Ints
    columns: Ints
    slides_us: Ints
    starts_us: Ints

    def stale(self, newest_us: Ints) -> NDArray[np.bool_]:
        stale: NDArray[np.bool_] = self.as_of_us - newest_us > self.ttl_us
        return stale


@dataclass(frozen=True, slots=True)
class _EntryValues:
    """`newest_us` for each cell; for each value its group, and what a partial row is made of."""

    newest_us: Ints
    groups: Ints
    partial: tuple[Ints, Ints, Floats]


@dataclass(frozen=True, slots=True)
class _Stack:
    """The states of all views end to end: an element for each state, entry, tile, or value of a column in a slide.

    `values` and `parts` are flat; `value_offsets` and `part_offsets` say where an entry's or a tile's begin.
    """

    first_us: Ints
    newest_us: Ints
    marks_us: Ints
    entry_sizes: Ints
    about: Records
    values: Floats
    value_offsets: Ints
    tile_sizes: Ints
    tile_slides_us: Ints
    tile_starts_us: Ints
    parts: Floats
    part_offsets: Ints
    distinct_sizes: Ints
    distinct_slides_us: Ints
    distinct: Records


def _stack(layouts: Sequence[StateLayout], asked: Sequence[Asked]) -> _Stack:
    heads: list[tuple[int, int, int]] = []
    entries: list[tuple[int, int]] = []  # how many, columns
    tiles: list[tuple[int, int, int]] = []  # how many, width, slide
    distinct: list[tuple[int, int]] = []  # how many, slide
    tile_sizes: list[int] = []
    distinct_sizes: list[int] = []
    parts: tuple[list[bytes], ...] = ([], [], [], [], [])
    for layout, each in zip(layouts, asked, strict=True):
        slides, columns, width = layout.slides, len(layout.columns), layout.partials.width
        for blob in each.blobs:
            head, counts, sections = split(layout, blob)
            heads.append(head)
            entries.append((counts[0], columns))
            tile_sizes.append(sum(counts[1 : 1 + len(slides)]))
            distinct_sizes.append(sum(counts[1 + len(slides) :]))
            if sections is None:
                continue
            parts[0].append(sections[0])
            parts[1].append(sections[1])
            for number, slide in enumerate(slides):
                if counts[1 + number]:
                    tiles.append((counts[1 + number], width, slide.slide_us))
                    parts[2].append(sections[2 + 2 * number])
                    parts[3].append(sections[3 + 2 * number])
                if counts[1 + len(slides) + number]:
                    distinct.append((counts[1 + len(slides) + number], slide.slide_us))
                    parts[4].append(sections[2 + 2 * len(slides) + number])
    about, values, tile_starts, tile_parts, distinct_records = (b"".join(each) for each in parts)
    first, newest, marks = np.array(heads, np.int64).reshape(-1, 3).T
    entry_sizes, entry_columns = np.array(entries, np.int64).reshape(-1, 2).T
    block_sizes, block_widths, block_slides = np.array(tiles, np.int64).reshape(-1, 3).T
    distinct_blocks, distinct_slides = np.array(distinct, np.int64).reshape(-1, 2).T
    return _Stack(
        first,
        newest,
        marks,
        entry_sizes,
        np.frombuffer(about, ABOUT),
        np.frombuffer(values, np.float64),
        _offsets(entry_columns.repeat(entry_sizes)),
        np.array(tile_sizes, np.int64),
        block_slides.repeat(block_sizes),
        np.frombuffer(tile_starts, np.int64),
        np.frombuffer(tile_parts, np.float64),
        _offsets(block_widths.repeat(block_sizes)),
        np.array(distinct_sizes, np.int64),
        distinct_slides.repeat(distinct_blocks),
        np.frombuffer(distinct_records, DISTINCT),
    )


class _TileParts:
    """Puts the parts of tiles, of whatever view, into rows of the common layout."""

    def __init__(self, layouts: Sequence[StateLayout], partials: PartialLayout) -> None:
        parts = [layout.partials.parts for layout in layouts]
        self._nothing = partials.nothing
        self._widths = np.array([len(each) for each in parts], np.int64)
        self._bases = _offsets(self._widths)
        self._columns = np.array([column for each in parts for _, column in each], np.int64)
        self._places = np.array([partials.place(part, 0) for each in parts for part, _ in each], np.int64)

    def rows(self, parts: Floats, offsets: Ints, view: Ints, columns: Ints) -> Floats:
        """So many rows for each tile as it has `columns`. `parts` is flat; `offsets` say where a tile's begin."""
        tile, number = _spread(self._widths[view])
        which = self._bases[view][tile] + number
        rows = np.empty((columns.sum(), len(self._nothing)))
        rows[:] = self._nothing
        rows[_offsets(columns)[tile] + self._columns[which], self._places[which]] = parts[offsets[tile] + number]
        return rows


class _Items(NamedTuple):
    """One element for each aggregation of each cell, cell after cell."""

    cell: Ints
    aggregation: Ints
    groups: Ints
    distinct: NDArray[np.bool_]


class _Finish:
    """From merged rows to values."""

    def __init__(
        self, layouts: Sequence[StateLayout], windows: Sequence[list[tuple[int, int]]], partials: PartialLayout
    ) -> None:
        found: list[tuple[StateLayout, list[tuple[int, int]], Aggregation]] = [
            (layout, of, each) for layout, of in zip(layouts, windows, strict=True) for each in layout.view.aggregations
        ]
        functions = [each.function for _, _, each in found]
        self._numbers = np.array([len(layout.view.aggregations) for layout in layouts], np.int64)
        self._bases = _offsets(self._numbers)
        self._windows = np.array([of.index((each.window_us, each.slide_us)) for _, of, each in found], np.int64)
        self._columns = np.array([layout.columns.index(each.column) for layout, _, each in found], np.int64)
        self._places = np.array([partials.place(_PART[f], 0) if f in _PART else 0 for f in functions], np.int64)
        self._is = {function: np.array([f is function for f in functions]) for function in dict.fromkeys(functions)}
        counted = {Function.SUM, Function.MEAN, Function.STDDEV} & set(functions)
        self._count = partials.place(COUNT, 0) if counted else None

    def items(self, cells: _Cells, most_columns: int) -> _Items:
        """What is to be computed."""
        cell, number = _spread(self._numbers[cells.view])
        aggregation = self._bases[cells.view][cell] + number
        groups = (self._windows[aggregation] * len(cells.view) + cell) * most_columns + self._columns[aggregation]
        return _Items(cell, aggregation, groups, self._which(Function.COUNT_DISTINCT, aggregation))

    def values(self, rows: Floats, items: _Items) -> Floats:
        """NaN for none. Those of distinct counts are still to be set."""
        values = rows[np.arange(len(rows)), self._places[items.aggregation]] if rows.size else np.zeros(len(rows))
        if self._count is not None:
            count = rows[:, self._count]
            with np.errstate(divide="ignore", invalid="ignore"):
                for function in (Function.SUM, Function.MEAN, Function.STDDEV):
                    which = self._which(function, items.aggregation).nonzero()[0]
                    if which.size:
                        values[which] = _divided(function, values[which], count[which])
        values[np.isinf(values)] = np.nan
        return values

    def _which(self, function: Function, aggregation: Ints) -> NDArray[np.bool_]:
        found = self._is.get(function)
        return np.zeros(len(aggregation), np.bool_) if found is None else found[aggregation]


def _divided(function: Function, values: Floats, count: Floats) -> Floats:
    if function is Function.MEAN:
        return values / count
    if function is Function.STDDEV:
        return np.where(count > 1, np.sqrt(values / (count - 1)), np.nan)
    return np.where(count > 0, values, np.nan)


def _expand(sizes: Ints, states: Ints) -> tuple[Ints, Ints]:
    """The items of the state of each cell, cell after cell: their numbers, and the cell of each."""
    cell_sizes = sizes[states]
    cell = owners(cell_sizes)
    shift = _offsets(sizes)[states] - _offsets(cell_sizes)
    return np.arange(len(cell)) + shift[cell], cell


def _spread(counts: Ints) -> tuple[Ints, Ints]:
    """Item i so many times: its number, and 0, 1, 2 … for each."""
    of = owners(counts)
    return of, np.arange(len(of)) - _offsets(counts)[of]


def _offsets(sizes: Ints) -> Ints:
    """Where each begins when they lie end to end."""
    offsets: Ints = sizes.cumsum() - sizes
    return offsets
