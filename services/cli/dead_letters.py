"""The dead letters of upstream's topic: read from the broker, and sent again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from services.chassis.errors import Invalid, NotFound, Unavailable
from services.chassis.kafka import Record, make_consumer, make_producer
from services.chassis.settings import KafkaSettings
from services.cli.rpc import IS_IT_RUNNING
from services.topics import UPSTREAM, dead_letters

TOPIC = dead_letters(UPSTREAM)
_POLL_MS, _ANSWERS_MS = 500, 5000
_SEND_S = 30.0
_HEADER = "slipway-"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A refused record: its own key and bytes, where it lies now, and what ingestion said of it."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes
    told: dict[str, str]

    @property
    def place(self) -> str:
        """How it is named on the command line."""
        return f"{self.partition}:{self.offset}"

    @property
    def reason(self) -> str:
        return self.told.get("reason", "unknown")

    @property
    def came_from(self) -> str:
        """Topic, partition and offset of the record that was refused."""
        return ":".join(self.told.get(part, "?") for part in ("topic", "partition", "offset"))


def read_all(kafka: KafkaSettings) -> list[DeadLetter]:
    """All of them, in each partition's order. Raises Unavailable if the broker does not answer."""
    with _answering(kafka):
        consumer = make_consumer(kafka, None, (), bootstrap_timeout_ms=_ANSWERS_MS)
        try:
            return list(_read(consumer))
        finally:
            consumer.close()


def find(letters: list[DeadLetter], place: str) -> DeadLetter:
    """The one at `partition:offset`; a bare offset is of partition 0. Raises Invalid or NotFound."""
    partition, _, offset = place.rpartition(":")
    if not offset.isdigit() or not (partition or "0").isdigit():
        raise Invalid(f"{place!r}: expected partition:offset, as `slipway dlq list` shows it")
    wanted = (int(partition or 0), int(offset))
    for letter in letters:
        if (letter.partition, letter.offset) == wanted:
            return letter
    raise NotFound(f"no dead letter at {place}; `slipway dlq list` shows them")


def send_again(kafka: KafkaSettings, letters: list[tuple[bytes | None, bytes]]) -> None:
    """Appends keys and values to upstream's topic; returns when the broker has them. Raises Unavailable."""
    with _answering(kafka):
        producer = make_producer(kafka)
        try:
            sent = [producer.send(UPSTREAM, value, key) for key, value in letters]
            for future in sent:
                future.get(_SEND_S)
        finally:
            producer.close()


def _read(consumer: KafkaConsumer) -> Iterator[DeadLetter]:
    partitions = [TopicPartition(TOPIC, number) for number in sorted(consumer.partitions_for_topic(TOPIC) or ())]
    if not partitions:
        return
    consumer.assign(partitions)
    consumer.seek_to_beginning(*partitions)
    ends = consumer.end_offsets(partitions)
    while any(consumer.position(partition) < ends[partition] for partition in partitions):
        for records in consumer.poll(timeout_ms=_POLL_MS).values():
            yield from map(_letter, records)


def _letter(record: Record) -> DeadLetter:
    told = {
        name.removeprefix(_HEADER): value.decode(errors="replace")
        for name, value in record.headers
        if name.startswith(_HEADER) and value is not None
    }
    return DeadLetter(record.partition, record.offset, record.key, record.value or b"", told)


@contextmanager
def _answering(kafka: KafkaSettings) -> Iterator[None]:
    try:
        yield
    except KafkaError as error:
        where = kafka.bootstrap_servers
        raise Unavailable(f"Kafka does not answer on {where} ({type(error).__name__}). {IS_IT_RUNNING}") from error
