"""What the online store keeps of one view and entity, for many entities at once: decode, take events in, encode.

A state holds entries (one for each event of the recent history) and tiles (partial aggregates of one slide each, of
what is older). Everything that became available by its mark is in tiles, so it can be read as of any later moment.
Entries have ids; `seen_ids.py` knows those of what is in tiles.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import mmh3
import numpy as np
from numpy.typing import NDArray

from services.features.definitions import Function, WindowedView
from services.features.merging import Floats, Ints, PartialLayout, run_starts
from services.features.windows import slide_start, window_start

FORMAT = 2
# Far enough from every moment, and no overflow when one is subtracted from a moment.
NEVER, BEFORE_ALL = 2**62, -(2**62)

ABOUT = np.dtype([("time", "<i8"), ("available", "<i8"), ("id", "<u8")])
"""Of an event: event time and availability in microseconds, hash of its id."""
DISTINCT = np.dtype([("start", "<i8"), ("column", "<i8"), ("value", "<f8")])
"""A value that a column has in the slide that begins at `start`."""

Records = NDArray[np.void]
Seen = Callable[[Ints, NDArray[np.uint64]], NDArray[np.bool_]]
"""Of event times (microseconds) and ids of a type's events: which of them were worked in by an earlier batch."""

_HEADER = struct.Struct("<BQqqqI")
_COUNTABLE = (Function.COUNT, Function.COUNT_DISTINCT)


@dataclass(frozen=True, slots=True)
class Slide:
    """One slide interval of a view: its longest window and the columns (by number) whose distinct values it keeps."""

    slide_us: int
    longest_us: int
    distinct: tuple[int, ...]


class StateLayout:
    """How the states of a view look in bytes: a header, then sections that hold so many items of so many bytes."""

    def __init__(self, view: WindowedView) -> None:
        self.view = view
        self.columns = tuple(dict.fromkeys(each.column for each in view.aggregations))
        """In the order of an entry's values; EVENT_TIME may be among them."""
        self.countable = frozenset(self.columns) - {
            each.column for each in view.aggregations if each.function not in _COUNTABLE
        }
        """Columns that may hold text: nothing is computed from their values but how many there are."""
        self.partials = PartialLayout(self.columns, view.aggregations)
        self.slides = tuple(self._slide(slide) for slide in dict.fromkeys(each.slide_us for each in view.aggregations))
        entry = (0, ABOUT.itemsize), (0, 8 * len(self.columns))
        slides = [pair for n in range(len(self.slides)) for pair in ((1 + n, 8), (1 + n, 8 * self.partials.width))]
        distinct = [(1 + len(self.slides) + n, DISTINCT.itemsize) for n in range(len(self.slides))]
        self.sections = (*entry, *slides, *distinct)
        """(number of the count, bytes of an item): entries, their values; starts, parts of each slide; distinct."""
        self.counts = struct.Struct(f"<{2 * len(self.slides)}I")
        self.none = Split((NEVER, BEFORE_ALL, BEFORE_ALL), (0,) * (1 + 2 * len(self.slides)), None)
        self.fingerprint: int = mmh3.hash64(repr(self._meaning()), signed=False)[0]
        """Of all that a state's bytes depend on. A state with another one is as good as none."""

    def _slide(self, slide_us: int) -> Slide:
        mine = [each for each in self.view.aggregations if each.slide_us == slide_us]
        distinct = {self.columns.index(each.column) for each in mine if each.function is Function.COUNT_DISTINCT}
        return Slide(slide_us, max(each.window_us for each in mine), tuple(sorted(distinct)))

    def _meaning(self) -> tuple[Any, ...]:
        view = self.view
        slides = [(each.slide_us, each.longest_us, each.distinct) for each in self.slides]
        return (FORMAT, view.event_type, view.join_keys, self.columns, self.partials.parts, slides)


class Split(NamedTuple):
    """A state's bytes, taken apart: (first available, newest tiled, mark), counts, sections (None: all are empty)."""

    head: tuple[int, int, int]
    counts: tuple[int, ...]
    sections: list[bytes] | None


def split(layout: StateLayout, blob: bytes | None) -> Split:
    """None, or bytes of other definitions, is a state that has seen nothing."""
    if blob is None or blob[0] != FORMAT:
        return layout.none
    _, fingerprint, first, newest, mark, entries = _HEADER.unpack_from(blob)
    if fingerprint != layout.fingerprint:
        return layout.none
    counts = (entries, *layout.counts.unpack_from(blob, _HEADER.size))
    at = _HEADER.size + layout.counts.size
    sections = []
    for count, width in layout.sections:
        end = at + counts[count] * width
        sections.append(blob[at:end])
        at = end
    return Split((first, newest, mark), counts, sections)


@dataclass(slots=True)
class Entries:
    """Entries state after state, by event time; `sizes` has how many each state has."""

    about: Records
    values: Floats
    """[entries, columns]; NaN is null."""
    sizes: Ints


