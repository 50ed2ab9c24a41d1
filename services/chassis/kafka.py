"""Kafka as every service uses it: a durable producer, and a loop that acts on batches and commits after the effect."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import crc32c  # noqa: F401  without it kafka-python checks sums in pure Python, ten times slower
import lz4.frame  # noqa: F401  the compression of every topic
from kafka import KafkaConsumer, KafkaProducer
from kafka.admin import KafkaAdminClient, NewTopic
from kafka.errors import KafkaError, TopicAlreadyExistsError

from services.chassis.errors import Unavailable
from services.chassis.logging import get_logger
from services.chassis.settings import KafkaSettings

MAX_RECORD_BYTES = 4 * 1024 * 1024
_RETRY_FIRST_S, _RETRY_MOST_S = 0.2, 5.0


class Record(Protocol):
    """What we use of a consumed record."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


def make_producer(settings: KafkaSettings, **overrides: Any) -> KafkaProducer:
    """A producer that never drops: acks=all, idempotent, lz4, batches of up to 256 kB that wait 5 ms at most."""
    config: dict[str, Any] = {
        "bootstrap_servers": settings.bootstrap_servers,
        "acks": "all",
        "enable_idempotence": True,
        "compression_type": "lz4",
        "linger_ms": 5,
        "batch_size": 256 * 1024,
        "max_request_size": MAX_RECORD_BYTES,
    }
    return KafkaProducer(**(config | overrides))


def make_consumer(settings: KafkaSettings, group: str | None, topics: Sequence[str], **overrides: Any) -> KafkaConsumer:
    """A consumer of a group (None: of none) that starts at the beginning and commits only when told."""
    config: dict[str, Any] = {
        "bootstrap_servers": settings.bootstrap_servers,
        "group_id": group,
        "auto_offset_reset": "earliest",
        "enable_auto_commit": False,
        "max_poll_records": 5000,
        "max_poll_interval_ms": 900_000,
        "fetch_max_wait_ms": 50,
        "max_partition_fetch_bytes": MAX_RECORD_BYTES,
    }
    return KafkaConsumer(*topics, **(config | overrides))


def ensure_topics(settings: KafkaSettings, names: Iterable[str], **configs: str) -> None:
    """Creates the topics that do not exist. Raises Unavailable if the broker does not answer."""
    try:
        admin = KafkaAdminClient(bootstrap_servers=settings.bootstrap_servers)
    except KafkaError as error:
        raise Unavailable(f"Kafka at {settings.bootstrap_servers} does not answer: {error}") from error
    try:
        existing = set(admin.list_topics())
        for name in sorted(set(names) - existing):
            topic = NewTopic(name, settings.partitions, settings.replication_factor, topic_configs=configs)
            try:
                admin.create_topics([topic])
            except TopicAlreadyExistsError:
                continue
    finally:
        admin.close()


def consume(
    consumer: KafkaConsumer,
    act: Callable[[list[Record]], None],
    stopping: threading.Event,
    *,
    idle: Callable[[], None] | None = None,
    commit: Callable[[], None] | None = None,
    poll_ms: int = 200,
) -> None:
    """Runs until `stopping` is set; then closes the consumer.

    1. Poll a batch: the records of all partitions, each partition's in order.
    2. Act on it. The effect must be durable when `act` returns.
    3. `Unavailable` from `act`: nothing is committed, the same batch is tried again after a pause.
       Any other error is ours: it ends the process, and the batch is delivered again.
    4. Commit the offsets after the batch, or leave that to `commit` (for who commits later, or more than offsets).

    `idle` is called when a poll brought nothing.
    """
    try:
        while not stopping.is_set():
            polled = consumer.poll(timeout_ms=poll_ms)
            batch = [record for records in polled.values() for record in records]
            if batch:
                if _act_until_done(act, batch, stopping):
                    (commit or consumer.commit)()
            elif idle is not None:
                idle()
    finally:
        consumer.close()


def _act_until_done(act: Callable[[list[Record]], None], batch: list[Record], stopping: threading.Event) -> bool:
    """True when the batch took effect, False when the process is stopping before it could."""
    pause_s = _RETRY_FIRST_S
    while True:
        try:
            act(batch)
            return True
        except Unavailable as error:
            get_logger().warning("batch_retried", records=len(batch), pause_s=pause_s, error=str(error))
            if stopping.wait(pause_s):
                return False
            pause_s = min(2 * pause_s, _RETRY_MOST_S)


def wait_for_kafka(settings: KafkaSettings, timeout_s: float = 60.0) -> None:
    """Returns once the broker answers. Raises Unavailable after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            KafkaAdminClient(bootstrap_servers=settings.bootstrap_servers, bootstrap_timeout_ms=2000).close()
            return
        except KafkaError as error:
            if time.monotonic() > deadline:
                raise Unavailable(f"Kafka at {settings.bootstrap_servers} does not answer: {error}") from error
            time.sleep(0.2)
