"""What the online store keeps of one view and entity, for many entities at once: decode, take events in, encode.

A state holds entries (one for each event of the recent history) and tiles (partial aggregates of one slide each, of
what is older). Everything that became available by its mark is in tiles, so it can be read as of any later moment.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mmh3
import numpy as np
from numpy.typing import NDArray

from services.features.definitions import EVENT_TIME, Function, WindowedView
from services.features.merging import Floats, Ints, PartialLayout
from services.features.windows import slide_start, window_start

FORMAT = 1
# Far enough from every moment, and no overflow when one is subtracted from a moment.
NEVER, BEFORE_ALL = 2**62, -(2**62)

Records = NDArray[np.void]

_HEADER = struct.Struct("<BQqqqI")
_COUNTABLE = (Function.COUNT, Function.COUNT_DISTINCT)


@dataclass(frozen=True, slots=True)
class Slide:
    """One slide interval of a view: its longest window and the columns (by number) whose distinct values it keeps."""

    slide_us: int
    longest_us: int
    distinct: tuple[int, ...]


class StateLayout:
    """How the states of a view look in memory and in bytes."""

    def __init__(self, view: WindowedView) -> None:
        self.view = view
        self.columns = view.columns
        """Payload columns, in the order of an entry's values."""
        self.countable = frozenset(self.columns) - {
            each.column for each in view.aggregations if each.function not in _COUNTABLE
        }
        """Columns that may hold text: nothing is computed from their values but how many there are."""
        self.read_columns = (*self.columns, EVENT_TIME)
        self.partials = PartialLayout(self.read_columns, view.aggregations)
        self.slides = tuple(self._slide(slide) for slide in dict.fromkeys(each.slide_us for each in view.aggregations))
        self.entry = np.dtype(
            [("time", "<i8"), ("available", "<i8"), ("id", "<u8"), ("values", "<f8", (len(self.columns),))]
        )
        self.tile = np.dtype([("start", "<i8"), ("parts", "<f8", (self.partials.width,))])
        self.value = np.dtype([("start", "<i8"), ("column", "<i8"), ("value", "<f8")])
        self.fingerprint: int = mmh3.hash64(repr(self._meaning()), signed=False)[0]
        """Of all that a state's bytes depend on. A state with another one is as good as none."""
        self.sizes = struct.Struct(f"<{2 * len(self.slides)}I")

    def _slide(self, slide_us: int) -> Slide:
        mine = [each for each in self.view.aggregations if each.slide_us == slide_us]
        distinct = {self.read_columns.index(e.column) for e in mine if e.function is Function.COUNT_DISTINCT}
        return Slide(slide_us, max(each.window_us for each in mine), tuple(sorted(distinct)))

    def _meaning(self) -> tuple[Any, ...]:
        view = self.view
        slides = [(each.slide_us, each.longest_us, each.distinct) for each in self.slides]
        return (FORMAT, view.event_type, view.join_keys, self.columns, self.partials.columns, slides)

    def read_values(self, entries: Records) -> Floats:
        """The values of `read_columns` [entries, columns]."""
        return np.column_stack((entries["values"], entries["time"] / 1e6))


@dataclass(slots=True)
class Table:
    """Records of all states, state after state; `sizes` has how many each has."""

    records: Records
    sizes: Ints

    @property
    def owners(self) -> Ints:
        """The state of each record."""
        return np.repeat(np.arange(len(self.sizes)), self.sizes)


@dataclass(slots=True)
class States:
    """The states of some entities of a view. Each array has one element for each state; moments in microseconds.

    `entries` are ordered by event time, `tiles` and `distinct` (a table for each slide) by start.
    """

    layout: StateLayout
    entries: Table
    tiles: list[Table]
    distinct: list[Table]
    first_available_us: Ints
    """When the first event of all became available; NEVER if none came."""
    newest_tiled_us: Ints
    """The newest event time among what is in tiles."""
    mark_us: Ints
    """What became available by then is in tiles."""

    @property
    def newest_available_us(self) -> Ints:
        """When the newest event became available, or the mark if all is in tiles."""
        newest = self.mark_us.copy()
        np.maximum.at(newest, self.entries.owners, self.entries.records["available"])
        return newest


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a batch's events."""

    counted: int = 0
    duplicates: int = 0
    too_late: int = 0


