"""The runs in SQLite: the queue, the run in progress, and the records that Kafka does not have yet."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from services.chassis.clock import from_us, to_us
from services.chassis.errors import AlreadyExists, NotFound
from services.training.runs import Run, RunRequest, RunState

_SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    run_id TEXT NOT NULL UNIQUE,
    request_id TEXT NOT NULL UNIQUE,
    model TEXT NOT NULL,
    begin_us INTEGER NOT NULL,
    end_us INTEGER NOT NULL,
    reason TEXT NOT NULL,
    requested_by TEXT NOT NULL,
    requested_at_us INTEGER,
    state TEXT NOT NULL,
    stage TEXT NOT NULL,
    detail TEXT NOT NULL,
    mlflow_run_id TEXT NOT NULL,
    model_version TEXT NOT NULL,
    onnx_sha256 TEXT NOT NULL,
    metrics TEXT NOT NULL,
    started_at_us INTEGER,
    ended_at_us INTEGER,
    attempts INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS records (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    model TEXT NOT NULL,
    record BLOB NOT NULL
);
"""

ToRecord = Callable[[Run], bytes]
Outgoing = tuple[int, str, bytes]


class RunStore:
    """`to_record` renders a run as the bytes that go to Kafka. Thread-safe; what a method did is on disk."""

    def __init__(self, folder: Path, to_record: ToRecord, new_id: Callable[[], str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._to_record = to_record
        self._new_id = new_id
        self._lock = threading.RLock()
        self._connection = sqlite3.connect(folder / "runs.sqlite", check_same_thread=False)
        self._connection.row_factory = sqlite3.Row
        self._connection.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;" + _SCHEMA)

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._connection.close()

    def queue(self, request: RunRequest) -> Run:
        """Queues a run of it. Raises AlreadyExists if its id is known."""
        with self._transaction():
            known = self._rows("WHERE request_id = ?", request.request_id)
            if known:
                raise AlreadyExists(f"request_id: {request.request_id!r} is run {known[0].run_id} already")
            run = Run(self._new_id(), request)
            row = _to_row(run)
            names, marks = ", ".join(row), ", ".join(f":{name}" for name in row)
            self._connection.execute(f"INSERT INTO runs ({names}) VALUES ({marks})", row)  # noqa: S608  names of ours
            return run

    def next(self) -> Run | None:
        """The run in progress, which a crash left behind, else the oldest of the queue."""
        found = self._rows("WHERE state = ?", RunState.RUNNING) or self._rows(
            "WHERE state = ? ORDER BY number LIMIT 1", RunState.QUEUED
        )
        return found[0] if found else None

    def save(self, run: Run, *, tell: bool = False) -> Run:
        """Writes a run over its former self; with `tell`, a record of it is due in the same transaction."""
        row = _to_row(run)
        assigned = ", ".join(f"{name} = :{name}" for name in row)
        with self._transaction():
            self._connection.execute(f"UPDATE runs SET {assigned} WHERE run_id = :run_id", row)  # noqa: S608
            if tell:
                due = (run.request.model, self._to_record(run))
                self._connection.execute("INSERT INTO records (model, record) VALUES (?, ?)", due)
        return run

    def get(self, run_id: str) -> Run:
        """A run by id. Raises NotFound."""
        found = self._rows("WHERE run_id = ?", run_id)
        if not found:
            raise NotFound(f"run_id: there is no run {run_id!r}")
        return found[0]

    def all(self) -> list[Run]:
        """Every run, newest first."""
        return self._rows("ORDER BY number DESC")

    def queued(self) -> int:
        """How many wait for their turn."""
        with self._lock:
            counted = self._connection.execute("SELECT count(*) FROM runs WHERE state = ?", (RunState.QUEUED,))
            count: int = counted.fetchone()[0]
            return count

    def unsent(self) -> list[Outgoing]:
        """The records that Kafka has not acknowledged, oldest first: (number, model, record)."""
        with self._lock:
            rows = self._connection.execute("SELECT number, model, record FROM records ORDER BY number")
            return [(row["number"], row["model"], row["record"]) for row in rows]

    def drop_sent(self, numbers: Sequence[int]) -> None:
        """Kafka has them."""
        with self._transaction():
            sent = [(number,) for number in numbers]
            self._connection.executemany("DELETE FROM records WHERE number = ?", sent)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock, self._connection:
            yield

    def _rows(self, clauses: str, *values: str) -> list[Run]:
        with self._lock:
            rows = self._connection.execute(f"SELECT * FROM runs {clauses}", values).fetchall()  # noqa: S608
        return [_from_row(row) for row in rows]


def _to_row(run: Run) -> dict[str, Any]:
    request = run.request
    return {
        "run_id": run.run_id,
        "request_id": request.request_id,
        "model": request.model,
        "begin_us": to_us(request.begin),
        "end_us": to_us(request.end),
        "reason": request.reason,
        "requested_by": request.requested_by,
        "requested_at_us": _us(request.requested_at),
        "state": run.state.value,
        "stage": str(run.stage),
        "detail": run.detail,
        "mlflow_run_id": run.mlflow_run_id,
        "model_version": run.model_version,
        "onnx_sha256": run.onnx_sha256,
        "metrics": json.dumps(dict(run.metrics)),
        "started_at_us": _us(run.started_at),
        "ended_at_us": _us(run.ended_at),
        "attempts": run.attempts,
    }


def _from_row(row: sqlite3.Row) -> Run:
    request = RunRequest(
        request_id=row["request_id"],
        model=row["model"],
        begin=from_us(row["begin_us"]),
        end=from_us(row["end_us"]),
        reason=row["reason"],
        requested_by=row["requested_by"],
        requested_at=_moment(row["requested_at_us"]),
    )
    return Run(
        run_id=row["run_id"],
        request=request,
        state=RunState(row["state"]),
        stage=row["stage"],
        detail=row["detail"],
        mlflow_run_id=row["mlflow_run_id"],
        model_version=row["model_version"],
        onnx_sha256=row["onnx_sha256"],
        metrics=json.loads(row["metrics"]),
        started_at=_moment(row["started_at_us"]),
        ended_at=_moment(row["ended_at_us"]),
        attempts=row["attempts"],
    )


def _us(moment: datetime | None) -> int | None:
    return None if moment is None else to_us(moment)


def _moment(microseconds: int | None) -> datetime | None:
    return None if microseconds is None else from_us(microseconds)