@dataclass(slots=True)
class Tiles:
    """Tiles of one slide, state after state, by start; `parts` [tiles, width]."""

    starts_us: Ints
    parts: Floats
    sizes: Ints


@dataclass(slots=True)
class Distinct:
    """Distinct values of one slide, state after state, by start, column and value."""

    records: Records
    sizes: Ints


@dataclass(slots=True)
class States:
    """The states of some entities of a view. Arrays have one element for each state; moments in microseconds."""

    layout: StateLayout
    entries: Entries
    tiles: list[Tiles]
    distinct: list[Distinct]
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
        np.maximum.at(newest, owners(self.entries.sizes), self.entries.about["available"])
        return newest


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a batch's events."""

    counted: int = 0
    duplicates: int = 0
    too_late: int = 0


def owners(sizes: Ints) -> Ints:
    """The state of each item."""
    return np.arange(len(sizes)).repeat(sizes)


def decode(layout: StateLayout, blobs: Sequence[bytes | None]) -> States:
    """States from their bytes."""
    found = [split(layout, blob) for blob in blobs]
    first, newest, mark = np.array([each.head for each in found], np.int64).reshape(-1, 3).T
    counts = np.array([each.counts for each in found], np.int64).reshape(-1, len(layout.none.counts)).T
    filled = [each.sections for each in found if each.sections is not None]
    joined = [b"".join(parts) for parts in zip(*filled, strict=True)] if filled else [b""] * len(layout.sections)
    about, values = np.frombuffer(joined[0], ABOUT), np.frombuffer(joined[1], np.float64)
    slides = range(len(layout.slides))
    width = layout.partials.width
    return States(
        layout=layout,
        entries=Entries(about, values.reshape(len(about), len(layout.columns)), counts[0]),
        tiles=[
            Tiles(
                np.frombuffer(joined[2 + 2 * n], np.int64),
                np.frombuffer(joined[3 + 2 * n], np.float64).reshape(counts[1 + n].sum(), width),
                counts[1 + n],
            )
            for n in slides
        ],
        distinct=[
            Distinct(np.frombuffer(joined[2 + 2 * len(slides) + n], DISTINCT), counts[1 + len(slides) + n])
            for n in slides
        ],
        first_available_us=first,
        newest_tiled_us=newest,
        mark_us=mark,
    )


def encode(states: States) -> list[bytes]:
    """The bytes of each state."""
    layout = states.layout
    items: list[NDArray[Any]] = [states.entries.about, states.entries.values]
    for tiles in states.tiles:
        items += [tiles.starts_us, tiles.parts]
    items += [distinct.records for distinct in states.distinct]
    sized: list[Entries | Tiles | Distinct] = [states.entries, *states.tiles, *states.distinct]
    counts = np.stack([each.sizes for each in sized], axis=1)
    ends = counts.cumsum(axis=0)
    sections = [
        (each.tobytes(), (ends[:, count] * width).tolist())
        for each, (count, width) in zip(items, layout.sections, strict=True)
        if len(each)
    ]
    heads = np.stack([states.first_available_us, states.newest_tiled_us, states.mark_us], axis=1).tolist()
    starts = [0] * len(sections)
    blobs = []
    for state, (head, (entries, *others)) in enumerate(zip(heads, counts.tolist(), strict=True)):
        pieces = [_HEADER.pack(FORMAT, layout.fingerprint, *head, entries), layout.counts.pack(*others)]
        for number, (buffer, section_ends) in enumerate(sections):
            end = section_ends[state]
            pieces.append(buffer[starts[number] : end])
            starts[number] = end
        blobs.append(b"".join(pieces))
    return blobs


@dataclass(frozen=True, slots=True)
class NewEntries:
    """Events of a view in order of arrival. `owners` are the numbers of their states; `values` [events, columns]."""

    about: Records
    values: Floats
    owners: Ints


def update(states: States, new: NewEntries, mark_us: int, seen: Seen) -> tuple[States, Outcome]:
    """The states after some events.

    An event whose id is among the state's entries is a duplicate. One that became available by the state's mark and is
    not among them is too late: it was passed over or is in the tiles. One that happened by the mark but became
    available later may repeat what is in the tiles: `seen` tells. Then all that became available by `mark_us` moves
    into tiles.
    """
    before = len(states.entries.about)
    about = np.concatenate((states.entries.about, new.about))
    values = np.concatenate((states.entries.values, new.values))
    owner = np.concatenate((owners(states.entries.sizes), new.owners))
    duplicate = _repeated(owner, about["id"])
    too_late = ~duplicate & (about["available"] <= states.mark_us[owner])
    # Those that are in already are neither.
    too_late[:before] = False
    duplicate |= _repeats_tiled(states, about, owner, ~(duplicate | too_late), seen)
    kept = (~(duplicate | too_late)).nonzero()[0]
    kept = kept[np.lexsort((about["id"][kept], about["available"][kept], about["time"][kept], owner[kept]))]
    outcome = Outcome(
        counted=len(kept) - before,
        duplicates=int(np.count_nonzero(duplicate)),
        too_late=int(np.count_nonzero(too_late)),
    )
    return _compact(states, NewEntries(about[kept], values[kept], owner[kept]), mark_us), outcome