def decode(layout: StateLayout, blobs: Sequence[bytes | None]) -> States:
    """States from their bytes. None, or bytes of other definitions, is a state that has seen nothing."""
    slides = len(layout.slides)
    heads: list[tuple[int, int, int]] = []
    sizes: list[tuple[int, ...]] = []
    parts: list[list[bytes]] = [[] for _ in range(1 + 2 * slides)]
    widths = [layout.entry.itemsize] + [layout.tile.itemsize] * slides + [layout.value.itemsize] * slides
    for blob in blobs:
        head, counts = _head(layout, blob)
        heads.append(head)
        sizes.append(counts)
        if blob is not None:
            at = _HEADER.size + layout.sizes.size
            for part, count, width in zip(parts, counts, widths, strict=True):
                if count:
                    part.append(blob[at : at + count * width])
                    at += count * width
    first, newest, mark = np.array(heads, np.int64).reshape(-1, 3).T
    by_part = np.array(sizes, np.int64).reshape(-1, 1 + 2 * slides).T
    kinds = [layout.entry] + [layout.tile] * slides + [layout.value] * slides
    tables = [
        Table(np.frombuffer(b"".join(part), kind), counts)
        for part, kind, counts in zip(parts, kinds, by_part, strict=True)
    ]
    return States(layout, tables[0], tables[1 : 1 + slides], tables[1 + slides :], first, newest, mark)


def _head(layout: StateLayout, blob: bytes | None) -> tuple[tuple[int, int, int], tuple[int, ...]]:
    if blob is not None and blob[0] == FORMAT:
        _, fingerprint, first, newest, mark, entries = _HEADER.unpack_from(blob)
        if fingerprint == layout.fingerprint:
            return (first, newest, mark), (entries, *layout.sizes.unpack_from(blob, _HEADER.size))
    return (NEVER, BEFORE_ALL, BEFORE_ALL), (0,) * (1 + 2 * len(layout.slides))


def encode(states: States) -> list[bytes]:
    """The bytes of each state."""
    layout = states.layout
    tables = [states.entries, *states.tiles, *states.distinct]
    buffers = [table.records.tobytes() for table in tables]
    ends = [(np.cumsum(table.sizes) * table.records.itemsize).tolist() for table in tables]
    sizes = np.stack([table.sizes for table in tables], axis=1).tolist()
    heads = zip(
        states.first_available_us.tolist(), states.newest_tiled_us.tolist(), states.mark_us.tolist(), strict=True
    )
    blobs = []
    starts = [0] * len(tables)
    for state, (head, counts) in enumerate(zip(heads, sizes, strict=True)):
        pieces = [_HEADER.pack(FORMAT, layout.fingerprint, *head, counts[0]), layout.sizes.pack(*counts[1:])]
        for number, buffer in enumerate(buffers):
            end = ends[number][state]
            if end != starts[number]:
                pieces.append(buffer[starts[number] : end])
                starts[number] = end
        blobs.append(b"".join(pieces))
    return blobs


def update(states: States, entries: Records, owners: Ints, mark_us: int) -> tuple[States, Outcome]:
    """The states after some events, in order of arrival; `owners` are the numbers of their states.

    An event whose id is among the state's entries is a duplicate. One that became available by the state's mark and is
    not among them is too late: it cannot be told from one that is in the tiles. Then all that became available by
    `mark_us` moves into tiles.
    """
    before = len(states.entries.records)
    records = np.concatenate((states.entries.records, entries))
    owner = np.concatenate((states.entries.owners, owners))
    duplicate = _repeated(owner, records["id"])
    too_late = ~duplicate & (records["available"] <= states.mark_us[owner])
    # Those that are in already are neither.
    too_late[:before] = False
    kept = ~(duplicate | too_late)
    outcome = Outcome(
        counted=int(np.count_nonzero(kept[before:])),
        duplicates=int(np.count_nonzero(duplicate)),
        too_late=int(np.count_nonzero(too_late)),
    )
    records, owner = records[kept], owner[kept]
    order = np.lexsort((records["id"], records["available"], records["time"], owner))
    return _compact(states, records[order], owner[order], mark_us), outcome


