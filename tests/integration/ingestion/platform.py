"""What the tests do to the two processes and read from what they write."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from deltalake import DeltaTable
from kafka import KafkaConsumer, TopicPartition

from services.chassis.clock import proto_us
from services.chassis.kafka import Record, ensure_topics, make_producer
from services.chassis.settings import KafkaSettings
from services.contracts.events.v1.events_pb2 import Event, EventRecord
from services.problem import load_event_types
from services.topics import UPSTREAM, dead_letters, events_topic
from tests.support import PARCELS, run_service
from tests.support.process import Running

EVENT_TYPES = load_event_types(PARCELS)
Coordinates = tuple[str, int, int]


@dataclass(frozen=True)
class Platform:
    """A broker, a lake and the settings of the processes between them."""

    kafka: KafkaSettings
    lake: Path
    env: dict[str, str]

    def accept(self, **env: str) -> AbstractContextManager[Running]:
        return run_service("services.ingestion", "accept", env=self.env | env)

    def keep(self) -> AbstractContextManager[Running]:
        return run_service("services.ingestion", "lake", env=self.env)

    def send(self, values: Iterable[bytes], *, partitions: int = 1) -> None:
        """Appends to upstream's topic, made with so many partitions if it is new."""
        ensure_topics(self.kafka.model_copy(update={"partitions": partitions}), [UPSTREAM])
        producer = make_producer(self.kafka)
        sent = [producer.send(UPSTREAM, value, b"key-%d" % number) for number, value in enumerate(values)]
        producer.flush()
        producer.close()
        assert not any(future.failed() for future in sent)

    def records(self, topic: str) -> Iterator[Record]:
        """All that is on the topic now, partition by partition."""
        consumer = KafkaConsumer(bootstrap_servers=self.kafka.bootstrap_servers, auto_offset_reset="earliest")
        try:
            partitions = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic) or ()]
            ends = consumer.end_offsets(partitions)
            for partition in partitions:
                consumer.assign([partition])
                consumer.seek_to_beginning(partition)
                while consumer.position(partition) < ends[partition]:
                    yield from consumer.poll(timeout_ms=500).get(partition, [])
        finally:
            consumer.close()

    def published(self, event_type: str) -> list[tuple[int, EventRecord]]:
        """Partition and message of each record of an events topic."""
        topic = events_topic(event_type).name
        return [(record.partition, EventRecord.FromString(record.value or b"")) for record in self.records(topic)]

    def events(self, event_type: str) -> list[Event]:
        return [message.event for _, message in self.published(event_type) if message.HasField("event")]

    def dead(self) -> list[dict[str, Any]]:
        """The dead letters: their headers without `slipway-`, `key`, `value` and `coordinates`."""
        return [_dead_letter(record) for record in self.records(dead_letters(UPSTREAM))]

    def rows(self, table: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = DeltaTable(str(self.lake / table)).to_pyarrow_table().to_pylist()
        return rows

    def coordinates(self, table: str) -> list[Coordinates]:
        """Where the rows of a table come from."""
        return [(row["source_topic"], row["source_partition"], row["source_offset"]) for row in self.rows(table)]

    def lake_watermark(self, event_type: str) -> str | None:
        commit: dict[str, Any] = DeltaTable(str(self.lake / event_type)).history(1)[0]
        return commit.get("slipway.watermark")


def metric(running: Running, name: str) -> float:
    """The sum over the labels of a metric."""
    text = httpx.get(f"http://127.0.0.1:{running.ops_port}/metrics", trust_env=False).text
    samples = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    return sum(float(value) for key, value in samples if key.partition("{")[0] == name)


def assert_watermarks_hold(platform: Platform) -> None:
    """On each partition no event is available before a watermark that precedes it, and none falls."""
    for event_type in EVENT_TYPES:
        last: dict[int, int] = {}
        for partition, message in platform.published(event_type):
            promised = last.get(partition, 0)
            if message.HasField("watermark"):
                last[partition] = proto_us(message.watermark.available_at)
                assert last[partition] >= promised
            else:
                assert proto_us(message.event.available_at) >= promised


def _dead_letter(record: Record) -> dict[str, Any]:
    headers = {name.removeprefix("slipway-"): value.decode() for name, value in record.headers}
    coordinates = (headers["topic"], int(headers["partition"]), int(headers["offset"]))
    return headers | {"key": record.key, "value": record.value, "coordinates": coordinates}
