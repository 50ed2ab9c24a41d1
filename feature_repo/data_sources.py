"""Where the events are: in Kafka as they come, in the lake for history; and what a request brings."""

import os

from feast import Field, FileSource, KafkaSource, RequestSource
from feast.data_format import DeltaFormat, ProtoFormat
from feast.types import Float64, UnixTimestamp

_LAKE = os.environ.get("SLIPWAY_LAKE", "../.slipway/lake")
_BROKERS = os.environ.get("SLIPWAY_KAFKA__BOOTSTRAP_SERVERS", "127.0.0.1:9092")


def _events(event_type: str) -> KafkaSource:
    return KafkaSource(
        name=event_type,
        topic=f"events.{event_type}.v1",
        kafka_bootstrap_servers=_BROKERS,
        message_format=ProtoFormat("slipway.events.v1.EventRecord"),
        timestamp_field="event_time",
        batch_source=FileSource(
            name=f"{event_type}.lake",
            path=f"{_LAKE}/{event_type}",
            file_format=DeltaFormat(),
            timestamp_field="event_time",
            created_timestamp_column="available_at",
        ),
    )


departed = _events("flight.departed")
landed = _events("flight.landed")
cancelled = _events("flight.cancelled")
weather = _events("weather.observed")

request = RequestSource(
    name="request",
    schema=[
        Field(name="as_of", dtype=UnixTimestamp),
        Field(name="scheduled_departure", dtype=UnixTimestamp),
        Field(name="scheduled_arrival", dtype=UnixTimestamp),
        Field(name="distance_miles", dtype=Float64),
    ],
)
