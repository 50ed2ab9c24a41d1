"""The thread that carries out runs, one after the other, and outlives each of them."""

from __future__ import annotations

from threading import Event

from services.chassis.clock import Now
from services.chassis.errors import SlipwayError
from services.chassis.logging import get_logger
from services.training import metrics
from services.training.journal import Journal, Stopped
from services.training.pipeline import Outcome, Pipeline
from services.training.runs import Run, RunState
from services.training.store import RunStore

_IDLE_S = 0.2


class Worker:
    """`attempts`: how often a run is started before it is given up."""

    def __init__(
        self, *, store: RunStore, pipeline: Pipeline, stopping: Event, now: Now, patience_s: float, attempts: int
    ) -> None:
        self._store = store
        self._pipeline = pipeline
        self._stopping = stopping
        self._now = now
        self._patience_s = patience_s
        self._attempts = attempts

    def work(self) -> None:
        """Until the process stops. A run that it interrupts is started again by the next process."""
        while not self._stopping.is_set():
            run = self._store.next()
            metrics.QUEUED.set(self._store.queued())
            if run is None:
                self._stopping.wait(_IDLE_S)
            else:
                with metrics.RUNNING.track_inprogress():
                    self._carry_out(run)

    def _carry_out(self, run: Run) -> None:
        journal = Journal(self._store, run, stopping=self._stopping, now=self._now, patience_s=self._patience_s)
        journal.begin()
        try:
            outcome = self._outcome(journal, tried=run.attempts)
        except Stopped:
            journal.postpone()
            return
        journal.end(outcome.state, outcome.detail, version=outcome.version, onnx_sha256=outcome.onnx_sha256)

    def _outcome(self, journal: Journal, tried: int) -> Outcome:
        """`tried`: how often before. Raises Stopped only."""
        try:
            if tried >= self._attempts:
                return self._pipeline.give_up(journal, _gave_up(journal.run, tried))
            return self._pipeline.carry_out(journal)
        except SlipwayError as error:
            journal.raise_if_stopping()
            return Outcome(RunState.ERROR, str(error))
        except Stopped:
            raise
        except Exception as error:
            journal.raise_if_stopping()
            get_logger().exception("run_failed", run_id=journal.run.run_id)
            return Outcome(RunState.ERROR, f"internal error: {error!r}; the server's log has the details")


def _gave_up(run: Run, tried: int) -> str:
    where = f"in stage {run.stage}" if run.stage else "before its first stage"
    return (
        f"the process ended {tried} times {where}; see its log, give it more memory or take a shorter range, then "
        "start a new run"
    )
