"""A broker's partitions and an online store in memory, which fail when they are told to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from google.protobuf.timestamp_pb2 import Timestamp
from kafka.structs import TopicPartition
from pydantic_core import to_json

from services.chassis.clock import from_us, to_proto
from services.chassis.errors import Unavailable
from services.contracts.events.v1.events_pb2 import Event, EventRecord, Watermark
from services.features.redis_store import Reading
from tests.support.feature_oracle import FactualEvent


class Record(NamedTuple):
    """As a consumer gives it."""

    topic: str
    partition: int
    offset: int
    value: bytes


class FakeLog:
    """Partitions, and what a group has committed."""

    def __init__(self, partitions: Iterable[TopicPartition]) -> None:
        self.records: dict[TopicPartition, list[bytes]] = {each: [] for each in partitions}
        self.committed: dict[TopicPartition, int] = {}

    def event(self, partition: TopicPartition, event: FactualEvent) -> None:
        """Appends an accepted event."""
        made = Event(
            event_id=event.event_id,
            event_time=_stamp(event.event_time_us),
            available_at=_stamp(event.available_at_us),
            payload_json=to_json(event.payload),
        )
        self.records[partition].append(EventRecord(event=made).SerializeToString())

    def watermark(self, us: int, *partitions: TopicPartition) -> None:
        """Appends a watermark to these partitions, or to all."""
        for partition in partitions or self.records:
            self.records[partition].append(
                EventRecord(watermark=Watermark(available_at=_stamp(us))).SerializeToString()
            )


class FakeConsumer:
    """Reads all partitions of a log in turn."""

    def __init__(self, log: FakeLog) -> None:
        self._log = log
        self._positions = {each: log.committed.get(each, 0) for each in log.records}

    def poll(self, most: int) -> list[Record]:
        """The next records, so many of each partition."""
        batch = []
        for (topic, number), records in self._log.records.items():
            partition = TopicPartition(topic, number)
            start = self._positions[partition]
            batch += [Record(topic, number, start + n, value) for n, value in enumerate(records[start : start + most])]
            self._positions[partition] = min(start + most, len(records))
        return batch

    def assignment(self) -> set[TopicPartition]:
        return set(self._log.records)

    def committed(self, partition: TopicPartition) -> int | None:
        return self._log.committed.get(partition)

    def commit(self, offsets: Mapping[TopicPartition, tuple[int, str, int]]) -> None:
        self._log.committed |= {partition: offset.offset for partition, offset in offsets.items()}

    def position(self, partition: TopicPartition) -> int:
        return self._positions[partition]

    def end_offsets(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        return {partition: len(self._log.records[partition]) for partition in partitions}

    def highwater(self, partition: TopicPartition) -> int:
        return len(self._log.records[partition])

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self._positions[partition] = offset

    def seek_to_beginning(self, partition: TopicPartition) -> None:
        self._positions[partition] = 0


@dataclass
class FakeStore:
    """Both sides of the online store. `works_for` operations succeed; one HSET is one, and after them all fail."""

    hashes: dict[bytes, dict[bytes, bytes]] = field(default_factory=lambda: defaultdict(dict))
    packed_ids: dict[str, bytes] = field(default_factory=dict)
    written: bytes | None = None
    watermark: int | None = None
    works_for: int = 2**31
    watermark_moves_to: int | None = None
    """While values are read."""

    def progress(self) -> bytes | None:
        self._work()
        return self.written

    def read(self, fields: Mapping[bytes, Sequence[bytes]]) -> tuple[dict[bytes, list[bytes | None]], bytes | None]:
        self._work()
        return self._values(fields), self.written

    def write(self, hashes: Mapping[bytes, Sequence[bytes]]) -> None:
        for key, items in hashes.items():
            self._work()
            self.hashes[key] |= dict(zip(items[::2], items[1::2], strict=True))

    def advance(self, progress: bytes, watermark_us: int | None) -> None:
        self._work()
        self.written, self.watermark = progress, watermark_us

    def id_names(self) -> list[str]:
        return list(self.packed_ids)

    def ids(self, name: str) -> bytes:
        self._work()
        return self.packed_ids.get(name, b"")

    def add_ids(self, ids: Mapping[str, bytes]) -> None:
        for name, each in ids.items():
            self._work()
            self.packed_ids[name] = self.packed_ids.get(name, b"") + each

    def forget_ids(self, names: Sequence[str]) -> None:
        for name in names:
            self._work()
            del self.packed_ids[name]

    def start_over(self) -> None:
        self.written, self.watermark = None, None
        self.packed_ids.clear()

    def _values(self, fields: Mapping[bytes, Sequence[bytes]]) -> dict[bytes, list[bytes | None]]:
        return {key: [self.hashes[key].get(name) for name in names] for key, names in fields.items()}

    def _work(self) -> None:
        self.works_for -= 1
        if self.works_for < 0:
            raise Unavailable("Redis at test does not answer")


class FakeServing:
    """The serving side of a FakeStore."""

    def __init__(self, store: FakeStore) -> None:
        self._store = store

    async def watermark_us(self) -> int | None:
        return self._store.watermark

    async def read(self, fields: Mapping[bytes, Sequence[bytes]]) -> Reading:
        values, _ = self._store.read(fields)
        before, moved = self._store.watermark, self._store.watermark_moves_to
        return Reading(values, before, before if moved is None else moved)


def _stamp(us: int) -> Timestamp:
    return to_proto(from_us(us))
