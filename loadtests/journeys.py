"""What the load generators ask and send: real questions and events of the problem, under names of their own.

Ids of asked entities and of published events begin with `load/`, so that no outcome ever joins a prediction. What is
published is real enough to be kept and counted: aim at a platform whose data you can throw away.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import count, cycle, islice
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from loadtests.replay.mess import Kind, Sending
from loadtests.replay.questions import Asker, Question
from loadtests.upstream import Source, Upstream
from services.chassis.clock import to_us
from services.contracts.features.v1 import features_pb2
from services.contracts.open_inference.v2 import grpc_predict_v2_pb2 as v2
from services.problem import load_event_types, load_recipe

_LIST_OF = {
    features_pb2.DATA_TYPE_STRING: "strings",
    features_pb2.DATA_TYPE_TIMESTAMP: "strings",
    features_pb2.DATA_TYPE_INT64: "ints",
    features_pb2.DATA_TYPE_DOUBLE: "doubles",
}

Schema = features_pb2.GetFeatureServiceSchemaResponse


@dataclass(frozen=True, slots=True)
class Target:
    """What a journey must reach for the run to pass."""

    p95_ms: float
    error_rate: float

    def misses(self, *, requests: int, failures: int, p95_ms: float) -> list[str]:
        """Sentences about what was missed. A journey without requests measured nothing, which is a miss."""
        if requests == 0:
            return ["no request was made"]
        missed = []
        if failures / requests > self.error_rate:
            missed.append(f"{failures / requests:.2%} failed, at most {self.error_rate:.2%} may")
        if p95_ms > self.p95_ms or math.isnan(p95_ms):
            missed.append(f"p95 is {p95_ms:.0f} ms, at most {self.p95_ms:.0f} ms may be")
        return missed


def questions(source: Source, feature_repo: Path, how_many: int, as_of: datetime | None) -> list[Question]:
    """The first questions of the source about `load/…` entities, all as of one moment (None: each as of its own)."""
    recipe = load_recipe(feature_repo)
    asker = Asker(recipe, load_event_types(feature_repo))
    found = (asker.question(_sending(event)) for event in source.after(source.begins))
    return [
        _renamed(question, recipe.label.entity_id, as_of)
        for question in islice((each for each in found if each is not None), how_many)
    ]


def with_id(request: bytes, request_id: str) -> bytes:
    """The same call under another id: of a field that comes twice protobuf takes the last."""
    return request + v2.ModelInferRequest(id=request_id).SerializeToString()


def in_one_call(requests: Sequence[bytes], request_id: str) -> bytes:
    """Calls of one row each, in raw bytes, as one call of all their rows; its moment is the first one's."""
    rows = [v2.ModelInferRequest.FromString(request) for request in requests]
    joined = rows[0]
    joined.id = request_id
    for tensor in joined.inputs:
        tensor.shape[0] = len(rows)
    columns = zip(*(row.raw_input_contents for row in rows), strict=True)
    contents = [b"".join(column) for column in columns]
    del joined.raw_input_contents[:]
    joined.raw_input_contents.extend(contents)
    return joined.SerializeToString()


def vectors_request(feature_service: str, schema: Schema, asked: Sequence[Question]) -> features_pb2.GetVectorsRequest:
    """What inference would ask the features service about these questions."""
    request = features_pb2.GetVectorsRequest(
        feature_service=feature_service, as_of_us=[to_us(question.as_of) for question in asked]
    )
    for each in {field.name: field for field in (*schema.request_fields, *schema.join_keys)}.values():
        column = request.columns.add(name=each.name)
        getattr(column, _LIST_OF[each.data_type]).extend(_known(question, each) for question in asked)
    return request


def read_vectors(answer: features_pb2.GetVectorsResponse, schema: Schema) -> NDArray[np.float32]:
    """float32 [rows, features], NaN for what is not known."""
    return np.frombuffer(answer.values, "<f4").reshape(-1, len(schema.features))


def documents(source: Source, how_many: int) -> Iterator[bytes]:
    """CloudEvents for ever: the source's first events over and over, each time under ids of their own."""
    run, number = uuid4().hex, count()
    for event in cycle(list(islice(source.after(source.begins), how_many))):
        yield json.dumps(json.loads(event.value) | {"id": f"load/{run}/{next(number)}"}).encode()


def _known(question: Question, field: features_pb2.Field) -> Any:
    """As inference sends it: null is the empty text, or no number."""
    value = getattr(question.payload, field.name)
    if value is not None:
        return value
    return math.nan if field.data_type == features_pb2.DATA_TYPE_DOUBLE else ""


def _renamed(question: Question, entity_field: str, as_of: datetime | None) -> Question:
    entity_id = f"load/{question.entity_id}"
    return Question(
        as_of or question.as_of,
        entity_id,
        question.due,
        question.payload.model_copy(update={entity_field: entity_id}),
    )


def _sending(event: Upstream) -> Sending:
    return Sending(event.recorded_at, event.event_id, Kind.EVENT, event)
