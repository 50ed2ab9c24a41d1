"""What a window holds, as columns that can be put together piece by piece: the offline form, as ibis expressions.

An event is lifted to a state, states are merged in any grouping, the last one is finished to the values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import ibis
import ibis.expr.types as ir

from services.features.definitions import EVENT_TIME, Aggregation, Function

Inside = Callable[[Aggregation, ir.Table], ir.BooleanValue]

_PARTS: dict[Function, tuple[str, ...]] = {
    Function.COUNT: ("n",),
    Function.SUM: ("total",),
    Function.MEAN: ("n", "total"),
    Function.MIN: ("least",),
    Function.MAX: ("greatest",),
    Function.LAST: ("place",),
    Function.STDDEV: ("n", "total", "squares"),
    Function.COUNT_DISTINCT: ("values",),
}


def state_columns(aggregations: Sequence[Aggregation]) -> list[str]:
    """The columns of a state."""
    return [_name(each, part) for each in aggregations for part in _PARTS[each.function]]


def lifted(aggregations: Sequence[Aggregation], events: ir.Table) -> ir.Table:
    """`events` with the state of each one alone."""
    parts = [(each, part) for each in aggregations for part in _PARTS[each.function]]
    return events.mutate(**{_name(each, part): _of_event(each, part, events) for each, part in parts})


def merged(
    aggregations: Sequence[Aggregation], states: ir.Table, by: Sequence[str], inside: Inside | None = None
) -> ir.Table:
    """One state for each combination of `by`; `inside` says which rows of `states` an aggregation's window covers."""
    parts = [(each, part) for each in aggregations for part in _PARTS[each.function]]
    together = states.group_by(by).agg(
        **{
            _name(each, part): _together(states[_name(each, part)], part, _where(inside, each, states))
            for each, part in parts
        }
    )
    if deviating := [each for each in aggregations if each.function is Function.STDDEV]:
        return _with_squares(deviating, states, together, by, inside)
    return together


def finished(aggregations: Sequence[Aggregation], states: ir.Table, entries: ir.Table) -> ir.Table:
    """`states` with each aggregation's value by its name, null where there is none. `entries` are the lifted events."""
    for each in aggregations:
        if each.function is Function.LAST:
            place = _name(each, "place")
            placed = entries.filter(entries[place].notnull()).select(place, **{each.name: _number(each, entries)})
            states = states.left_join(placed, place).select(states, placed[each.name])
    rest = [each for each in aggregations if each.function is not Function.LAST]
    return states.mutate(**{each.name: _value(each, states) for each in rest})


def _of_event(aggregation: Aggregation, part: str, events: ir.Table) -> ir.Value:
    column = _column(aggregation, events)
    match part:
        case "n":
            return column.notnull().cast("int64")
        case "values":
            return ibis.ifelse(column.notnull(), ibis.array([column]), ibis.literal([], f"array<{column.type()}>"))
        case "squares":
            return ibis.ifelse(column.notnull(), 0.0, ibis.null("float64"))
        case "place":
            place = ibis.row_number().over(order_by=[events.event_time, events.available_at, column])
            return ibis.ifelse(column.notnull(), place, ibis.null("int64"))
    return _number(aggregation, events)


def _together(state: ir.Column, part: str, where: ir.BooleanValue | None) -> ir.Value:
    match part:
        case "n":
            return state.sum(where=where).fill_null(0)
        case "least":
            return state.min(where=where)
        case "greatest" | "place":
            return state.max(where=where)
        case "values":
            return state.collect(where=where).flatten().unique()
    return state.sum(where=where)


def _with_squares(
    aggregations: Sequence[Aggregation],
    states: ir.Table,
    together: ir.Table,
    by: Sequence[str],
    inside: Inside | None,
) -> ir.Table:
    """Squared deviations from the common mean: those of each state from its own mean, and its mean's (Chan et al.)."""
    means = {f"{each.name}__mean": _mean(each, together) for each in aggregations}
    centred = states.inner_join(together.select(*by, **means), by)
    squares = {}
    for each in aggregations:
        n, own = centred[_name(each, "n")], centred[_name(each, "squares")]
        apart = (_mean(each, centred) - centred[f"{each.name}__mean"]) ** 2 * n
        squares[_name(each, "squares")] = (own + apart).sum(where=_where(inside, each, centred))
    return together.drop(*squares).inner_join(centred.group_by(by).agg(**squares), by)


def _value(aggregation: Aggregation, states: ir.Table) -> ir.Value:
    match aggregation.function:
        case Function.MEAN:
            return _mean(aggregation, states)
        case Function.STDDEV:
            n, squares = states[_name(aggregation, "n")], states[_name(aggregation, "squares")]
            return ibis.ifelse(n > 1, (squares / (n - 1)).sqrt(), ibis.null("float64"))
        case Function.COUNT_DISTINCT:
            return states[_name(aggregation, "values")].length().cast("float64")
    (part,) = _PARTS[aggregation.function]
    return states[_name(aggregation, part)].cast("float64")


def _mean(aggregation: Aggregation, states: ir.Table) -> ir.Value:
    return states[_name(aggregation, "total")] / states[_name(aggregation, "n")].nullif(0)


def _column(aggregation: Aggregation, events: ir.Table) -> ir.Column:
    column = events[aggregation.column]
    return column / 1e6 if aggregation.column == EVENT_TIME else column


def _number(aggregation: Aggregation, events: ir.Table) -> ir.Value:
    return _column(aggregation, events).cast("float64")


def _where(inside: Inside | None, aggregation: Aggregation, states: ir.Table) -> ir.BooleanValue | None:
    return None if inside is None else inside(aggregation, states)


def _name(aggregation: Aggregation, part: str) -> str:
    return f"{aggregation.name}__{part}"
