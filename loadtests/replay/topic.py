"""Upstream's topic: sends in order to one partition, and finds out what a killed replay had sent.

Everything goes to partition 0: the order in which things became known is the point, and Kafka keeps it only there.
Records are keyed by the event's id.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from loadtests.replay.mess import Sending
from services.chassis.errors import Unavailable
from services.chassis.kafka import Record, ensure_topics, make_producer
from services.chassis.settings import KafkaSettings
from services.topics import UPSTREAM

_PARTITION = TopicPartition(UPSTREAM, 0)


class UpstreamTopic:
    """One producer. Every method blocks; use it from one thread at a time."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        ensure_topics(settings, [UPSTREAM])
        self._producer = make_producer(settings)
        self._pending: list[Any] = []

    def close(self) -> None:
        self._producer.close(timeout=2)

    def end(self) -> int:
        """The offset that the next record gets."""
        with closing(KafkaConsumer(bootstrap_servers=self._settings.bootstrap_servers)) as consumer:
            return int(consumer.end_offsets([_PARTITION])[_PARTITION])

    def send(self, sendings: Iterable[Sending]) -> None:
        """In order; durable after the next `flush`. Raises Unavailable if Kafka takes no more."""
        try:
            for sending in sendings:
                event = sending.event
                self._pending.append(
                    self._producer.send(UPSTREAM, event.value, event.event_id.encode(), partition=_PARTITION.partition)
                )
        except KafkaError as error:
            raise self._unavailable(error) from error

    def flush(self) -> tuple[int, int] | None:
        """Returns once the broker has all of it: offsets of the first and after the last record since the last flush.

        None if there was none. Raises Unavailable if a record could not be sent.
        """
        pending, self._pending = self._pending, []
        try:
            self._producer.flush()
            failed = next((future for future in pending if not future.succeeded()), None)
            if failed is not None:
                failed.get(timeout=0)
        except KafkaError as error:
            raise self._unavailable(error) from error
        return (pending[0].value.offset, pending[-1].value.offset + 1) if pending else None

    def already_there(self, offset: int, until: int, expected: Iterator[Sending]) -> Iterator[Sending]:
        """Of the records at [offset, until): those that are what is expected next, in order. Others are skipped."""
        wanted = next(expected, None)
        for value in self._values(offset, until):
            if wanted is not None and value == wanted.event.value:
                yield wanted
                wanted = next(expected, None)

    def _values(self, offset: int, until: int) -> Iterator[bytes | None]:
        if offset >= until:
            return
        with closing(KafkaConsumer(bootstrap_servers=self._settings.bootstrap_servers)) as consumer:
            consumer.assign([_PARTITION])
            consumer.seek(_PARTITION, offset)
            while consumer.position(_PARTITION) < until:
                records: list[Record] = consumer.poll(timeout_ms=500).get(_PARTITION, [])
                yield from (record.value for record in records if record.offset < until)

    def _unavailable(self, error: KafkaError) -> Unavailable:
        return Unavailable(
            f"Kafka at {self._settings.bootstrap_servers} took no more ({error}); once it answers, the replay goes on"
        )
