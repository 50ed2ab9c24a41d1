"""Staying with a broker that comes and goes, in a thread that the process lives as long as."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from kafka import KafkaConsumer
from kafka.errors import KafkaError
from kafka.structs import TopicPartition

from services.chassis.errors import SlipwayError, Unavailable
from services.chassis.kafka import ensure_topics, make_consumer, wait_for_kafka
from services.chassis.lifecycle import Lifecycle
from services.chassis.logging import get_logger
from services.chassis.settings import KafkaSettings

PART = "kafka"
GONE = (KafkaError, Unavailable)
"""A part that a session needs does not answer."""
_PAUSE_FIRST_S, _PAUSE_MOST_S = 0.2, 2.0
_CHECK_EVERY_S, _CHECK_TIMEOUT_MS = 2.0, 3000
_JOIN_S = 2.0


def keep(
    session: Callable[[], None],
    lifecycle: Lifecycle,
    again_after: tuple[type[Exception], ...] = GONE,
    part: str = PART,
) -> None:
    """Runs `session` until the process stops, again from its start whenever a part that it needs does not answer.

    A session reads its state from what is durable, so whatever it had in memory may be dropped. It calls
    `lifecycle.ready` itself; `part` is its name there. Errors that are not among `again_after` are ours and are raised.
    """
    pause_s = _PAUSE_FIRST_S
    while not lifecycle.stopping.is_set():
        try:
            session()
        except again_after as error:
            lifecycle.not_ready(part, _words(error))
            get_logger().warning("session_lost", part=part, error=_words(error), pause_s=pause_s)
            lifecycle.stopping.wait(pause_s)
            pause_s = min(2 * pause_s, _PAUSE_MOST_S)


class SessionThread:
    """`keep` in a thread. The process lives as long as it does, and stops without it if it does not end.

    Nothing is lost by that: what was not committed is delivered again.
    """

    def __init__(
        self, session: Callable[[], None], lifecycle: Lifecycle, again_after: tuple[type[Exception], ...] = GONE
    ) -> None:
        self._session = session
        self._lifecycle = lifecycle
        self._again_after = again_after
        self._failed = False
        self._thread = threading.Thread(target=self._run, name=PART, daemon=True)
        self._thread.start()

    def join(self) -> int:
        """The exit code: 1 if the session ended by an error of ours."""
        self._thread.join(_JOIN_S)
        return int(self._failed)

    def _run(self) -> None:
        try:
            keep(self._session, self._lifecycle, self._again_after)
        except Exception:
            get_logger().exception("loop_failed")
            self._failed = True
        finally:
            self._lifecycle.stop()


def open_topics(settings: KafkaSettings, topics: Iterable[str]) -> None:
    """Creates the topics that do not exist. Raises Unavailable soon if the broker does not answer."""
    wait_for_kafka(settings, timeout_s=0)
    ensure_topics(settings, topics)


def whole_consumer(settings: KafkaSettings, group: str, topics: Iterable[str], **overrides: Any) -> KafkaConsumer:
    """A consumer of every partition of the topics, from the group's offsets on.

    It is assigned, not subscribed: the watermark needs one process that sees all, and one that comes back after a crash
    need not wait until the group gives the dead one up. Raises Unavailable while a topic is not known to the broker.
    """
    consumer = make_consumer(settings, group, (), **overrides)
    partitions = [TopicPartition(topic, number) for topic in topics for number in _partitions(consumer, topic)]
    consumer.assign(partitions)
    return consumer


class BrokerCheck:
    """A quiet topic and a broker that is gone look the same to a poll, so now and then it is asked."""

    def __init__(self, consumer: KafkaConsumer) -> None:
        self._consumer = consumer
        self._asked_at = time.monotonic()

    def ask(self) -> None:
        """Raises KafkaError if it was asked and did not answer."""
        if time.monotonic() - self._asked_at > _CHECK_EVERY_S:
            self._consumer.end_offsets(list(self._consumer.assignment())[:1], timeout_ms=_CHECK_TIMEOUT_MS)
            self._asked_at = time.monotonic()


def lag(consumer: KafkaConsumer) -> int:
    """Records that the assigned partitions hold beyond our position, as of the last fetch."""
    ends = {partition: consumer.highwater(partition) for partition in consumer.assignment()}
    return sum(max(end - consumer.position(partition), 0) for partition, end in ends.items() if end is not None)


def _words(error: Exception) -> str:
    return str(error) if isinstance(error, SlipwayError) else repr(error)


def _partitions(consumer: KafkaConsumer, topic: str) -> set[int]:
    found: set[int] | None = consumer.partitions_for_topic(topic)
    if not found:
        consumer.close()
        raise Unavailable(f"{topic} has no partitions yet")
    return found
