"""The Kafka edge of `lake`: the events topics into the writer, offsets after the commit."""

from __future__ import annotations

import time
from collections.abc import Mapping

from google.protobuf.message import DecodeError
from kafka import KafkaConsumer

from services.chassis.clock import proto_us
from services.chassis.kafka import Record, consume
from services.chassis.kafka_session import PART, BrokerCheck, lag, open_topics, whole_consumer
from services.chassis.lifecycle import Lifecycle
from services.chassis.logging import get_logger
from services.contracts.events.v1.events_pb2 import EventRecord
from services.ingestion import metrics
from services.ingestion.lake.pacing import Pacing
from services.ingestion.lake.rows import row_of
from services.ingestion.lake.table import Source
from services.ingestion.lake.writer import LakeWriter
from services.ingestion.settings import LakeSettings
from services.problem import EventType
from services.topics import events_topic

GROUP = "lake"
# Nobody waits for less than a flush.
_FETCH = {"fetch_min_bytes": 1024 * 1024, "fetch_max_wait_ms": 500}
_PARSE = EventRecord.FromString


class Keeping:
    """One session with the broker and the store."""

    def __init__(self, settings: LakeSettings, event_types: Mapping[str, EventType], lifecycle: Lifecycle) -> None:
        self._settings = settings
        self._event_types = event_types
        self._lifecycle = lifecycle

    def run(self) -> None:
        """Until the process stops. Raises KafkaError or Unavailable when the broker or the store does not answer."""
        settings = self._settings
        types = {events_topic(name).name: name for name in self._event_types}
        writer = LakeWriter(settings.lake, self._event_types, settings.max_known_ids)
        open_topics(settings.kafka, types)
        consumer = whole_consumer(settings.kafka, GROUP, sorted(types), **_FETCH)
        pacing = Pacing(settings.flush_s, settings.flush_rows, settings.flush_share, last_s=time.monotonic())
        records = Records(consumer, types, writer, pacing)
        self._lifecycle.ready(PART)
        consume(consumer, records.add, self._lifecycle.stopping, commit=records.flush_if_due, idle=records.idle)


class Records:
    """What happens to the records of the events topics.

    1. A batch is added to the writer, which holds it in memory.
    2. Now and then the writer commits all that it holds; then the offsets are committed.
    """

    def __init__(self, consumer: KafkaConsumer, types: Mapping[str, str], writer: LakeWriter, pacing: Pacing) -> None:
        self._consumer = consumer
        self._types = types
        self._writer = writer
        self._pacing = pacing
        self._broker = BrokerCheck(consumer)
        self._watermarks: dict[Source, int] = {}

    def add(self, batch: list[Record]) -> None:
        """Step 1."""
        for record in batch:
            source = Source(record.topic, record.partition)
            try:
                message = _PARSE(record.value or b"")
            except DecodeError as error:
                metrics.LAKE_UNREADABLE.inc()
                get_logger().warning("record_unreadable", **source._asdict(), offset=record.offset, error=str(error))
                continue
            if message.HasField("event"):
                self._writer.add(self._types[record.topic], row_of(message.event), source, record.offset)
            elif message.HasField("watermark"):
                self._watermark(source, proto_us(message.watermark.available_at), record.offset)

    def flush_if_due(self) -> None:
        """Step 2. Raises Unavailable if the store, KafkaError if the broker does not take it."""
        rows, cpu_s = self._writer.waiting, time.process_time()
        if not self._pacing.due(rows, self._writer.watermark_moved, time.monotonic()):
            return
        with metrics.LAKE_FLUSH.time():
            self._writer.flush()
        self._consumer.commit()
        self._pacing.done(rows, time.process_time() - cpu_s, time.monotonic())
        metrics.LAKE_LAG.set(lag(self._consumer))

    def idle(self) -> None:
        """Raises as `flush_if_due` does, and when the broker is gone."""
        self._broker.ask()
        self.flush_if_due()

    def _watermark(self, source: Source, watermark_us: int, offset: int) -> None:
        """A type's watermark is that of its slowest partition, known once each has told its own."""
        self._watermarks[source] = watermark_us
        partitions = self._consumer.partitions_for_topic(source.topic) or {source.partition}
        known = [self._watermarks.get(Source(source.topic, partition)) for partition in partitions]
        if None not in known:
            least = min(each for each in known if each is not None)
            self._writer.watermark(self._types[source.topic], least, source, offset)
