"""The exposure log: answered predictions on their way to Kafka, off the request path."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from kafka.partitioner import murmur2

from services.chassis.errors import Overloaded
from services.chassis.logging import get_logger
from services.contracts.inference.v1.predictions_pb2 import PredictionRecord, PredictionRecords
from services.inference.metrics import InferenceMetrics
from services.topics import PREDICTIONS

_BATCH_ROWS = 2000
_TOGETHER_BYTES = 256 * 1024
_GATHER_S = 0.005
_FLUSH_S = 1.0
_RETRY_S = 0.5


class Producer(Protocol):
    """What we use of a Kafka producer."""

    def partitions_for(self, topic: str) -> set[int]:
        """The topic's partitions."""

    def send(self, topic: str, *, value: bytes, partition: int) -> Any:
        """A future with `succeeded()`."""

    def flush(self, timeout: float) -> None:
        """Returns when everything sent was acknowledged or failed; raises after `timeout` seconds."""

    def close(self, timeout: float) -> None:
        """Gives up what was not acknowledged after `timeout` seconds."""


class Recorder:
    """A bounded queue and one thread that empties it, many records in one of Kafka's.

    A record is let go when the broker has acknowledged it. What failed is sent again by a new producer: the topic
    may then hold a record twice, its `prediction_id` tells.
    """

    def __init__(self, connect: Callable[[], Producer], metrics: InferenceMetrics, max_rows: int) -> None:
        """`connect` makes a producer to a broker that has the topic; raises if it cannot."""
        self._connect = connect
        self._metrics = metrics
        self._max_rows = max_rows
        self._queue: deque[PredictionRecord] = deque()
        self._unacknowledged: list[PredictionRecord] = []
        self._filled = threading.Event()
        self._stopping = threading.Event()
        self._give_up_at = float("inf")
        self._producer: Producer | None = None
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        metrics.recorder_queue.set_function(lambda: self.waiting)

    @property
    def waiting(self) -> int:
        """Records that the broker has not acknowledged."""
        return len(self._queue) + len(self._unacknowledged)

    def start(self) -> None:
        """Begins to send. Kafka may come later."""
        self._thread.start()

    def check_room(self, rows: int) -> None:
        """Raises Overloaded if `rows` more records do not fit: an answer is not given unless it is recorded."""
        if self.waiting + rows > self._max_rows:
            raise Overloaded(f"{self.waiting} predictions wait for Kafka, at most {self._max_rows} may; try later")

    def add(self, records: Sequence[PredictionRecord]) -> None:
        """Takes all of the records, or raises Overloaded. Not for several threads."""
        self.check_room(len(records))
        self._queue.extend(records)
        self._filled.set()

    def close(self, timeout_s: float) -> int:
        """Sends what is left; returns how many records Kafka did not take in time."""
        self._give_up_at = time.monotonic() + timeout_s
        self._stopping.set()
        self._filled.set()
        self._thread.join(timeout_s)
        if self.waiting:
            get_logger().error("predictions_not_recorded", records=self.waiting)
        return self.waiting

    def _run(self) -> None:
        while self._take_batch() and time.monotonic() < self._give_up_at:
            if not self._deliver():
                time.sleep(_RETRY_S)
        self._drop_producer()

    def _take_batch(self) -> bool:
        """False when the recorder is stopping and everything was sent."""
        if self._unacknowledged:
            return True
        while not self._queue:
            if self._stopping.is_set():
                return False
            self._filled.wait()
            self._filled.clear()
        # A few milliseconds bring others along: a produce request costs far more than a record in it.
        self._stopping.wait(_GATHER_S)
        self._unacknowledged = [self._queue.popleft() for _ in range(min(len(self._queue), _BATCH_ROWS))]
        return True

    def _deliver(self) -> bool:
        """True when the broker has the whole batch; what it has not stays in `_unacknowledged`."""
        sent: list[tuple[Any, list[PredictionRecord]]] = []
        try:
            if self._producer is None:
                self._producer = self._connect()
            partitions = sorted(self._producer.partitions_for(PREDICTIONS.name))
            for partition, records in _together(self._unacknowledged, partitions):
                value = PredictionRecords(records=records).SerializeToString()
                sent.append((self._producer.send(PREDICTIONS.name, value=value, partition=partition), records))
        except Exception as error:  # whatever the client raises, the records stay and the thread goes on
            self._warn(error)
        self._wait_for_answers()
        taken = {id(record) for future, records in sent if future.succeeded() for record in records}
        self._unacknowledged = [record for record in self._unacknowledged if id(record) not in taken]
        self._metrics.recorded.inc(len(taken))
        if self._unacknowledged:
            self._drop_producer()
        return not self._unacknowledged

    def _wait_for_answers(self) -> None:
        """Until each record sent was acknowledged or failed for good; the producer itself tries again and again."""
        while self._producer is not None and time.monotonic() < self._give_up_at:
            try:
                self._producer.flush(timeout=_FLUSH_S)
                return
            except Exception as error:  # as above
                self._warn(error)

    def _warn(self, error: Exception) -> None:
        get_logger().warning("predictions_wait_for_kafka", records=self.waiting, error=str(error) or repr(error))

    def _drop_producer(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            try:
                producer.close(timeout=0)
            except Exception as error:  # as above
                self._warn(error)


def _together(
    records: Sequence[PredictionRecord], partitions: Sequence[int]
) -> Iterator[tuple[int, list[PredictionRecord]]]:
    """What goes into one of Kafka's records: all of one partition, in order, of at most `_TOGETHER_BYTES`."""
    gathered: dict[int, list[PredictionRecord]] = {}
    sizes: dict[int, int] = {}
    for record in records:
        partition = _partition_of(record, partitions)
        size = record.ByteSize()
        if gathered.get(partition) and sizes[partition] + size > _TOGETHER_BYTES:
            yield partition, gathered.pop(partition)
        gathered.setdefault(partition, []).append(record)
        sizes[partition] = size + (sizes[partition] if len(gathered[partition]) > 1 else 0)
    yield from gathered.items()


def _partition_of(record: PredictionRecord, partitions: Sequence[int]) -> int:
    """Kafka's own choice for the key, so that an entity's predictions and labels may be read together."""
    if len(partitions) == 1:
        return partitions[0]
    hashed: int = murmur2(record.entity_id.encode()) & 0x7FFFFFFF
    return partitions[hashed % len(partitions)]
