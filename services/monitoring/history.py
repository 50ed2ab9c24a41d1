"""Runs and releases as other services told them on Kafka: the last record of each, and when we heard it."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from services.chassis.clock import from_us
from services.contracts.router.v1 import router_pb2
from services.contracts.training.v1 import training_pb2
from services.monitoring.database import upsert
from services.monitoring.schema import releases, runs, triggers
from services.monitoring.triggers import History

_RUNNING = (training_pb2.RUN_STATE_QUEUED, training_pb2.RUN_STATE_RUNNING)
RELEASING = (router_pb2.PHASE_PENDING, router_pb2.PHASE_RUNNING, router_pb2.PHASE_PAUSED)


@dataclass(frozen=True, slots=True)
class Told:
    """A run or release record: its id, its state or phase, its bytes."""

    key: str
    state: int
    record: bytes


def keep_runs(connection: sa.Connection, told: list[Told], watermark_us: int | None) -> None:
    """Stores the last record of each run."""
    last = {run.key: run for run in told}
    rows = [
        {"run_id": run.key, "state": run.state, "watermark_us": watermark_us, "record": run.record}
        for run in last.values()
    ]
    upsert(connection, runs, rows)


def keep_releases(connection: sa.Connection, told: list[Told], watermark_us: int | None) -> None:
    """Stores the last record of each release."""
    last = {release.key: release for release in told}
    rows = [
        {"release_id": release.key, "phase": release.state, "watermark_us": watermark_us, "record": release.record}
        for release in last.values()
    ]
    upsert(connection, releases, rows)


def read_history(connection: sa.Connection) -> History:
    """What may hold a retrain back."""
    last_trigger = connection.execute(sa.select(sa.func.max(triggers.c.event_time_us))).scalar()
    ended = sa.select(sa.func.max(runs.c.watermark_us)).where(runs.c.state.not_in(_RUNNING))
    last_run = connection.execute(ended).scalar()
    return History(
        last_trigger=None if last_trigger is None else from_us(last_trigger),
        last_run_ended=None if last_run is None else from_us(last_run),
        in_progress=_in_progress(connection),
    )


def read_releases(connection: sa.Connection) -> list[router_pb2.Release]:
    """Every release, newest first."""
    records = connection.execute(sa.select(releases.c.record)).scalars()
    found = [router_pb2.ReleaseRecord.FromString(record).release for record in records]
    return sorted(found, key=lambda release: release.started_at.ToNanoseconds(), reverse=True)


def read_runs(connection: sa.Connection) -> list[training_pb2.Run]:
    """Every training run, newest first."""
    records = connection.execute(sa.select(runs.c.record)).scalars()
    found = [training_pb2.RunRecord.FromString(record).run for record in records]
    return sorted(found, key=lambda run: run.started_at.ToNanoseconds(), reverse=True)


def _in_progress(connection: sa.Connection) -> str:
    run = connection.execute(sa.select(runs.c.run_id).where(runs.c.state.in_(_RUNNING)).limit(1)).scalar()
    if run is not None:
        return f"training run {run} is in progress"
    phase = releases.c.phase
    release = connection.execute(sa.select(releases.c.release_id).where(phase.in_(RELEASING)).limit(1)).scalar()
    return "" if release is None else f"release {release} is in progress"
