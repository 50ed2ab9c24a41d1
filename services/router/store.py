"""Releases in SQL: one row for each, an append-only row for each transition, which is the outbox to Kafka too.

A change is written only onto the revision of the release that it was decided on (compare and swap), in one
transaction with its transition.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Engine,
    ForeignKey,
    Integer,
    LargeBinary,
    MetaData,
    Row,
    String,
    Table,
    Text,
    create_engine,
    event,
    select,
)

from services.chassis.clock import from_us, to_us
from services.chassis.errors import Conflict, NotFound
from services.router.releases import Account, Calls, Phase, Release, Stage, StepBegun, Strategy, Transition

_META = MetaData()
_RELEASES = Table(
    "releases",
    _META,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("release_id", String, nullable=False, unique=True),
    Column("model", String, nullable=False),
    Column("champion_version", String, nullable=False),
    Column("challenger_version", String, nullable=False),
    Column("strategy", String, nullable=False),
    Column("phase", String, nullable=False),
    Column("stage", String, nullable=False, index=True),
    Column("challenger_weight", Integer, nullable=False),
    Column("started_by", String, nullable=False),
    Column("reason", Text, nullable=False),
    Column("started_at_us", BigInteger, nullable=False),
    Column("ended_at_us", BigInteger),
    Column("steps", Text, nullable=False),
    Column("revision", Integer, nullable=False),
)
_TRANSITIONS = Table(
    "transitions",
    _META,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("release_id", ForeignKey("releases.release_id"), nullable=False, index=True),
    Column("processed_at_us", BigInteger, nullable=False),
    Column("event_time_us", BigInteger),
    Column("phase", String, nullable=False),
    Column("challenger_weight", Integer, nullable=False),
    Column("actor", String, nullable=False),
    Column("why", Text, nullable=False),
    Column("evidence_json", Text, nullable=False),
    Column("record", LargeBinary, nullable=False),
    Column("published", Boolean, nullable=False, index=True),
)

ToRecord = Callable[[Account], bytes]
Outgoing = tuple[int, str, bytes]


class ReleaseStore:
    """`to_record` renders an account as the bytes that go to Kafka. Thread-safe; each call is one transaction."""

    def __init__(self, database: str, to_record: ToRecord) -> None:
        self._engine = _engine(database)
        self._to_record = to_record
        self._writing = threading.Lock()
        _META.create_all(self._engine)

    def close(self) -> None:
        """Gives the connections back."""
        self._engine.dispose()

    def add(self, release: Release, transition: Transition) -> bool:
        """Queues a release, whose older ones in the queue are skipped with a record. False: it is known already."""
        with self._write() as connection:
            if _find(connection, release.release_id) is not None:
                return False
            for older in _in_stages(connection, [Stage.QUEUED]):
                self._skip(connection, older, release, transition)
            connection.execute(_RELEASES.insert().values(**_to_row(release)))
            self._append(connection, release, transition)
            return True

    def change(self, before: Release, after: Release, transition: Transition) -> Release:
        """Writes `after` over `before` together with its transition; returns it with its new revision.

        Raises Conflict if the release has changed since `before` was read.
        """
        with self._write() as connection:
            written = _swap(connection, before, after)
            self._append(connection, written, transition)
            return written

    def note(self, before: Release, after: Release) -> Release:
        """As `change`, for what is no transition: how far the work is, where a step's counts begin."""
        with self._write() as connection:
            return _swap(connection, before, after)

    def current(self) -> Release | None:
        """The one release that is being worked on."""
        stages = [Stage.LOADING, Stage.STEPPING, Stage.PROMOTING, Stage.WITHDRAWING]
        with self._engine.connect() as connection:
            return next(iter(_in_stages(connection, stages)), None)

    def queued(self) -> Release | None:
        """The one that waits for its turn."""
        with self._engine.connect() as connection:
            return next(iter(_in_stages(connection, [Stage.QUEUED])), None)

    def get(self, release_id: str) -> Release:
        """A release by id; "" is the current one, else the last. Raises NotFound."""
        if not release_id:
            return self._latest()
        with self._engine.connect() as connection:
            found = _find(connection, release_id)
        if found is None:
            raise NotFound(f"release_id: there is no release {release_id!r}")
        return found

    def account(self, release_id: str) -> Account:
        """As `get`, with its transitions."""
        release = self.get(release_id)
        with self._engine.connect() as connection:
            return Account(release, _transitions(connection, release.release_id))

    def accounts(self) -> list[Account]:
        """All of them, newest first."""
        with self._engine.connect() as connection:
            rows = connection.execute(select(_RELEASES).order_by(_RELEASES.c.number.desc())).all()
            releases = [_from_row(row) for row in rows]
            return [Account(release, _transitions(connection, release.release_id)) for release in releases]

    def unpublished(self, most: int = 100) -> list[Outgoing]:
        """The oldest records that Kafka has not acknowledged: (number, model, record)."""
        query = (
            select(_TRANSITIONS.c.number, _RELEASES.c.model, _TRANSITIONS.c.record)
            .join(_RELEASES)
            .where(_TRANSITIONS.c.published.is_(False))
            .order_by(_TRANSITIONS.c.number)
            .limit(most)
        )
        with self._engine.connect() as connection:
            return [(row.number, row.model, row.record) for row in connection.execute(query)]

    def mark_published(self, numbers: Sequence[int]) -> None:
        """Kafka has them."""
        with self._write() as connection:
            query = _TRANSITIONS.update().where(_TRANSITIONS.c.number.in_(numbers))
            connection.execute(query.values(published=True))

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        """A transaction that reads and then writes; one at a time, because SQLite knows only one writer."""
        with self._writing, self._engine.begin() as connection:
            yield connection

    def _latest(self) -> Release:
        current = self.current()
        if current is not None and current.stage is not Stage.WITHDRAWING:
            return current
        with self._engine.connect() as connection:
            row = connection.execute(select(_RELEASES).order_by(_RELEASES.c.number.desc()).limit(1)).first()
        if row is None:
            raise NotFound("release_id: there has been no release yet")
        return _from_row(row)

    def _skip(self, connection: Connection, older: Release, newer: Release, why_newer: Transition) -> None:
        ended = replace(older, phase=Phase.ABORTED, stage=Stage.DONE, ended_at=why_newer.processed_at)
        why = f"skipped: version {newer.challenger_version} came before its turn"
        skipped = replace(why_newer, phase=Phase.ABORTED, challenger_weight=0, why=why)
        self._append(connection, _swap(connection, older, ended), skipped)

    def _append(self, connection: Connection, release: Release, transition: Transition) -> None:
        so_far = _transitions(connection, release.release_id)
        connection.execute(
            _TRANSITIONS.insert().values(
                release_id=release.release_id,
                processed_at_us=to_us(transition.processed_at),
                event_time_us=_to_us(transition.event_time),
                phase=transition.phase,
                challenger_weight=transition.challenger_weight,
                actor=transition.actor,
                why=transition.why,
                evidence_json=transition.evidence_json,
                record=self._to_record(Account(release, (*so_far, transition))),
                published=False,
            )
        )


