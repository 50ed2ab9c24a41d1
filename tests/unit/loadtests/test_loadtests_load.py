"""What the load generators ask and send, and how a run is judged."""

from __future__ import annotations

import json
import math
import struct
from itertools import islice

from loadtests.journeys import (
    Schema,
    Target,
    documents,
    in_one_call,
    questions,
    read_vectors,
    vectors_request,
    with_id,
)
from loadtests.replay.client import RequestForm
from services.chassis.clock import to_us, utc_now
from services.contracts.features.v1 import features_pb2
from services.contracts.features.v1.features_pb2 import Field
from services.contracts.open_inference.v2 import grpc_predict_v2_pb2 as v2
from services.ingestion.validation import Accepted, Validator
from services.problem import load_event_types
from tests.problems.parcels.upstream import START, two_days
from tests.support import PARCELS


def test_a_target_names_what_was_missed():
    target = Target(p95_ms=50, error_rate=0.01)
    assert target.misses(requests=1000, failures=10, p95_ms=50) == []
    assert target.misses(requests=1000, failures=11, p95_ms=50) == ["1.10% failed, at most 1.00% may"]
    assert target.misses(requests=1000, failures=0, p95_ms=51) == ["p95 is 51 ms, at most 50 ms may be"]
    assert len(target.misses(requests=10, failures=10, p95_ms=math.nan)) == 2
    assert target.misses(requests=0, failures=0, p95_ms=math.nan) == ["no request was made"]


def test_the_entities_that_are_asked_about_are_nobodys():
    asked = questions(two_days(), PARCELS, 5, START)
    assert len({each.entity_id for each in asked}) == 5
    for each in asked:
        assert each.as_of == START
        assert each.entity_id == each.payload.parcel_id  # type: ignore[attr-defined]
        assert each.entity_id.startswith("load/parcel-")
    assert questions(two_days(), PARCELS, 1, None)[0].as_of > START


def test_the_documents_are_good_events_with_ids_of_their_own():
    validator = Validator(load_event_types(PARCELS), utc_now, recordedtime_required=True)
    made = [*islice(documents(two_days(), 3), 10), *islice(documents(two_days(), 3), 10)]
    assert all(isinstance(validator.check(document), Accepted) for document in made)
    assert len({json.loads(document)["id"] for document in made}) == 20


def _one_row(name: str, weight: float) -> bytes:
    metadata = v2.ModelMetadataResponse(name="m")
    for tensor, datatype in (("parcel_id", "BYTES"), ("weight_kg", "FP64")):
        metadata.inputs.add(name=tensor, datatype=datatype, shape=[-1])
    (question,) = questions(two_days(), PARCELS, 1, START)
    payload = question.payload.model_copy(update={"parcel_id": name, "weight_kg": weight})
    return RequestForm(metadata).fill(question._replace(payload=payload))


def test_several_calls_become_one_of_all_their_rows():
    joined = v2.ModelInferRequest.FromString(in_one_call([_one_row("a", 1.5), _one_row("bc", 2.5)], "load/1"))
    assert joined.id == "load/1"
    assert [list(tensor.shape) for tensor in joined.inputs] == [[2], [2]]
    assert list(joined.raw_input_contents) == [b"\x01\0\0\0a\x02\0\0\0bc", struct.pack("<2d", 1.5, 2.5)]
    assert joined.parameters["as_of"].string_param == "2024-03-01T00:00:00Z"


def test_a_call_under_another_id_is_the_same_otherwise():
    request = _one_row("a", 1.5)
    before, after = v2.ModelInferRequest.FromString(request), v2.ModelInferRequest.FromString(with_id(request, "other"))
    assert after.id == "other"
    before.id = "other"
    assert after == before


def test_the_features_service_is_asked_as_inference_asks():
    schema = Schema(
        join_keys=[Field(name="shop", data_type=features_pb2.DATA_TYPE_STRING)],
        request_fields=[
            Field(name="weight_kg", data_type=features_pb2.DATA_TYPE_DOUBLE),
            Field(name="shop", data_type=features_pb2.DATA_TYPE_STRING),
        ],
        features=["one", "two"],
    )
    asked = questions(two_days(), PARCELS, 2, START)
    unknown = asked[1].payload.model_copy(update={"shop": None, "weight_kg": None})
    request = vectors_request("service", schema, [asked[0], asked[1]._replace(payload=unknown)])
    assert [column.name for column in request.columns] == ["weight_kg", "shop"]
    weights, shops = request.columns
    assert weights.doubles[0] == asked[0].payload.weight_kg and math.isnan(weights.doubles[1])
    assert list(shops.strings) == [asked[0].payload.shop, ""]
    assert list(request.as_of_us) == [to_us(START)] * 2
    answer = features_pb2.GetVectorsResponse(values=struct.pack("<4f", 1, 2, 3, 4))
    assert read_vectors(answer, schema).tolist() == [[1, 2], [3, 4]]
