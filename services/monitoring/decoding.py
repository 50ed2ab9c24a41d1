"""Kafka records to what the joins know; what cannot be read is counted, logged and passed over."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import DecodeError

from services.chassis.clock import proto_us
from services.chassis.errors import Invalid
from services.chassis.kafka import Record
from services.chassis.logging import get_logger
from services.contracts.events.v1 import events_pb2
from services.contracts.inference.v1 import predictions_pb2
from services.contracts.router.v1 import router_pb2
from services.contracts.training.v1 import training_pb2
from services.monitoring.history import Told
from services.monitoring.joiner import Batch, Outcome, Prediction
from services.problem import ModelRecipe
from services.topics import PREDICTIONS, RELEASES, TRAINING_RUNS, events_topic

_FULL_WEIGHT = 10_000


@dataclass(slots=True)
class Decoded:
    """One poll: the batch of the joins, and the runs and releases that were told."""

    batch: Batch = field(default_factory=Batch)
    runs: list[Told] = field(default_factory=list)
    releases: list[Told] = field(default_factory=list)


class Decoder:
    """Understands the topics of one problem."""

    def __init__(self, recipe: ModelRecipe) -> None:
        self._model = recipe.name
        self._entity_id = recipe.label.entity_id
        self.label_topics = {events_topic(name).name: column for name, column in recipe.label.outcomes.items()}
        self._readers: dict[str, Callable[[Record, Decoded], None]] = {
            PREDICTIONS.name: self._predictions,
            TRAINING_RUNS.name: self._run,
            RELEASES.name: self._release,
            **dict.fromkeys(self.label_topics, self._label_record),
        }

    @property
    def topics(self) -> tuple[str, ...]:
        """Every topic that is read."""
        return tuple(self._readers)

    def decode(self, records: Sequence[Record]) -> Decoded:
        """Reads one poll. Never raises on what a record holds."""
        decoded = Decoded()
        for record in records:
            try:
                self._readers[record.topic](record, decoded)
            except (Invalid, DecodeError) as error:
                _pass_over(record, error, decoded)
            decoded.batch.next_offsets[record.topic, record.partition] = record.offset + 1
        return decoded

    def _predictions(self, record: Record, decoded: Decoded) -> None:
        records = predictions_pb2.PredictionRecords.FromString(record.value or b"").records
        if not records:
            raise Invalid("records: empty")
        for told in records:
            try:
                decoded.batch.predictions.append(self._prediction(told))
            except Invalid as error:
                _pass_over(record, error, decoded)

    def _prediction(self, told: predictions_pb2.PredictionRecord) -> Prediction:
        if told.model != self._model:
            raise Invalid(f"model: {told.model!r}; this process watches {self._model!r} alone")
        if not (told.prediction_id and told.entity_id and told.HasField("as_of")):
            raise Invalid("prediction_id, entity_id and as_of are needed to join it")
        if not 0 <= told.score <= 1:
            raise Invalid(f"score: {told.score} is no probability")
        return Prediction(
            told.prediction_id,
            told.entity_id,
            told.model_version,
            told.variant,
            told.release_id,
            proto_us(told.as_of),
            told.score,
            told.vector,
            told.statuses,
            _challenger_weight(told),
        )

    def _label_record(self, record: Record, decoded: Decoded) -> None:
        told = events_pb2.EventRecord.FromString(record.value or b"")
        if told.HasField("event"):
            decoded.batch.outcomes.append(self._outcome(told.event, self.label_topics[record.topic]))
        elif told.HasField("watermark"):
            partition = (record.topic, record.partition)
            mark = proto_us(told.watermark.available_at)
            decoded.batch.watermarks[partition] = max(mark, decoded.batch.watermarks.get(partition, mark))
        else:
            raise Invalid("neither an event nor a watermark")

    def _outcome(self, event: events_pb2.Event, column: str | None) -> Outcome:
        try:
            payload: dict[str, Any] = json.loads(event.payload_json)
            entity_id = payload[self._entity_id]
            value = None if column is None else payload[column]
        except (ValueError, KeyError, TypeError) as error:
            raise Invalid(f"payload_json of event {event.event_id!r}: {error!r}") from error
        if value is not None and value not in (0, 1):
            raise Invalid(f"{column} of event {event.event_id!r}: {value!r} is neither 0 nor 1")
        return Outcome(str(entity_id), None if value is None else float(value), proto_us(event.available_at))

    def _run(self, record: Record, decoded: Decoded) -> None:
        run = training_pb2.RunRecord.FromString(record.value or b"").run
        if run.request.model == self._model:
            decoded.runs.append(Told(run.run_id, run.state, record.value or b""))

    def _release(self, record: Record, decoded: Decoded) -> None:
        release = router_pb2.ReleaseRecord.FromString(record.value or b"").release
        if release.model == self._model:
            decoded.releases.append(Told(release.release_id, release.phase, record.value or b""))


def _pass_over(record: Record, error: Exception, decoded: Decoded) -> None:
    decoded.batch.unreadable += 1
    get_logger().warning(
        "record_unreadable",
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        error=str(error),
    )


def _challenger_weight(told: predictions_pb2.PredictionRecord) -> int:
    """The challenger's share of traffic, in basis points, at which the variant had its probability."""
    probability = told.assignment_probability
    if not 0 < probability <= 1:
        raise Invalid(f"assignment_probability: {probability} is not in (0, 1]")
    weight = round(probability * _FULL_WEIGHT)
    return weight if told.variant == "challenger" else _FULL_WEIGHT - weight
