"""The Kafka edge of `accept`: a batch of upstream's records becomes accepted events, dead letters and a watermark."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager

from google.protobuf.timestamp_pb2 import Timestamp
from kafka import KafkaConsumer, KafkaProducer
from kafka.structs import OffsetAndMetadata

from services.chassis.clock import Now, to_proto, to_us
from services.chassis.kafka import Record, consume, make_producer
from services.chassis.kafka_session import PART, BrokerCheck, lag, open_topics, whole_consumer
from services.chassis.lifecycle import Lifecycle
from services.ingestion import metrics
from services.ingestion.publisher import Publisher
from services.ingestion.settings import AcceptSettings
from services.ingestion.stamping import Stamper
from services.ingestion.validation import Accepted, Heartbeat, Rejected, Validator
from services.topics import UPSTREAM, dead_letters, events_topic

GROUP = "ingestion"
_METADATA = "watermark_us="
# A batch costs three round trips whatever its size, so records are left to gather, a tenth of a second at most.
_FETCH = {"fetch_min_bytes": 256 * 1024, "fetch_max_wait_ms": 100}
# What came in compressed must fit on the way out, whatever it unpacks to.
_MAX_REQUEST_BYTES = 64 * 1024 * 1024
_CLOSE_TIMEOUT_S = 2.0


class Accepting:
    """One session with the broker: reads from where the last one committed, with the watermark of then."""

    def __init__(
        self,
        settings: AcceptSettings,
        event_types: Collection[str],
        validator: Validator,
        lifecycle: Lifecycle,
        now: Now,
    ) -> None:
        self._settings = settings
        self._event_types = event_types
        self._validator = validator
        self._lifecycle = lifecycle
        self._now = now

    def run(self) -> None:
        """Until the process stops. Raises KafkaError or Unavailable when the broker does not answer."""
        kafka = self._settings.kafka
        topics = [events_topic(name).name for name in self._event_types]
        open_topics(kafka, [UPSTREAM, dead_letters(UPSTREAM), *topics])
        with (
            _producer(self._settings) as producer,
            closing(whole_consumer(kafka, GROUP, [UPSTREAM], **_FETCH)) as consumer,
        ):
            batches = Batches(
                consumer=consumer,
                publisher=Publisher(producer, self._event_types),
                validator=self._validator,
                stamper=Stamper(
                    trust_recordedtime=self._settings.availability == "recordedtime",
                    watermark_us=committed_watermark(consumer),
                ),
                now=self._now,
                idle_watermark_s=self._settings.idle_watermark_s,
            )
            batches.publish_watermark()
            self._lifecycle.ready(PART)
            consume(consumer, batches.accept, self._lifecycle.stopping, commit=batches.commit, idle=batches.idle)


class Batches:
    """What happens to a batch.

    1. Check each record; send what it becomes. Wait until the broker has all of it.
    2. Commit the offsets, with the watermark after the batch as their metadata.
    3. Send the watermark to every partition of the events topics.

    A crash before 2 publishes the batch again with the same `available_at`, and no watermark beyond them was sent; a
    crash before 3 sends the watermark at the next start. So the watermark on a topic never falls and always holds.
    """

    def __init__(
        self,
        *,
        consumer: KafkaConsumer,
        publisher: Publisher,
        validator: Validator,
        stamper: Stamper,
        now: Now,
        idle_watermark_s: float,
    ) -> None:
        self._consumer = consumer
        self._publisher = publisher
        self._validator = validator
        self._stamper = stamper
        self._now = now
        self._idle_watermark_s = idle_watermark_s
        self._broker = BrokerCheck(consumer)
        self._published_us: int | None = None
        self._published_at = time.monotonic()

    def accept(self, batch: list[Record]) -> None:
        """Step 1. Raises KafkaError if something could not be sent."""
        with metrics.BATCH.time():
            now = self._now()
            now_us, processed_at = to_us(now), to_proto(now)
            counts: Counter[str] = Counter()
            dead: Counter[str] = Counter()
            for record in batch:
                verdict = self._validator.check(record.value)
                if isinstance(verdict, Accepted):
                    self._publish(verdict, record, now_us, processed_at)
                    counts[verdict.type] += 1
                elif isinstance(verdict, Rejected):
                    self._publisher.dead_letter(record, verdict, now)
                    dead[verdict.reason.value] += 1
                else:
                    self._heartbeat(verdict, now_us)
            self._publisher.flush()
        _count(counts, dead)

    def commit(self) -> None:
        """Steps 2 and 3. Raises KafkaError if the broker does not take it."""
        metadata = _metadata(self._stamper.watermark_us)
        positions = {part: self._consumer.position(part) for part in self._consumer.assignment()}
        self._consumer.commit({part: OffsetAndMetadata(at, metadata, -1) for part, at in positions.items()})
        self.publish_watermark()
        metrics.LAG.set(lag(self._consumer))

    def publish_watermark(self) -> None:
        """If there is one and it moved. Raises KafkaError if the broker does not take it."""
        watermark_us = self._stamper.watermark_us
        if watermark_us is None or watermark_us == self._published_us:
            return
        self._publisher.watermark(watermark_us)
        self._publisher.flush()
        self._published_us = watermark_us
        self._published_at = time.monotonic()
        metrics.WATERMARK.set(watermark_us / 1e6)

    def idle(self) -> None:
        """With our own clock, nothing coming is knowledge too: the watermark follows the clock."""
        self._broker.ask()
        metrics.LAG.set(lag(self._consumer))
        pause_s = time.monotonic() - self._published_at
        if self._stamper.trust_recordedtime or pause_s < self._idle_watermark_s:
            return
        now_us = to_us(self._now())
        self._stamper.heartbeat(now_us, now_us)
        self.commit()

    def _publish(self, event: Accepted, record: Record, now_us: int, processed_at: Timestamp) -> None:
        available_at_us = self._stamper.stamp(event.time_us, event.recorded_us, now_us)
        if self._stamper.trust_recordedtime and available_at_us != event.recorded_us:
            metrics.RAISED.inc()
        self._publisher.event(event, record, available_at_us, processed_at)

    def _heartbeat(self, heartbeat: Heartbeat, now_us: int) -> None:
        self._stamper.heartbeat(heartbeat.recorded_us, now_us)
        metrics.HEARTBEATS.inc()


def committed_watermark(consumer: KafkaConsumer) -> int | None:
    """The watermark as of the committed offsets; None before the first commit."""
    found = [consumer.committed(partition, metadata=True) for partition in consumer.assignment()]
    texts = [each.metadata for each in found if each is not None and each.metadata.startswith(_METADATA)]
    return max((int(text.removeprefix(_METADATA)) for text in texts), default=None)


def _metadata(watermark_us: int | None) -> str:
    return "" if watermark_us is None else f"{_METADATA}{watermark_us}"


def _count(counts: Counter[str], dead: Counter[str]) -> None:
    for event_type, count in counts.items():
        metrics.EVENTS.labels(event_type).inc(count)
    for reason, count in dead.items():
        metrics.DEAD_LETTERS.labels(reason).inc(count)


@contextmanager
def _producer(settings: AcceptSettings) -> Iterator[KafkaProducer]:
    producer = make_producer(settings.kafka, max_request_size=_MAX_REQUEST_BYTES)
    try:
        yield producer
    finally:
        producer.close(timeout=_CLOSE_TIMEOUT_S)
