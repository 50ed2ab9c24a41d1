"""The Kafka edge: reads from where SQL says that it was read to, and hands each poll to one transaction."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from services.chassis.errors import Unavailable
from services.chassis.kafka import Record, consume, ensure_topics, make_consumer, make_producer
from services.chassis.lifecycle import Lifecycle
from services.chassis.logging import get_logger
from services.chassis.settings import KafkaSettings
from services.monitoring import metrics
from services.monitoring.database import Database
from services.monitoring.joiner import Partition, begin
from services.monitoring.recorder import Recorder
from services.topics import TRAINING_REQUESTS

_GROUP = "monitoring"
_PAUSE_S = 1.0
_SEND_TIMEOUT_S = 10.0
_CLOSE_TIMEOUT_S = 1.0
_CHECK_EVERY_S, _CHECK_TIMEOUT_MS = 3.0, 1500
_FETCH_MIN_BYTES, _FETCH_WAIT_MS = 512 * 1024, 250


class Consumer:
    """Runs in a thread of its own until the process stops."""

    def __init__(self, settings: KafkaSettings, lifecycle: Lifecycle, database: Database, recorder: Recorder) -> None:
        self._settings = settings
        self._lifecycle = lifecycle
        self._database = database
        self._recorder = recorder
        self._consumer: Any = None
        self._producer: Any = None
        self._checked_at = time.monotonic()
        lifecycle.not_ready("kafka", "not connected yet")

    def run(self) -> None:
        """Waits for the broker, then consumes; again once it was gone. Ends when the process is told to stop."""
        stopping = self._lifecycle.stopping
        while self._connect(stopping):
            try:
                self._lifecycle.ready("kafka")
                consume(self._consumer, self._act, stopping, idle=self._idle)
            except KafkaError as error:
                # SQL has the offsets: a new consumer goes on from there.
                self._lifecycle.not_ready("kafka", str(error))
                get_logger().warning("kafka_lost", error=str(error))
            finally:
                self._producer.close(timeout=_CLOSE_TIMEOUT_S)

    def _connect(self, stopping: threading.Event) -> bool:
        topics = self._recorder.topics
        while not stopping.is_set():
            try:
                ensure_topics(self._settings, [*topics, TRAINING_REQUESTS.name])
                self._consumer = open_consumer(self._settings, self._database, topics)
                self._producer = make_producer(self._settings)
                return True
            except (KafkaError, Unavailable) as error:
                self._lifecycle.not_ready("kafka", str(error))
                get_logger().warning("kafka_awaited", error=str(error))
                stopping.wait(_PAUSE_S)
        return False

    def _act(self, records: list[Record]) -> None:
        self._recorder.record(records)
        self._lifecycle.ready("kafka")
        metrics.LAG.set(self._lag())
        self._recorder.deliver(self._send)

    def _idle(self) -> None:
        self._check_broker()
        lag = self._lag()
        metrics.LAG.set(lag)
        self._recorder.deliver(self._send)
        if lag == 0:
            self._recorder.tidy()

    def _check_broker(self) -> None:
        """A quiet topic and a broker that is gone look the same to a poll: asks, now and then."""
        if time.monotonic() - self._checked_at < _CHECK_EVERY_S:
            return
        try:
            self._consumer.end_offsets(list(self._consumer.assignment())[:1], timeout_ms=_CHECK_TIMEOUT_MS)
            self._lifecycle.ready("kafka")
        except KafkaError as error:
            self._lifecycle.not_ready("kafka", f"{self._settings.bootstrap_servers} does not answer: {error}")
        self._checked_at = time.monotonic()

    def _lag(self) -> int:
        """Records that wait to be read, as far as the broker told with its last answers."""
        ends = ((p, self._consumer.highwater(p)) for p in self._consumer.assignment())
        return sum(max(0, end - self._consumer.position(p)) for p, end in ends if end is not None)

    def _send(self, key: bytes, value: bytes) -> None:
        try:
            self._producer.send(TRAINING_REQUESTS.name, key=key, value=value).get(timeout=_SEND_TIMEOUT_S)
        except KafkaError as error:
            raise Unavailable(f"Kafka did not take the request: {error}") from error


def open_consumer(settings: KafkaSettings, database: Database, topics: Sequence[str]) -> Any:
    """A consumer of every partition of the topics, each at the offset that SQL holds.

    The partitions are assigned by hand: SQL, not the group, decides what was read. The group's commits only show it.
    """
    # Fewer, bigger polls: each costs a transaction, and labels may wait a quarter of a second.
    consumer = make_consumer(settings, _GROUP, [], fetch_min_bytes=_FETCH_MIN_BYTES, fetch_max_wait_ms=_FETCH_WAIT_MS)
    try:
        partitions = [(topic, n) for topic in topics for n in sorted(_partitions(consumer, topic))]
        offsets = begin(database, partitions)
        consumer.assign([TopicPartition(*partition) for partition in partitions])
        for partition, offset in offsets.items():
            _seek(consumer, partition, offset)
    except BaseException:
        consumer.close()
        raise
    return consumer


def _partitions(consumer: KafkaConsumer, topic: str) -> set[int]:
    found: set[int] | None = consumer.partitions_for_topic(topic)
    if not found:
        raise Unavailable(f"topic {topic} has no partitions yet")
    return found


def _seek(consumer: KafkaConsumer, partition: Partition, offset: int | None) -> None:
    if offset is None:
        consumer.seek_to_beginning(TopicPartition(*partition))
    else:
        consumer.seek(TopicPartition(*partition), offset)
