"""The Kafka edge: registered training runs in, the record of each transition out."""

from __future__ import annotations

import threading
from contextvars import copy_context

from google.protobuf.message import DecodeError
from kafka import KafkaProducer, TopicPartition
from kafka.errors import KafkaError

from services.chassis.clock import from_proto
from services.chassis.errors import Unavailable
from services.chassis.kafka import Record, consume, ensure_topics, make_consumer, make_producer, wait_for_kafka
from services.chassis.lifecycle import Lifecycle
from services.chassis.logging import get_logger
from services.chassis.settings import KafkaSettings
from services.contracts.training.v1 import training_pb2 as pb
from services.router import metrics
from services.router.commands import Commands
from services.router.store import ReleaseStore
from services.topics import RELEASES, TRAINING_RUNS

GROUP = "router"
CONSUMER_PART, PUBLISHER_PART = "training runs", "release records"
_ACK_TIMEOUT_S = 10.0
_PAUSE_S = 0.2
# Runs are rare: an idle fetch waits long at the broker, and still returns as soon as a record comes.
_IDLE_FETCH_MS = 1000


class RunConsumer:
    """Queues a release for each run of our model that registered a version."""

    def __init__(self, commands: Commands, model: str) -> None:
        self._commands = commands
        self._model = model

    def act(self, batch: list[Record]) -> None:
        """Idempotent: a run is known by its id."""
        for record in batch:
            metrics.RUNS.labels(self._act_on(record)).inc()

    def run(self, settings: KafkaSettings, lifecycle: Lifecycle) -> None:
        """Until the process is told to stop."""
        if not _await_kafka(settings, lifecycle, CONSUMER_PART):
            return
        consumer = make_consumer(settings, GROUP, [], fetch_max_wait_ms=_IDLE_FETCH_MS)
        # Assigned, not subscribed: there is one router, and after a crash it must not wait until Kafka gives up its
        # former self. The group only keeps the offsets.
        partitions = consumer.partitions_for_topic(TRAINING_RUNS.name)
        consumer.assign([TopicPartition(TRAINING_RUNS.name, partition) for partition in partitions])
        lifecycle.ready(CONSUMER_PART)
        consume(consumer, self.act, lifecycle.stopping)

    def _act_on(self, record: Record) -> str:
        try:
            run = pb.RunRecord.FromString(record.value or b"").run
            known_at = from_proto(run.request.requested_at) if run.request.HasField("requested_at") else None
        except (DecodeError, ValueError) as error:
            return _unreadable(record, str(error))
        if run.request.model != self._model or run.state != pb.RUN_STATE_REGISTERED:
            return "ignored"
        if not run.run_id or not run.model_version.isdecimal():
            return _unreadable(record, f"run {run.run_id!r} registered version {run.model_version!r}")
        why = f"training run {run.run_id}: {run.request.reason or 'no reason given'}"
        queued = self._commands.queue_run(run.run_id, run.model_version, why, known_at)
        return "queued" if queued else "known"


class ReleasePublisher:
    """Sends what the store has not seen acknowledged, in order, at least once."""

    def __init__(self, store: ReleaseStore) -> None:
        self._store = store

    def run(self, settings: KafkaSettings, lifecycle: Lifecycle) -> None:
        """Until the process is told to stop."""
        if not _await_kafka(settings, lifecycle, PUBLISHER_PART):
            return
        producer = make_producer(settings, linger_ms=0)
        lifecycle.ready(PUBLISHER_PART)
        try:
            while not lifecycle.stopping.wait(_PAUSE_S):
                self._publish_safely(producer, lifecycle)
        finally:
            producer.close(timeout=1)

    def _publish_safely(self, producer: KafkaProducer, lifecycle: Lifecycle) -> None:
        try:
            self.publish(producer)
            lifecycle.ready(PUBLISHER_PART)
        except KafkaError as error:
            lifecycle.not_ready(PUBLISHER_PART, f"Kafka does not take records: {error}")
            get_logger().warning("publish_retried", error=str(error))

    def publish(self, producer: KafkaProducer) -> None:
        """One batch; marked only after Kafka has acknowledged each record."""
        outgoing = self._store.unpublished()
        metrics.UNPUBLISHED.set(len(outgoing))
        if not outgoing:
            return
        sent = [producer.send(RELEASES.name, key=model.encode(), value=record) for _, model, record in outgoing]
        for future in sent:
            future.get(timeout=_ACK_TIMEOUT_S)
        self._store.mark_published([number for number, _, _ in outgoing])
        metrics.UNPUBLISHED.set(0)


def start_threads(
    consumer: RunConsumer, publisher: ReleasePublisher, settings: KafkaSettings, lifecycle: Lifecycle
) -> list[threading.Thread]:
    """Both edges, each in a thread of its own. A thread that fails stops the process."""

    def guarded(edge: RunConsumer | ReleasePublisher) -> None:
        try:
            edge.run(settings, lifecycle)
        except Exception:
            get_logger().exception("kafka_edge_failed", edge=type(edge).__name__)
            lifecycle.stop()

    # Each with a copy of our context, so that its log lines say which service they are of.
    threads = [
        threading.Thread(target=copy_context().run, args=(guarded, edge), daemon=True) for edge in (consumer, publisher)
    ]
    for thread in threads:
        thread.start()
    return threads


def _await_kafka(settings: KafkaSettings, lifecycle: Lifecycle, part: str) -> bool:
    """True once Kafka answers and our topics exist; False if the process is told to stop before."""
    while not lifecycle.stopping.is_set():
        try:
            wait_for_kafka(settings, timeout_s=1)
            ensure_topics(settings, [TRAINING_RUNS.name, RELEASES.name])
            return True
        except (Unavailable, KafkaError) as error:
            lifecycle.not_ready(part, str(error))
    return False


def _unreadable(record: Record, why: str) -> str:
    """Training's own records are well-formed; one that is not stays in its topic, where these coordinates point."""
    get_logger().error("run_unreadable", partition=record.partition, offset=record.offset, why=why)
    return "unreadable"
