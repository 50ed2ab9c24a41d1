"""The Kafka edge: requests in, the records of each run out; both stay with a broker that comes and goes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextvars import copy_context
from typing import Any

from google.protobuf.message import DecodeError
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError

from services.chassis.errors import AlreadyExists, Invalid, NotFound, Unavailable
from services.chassis.kafka import Record, consume, ensure_topics, make_consumer, make_producer, wait_for_kafka
from services.chassis.lifecycle import Lifecycle
from services.chassis.logging import get_logger
from services.chassis.settings import KafkaSettings
from services.contracts.training.v1 import training_pb2 as pb
from services.topics import TRAINING_REQUESTS, TRAINING_RUNS
from services.training import metrics
from services.training.runs import check_request
from services.training.store import RunStore
from services.training.translate import request_from_proto

GROUP = "training"
CONSUMER_PART, PUBLISHER_PART = "training requests", "run records"
_ACK_TIMEOUT_S = 10.0
_PAUSE_S = 0.2
_RECONNECT_PAUSE_S = 1.0
_CHECK_EVERY_S, _CHECK_TIMEOUT_MS = 3.0, 1500
# Requests are rare: an idle fetch waits long at the broker, and still returns as soon as a record comes.
_IDLE_FETCH_MS = 1000


class RequestConsumer:
    """Queues a run for each request for our model. Its offset is committed once the queue has it on disk."""

    def __init__(self, store: RunStore, model: str) -> None:
        self._store = store
        self._model = model
        self._checked_at = time.monotonic()

    def act(self, batch: list[Record]) -> None:
        """Idempotent: a request is known by its id."""
        for record in batch:
            metrics.REQUESTS.labels("kafka", self._act_on(record)).inc()
        metrics.QUEUED.set(self._store.queued())

    def run(self, settings: KafkaSettings, lifecycle: Lifecycle) -> None:
        """Until the process is told to stop."""
        _keep(lambda: self._session(settings, lifecycle), lifecycle, CONSUMER_PART)

    def _session(self, settings: KafkaSettings, lifecycle: Lifecycle) -> None:
        _open_topics(settings)
        # Assigned, not subscribed: there is one training process, and after a crash it must not wait until Kafka
        # gives up its former self. The group only keeps the offsets.
        consumer = make_consumer(settings, GROUP, [], fetch_max_wait_ms=_IDLE_FETCH_MS)
        partitions = consumer.partitions_for_topic(TRAINING_REQUESTS.name) or ()
        consumer.assign([TopicPartition(TRAINING_REQUESTS.name, partition) for partition in partitions])
        lifecycle.ready(CONSUMER_PART)
        consume(consumer, self.act, lifecycle.stopping, idle=lambda: self._check(consumer))

    def _check(self, consumer: KafkaConsumer) -> None:
        """A quiet topic and a broker that is gone look the same to a poll: asks, now and then. Raises KafkaError."""
        if time.monotonic() - self._checked_at > _CHECK_EVERY_S:
            self._checked_at = time.monotonic()
            consumer.end_offsets(list(consumer.assignment())[:1], timeout_ms=_CHECK_TIMEOUT_MS)

    def _act_on(self, record: Record) -> str:
        try:
            request = request_from_proto(pb.RetrainRequest.FromString(record.value or b""))
            check_request(request, self._model)
            run = self._store.queue(request)
        except AlreadyExists:
            return "known"
        except NotFound:
            return "ignored"
        except (DecodeError, Invalid) as error:
            # Kafka keeps it: these coordinates point at it.
            get_logger().error("request_refused", partition=record.partition, offset=record.offset, why=str(error))
            return "refused"
        get_logger().info("run_queued", run_id=run.run_id, request_id=request.request_id, reason=request.reason)
        return "queued"


class RecordPublisher:
    """Sends what the store has not seen acknowledged, in order, at least once."""

    def __init__(self, store: RunStore) -> None:
        self._store = store

    def run(self, settings: KafkaSettings, lifecycle: Lifecycle) -> None:
        """Until the process is told to stop."""
        _keep(lambda: self._session(settings, lifecycle), lifecycle, PUBLISHER_PART)

    def _session(self, settings: KafkaSettings, lifecycle: Lifecycle) -> None:
        _open_topics(settings)
        producer = make_producer(settings, linger_ms=0)
        lifecycle.ready(PUBLISHER_PART)
        try:
            while not lifecycle.stopping.wait(_PAUSE_S):
                self.publish(producer)
            self.publish(producer)
        finally:
            producer.close(timeout=1)

    def publish(self, producer: KafkaProducer | Any) -> None:
        """Marks them only after Kafka has acknowledged each. Raises KafkaError."""
        outgoing = self._store.unsent()
        metrics.UNSENT.set(len(outgoing))
        if not outgoing:
            return
        sent = [producer.send(TRAINING_RUNS.name, key=model.encode(), value=record) for _, model, record in outgoing]
        for future in sent:
            future.get(timeout=_ACK_TIMEOUT_S)
        self._store.mark_sent([number for number, _, _ in outgoing])
        metrics.UNSENT.set(0)


def _keep(session: Callable[[], None], lifecycle: Lifecycle, part: str) -> None:
    """Runs a session until the process stops, again from its start whenever Kafka does not answer."""
    while not lifecycle.stopping.is_set():
        try:
            session()
        except (KafkaError, Unavailable) as error:
            lifecycle.not_ready(part, f"Kafka does not answer: {error}")
            get_logger().warning("kafka_awaited", part=part, error=str(error))
            lifecycle.stopping.wait(_RECONNECT_PAUSE_S)


def _open_topics(settings: KafkaSettings) -> None:
    wait_for_kafka(settings, timeout_s=0)
    ensure_topics(settings, [TRAINING_REQUESTS.name, TRAINING_RUNS.name])


def start_thread(work: Callable[[], None], name: str, lifecycle: Lifecycle) -> threading.Thread:
    """Runs `work` in a thread. One that fails stops the process."""

    def guarded() -> None:
        try:
            work()
        except Exception:
            get_logger().exception("thread_failed", thread=name)
            lifecycle.stop()

    # With a copy of our context, so that its log lines say which service they are of.
    thread = threading.Thread(target=copy_context().run, args=(guarded,), name=name, daemon=True)
    thread.start()
    return thread
