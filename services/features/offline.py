"""Windowed features of many moments at once, from events at rest: the definitions as ibis expressions.

A window's start moves in steps of its slide S, so for every moment t of one step it is the same: W
before `boundary`, the step's begin. What a value covers then falls in two:

- what was known at the boundary: the same for every moment of the step, and put together from tiles. A tile holds the
  events of one step that became known in one step. It counts at the boundaries from `settled` (they are known) to
  `start + W` (they leave the window). Late events lie in tiles that settle later, so nothing is approximated;
- what became known after the boundary, by t: few events, taken one by one.

Times are int64, microseconds since the epoch. Nothing here is particular to one backend of ibis.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import ibis
import ibis.expr.types as ir

from services.features.aggregates import finished, lifted, merged, state_columns
from services.features.definitions import AS_OF, Aggregation, Function, WindowedView

# Tiles are looked up by equal pieces of time, this many to a window: few are looked at in vain, few lie in several.
_PIECES = 4
_COUNTS = (Function.COUNT, Function.COUNT_DISTINCT)


def windowed_values(view: WindowedView, events: ir.Table, first_known: ir.Table, moments: ir.Table) -> ir.Table:
    """The aggregations of `view` as float64 (null: no value) for each row of `moments`, in any order.

    `moments`: the view's join keys and `as_of`, each combination once, no key null. `events`: those of the view's
    event type that may lie in a window: join keys, `event_time`, `available_at` and `view.columns`. `first_known`:
    the join keys and the earliest `available_at` of each entity, over all history.
    """
    by = [*view.join_keys, AS_OF]
    seen = moments.inner_join(first_known, list(view.join_keys))
    seen = seen.filter(seen.available_at <= seen.as_of).select(*by)
    for aggregations in _by_slide(view.aggregations):
        found = _found(view.join_keys, aggregations, events, moments)
        seen = seen.left_join(found, by).select(seen, *(_of_seen(each, found) for each in aggregations))
    names = [each.name for each in view.aggregations]
    values = moments.left_join(seen, by)
    return values.select(*by, *names)


def _found(keys: Sequence[str], aggregations: Sequence[Aggregation], events: ir.Table, moments: ir.Table) -> ir.Table:
    """The values of aggregations of one slide, for the moments whose windows hold anything."""
    slide_us = aggregations[0].slide_us
    known_at = ibis.greatest(events.event_time, events.available_at)
    entries = lifted(
        aggregations,
        events.mutate(
            known_at=known_at,
            start=_floor(events.event_time, slide_us),
            step=_floor(known_at, slide_us),
            settled=-_floor(-known_at, slide_us),
        ),
    )
    asked = moments.mutate(boundary=_floor(moments.as_of, slide_us))
    columns = [*keys, AS_OF, *state_columns(aggregations)]
    at_boundary = _at_boundaries(keys, aggregations, entries, asked)
    settled = asked.inner_join(at_boundary, [*keys, "boundary"]).select(*columns)
    states = settled.union(_since_boundary(keys, aggregations, entries, asked).select(*columns))
    return finished(aggregations, merged(aggregations, states, [*keys, AS_OF]), entries)


def _at_boundaries(
    keys: Sequence[str], aggregations: Sequence[Aggregation], entries: ir.Table, asked: ir.Table
) -> ir.Table:
    """By join keys and boundary: what was known there of the events in the window that starts W before."""
    slide_us, longest_us = aggregations[0].slide_us, _longest_us(aggregations)
    piece_us = slide_us * max(1, longest_us // slide_us // _PIECES)
    tiles = merged(aggregations, entries, [*keys, "start", "settled"])
    tiles = tiles.filter(tiles.settled <= tiles.start + longest_us)
    pieces = ibis.range(_floor(tiles.settled, piece_us), tiles.start + longest_us + 1, piece_us)
    tiles = tiles.mutate(piece=pieces.unnest())
    boundaries = asked.select(*keys, "boundary").distinct()
    boundaries = boundaries.mutate(piece=_floor(boundaries.boundary, piece_us))
    pairs = boundaries.inner_join(tiles, [*keys, "piece"])
    pairs = pairs.filter(pairs.settled <= pairs.boundary, pairs.boundary <= pairs.start + longest_us)
    return merged(aggregations, pairs, [*keys, "boundary"], inside=_in_window)


def _since_boundary(
    keys: Sequence[str], aggregations: Sequence[Aggregation], entries: ir.Table, asked: ir.Table
) -> ir.Table:
    """By join keys and `as_of`: what became known after the boundary, of events in the window."""
    recent = entries.filter(entries.known_at > entries.step)
    pairs = asked.mutate(step=asked.boundary).inner_join(recent, [*keys, "step"])
    pairs = pairs.filter(pairs.known_at <= pairs.as_of, pairs.boundary <= pairs.start + _longest_us(aggregations))
    return merged(aggregations, pairs, [*keys, AS_OF], inside=_in_window)


def _in_window(aggregation: Aggregation, pairs: ir.Table) -> ir.BooleanValue:
    return pairs.boundary <= pairs.start + aggregation.window_us


def _of_seen(aggregation: Aggregation, found: ir.Table) -> ir.Value:
    value = found[aggregation.name]
    return value.fill_null(0.0).name(aggregation.name) if aggregation.function in _COUNTS else value


def _by_slide(aggregations: Sequence[Aggregation]) -> Iterator[list[Aggregation]]:
    for slide_us in dict.fromkeys(each.slide_us for each in aggregations):
        yield [each for each in aggregations if each.slide_us == slide_us]


def _longest_us(aggregations: Sequence[Aggregation]) -> int:
    return max(each.window_us for each in aggregations)


def _floor(moment: ir.IntegerValue, step_us: int) -> ir.IntegerValue:
    """The largest multiple of `step_us` that is not after `moment`; SQL's remainder has the sign of the moment."""
    return moment - (moment % step_us + step_us) % step_us