def _repeated(owner: Ints, ids: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Whether an earlier record has the same owner and id."""
    repeated = np.zeros(len(ids), np.bool_)
    # Stable: of the same ids the earliest comes first.
    order = np.lexsort((ids, owner))
    owner, ids = owner[order], ids[order]
    repeated[order[1:]] = (owner[1:] == owner[:-1]) & (ids[1:] == ids[:-1])
    return repeated


def _compact(states: States, records: Records, owner: Ints, mark_us: int) -> States:
    number = len(states.mark_us)
    first, newest = states.first_available_us.copy(), states.newest_tiled_us.copy()
    np.minimum.at(first, owner, records["available"])
    mark = np.maximum(states.mark_us, mark_us)
    moving = records["available"] <= mark_us
    moved, moved_owner = records[moving], owner[moving]
    np.maximum.at(newest, moved_owner, moved["time"])
    staying = ~moving
    return States(
        layout=states.layout,
        entries=_table(records[staying], owner[staying], number),
        tiles=_compact_tiles(states, moved, moved_owner, mark),
        distinct=_compact_distinct(states, moved, moved_owner, mark),
        first_available_us=first,
        newest_tiled_us=newest,
        mark_us=mark,
    )


def _table(records: Records, owner: Ints, number: int) -> Table:
    return Table(records, np.bincount(owner, minlength=number))


def _compact_tiles(states: States, moved: Records, moved_owner: Ints, mark_us: Ints) -> list[Table]:
    layout = states.layout
    parts = layout.partials.of_entries(moved["time"], moved["available"], layout.read_values(moved))
    tables = []
    for slide, table in zip(layout.slides, states.tiles, strict=True):
        new = np.empty(len(moved), layout.tile)
        new["start"], new["parts"] = slide_start(moved["time"], slide.slide_us), parts
        tiles, owner = _alive(slide, table, new, moved_owner, mark_us)
        if len(moved):
            order = np.lexsort((tiles["start"], owner))
            tiles, owner = tiles[order], owner[order]
            starts = _run_starts(owner, tiles["start"])
            merged = tiles[starts]
            merged["parts"] = layout.partials.merge(tiles["parts"], starts)
            tiles, owner = merged, owner[starts]
        tables.append(_table(tiles, owner, len(mark_us)))
    return tables


def _compact_distinct(states: States, moved: Records, moved_owner: Ints, mark_us: Ints) -> list[Table]:
    tables = []
    for slide, table in zip(states.layout.slides, states.distinct, strict=True):
        new, new_owner = _distinct_values(states.layout, slide, moved, moved_owner)
        values, owner = _alive(slide, table, new, new_owner, mark_us)
        if len(new):
            order = np.lexsort((values["value"], values["column"], values["start"], owner))
            values, owner = values[order], owner[order]
            starts = _run_starts(owner, values["start"], values["column"], values["value"])
            values, owner = values[starts], owner[starts]
        tables.append(_table(values, owner, len(mark_us)))
    return tables


def _distinct_values(layout: StateLayout, slide: Slide, records: Records, owner: Ints) -> tuple[Records, Ints]:
    """One record for each value that is not null of the columns whose distinct values the slide keeps."""
    if not slide.distinct or not len(records):
        return np.empty(0, layout.value), np.empty(0, np.int64)
    read = layout.read_values(records)
    found, owners = [], []
    for column in slide.distinct:
        filled = ~np.isnan(read[:, column])
        values = np.empty(np.count_nonzero(filled), layout.value)
        values["start"] = slide_start(records["time"][filled], slide.slide_us)
        values["column"], values["value"] = column, read[filled, column]
        found.append(values)
        owners.append(owner[filled])
    return np.concatenate(found), np.concatenate(owners)


def _alive(slide: Slide, table: Table, new: Records, new_owner: Ints, mark_us: Ints) -> tuple[Records, Ints]:
    """Old and new records that a window as of the mark or later can still reach."""
    records = np.concatenate((table.records, new))
    owner = np.concatenate((table.owners, new_owner))
    alive = records["start"] >= window_start(mark_us, slide.longest_us, slide.slide_us)[owner]
    return records[alive], owner[alive]


def _run_starts(*keys: NDArray[Any]) -> Ints:
    """Where the runs of equal keys begin, of sorted keys."""
    changes = np.zeros(len(keys[0]), np.bool_)
    changes[:1] = True
    for key in keys:
        changes[1:] |= key[1:] != key[:-1]
    return np.flatnonzero(changes)