def _repeats_tiled(
    states: States, about: Records, owner: Ints, undecided: NDArray[np.bool_], seen: Seen
) -> NDArray[np.bool_]:
    """Which of the undecided records, but for the states' own entries, are copies of what is in tiles."""
    asked = undecided & (about["time"] <= states.mark_us[owner])
    asked[: len(states.entries.about)] = False
    if asked.any():
        asked[asked] = seen(about["time"][asked], about["id"][asked])
    return asked


def _repeated(owner: Ints, ids: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Whether an earlier record has the same owner and id."""
    repeated = np.zeros(len(ids), np.bool_)
    # Stable: of the same ids the earliest comes first.
    order = np.lexsort((ids, owner))
    owner, ids = owner[order], ids[order]
    repeated[order[1:]] = (owner[1:] == owner[:-1]) & (ids[1:] == ids[:-1])
    return repeated


def _compact(states: States, entries: NewEntries, mark_us: int) -> States:
    first, newest = states.first_available_us.copy(), states.newest_tiled_us.copy()
    np.minimum.at(first, entries.owners, entries.about["available"])
    marks_us = np.maximum(states.mark_us, mark_us)
    moving = entries.about["available"] <= mark_us
    moved, staying = _some(entries, moving), _some(entries, ~moving)
    np.maximum.at(newest, moved.owners, moved.about["time"])
    number = len(marks_us)
    return States(
        layout=states.layout,
        entries=Entries(staying.about, staying.values, np.bincount(staying.owners, minlength=number)),
        tiles=_compact_tiles(states, moved, marks_us),
        distinct=_compact_distinct(states, moved, marks_us),
        first_available_us=first,
        newest_tiled_us=newest,
        mark_us=marks_us,
    )


def _some(entries: NewEntries, which: NDArray[np.bool_]) -> NewEntries:
    if which.all():
        return entries
    return NewEntries(entries.about[which], entries.values[which], entries.owners[which])


def _compact_tiles(states: States, moved: NewEntries, marks_us: Ints) -> list[Tiles]:
    partials = states.layout.partials
    times_us = moved.about["time"]
    moved_parts = partials.of_values(times_us, moved.about["available"], moved.values)
    result = []
    for slide, tiles in zip(states.layout.slides, states.tiles, strict=True):
        starts_us = np.concatenate((tiles.starts_us, slide_start(times_us, slide.slide_us)))
        owner = np.concatenate((owners(tiles.sizes), moved.owners))
        alive = _alive(slide, starts_us, owner, marks_us)
        order = alive[np.lexsort((starts_us[alive], owner[alive]))]
        starts_us, owner = starts_us[order], owner[order]
        runs = run_starts(owner, starts_us)
        parts = partials.merge(np.concatenate((tiles.parts, moved_parts))[order], runs)
        result.append(Tiles(starts_us[runs], parts, np.bincount(owner[runs], minlength=len(marks_us))))
    return result


def _compact_distinct(states: States, moved: NewEntries, marks_us: Ints) -> list[Distinct]:
    result = []
    for slide, distinct in zip(states.layout.slides, states.distinct, strict=True):
        if not slide.distinct:
            result.append(distinct)
            continue
        new, new_owner = _distinct_values(slide, moved)
        records = np.concatenate((distinct.records, new))
        owner = np.concatenate((owners(distinct.sizes), new_owner))
        alive = _alive(slide, records["start"], owner, marks_us)
        records, owner = records[alive], owner[alive]
        order = np.lexsort((records["value"], records["column"], records["start"], owner))
        records, owner = records[order], owner[order]
        runs = run_starts(owner, records["start"], records["column"], records["value"])
        result.append(Distinct(records[runs], np.bincount(owner[runs], minlength=len(marks_us))))
    return result


def _distinct_values(slide: Slide, entries: NewEntries) -> tuple[Records, Ints]:
    """A record, and its owner, for each value that is not null of the columns whose distinct values the slide keeps."""
    columns = np.array(slide.distinct)
    entry, number = (~np.isnan(entries.values[:, columns])).nonzero()
    records = np.empty(len(entry), DISTINCT)
    records["start"] = slide_start(entries.about["time"][entry], slide.slide_us)
    records["column"] = columns[number]
    records["value"] = entries.values[entry, columns[number]]
    return records, entries.owners[entry]


def _alive(slide: Slide, starts_us: Ints, owner: Ints, marks_us: Ints) -> Ints:
    """Which of them a window as of the mark or later can still reach."""
    return (starts_us >= window_start(marks_us, slide.longest_us, slide.slide_us)[owner]).nonzero()[0]
