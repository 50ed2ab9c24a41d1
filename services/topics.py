"""The wiring: every Kafka topic, the message it carries and what it is keyed by.

Names are `<area>.<noun>.v1`; the dead letters of a topic are on `<topic>.dlq`.
"""

from __future__ import annotations

from dataclasses import dataclass

from google.protobuf.message import Message

from services.contracts.events.v1 import events_pb2
from services.contracts.inference.v1 import predictions_pb2
from services.contracts.router.v1 import router_pb2
from services.contracts.training.v1 import training_pb2


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic of ours. `message` is the protobuf type of every value, `key` the field that its partition goes by."""

    name: str
    message: type[Message]
    key: str


PREDICTIONS = Topic("inference.predictions.v1", predictions_pb2.PredictionRecords, "records.entity_id")
TRAINING_REQUESTS = Topic("training.requests.v1", training_pb2.RetrainRequest, "model")
TRAINING_RUNS = Topic("training.runs.v1", training_pb2.RunRecord, "run.request.model")
RELEASES = Topic("router.releases.v1", router_pb2.ReleaseRecord, "release.model")

# What upstream sends: CloudEvents 1.0, structured JSON mode, keyed as upstream likes.
UPSTREAM = "upstream.events.v1"


def events_topic(event_type: str) -> Topic:
    """The accepted events of one type, for example `events.order.placed.v1`."""
    return Topic(f"events.{event_type}.v1", events_pb2.EventRecord, "the event type's key field")


def dead_letters(topic: str) -> str:
    """Where the bad records of `topic` go: original bytes as value, the reason in the headers."""
    return f"{topic}.dlq"
