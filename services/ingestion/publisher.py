"""What `accept` sends: accepted events and watermarks on the events topics, the rest as dead letters."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from kafka import KafkaProducer
from kafka.errors import KafkaError

from services.chassis.clock import rfc3339
from services.chassis.kafka import Record
from services.contracts.events.v1.events_pb2 import Event, EventRecord, Origin, Watermark
from services.ingestion.validation import Accepted, Rejected
from services.topics import dead_letters, events_topic

FLUSH_TIMEOUT_S = 60.0
_HEADER = "slipway-"


class Publisher:
    """Sends in the background; `flush` returns once the broker has all of it."""

    def __init__(self, producer: KafkaProducer, event_types: Iterable[str]) -> None:
        self._producer = producer
        self._topics = {name: events_topic(name).name for name in event_types}
        # With one partition there is nothing to hash for; the client's hash is slow.
        self._only = {topic: _only(producer.partitions_for(topic)) for topic in self._topics.values()}
        self._sent: list[Any] = []

    def event(self, event: Accepted, record: Record, available_at_us: int, processed_at: Timestamp) -> None:
        """An accepted event, keyed by its type's key field."""
        message = EventRecord(
            event=Event(
                event_id=event.event_id,
                type=event.type,
                event_time=timestamp(event.time_us),
                available_at=timestamp(available_at_us),
                processed_at=processed_at,
                payload_json=event.payload_json,
                origin=Origin(topic=record.topic, partition=record.partition, offset=record.offset),
            )
        )
        topic = self._topics[event.type]
        self._send(topic, message.SerializeToString(), event.key, partition=self._only[topic])

    def dead_letter(self, record: Record, rejected: Rejected, failed_at: datetime) -> None:
        """The record's own key, bytes and headers; ours say why and where from, and replace those of an earlier try."""
        ours = {
            "reason": rejected.reason.value,
            "detail": rejected.detail,
            "topic": record.topic,
            "partition": str(record.partition),
            "offset": str(record.offset),
            "failed-at": rfc3339(failed_at),
        }
        kept = [(name, value) for name, value in record.headers if not name.startswith(_HEADER) and value is not None]
        headers = kept + [(_HEADER + name, value.encode(errors="replace")) for name, value in ours.items()]
        self._send(dead_letters(record.topic), record.value or b"", record.key, headers=headers)

    def watermark(self, available_at_us: int) -> None:
        """To every partition of every events topic."""
        value = EventRecord(watermark=Watermark(available_at=timestamp(available_at_us))).SerializeToString()
        for topic in self._topics.values():
            for partition in self._producer.partitions_for(topic):
                self._send(topic, value, None, partition=partition)

    def flush(self) -> None:
        """Raises KafkaError if anything sent since the last flush is not safe on the broker."""
        sent, self._sent = self._sent, []
        self._producer.flush(timeout=FLUSH_TIMEOUT_S)
        for future in sent:
            if future.failed():
                raise future.exception if isinstance(future.exception, KafkaError) else KafkaError(future.exception)

    def _send(self, topic: str, value: bytes, key: bytes | None, **more: Any) -> None:
        self._sent.append(self._producer.send(topic, value, key, **more))


def _only(partitions: set[int]) -> int | None:
    return next(iter(partitions)) if len(partitions) == 1 else None


def timestamp(us: int) -> Timestamp:
    """Microseconds since the epoch as a protobuf Timestamp."""
    seconds, micros = divmod(us, 1_000_000)
    return Timestamp(seconds=seconds, nanos=micros * 1000)
