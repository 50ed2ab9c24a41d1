"""The Kafka edge: requests in, the records of each run out; both stay with a broker that comes and goes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import copy_context
from typing import Any

from google.protobuf.message import DecodeError
from kafka import KafkaProducer

from services.chassis.errors import AlreadyExists, Invalid, NotFound
from services.chassis.kafka import Record, consume, make_producer
from services.chassis.kafka_session import BrokerCheck, keep, open_topics, whole_consumer
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
_TOPICS = (TRAINING_REQUESTS.name, TRAINING_RUNS.name)
# Requests are rare: an idle fetch waits long at the broker, and still returns as soon as a record comes.
_IDLE_FETCH_MS = 1000


class RequestConsumer:
    """Queues a run for each request for our model. Its offset is committed once the queue has it on disk."""

    def __init__(self, store: RunStore, model: str) -> None:
        self._store = store
        self._model = model

    def act(self, batch: list[Record]) -> None:
        """Idempotent: a request is known by its id."""
        for record in batch:
            metrics.REQUESTS.labels("kafka", self._act_on(record)).inc()
        metrics.QUEUED.set(self._store.queued())

    def run(self, settings: KafkaSettings, lifecycle: Lifecycle) -> None:
        """Until the process is told to stop."""
        keep(lambda: self._session(settings, lifecycle), lifecycle, part=CONSUMER_PART)

    def _session(self, settings: KafkaSettings, lifecycle: Lifecycle) -> None:
        open_topics(settings, _TOPICS)
        consumer = whole_consumer(settings, GROUP, [TRAINING_REQUESTS.name], fetch_max_wait_ms=_IDLE_FETCH_MS)
        lifecycle.ready(CONSUMER_PART)
        consume(consumer, self.act, lifecycle.stopping, idle=BrokerCheck(consumer).ask)

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
        keep(lambda: self._session(settings, lifecycle), lifecycle, part=PUBLISHER_PART)

    def _session(self, settings: KafkaSettings, lifecycle: Lifecycle) -> None:
        open_topics(settings, _TOPICS)
        producer = make_producer(settings, linger_ms=0)
        lifecycle.ready(PUBLISHER_PART)
        try:
            while not lifecycle.stopping.wait(_PAUSE_S):
                self.publish(producer)
            self.publish(producer)
        finally:
            producer.close(timeout=1)

    def publish(self, producer: KafkaProducer | Any) -> None:
        """Drops them only after Kafka has acknowledged each. Raises KafkaError."""
        outgoing = self._store.unsent()
        metrics.UNSENT.set(len(outgoing))
        if not outgoing:
            return
        sent = [producer.send(TRAINING_RUNS.name, key=model.encode(), value=record) for _, model, record in outgoing]
        for future in sent:
            future.get(timeout=_ACK_TIMEOUT_S)
        self._store.drop_sent([number for number, _, _ in outgoing])
        metrics.UNSENT.set(0)


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