def _engine(database: str) -> Engine:
    engine = create_engine(database)
    if engine.dialect.name == "sqlite":

        @event.listens_for(engine, "connect")
        def _set_up(connection: Any, _: Any) -> None:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA busy_timeout=5000")

    return engine


def _find(connection: Connection, release_id: str) -> Release | None:
    row = connection.execute(select(_RELEASES).where(_RELEASES.c.release_id == release_id)).first()
    return None if row is None else _from_row(row)


def _in_stages(connection: Connection, stages: Sequence[Stage]) -> list[Release]:
    query = select(_RELEASES).where(_RELEASES.c.stage.in_(stages)).order_by(_RELEASES.c.number)
    return [_from_row(row) for row in connection.execute(query)]


def _swap(connection: Connection, before: Release, after: Release) -> Release:
    written = replace(after, revision=before.revision + 1)
    same = (_RELEASES.c.release_id == before.release_id) & (_RELEASES.c.revision == before.revision)
    if connection.execute(_RELEASES.update().where(same).values(**_to_row(written))).rowcount != 1:
        raise Conflict(f"release {before.release_id} has changed meanwhile; look again")
    return written


def _transitions(connection: Connection, release_id: str) -> tuple[Transition, ...]:
    query = select(_TRANSITIONS).where(_TRANSITIONS.c.release_id == release_id).order_by(_TRANSITIONS.c.number)
    return tuple(
        Transition(
            processed_at=from_us(row.processed_at_us),
            event_time=_from_us(row.event_time_us),
            phase=Phase(row.phase),
            challenger_weight=row.challenger_weight,
            actor=row.actor,
            why=row.why,
            evidence_json=row.evidence_json,
        )
        for row in connection.execute(query)
    )


def _to_row(release: Release) -> dict[str, Any]:
    return {
        "release_id": release.release_id,
        "model": release.model,
        "champion_version": release.champion_version,
        "challenger_version": release.challenger_version,
        "strategy": release.strategy,
        "phase": release.phase,
        "stage": release.stage,
        "challenger_weight": release.challenger_weight,
        "started_by": release.started_by,
        "reason": release.reason,
        "started_at_us": to_us(release.started_at),
        "ended_at_us": _to_us(release.ended_at),
        "steps": json.dumps([_step_to_list(step) for step in release.steps]),
        "revision": release.revision,
    }


def _from_row(row: Row[Any]) -> Release:
    return Release(
        release_id=row.release_id,
        model=row.model,
        champion_version=row.champion_version,
        challenger_version=row.challenger_version,
        strategy=Strategy(row.strategy),
        phase=Phase(row.phase),
        stage=Stage(row.stage),
        challenger_weight=row.challenger_weight,
        started_by=row.started_by,
        reason=row.reason,
        started_at=from_us(row.started_at_us),
        ended_at=_from_us(row.ended_at_us),
        steps=tuple(_step_from_list(step) for step in json.loads(row.steps)),
        revision=row.revision,
    )


def _step_to_list(step: StepBegun) -> list[int]:
    champion, challenger = step.champion_calls, step.challenger_calls
    return [step.weight, to_us(step.since), champion.total, champion.errors, challenger.total, challenger.errors]


def _step_from_list(values: list[int]) -> StepBegun:
    weight, since_us, *calls = values
    return StepBegun(weight, from_us(since_us), Calls(*calls[:2]), Calls(*calls[2:]))


def _to_us(moment: datetime | None) -> int | None:
    return None if moment is None else to_us(moment)


def _from_us(microseconds: int | None) -> datetime | None:
    return None if microseconds is None else from_us(microseconds)
