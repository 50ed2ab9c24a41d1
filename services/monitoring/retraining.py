"""Looks at drift and decay each time event time passes another bucket, and files the requests that follow.

The verdict, the request and the mark "evaluated until" are one transaction; Kafka gets the request afterwards from
this outbox, again after a crash, with the same id.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from services.chassis.clock import from_us, to_proto, to_us
from services.chassis.logging import get_logger
from services.contracts.training.v1 import training_pb2
from services.monitoring import triggers
from services.monitoring.database import Database, read_counters, set_counter, upsert
from services.monitoring.drift_book import DriftBook
from services.monitoring.history import read_history
from services.monitoring.quality_book import DAY_US, QualityBook, Window, total
from services.monitoring.schema import triggers as trigger_table
from services.problem import ModelRecipe

_EVALUATED = "evaluated_us"
_MOST_STEPS = 60
"""Buckets evaluated one by one after a pause; of a longer one only the last."""


@dataclass(frozen=True, slots=True)
class Trigger:
    """A request for a retrain as it was filed. `sent`: Kafka has it."""

    request_id: str
    kind: str
    reason: str
    event_time: datetime
    sent: bool


def bucket_us(window: timedelta) -> int:
    """Length of the steps in which drift is looked at: a day, or the recipe's window if that is shorter."""
    return min(DAY_US, window // timedelta(microseconds=1))


class Retraining:
    """Call `step` after each batch and `deliver` when there is time. One thread."""

    def __init__(
        self,
        *,
        database: Database,
        recipe: ModelRecipe,
        drift: DriftBook,
        quality: QualityBook,
        champion: Callable[[], str | None],
    ) -> None:
        self._database = database
        self._recipe = recipe
        self._drift = drift
        self._quality = quality
        self._champion = champion
        self.verdict: triggers.Verdict | None = None

    def step(self, watermark_us: int | None) -> None:
        """Evaluates each bucket that the watermark passed since the last call."""
        if watermark_us is None:
            return
        length = self._drift.bucket_us
        now_us = watermark_us // length * length
        with self._database.read() as connection:
            evaluated_us = read_counters(connection).get(_EVALUATED)
        if evaluated_us is None:
            self._mark(now_us)
            return
        if now_us <= evaluated_us:
            return
        self._drift.catch_up()
        for moment_us in range(max(evaluated_us + length, now_us - _MOST_STEPS * length), now_us + 1, length):
            self._evaluate(moment_us)

    def deliver(self, send: Callable[[bytes, bytes], None]) -> None:
        """Hands every request that Kafka does not have to `send(key, value)`, which returns once it has it."""
        with self._database.read() as connection:
            waiting = connection.execute(sa.select(trigger_table).where(~trigger_table.c.sent)).all()
        for row in waiting:
            send(self._recipe.name.encode(), row.request)
            with self._database.write() as connection:
                mine = trigger_table.c.request_id == row.request_id
                connection.execute(sa.update(trigger_table).where(mine).values(sent=True))
            get_logger().info("retrain_requested", request_id=row.request_id, reason=row.reason)

    def _evaluate(self, moment_us: int) -> None:
        version = self._champion()
        evidence = self._evidence(version, moment_us) if version else None
        if evidence is None:
            self._mark(moment_us)
            return
        with self._database.read() as connection:
            history = read_history(connection)
        verdict = triggers.judge(self._recipe.retrain, evidence, history)
        with self._database.write() as connection:
            if verdict.asks:
                self._file(connection, verdict, evidence.at)
            set_counter(connection, _EVALUATED, moment_us)
        self.verdict = verdict
        if verdict.kind:
            get_logger().info("retrain_judged", kind=verdict.kind, reason=verdict.reason, held_by=verdict.held_by)

    def _evidence(self, version: str, moment_us: int) -> triggers.Evidence | None:
        reference = self._drift.reference(version)
        if reference is None:
            return None
        length = self._drift.bucket_us
        window_us = self._recipe.retrain.window // timedelta(microseconds=1)
        from_us_ = moment_us - window_us // length * length
        groups = self._quality.windows(Window(from_us_, moment_us), length)
        labels, log_loss = total(group for group in groups if group.version == version)
        return triggers.Evidence(
            at=from_us(moment_us),
            version=version,
            drifts=self._drift.window(reference, from_us_, moment_us),
            labels=labels,
            log_loss=log_loss,
            reference_log_loss=reference.log_loss,
        )

    def _file(self, connection: sa.Connection, verdict: triggers.Verdict, at: datetime) -> None:
        request = training_pb2.RetrainRequest(
            request_id=triggers.request_id(self._recipe.name, verdict.kind, at),
            model=self._recipe.name,
            to=to_proto(_floor_day(at)),
            reason=verdict.reason,
            requested_by="monitoring",
            requested_at=to_proto(at),
        )
        # `from` is a word of Python.
        getattr(request, "from").CopyFrom(to_proto(_floor_day(at) - self._recipe.retrain.history))
        row = {
            "request_id": request.request_id,
            "kind": verdict.kind,
            "reason": verdict.reason,
            "event_time_us": to_us(at),
            "request": request.SerializeToString(),
            "sent": False,
        }
        upsert(connection, trigger_table, [row])

    def _mark(self, moment_us: int) -> None:
        with self._database.write() as connection:
            set_counter(connection, _EVALUATED, moment_us)


def read_triggers(connection: sa.Connection) -> list[Trigger]:
    """Every request filed, newest first."""
    rows = connection.execute(sa.select(trigger_table).order_by(trigger_table.c.event_time_us.desc()))
    return [Trigger(r.request_id, r.kind, r.reason, from_us(r.event_time_us), r.sent) for r in rows]


def _floor_day(at: datetime) -> datetime:
    return from_us(to_us(at) // DAY_US * DAY_US)
