"""Joins predictions to outcomes, in whichever order they come, once.

A label counts for a prediction if it was available by `as_of + horizon`: that depends on the records alone, so every
order of arrival, every redelivery and every crash ends in the same counts. A label that came later is counted late;
the prediction expires when the watermark passes its horizon.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from services.monitoring.database import Database, add_counters, read_counters, select_in, upsert
from services.monitoring.schema import Status, outcomes, positions, predictions

_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Prediction:
    """One answered prediction. `vector` is little-endian float32, `statuses` a byte for each feature.

    `challenger_weight` is the challenger's share of traffic when the call was assigned, in basis points.
    """

    prediction_id: str
    entity_id: str
    version: str
    variant: str
    release_id: str
    as_of_us: int
    score: float
    vector: bytes = b""
    statuses: bytes = b""
    challenger_weight: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a label event told. `label` is 0 or 1, None if there will never be one."""

    entity_id: str
    label: float | None
    available_at_us: int


Partition = tuple[str, int]


@dataclass(slots=True)
class Batch:
    """What one poll brought, already understood, and how far it reaches."""

    predictions: list[Prediction] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    next_offsets: dict[Partition, int] = field(default_factory=dict)
    watermarks: dict[Partition, int] = field(default_factory=dict)
    unreadable: int = 0


@dataclass(frozen=True, slots=True)
class Counts:
    """Where everything stands. `recorded = joined + void + pending + expired`, always."""

    recorded: int = 0
    joined: int = 0
    void: int = 0
    pending: int = 0
    expired: int = 0
    duplicate_predictions: int = 0
    duplicate_labels: int = 0
    late_labels: int = 0
    labels: int = 0
    unreadable: int = 0


@dataclass(frozen=True, slots=True)
class Joined:
    """What a batch changed, for those who keep answers: the predictions that are new or got their outcome."""

    as_of_us: frozenset[int] = frozenset()
    release_ids: frozenset[str] = frozenset()


class Joiner:
    """Applies batches. One thread at a time; `label_partitions` are those whose watermarks decide."""

    def __init__(self, horizon: timedelta, label_topics: Iterable[str], margin: timedelta) -> None:
        self._horizon_us = horizon // _MICROSECOND
        self._margin_us = margin // _MICROSECOND
        self._label_topics = frozenset(label_topics)

    def apply(self, connection: sa.Connection, batch: Batch) -> Joined:
        """Takes the batch into the transaction of `connection`: rows, counts, offsets, watermarks."""
        added: Counter[str] = Counter(unreadable=batch.unreadable)
        new = _unseen_predictions(connection, batch.predictions, added)
        known = _outcomes_of(connection, {p.entity_id for p in new})
        rows = [self._row(prediction, known.get(prediction.entity_id), added) for prediction in new]
        if rows:
            connection.execute(sa.insert(predictions), rows)
        fresh = _unseen_outcomes(connection, batch.outcomes, added)
        touched = self._settle(connection, fresh, added)
        self._move(connection, batch)
        self._expire(connection, added)
        add_counters(connection, added)
        return Joined(
            frozenset(p.as_of_us for p in new) | frozenset(row.as_of_us for row in touched),
            frozenset(p.release_id for p in new) | frozenset(row.release_id for row in touched),
        )

    def prune(self, connection: sa.Connection) -> int:
        """Forgets outcomes that no prediction waits for and whose time is over; returns how many.

        Call it when the predictions were read to the end: a backlog of them may still ask for old outcomes.
        """
        watermark_us = self.watermark_us(connection)
        if watermark_us is None:
            return 0
        bound_us = watermark_us - self._horizon_us - self._margin_us
        asked = sa.select(predictions.c.seq).where(predictions.c.entity_id == outcomes.c.entity_id).exists()
        pruned = connection.execute(sa.delete(outcomes).where(outcomes.c.available_at_us < bound_us, ~asked))
        return pruned.rowcount

    def watermark_us(self, connection: sa.Connection) -> int | None:
        """Every label event available before this was read; None until each label partition told its watermark."""
        told = connection.execute(
            sa.select(positions.c.watermark_us).where(positions.c.topic.in_(self._label_topics))
        ).scalars()
        marks = list(told)
        known = [mark for mark in marks if mark is not None]
        return min(known) if known and len(known) == len(marks) else None

    def _row(self, prediction: Prediction, outcome: Outcome | None, added: Counter[str]) -> dict[str, Any]:
        status, label = Status.PENDING, None
        if outcome is not None:
            if outcome.available_at_us <= prediction.as_of_us + self._horizon_us:
                status, label = _settled(outcome), outcome.label
            else:
                added["late_labels"] += 1
        added["recorded"] += 1
        added[status.name.lower()] += 1
        return {
            "prediction_id": prediction.prediction_id,
            "entity_id": prediction.entity_id,
            "version": prediction.version,
            "variant": prediction.variant,
            "release_id": prediction.release_id,
            "challenger_weight": prediction.challenger_weight,
            "as_of_us": prediction.as_of_us,
            "score": prediction.score,
            "vector": prediction.vector,
            "statuses": prediction.statuses,
            "status": int(status),
            "label": label,
        }

    def _settle(self, connection: sa.Connection, fresh: Mapping[str, Outcome], added: Counter[str]) -> list[Any]:
        """Gives new outcomes to the predictions that wait for them; returns those rows."""
        columns = (predictions.c[name] for name in ("seq", "entity_id", "as_of_us", "release_id", "status"))
        touched, settled = [], []
        for row in select_in(connection, sa.select(*columns), predictions.c.entity_id, fresh):
            outcome = fresh[row.entity_id]
            if row.status != Status.PENDING or outcome.available_at_us > row.as_of_us + self._horizon_us:
                added["late_labels"] += 1
                continue
            status = _settled(outcome)
            added[status.name.lower()] += 1
            added["pending"] -= 1
            touched.append(row)
            settled.append({"of": row.seq, "status": int(status), "label": outcome.label})
        if settled:
            connection.execute(sa.update(predictions).where(predictions.c.seq == sa.bindparam("of")), settled)
        return touched

    def _move(self, connection: sa.Connection, batch: Batch) -> None:
        known = {(row.topic, row.partition): row.watermark_us for row in connection.execute(sa.select(positions)).all()}
        rows = []
        for (topic, partition), next_offset in batch.next_offsets.items():
            marks = (known.get((topic, partition)), batch.watermarks.get((topic, partition)))
            mark = max((m for m in marks if m is not None), default=None)
            rows.append({"topic": topic, "partition": partition, "next_offset": next_offset, "watermark_us": mark})
        upsert(connection, positions, rows)

    def _expire(self, connection: sa.Connection, added: Counter[str]) -> None:
        watermark_us = self.watermark_us(connection)
        if watermark_us is None:
            return
        # Written out, not bound: only so does SQLite know that the partial index covers it.
        pending = sa.text(f"status = {Status.PENDING:d}")
        over = predictions.c.as_of_us < watermark_us - self._horizon_us
        expired = connection.execute(sa.update(predictions).where(pending, over).values(status=int(Status.EXPIRED)))
        added["expired"] += expired.rowcount
        added["pending"] -= expired.rowcount


