"""What lies in Kafka's topics, read from their beginning to their present end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pyarrow as pa
from google.protobuf.message import DecodeError
from kafka import TopicPartition

from services.chassis.clock import proto_us
from services.chassis.kafka import Record, make_consumer
from services.chassis.settings import KafkaSettings
from services.contracts.features.v1.features_pb2 import FEATURE_STATUS_MISSING, FEATURE_STATUS_STALE
from services.contracts.inference.v1.predictions_pb2 import PredictionRecord, PredictionRecords
from services.topics import PREDICTIONS, UPSTREAM, dead_letters

_OURS = "slipway-"
_POLL_MS = 500
_MISSING, _STALE = bytes([FEATURE_STATUS_MISSING]), bytes([FEATURE_STATUS_STALE])

PREDICTIONS_SCHEMA = pa.schema(
    [
        ("prediction_id", pa.string()),
        ("entity_id", pa.string()),
        ("version", pa.string()),
        ("variant", pa.string()),
        ("release_id", pa.string()),
        ("as_of_us", pa.int64()),
        ("score", pa.float64()),
        ("latency_s", pa.float64()),
        ("missing", pa.int32()),
        ("stale", pa.int32()),
    ]
)


def record_count(kafka: KafkaSettings, topic: str) -> int:
    """How many records a topic holds, by its offsets (no transactions are used, nothing is compacted)."""
    consumer = make_consumer(kafka, None, ())
    try:
        parts = _partitions(consumer, topic)
        ends, starts = consumer.end_offsets(parts), consumer.beginning_offsets(parts)
        return sum(ends[part] - starts[part] for part in parts)
    finally:
        consumer.close()


def dead_letter_reasons(kafka: KafkaSettings) -> Counter[str]:
    """Upstream records that are dead letters, by reason: each once, also if a crash wrote its dead letter again."""
    reasons = {}
    for record in read_topic(kafka, dead_letters(UPSTREAM)):
        headers = {name: value.decode() for name, value in record.headers if name.startswith(_OURS)}
        origin = tuple(headers[_OURS + part] for part in ("topic", "partition", "offset"))
        reasons[origin] = headers[_OURS + "reason"]
    return Counter(reasons.values())


def read_predictions(kafka: KafkaSettings) -> pa.Table:
    """Every record of the exposure log, in order, repeats included: `PREDICTIONS_SCHEMA`."""
    rows = [_prediction_row(told) for told in read_exposures(kafka)]
    columns = list(zip(*rows, strict=True)) or [()] * len(PREDICTIONS_SCHEMA)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, PREDICTIONS_SCHEMA, strict=True)]
    return pa.Table.from_arrays(arrays, schema=PREDICTIONS_SCHEMA)


def read_exposures(kafka: KafkaSettings) -> Iterator[PredictionRecord]:
    """The exposure log up to its end as of the call. Raises ValueError if a record is none of its."""
    for record in read_topic(kafka, PREDICTIONS.name):
        try:
            yield from PredictionRecords.FromString(record.value or b"").records
        except DecodeError as error:
            raise ValueError(f"{PREDICTIONS.name} holds a record that is no PredictionRecords: {error}") from error


def read_topic(kafka: KafkaSettings, topic: str) -> Iterator[Record]:
    """Every record up to the end as of the call."""
    consumer = make_consumer(kafka, None, ())
    try:
        parts = _partitions(consumer, topic)
        consumer.assign(parts)
        consumer.seek_to_beginning(*parts)
        ends = consumer.end_offsets(parts)
        while any(consumer.position(part) < ends[part] for part in parts):
            for part, records in consumer.poll(timeout_ms=_POLL_MS).items():
                yield from (record for record in records if record.offset < ends[part])
    finally:
        consumer.close()


def _prediction_row(record: PredictionRecord) -> tuple[object, ...]:
    return (
        record.prediction_id,
        record.entity_id,
        record.model_version,
        record.variant,
        record.release_id,
        proto_us(record.as_of),
        record.score,
        record.latency_s,
        record.statuses.count(_MISSING),
        record.statuses.count(_STALE),
    )


def _partitions(consumer: object, topic: str) -> list[TopicPartition]:
    numbers = consumer.partitions_for_topic(topic) or ()  # type: ignore[attr-defined]
    return [TopicPartition(topic, number) for number in sorted(numbers)]
