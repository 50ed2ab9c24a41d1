"""How far a run is, written down as it goes on: what people ask for, and what a restart finds."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from threading import Event
from typing import TypeVar

from services.chassis.clock import Now
from services.chassis.errors import Unavailable
from services.chassis.logging import get_logger
from services.training import metrics
from services.training.runs import Run, RunState, Stage
from services.training.store import RunStore

T = TypeVar("T")

_PAUSE_FIRST_S, _PAUSE_MOST_S = 0.2, 5.0


class Stopped(Exception):
    """The process ends; the run is started again when it is back."""


class Journal:
    """Of the run in progress. `patience_s`: how long it waits for a part that does not answer."""

    def __init__(self, store: RunStore, run: Run, *, stopping: Event, now: Now, patience_s: float) -> None:
        self._store = store
        self._stopping = stopping
        self._now = now
        self._patience_s = patience_s
        self._stage_since = time.monotonic()
        self.run = run

    def begin(self) -> None:
        """The run is in progress. The first time a record of it is due, again after a crash there is none."""
        again = self.run.state is RunState.RUNNING
        begun = replace(
            self.run,
            state=RunState.RUNNING,
            detail="starting",
            started_at=self.run.started_at or self._now(),
            attempts=self.run.attempts + 1,
        )
        self.run = self._store.save(begun, tell=not again)
        get_logger().info("run_started", run_id=self.run.run_id, attempt=self.run.attempts)

    def stage(self, stage: Stage, detail: str = "") -> None:
        """The next stage begins. Raises Stopped if the process ends."""
        self._time_stage()
        self.raise_if_stopping()
        self._save(stage=stage, detail=detail)
        get_logger().info("run_stage", run_id=self.run.run_id, stage=stage)

    def say(self, detail: str) -> None:
        """What is being done within the stage."""
        self._save(detail=detail)

    def opened(self, mlflow_run_id: str) -> None:
        """MLflow has a run for it; with another one than before everything is measured anew."""
        if mlflow_run_id != self.run.mlflow_run_id:
            self._save(mlflow_run_id=mlflow_run_id, metrics={})

    def measured(self, measures: Mapping[str, float]) -> None:
        """Adds metrics."""
        self._save(metrics={**self.run.metrics, **measures})

    def end(self, state: RunState, detail: str, *, version: str = "", onnx_sha256: str = "") -> None:
        """The run's last word, and its record."""
        self._time_stage()
        ended = replace(
            self.run,
            state=state,
            detail=detail,
            model_version=version,
            onnx_sha256=onnx_sha256,
            ended_at=self._now(),
        )
        self.run = self._store.save(ended, tell=True)
        metrics.RUNS.labels(state.value).inc()
        get_logger().info("run_ended", run_id=ended.run_id, state=state.value, version=version, detail=detail)

    def postpone(self) -> None:
        """The process ends in order: this attempt does not count."""
        self._save(attempts=self.run.attempts - 1)

    def raise_if_stopping(self) -> None:
        """Raises Stopped if the process ends."""
        if self._stopping.is_set():
            raise Stopped

    def patiently(self, call: Callable[[], T]) -> T:
        """What `call` returns; repeated while a part does not answer, which the run's detail says.

        The patience counts from the first failure; once it is over, raises Unavailable with words that say what to do.
        """
        detail, pause_s = self.run.detail, _PAUSE_FIRST_S
        deadline: float | None = None
        while True:
            self.raise_if_stopping()
            try:
                result = call()
            except Unavailable as error:
                deadline = deadline or time.monotonic() + self._patience_s
                if time.monotonic() > deadline:
                    gave_up = f"{error}; gave up after {self._patience_s:g} s. See that it runs, then start a new run"
                    raise Unavailable(gave_up) from error
                metrics.RETRIES.inc()
                get_logger().warning("run_waits", run_id=self.run.run_id, error=str(error))
                self.say(f"waits: {error}")
                self._stopping.wait(pause_s)
                pause_s = min(2 * pause_s, _PAUSE_MOST_S)
            else:
                if self.run.detail.startswith("waits: "):
                    self.say(detail)
                return result

    def _save(self, **changes: object) -> None:
        self.run = self._store.save(replace(self.run, **changes))  # type: ignore[arg-type]

    def _time_stage(self) -> None:
        now = time.monotonic()
        if self.run.stage:
            metrics.STAGE_SECONDS.labels(str(self.run.stage)).observe(now - self._stage_since)
        self._stage_since = now