def begin(database: Database, partitions: Sequence[Partition]) -> dict[Partition, int | None]:
    """The offset to go on from for each partition; None: from its beginning.

    The partitions are noted, so that one that never spoke holds the watermark back.
    """
    with database.write() as connection:
        found = {(row.topic, row.partition): row.next_offset for row in connection.execute(sa.select(positions))}
        new = [
            {"topic": topic, "partition": n, "next_offset": -1} for topic, n in partitions if (topic, n) not in found
        ]
        upsert(connection, positions, new)
    return {partition: _known_offset(found.get(partition)) for partition in partitions}


def read_counts(connection: sa.Connection) -> Counts:
    """The counts as of the last batch."""
    values = read_counters(connection)
    return Counts(**{name: values.get(name, 0) for name in Counts.__dataclass_fields__})


def _known_offset(next_offset: int | None) -> int | None:
    return None if next_offset is None or next_offset < 0 else next_offset


def _settled(outcome: Outcome) -> Status:
    return Status.VOID if outcome.label is None else Status.JOINED


def _unseen_predictions(
    connection: sa.Connection, given: Sequence[Prediction], added: Counter[str]
) -> list[Prediction]:
    first = {prediction.prediction_id: prediction for prediction in reversed(given)}
    seen = set()
    for row in select_in(connection, sa.select(predictions.c.prediction_id), predictions.c.prediction_id, first):
        seen.add(row.prediction_id)
    new = [prediction for identity, prediction in reversed(first.items()) if identity not in seen]
    added["duplicate_predictions"] += len(given) - len(new)
    return new


def _unseen_outcomes(connection: sa.Connection, given: Sequence[Outcome], added: Counter[str]) -> dict[str, Outcome]:
    first = {outcome.entity_id: outcome for outcome in reversed(given)}
    for seen in _outcomes_of(connection, first):
        del first[seen]
    if first:
        rows = [
            {"entity_id": o.entity_id, "label": o.label, "available_at_us": o.available_at_us} for o in first.values()
        ]
        connection.execute(sa.insert(outcomes), rows)
    added["labels"] += len(given)
    added["duplicate_labels"] += len(given) - len(first)
    return first


def _outcomes_of(connection: sa.Connection, entity_ids: Iterable[str]) -> dict[str, Outcome]:
    rows = select_in(connection, sa.select(outcomes), outcomes.c.entity_id, entity_ids)
    return {row.entity_id: Outcome(row.entity_id, row.label, row.available_at_us) for row in rows}
