"""Where the events are: in Kafka as they come, in the lake for history; and what a request brings."""

import os

from feast import Field, FileSource, KafkaSource, RequestSource
from feast.data_format import DeltaFormat, ProtoFormat
from feast.types import Float64, UnixTimestamp

_LAKE = os.environ.get("SLIPWAY_LAKE", "../.slipway/lake")


def _events(event_type: str) -> KafkaSource:
    return KafkaSource(
        name=event_type,
        topic=f"events.{event_type}.v1",
        kafka_bootstrap_servers=os.environ.get("SLIPWAY_KAFKA__BOOTSTRAP_SERVERS", "127.0.0.1:9092"),
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


parcel_delivered = _events("parcel.delivered")
request = RequestSource(
    name="request",
    schema=[
        Field(name="as_of", dtype=UnixTimestamp),
        Field(name="pickup_at", dtype=UnixTimestamp),
        Field(name="weight_kg", dtype=Float64),
    ],
)
