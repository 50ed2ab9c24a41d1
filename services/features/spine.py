"""Which rows a set has: the moments at which a prediction would have been asked for, and what came of them.

An event of the spine's type gives a row if it was known by its moment (`lead` before its `time_field`) and was the last
one of its entity by then: serving could have asked with nothing else. The outcome is the first one that became known of
the entity, as monitoring joins it. A row whose horizon was not over by the cut has no label, whatever came: those of
which something came are not like the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import ibis
import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.compute as pc

from services.chassis.clock import parse_rfc3339, to_us
from services.features.definitions import AS_OF, DataType, VectorPlan
from services.features.lake import Snapshot
from services.problem import Label, ModelRecipe

ENTITY, LABEL = "entity__", "label__"
_MICROSECOND = timedelta(microseconds=1)
_PLATFORM = ("event_id", "event_time", "available_at")


@dataclass(frozen=True, slots=True)
class Period:
    """Rows with `from_us ≤ as_of < to_us`, from what was available before `known_by_us`. Microseconds since the epoch.

    Before, not at: a watermark does not promise that nothing more becomes available at it. `to_us` is no later, so it
    holds for a row's event and features; for its label, since the label's horizon must be over before.
    """

    from_us: int
    to_us: int
    known_by_us: int


def spine(
    snapshot: Snapshot, recipe: ModelRecipe, plan: VectorPlan, period: Period, *, labels: bool = True
) -> ir.Table | None:
    """The rows by (as_of, entity): `entity__`, `as_of`, the plan's columns; with `labels` `label__` (null: none).

    None without a table of the spine's events. An event whose time field, or whose request field of type timestamp, is
    no instant gives no row: serving would have refused it.
    """
    columns = [each.name for each in plan.columns]
    wanted = dict.fromkeys([*_PLATFORM, recipe.label.entity_id, recipe.spine.time_field, *columns])
    read = snapshot.read(recipe.spine.event_type, list(wanted), until_us=period.to_us)
    if read is None:
        return None
    events = ibis.memtable(_with_moments(read, recipe, plan))
    rows = _last_known(events.filter(events[ENTITY].notnull()))
    rows = rows.filter(rows.valid__, rows.as_of >= period.from_us, rows.as_of < period.to_us)
    rows = rows.select(ENTITY, AS_OF, *columns)
    return _labelled(rows, snapshot, recipe.label, period.known_by_us) if labels else rows


def instants_us(texts: pa.ChunkedArray) -> pa.Array:
    """RFC 3339 texts as int64, microseconds since the epoch; null for what is none."""
    encoded = texts.combine_chunks().dictionary_encode()
    moments = pa.array([_instant_us(text) for text in encoded.dictionary.to_pylist()], pa.int64())
    return moments.take(encoded.indices)


def _with_moments(events: pa.Table, recipe: ModelRecipe, plan: VectorPlan) -> pa.Table:
    as_of = pc.subtract(instants_us(events[recipe.spine.time_field]), recipe.spine.lead // _MICROSECOND)
    valid = as_of.is_valid()
    for each in plan.request_fields:
        if each.data_type is DataType.TIMESTAMP:
            texts = events[each.name].combine_chunks()
            valid = pc.and_(valid, pc.or_(texts.is_null(), instants_us(events[each.name]).is_valid()))
    added = {ENTITY: events[recipe.label.entity_id].cast(pa.string()), AS_OF: as_of, "valid__": valid}
    for name, column in added.items():
        events = events.append_column(name, column)
    return events


def _last_known(events: ir.Table) -> ir.Table:
    """The events that were known by their moment, unless a later one of the same entity was too."""
    ordered = [events.available_at, events.event_time, events.event_id]
    events = events.mutate(place__=ibis.row_number().over(order_by=ordered))
    later = events.select(ENTITY, later_place=events.place__, later_known=events.available_at)
    known = events.filter(events.available_at <= events.as_of)
    return known.anti_join(
        later,
        [
            known[ENTITY] == later[ENTITY],
            later.later_place > known.place__,
            later.later_known <= known.as_of,
        ],
    )


def _labelled(rows: ir.Table, snapshot: Snapshot, label: Label, known_by_us: int) -> ir.Table:
    outcomes = [
        table
        for event_type, column in label.outcomes.items()
        if (table := _outcomes(snapshot, label.entity_id, event_type, column)) is not None
    ]
    if not outcomes:
        return rows.mutate(**{LABEL: ibis.null("float64")})
    told = ibis.union(*outcomes) if len(outcomes) > 1 else outcomes[0]
    told = told.filter(told[ENTITY].notnull())
    place = ibis.row_number().over(group_by=told[ENTITY], order_by=[told.available_at, told.event_id])
    first = told.mutate(place__=place)
    first = first.filter(first.place__ == 0).select(ENTITY, LABEL, told_at=first.available_at)
    joined = rows.left_join(first, ENTITY)
    over = joined.as_of + label.horizon // _MICROSECOND
    counts = (joined.told_at <= over) & (over < known_by_us)
    return joined.select(*rows.columns, **{LABEL: ibis.ifelse(counts, joined[LABEL], ibis.null("float64"))})


def _outcomes(snapshot: Snapshot, entity_id: str, event_type: str, column: str | None) -> ir.Table | None:
    """The outcome events of one type; what is neither 0, 1 nor null tells nothing."""
    wanted = ["event_id", "available_at", entity_id, *([column] if column else [])]
    read = snapshot.read(event_type, wanted)
    if read is None:
        return None
    events = ibis.memtable(read)
    value = events[column].cast("float64") if column else ibis.null("float64")
    told = events.select("event_id", "available_at", **{ENTITY: events[entity_id].cast("string"), LABEL: value})
    return told.filter(told[LABEL].isnull() | told[LABEL].isin([0.0, 1.0]))


def _instant_us(text: str) -> int | None:
    try:
        return to_us(parse_rfc3339(text))
    except ValueError:
        return None
