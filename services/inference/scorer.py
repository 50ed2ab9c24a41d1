"""One model's calls, gathered: what arrives together shares one question to the features service and one ONNX run."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from time import monotonic

import numpy as np
from numpy.typing import NDArray

from services.chassis.errors import Conflict, DeadlineExceeded, Invalid, OutOfRange, Overloaded, SlipwayError
from services.chassis.logging import get_logger
from services.contracts.features.v1 import features_pb2
from services.inference.feature_client import EntityRows, Vectors
from services.inference.loaded_model import LoadedModel
from services.inference.metrics import InferenceMetrics

# A status for each byte of "is NaN".
_STATUS_OF = bytes.maketrans(b"\0\1", bytes([features_pb2.FEATURE_STATUS_PRESENT, features_pb2.FEATURE_STATUS_MISSING]))

Fetch = Callable[[Sequence[EntityRows]], Awaitable[Vectors]]


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is gathered and how much may wait, in rows; how many `questions` at the same time."""

    batch_rows: int = 256
    waiting_rows: int = 4096
    questions: int = 4


@dataclass(frozen=True, slots=True)
class Scored:
    """One call's rows: float32 [N], what they were computed from [N, F], and a FeatureStatus byte for each value."""

    probabilities: NDArray[np.float32]
    vectors: NDArray[np.float32]
    statuses: bytes
    watermark: str


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    rows: EntityRows
    deadline: float | None
    answer: asyncio.Future[Scored]

    def expired(self) -> bool:
        return self.answer.done() or (self.deadline is not None and monotonic() >= self.deadline)


class Scorer:
    """Belongs to one event loop.

    1. A call waits with those that arrived in the same turn of the loop, or while a question is out.
    2. A question takes as many waiting calls as fit into `batch_rows`; a call is never split. A second one
       starts early only when a full batch waits.
    3. An input error of a joint question is narrowed down by halves: only the caller with the bad row sees it.
    """

    def __init__(self, model: LoadedModel, fetch: Fetch, limits: Limits, metrics: InferenceMetrics) -> None:
        self.model = model
        self._fetch = fetch
        self._limits = limits
        self._metrics = metrics
        self._waiting: deque[_Waiting] = deque()
        self._waiting_rows = 0
        self._questions: set[asyncio.Task[None]] = set()
        self._start_is_scheduled = False

    async def score_entities(self, rows: EntityRows, deadline: float | None = None) -> Scored:
        """Fetches the vectors and runs the model. `deadline` is on the monotonic clock. Raises what `submit` does."""
        return await self.submit(rows, deadline)

    def submit(self, rows: EntityRows, deadline: float | None = None) -> asyncio.Future[Scored]:
        """The same, as a future; who cancels it is not waited for.

        Raises DeadlineExceeded before any work, Overloaded when too many rows wait, and what the features
        service says of these rows.
        """
        if deadline is not None and monotonic() >= deadline:
            raise DeadlineExceeded("the call's deadline has passed")
        if self._waiting_rows + rows.count > self._limits.waiting_rows:
            self._forget_expired()
        if self._waiting_rows + rows.count > self._limits.waiting_rows:
            raise Overloaded(f"{self._waiting_rows} rows wait already, at most {self._limits.waiting_rows} may")
        loop = asyncio.get_running_loop()
        waiting = _Waiting(rows, deadline, loop.create_future())
        self._waiting.append(waiting)
        self._waiting_rows += rows.count
        if not self._start_is_scheduled:
            self._start_is_scheduled = True
            loop.call_soon(self._start)
        return waiting.answer

    def score_vectors(self, vectors: NDArray[np.float32]) -> Scored:
        """Runs the model on vectors that the caller brought; NaN counts as missing."""
        return self._score_in_one_run([vectors])[0]

    def score_together(self, calls: Sequence[NDArray[np.float32]]) -> Sequence[Scored | Exception]:
        """The same for the vectors of several calls in one run; of a call that the model fails on, its error."""
        try:
            return self._score_in_one_run(calls)
        except Exception as error:  # whatever the runtime raises, only the call that it is about fails
            if len(calls) == 1:
                return [error]
            middle = len(calls) // 2
            return [*self.score_together(calls[:middle]), *self.score_together(calls[middle:])]

    def _score_in_one_run(self, calls: Sequence[NDArray[np.float32]]) -> list[Scored]:
        whole = calls[0] if len(calls) == 1 else np.concatenate(calls)
        found, statuses = self.model.probabilities(whole), np.isnan(whole).tobytes().translate(_STATUS_OF)
        width = whole.shape[1]
        ends = accumulate(len(vectors) for vectors in calls)
        return [
            Scored(found[end - len(own) : end], own, statuses[(end - len(own)) * width : end * width], "")
            for own, end in zip(calls, ends, strict=True)
        ]

    def _start(self) -> None:
        self._start_is_scheduled = False
        while self._waiting and self._may_start():
            batch = self._next_batch()
            if batch:
                task = asyncio.create_task(self._answer(batch))
                self._questions.add(task)
                task.add_done_callback(self._finished)

    def _may_start(self) -> bool:
        full = self._waiting_rows >= self._limits.batch_rows
        return not self._questions or (full and len(self._questions) < self._limits.questions)

    def _next_batch(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        rows = 0
        while self._waiting and (not batch or rows + self._waiting[0].rows.count <= self._limits.batch_rows):
            waiting = self._waiting.popleft()
            self._waiting_rows -= waiting.rows.count
            if not waiting.expired():
                batch.append(waiting)
                rows += waiting.rows.count
            elif not waiting.answer.done():
                waiting.answer.set_exception(DeadlineExceeded("the call's deadline passed while it waited"))
        return batch

    def _forget_expired(self) -> None:
        """Callers that gave up take nobody's room."""
        stays = [waiting for waiting in self._waiting if not waiting.answer.done()]
        self._waiting = deque(stays)
        self._waiting_rows = sum(waiting.rows.count for waiting in stays)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._questions.discard(task)
        self._start()

    async def _answer(self, batch: list[_Waiting]) -> None:
        try:
            await self._score(batch)
        except Exception as error:  # every caller gets an answer, whatever went wrong
            if not isinstance(error, SlipwayError):
                get_logger().exception("batch_failed", calls=len(batch))
            for waiting in batch:
                if not waiting.answer.done():
                    waiting.answer.set_exception(error)

    async def _score(self, batch: list[_Waiting]) -> None:
        self._metrics.batch_rows.observe(sum(waiting.rows.count for waiting in batch))
        try:
            found = await self._fetch([waiting.rows for waiting in batch])
            probabilities = self.model.probabilities(found.values)
        except (Invalid, OutOfRange, Conflict):
            if len(batch) == 1:
                raise
            middle = len(batch) // 2
            await asyncio.gather(self._answer(batch[:middle]), self._answer(batch[middle:]))
            return
        self._share(batch, found, probabilities)

    def _share(self, batch: list[_Waiting], found: Vectors, probabilities: NDArray[np.float32]) -> None:
        features = found.values.shape[1]
        first = 0
        for waiting in batch:
            last = first + waiting.rows.count
            if not waiting.answer.done():
                waiting.answer.set_result(
                    Scored(
                        probabilities[first:last],
                        found.values[first:last],
                        found.statuses[first * features : last * features],
                        found.watermark,
                    )
                )
            first = last
