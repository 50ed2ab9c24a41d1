"""What is read from Kafka, and what is passed over."""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from services.chassis.clock import to_proto, to_us
from services.contracts.events.v1 import events_pb2
from services.contracts.inference.v1 import predictions_pb2
from services.contracts.training.v1 import training_pb2
from services.monitoring.decoding import Decoded, Decoder
from services.problem import load_recipe
from services.topics import PREDICTIONS, TRAINING_RUNS
from tests.support import PARCELS

AT = datetime(2013, 5, 1, 12, tzinfo=UTC)
DELIVERED, LOST = "events.parcel.delivered.v1", "events.parcel.lost.v1"


@dataclass
class Record:
    topic: str
    value: bytes | None
    offset: int = 6
    partition: int = 0
    key: bytes | None = None
    headers: list[tuple[str, bytes]] = field(default_factory=list)


def decode(topic: str, message: Any) -> Decoded:
    if isinstance(message, predictions_pb2.PredictionRecord):
        message = predictions_pb2.PredictionRecords(records=[message])
    value = message if isinstance(message, bytes | None) else message.SerializeToString()
    return Decoder(load_recipe(PARCELS)).decode([Record(topic, value)])


def prediction(**changes: Any) -> predictions_pb2.PredictionRecord:
    told = {"prediction_id": "p1", "entity_id": "e1", "model": "parcel-delay", "as_of": to_proto(AT), "score": 0.5}
    told |= {"variant": "champion", "assignment_probability": 1.0}
    return predictions_pb2.PredictionRecord(**(told | changes))


def outcome(payload: Any) -> events_pb2.EventRecord:
    event = events_pb2.Event(event_id="o1", available_at=to_proto(AT), payload_json=json.dumps(payload).encode())
    return events_pb2.EventRecord(event=event)


def test_a_prediction_is_read_with_its_moment() -> None:
    [found] = decode(PREDICTIONS.name, prediction(model_version="3", release_id="r")).batch.predictions

    assert (found.prediction_id, found.version, found.release_id, found.as_of_us) == ("p1", "3", "r", to_us(AT))


@pytest.mark.parametrize(
    ("variant", "probability", "weight"),
    [("champion", 1.0, 0), ("champion", 0.95, 500), ("challenger", 0.05, 500), ("challenger", 1.0, 10_000)],
)
def test_a_prediction_tells_the_weight_it_was_assigned_at(variant: str, probability: float, weight: int) -> None:
    told = prediction(variant=variant, assignment_probability=probability)

    [found] = decode(PREDICTIONS.name, told).batch.predictions

    assert found.challenger_weight == weight


def test_of_many_in_one_record_a_bad_one_spoils_no_other() -> None:
    many = predictions_pb2.PredictionRecords(
        records=[prediction(prediction_id="a"), prediction(score=2.0), prediction(prediction_id="c")]
    )

    batch = decode(PREDICTIONS.name, many).batch

    assert [found.prediction_id for found in batch.predictions] == ["a", "c"]
    assert batch.unreadable == 1


@pytest.mark.parametrize(("value", "label"), [(1, 1.0), (0, 0.0), (True, 1.0)])
def test_a_label_is_the_column_that_the_problem_names(value: object, label: float) -> None:
    [found] = decode(DELIVERED, outcome({"parcel_id": "e1", "late": value})).batch.outcomes

    assert (found.entity_id, found.label, found.available_at_us) == ("e1", label, to_us(AT))


def test_an_event_that_ends_it_without_a_label_is_void() -> None:
    [found] = decode(LOST, outcome({"parcel_id": "e1"})).batch.outcomes

    assert found.label is None


def test_a_watermark_is_of_its_partition() -> None:
    mark = events_pb2.EventRecord(watermark=events_pb2.Watermark(available_at=to_proto(AT)))

    assert decode(LOST, mark).batch.watermarks == {(LOST, 0): to_us(AT)}


@pytest.mark.parametrize(
    ("topic", "message"),
    [
        (PREDICTIONS.name, b"\xff\xfe"),
        (PREDICTIONS.name, None),
        (PREDICTIONS.name, predictions_pb2.PredictionRecords()),
        (PREDICTIONS.name, prediction(model="another")),
        (PREDICTIONS.name, prediction(entity_id="")),
        (PREDICTIONS.name, prediction(score=float("nan"))),
        (PREDICTIONS.name, prediction(score=1.5)),
        (PREDICTIONS.name, prediction(assignment_probability=0.0)),
        (PREDICTIONS.name, prediction(assignment_probability=1.5)),
        (DELIVERED, b"\xff\xfe"),
        (DELIVERED, events_pb2.EventRecord()),
        (DELIVERED, outcome({"parcel_id": "e1"})),
        (DELIVERED, outcome({"parcel_id": "e1", "late": 2})),
        (DELIVERED, outcome({"parcel_id": "e1", "late": [1]})),
        (DELIVERED, outcome(["no", "object"])),
    ],
)
def test_what_cannot_be_read_is_counted_and_its_offset_passed(topic: str, message: Any) -> None:
    batch = decode(topic, message).batch

    assert batch.unreadable == 1
    assert not batch.predictions
    assert not batch.outcomes
    assert batch.next_offsets == {(topic, 0): 7}


def test_runs_of_another_model_are_not_ours() -> None:
    run = training_pb2.Run(run_id="r", request=training_pb2.RetrainRequest(model="another"))

    decoded = decode(TRAINING_RUNS.name, training_pb2.RunRecord(run=run))

    assert (decoded.runs, decoded.batch.unreadable) == ([], 0)
