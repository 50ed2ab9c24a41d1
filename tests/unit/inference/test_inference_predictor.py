"""A call from request to answer and record."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest

from services.chassis.clock import from_proto, parse_rfc3339, to_us
from services.chassis.errors import DeadlineExceeded, Invalid, NotFound, Overloaded, SlipwayError, Unavailable
from services.contracts.open_inference.v2 import grpc_predict_v2_pb2 as v2
from services.inference.predictor import Predictor
from services.inference.scorer import Limits
from tests.support.tiny_models import FEATURES
from tests.unit.inference.fakes import (
    MODEL,
    NOW,
    FakeDeployment,
    FakeFeatures,
    FakeRecords,
    infer_request,
    make_metrics,
    make_model,
)


class Bench:
    """A predictor among fakes."""

    def __init__(self) -> None:
        self.deployment = FakeDeployment(make_model("7"))
        self.features = FakeFeatures()
        self.records = FakeRecords()
        self.predictor = Predictor(
            MODEL,
            "champion",
            deployment=self.deployment,
            fetch=self.features.fetch,
            records=self.records,
            metrics=make_metrics(),
            now=lambda: NOW,
            limits=Limits(),
            max_call_rows=4,
        )

    async def infer(
        self, request: v2.ModelInferRequest, time_left_s: float | None = None, **metadata: str
    ) -> v2.ModelInferResponse:
        told = [(name.replace("_", "-"), value) for name, value in metadata.items()]
        return await self.predictor.infer(request, told, time_left_s)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def parameters(response: v2.ModelInferResponse) -> dict[str, Any]:
    return {name: getattr(p, p.WhichOneof("parameter_choice")) for name, p in response.parameters.items()}


def set_as_of(request: v2.ModelInferRequest, moment: str) -> v2.ModelInferRequest:
    request.parameters["as_of"].string_param = moment
    return request


def vector_request(*values: float, rows: int = 1, entity_id: str | None = None) -> v2.ModelInferRequest:
    request = v2.ModelInferRequest(model_name=MODEL)
    tensor = request.inputs.add(name="features", datatype="FP32", shape=[rows, len(FEATURES)])
    tensor.contents.fp32_contents.extend(values)
    if entity_id is not None:
        tensor = request.inputs.add(name="parcel_id", datatype="BYTES", shape=[rows])
        tensor.contents.bytes_contents.append(entity_id.encode())
    return request


async def test_an_entity_call_is_answered_from_its_vector(bench: Bench) -> None:
    response = await bench.infer(infer_request(rows=2, id="call-1"))

    vectors = np.array([[0, np.nan, 1], [1, np.nan, 2]], np.float32)
    assert bench.deployment.current is not None
    expected = bench.deployment.current.probabilities(vectors).tolist()
    assert list(response.outputs[0].contents.fp32_contents) == expected
    assert (response.model_name, response.model_version, response.id) == (MODEL, "7", "call-1")
    assert parameters(response) == {
        "prediction_id": "call-1-0",
        "variant": "champion",
        "missing_features": 2,
        "missing_feature_names": FEATURES[1],
        "stale_features": 2,
        "stale_feature_names": FEATURES[2],
        "watermark": "2026-05-04T11:59:00Z",
    }


async def test_every_row_is_recorded_with_what_it_was_computed_from(bench: Bench) -> None:
    request = set_as_of(infer_request(rows=2, id="call-1"), "2026-05-04T12:00:00.000001+02:00")

    response = await bench.infer(
        request, x_slipway_variant="challenger", x_slipway_release="r9", x_slipway_weight="500", x_routing_key="k"
    )

    first, second = bench.records.added
    assert (first.prediction_id, second.prediction_id) == ("call-1-0", "call-1-1")
    assert (second.entity_id, second.request_id) == ("p1", "call-1")
    assert (second.model, second.model_version, second.feature_service) == (MODEL, "7", "parcel_delay_v1")
    assert bench.deployment.current is not None and second.onnx_sha256 == bench.deployment.current.onnx_sha256
    assert (second.variant, second.release_id, second.routing_key) == ("challenger", "r9", "k")
    assert second.assignment_probability == 0.05
    assert from_proto(second.as_of) == parse_rfc3339("2026-05-04T10:00:00.000001Z")
    assert from_proto(second.processed_at) == NOW
    np.testing.assert_array_equal(np.frombuffer(second.vector, "<f4"), np.array([1, np.nan, 2], np.float32))
    assert second.statuses == bytes([1, 2, 3])
    assert second.score == list(response.outputs[0].contents.fp32_contents)[1]
    assert second.latency_s > 0
    assert parameters(response)["variant"] == "challenger"


async def test_the_moment_is_the_one_that_is_asked_for_else_now(bench: Bench) -> None:
    await bench.infer(infer_request())
    await bench.infer(set_as_of(infer_request(), "2013-01-01T10:00:00Z"))

    moments = [list(question[0].as_of_us) for question in bench.features.questions]
    assert moments == [[to_us(NOW)], [to_us(parse_rfc3339("2013-01-01T10:00:00Z"))]]
    assert [from_proto(record.as_of) for record in bench.records.added] == [NOW, parse_rfc3339("2013-01-01T10:00:00Z")]


async def test_one_row_bears_the_id_of_the_request_so_that_a_retry_is_the_same_prediction(bench: Bench) -> None:
    for _ in range(2):
        await bench.infer(infer_request(id="mine"))
    await bench.infer(infer_request())
    await bench.infer(infer_request())

    first, again, third, fourth = (record.prediction_id for record in bench.records.added)
    assert first == again == "mine"
    assert third != fourth and len(third) == len(fourth) == 32


async def test_a_call_past_the_router_is_of_the_own_variant_for_certain(bench: Bench) -> None:
    await bench.infer(infer_request())

    record = bench.records.added[0]
    assert (record.variant, record.release_id, record.assignment_probability) == ("champion", "", 1.0)


async def test_a_caller_may_bring_the_whole_vector(bench: Bench) -> None:
    response = await bench.infer(vector_request(1, float("nan"), 4))

    assert bench.features.questions == []
    assert list(response.outputs[0].contents.fp32_contents) == pytest.approx([1 / (1 + np.exp(-1))])
    record = bench.records.added[0]
    assert record.entity_id == "" and record.statuses == bytes([1, 2, 1])
    np.testing.assert_array_equal(np.frombuffer(record.vector, "<f4"), np.array([1, np.nan, 4], np.float32))


async def test_a_whole_vector_may_name_its_entity(bench: Bench) -> None:
    await bench.infer(vector_request(1, 2, 3, entity_id="p5"))

    assert bench.records.added[0].entity_id == "p5"


async def test_a_raw_request_gets_a_raw_answer(bench: Bench) -> None:
    request = v2.ModelInferRequest(model_name=MODEL)
    request.inputs.add(name="features", datatype="FP32", shape=[1, 3])
    request.raw_input_contents.append(struct.pack("<3f", 0, 0, 0))
    request.outputs.add(name="probability")

    response = await bench.infer(request)

    assert response.raw_output_contents == [struct.pack("<f", 0.5)]


def without(name: str) -> v2.ModelInferRequest:
    request = infer_request()
    kept = [tensor for tensor in request.inputs if tensor.name != name]
    del request.inputs[:]
    request.inputs.extend(kept)
    return request


def with_empty_entity() -> v2.ModelInferRequest:
    request = infer_request()
    request.inputs[0].contents.bytes_contents[0] = b""
    return request


def with_output(name: str) -> v2.ModelInferRequest:
    request = infer_request()
    request.outputs.add(name=name)
    return request


def with_keys_and_vector() -> v2.ModelInferRequest:
    request = infer_request()
    request.inputs.extend(vector_request(1, 2, 3).inputs)
    return request


def with_as_of_number() -> v2.ModelInferRequest:
    request = infer_request()
    request.parameters["as_of"].int64_param = 1
    return request


@pytest.mark.parametrize(
    ("request_", "error", "complaint"),
    [
        (without("courier"), Invalid, "tensor 'courier': missing; expected parcel_id, shop, courier"),
        (without("parcel_id"), Invalid, "tensor 'parcel_id': missing"),
        (v2.ModelInferRequest(model_name=MODEL), Invalid, "tensor 'parcel_id': missing"),
        (with_keys_and_vector(), Invalid, "tensor 'courier': not together with features"),
        (with_empty_entity(), Invalid, "tensor 'parcel_id': expected 1 to 1024 characters in row 0, got 0"),
        (with_output("label"), Invalid, "output 'label': unknown; expected probability"),
        (infer_request(rows=5), Invalid, "expected 1 to 4 rows, got 5"),
        (infer_request(id="x" * 1025), Invalid, "id: expected at most 1024 characters"),
        (with_as_of_number(), Invalid, "parameter as_of: expected a string_param"),
        (set_as_of(infer_request(), "yesterday"), Invalid, "parameter as_of: expected an RFC 3339 moment"),
        (set_as_of(infer_request(), "2026-05-04T12:00:00"), Invalid, "no UTC offset"),
        (set_as_of(infer_request(), "0001-01-01T00:00:00+14:00"), Invalid, "parameter as_of"),
        (v2.ModelInferRequest(model_name="other"), NotFound, "model 'other' is not served here"),
        (infer_request(model_version="8"), NotFound, "version '8' of 'parcel-delay' is not loaded; '7' is"),
    ],
)
async def test_a_bad_request_is_refused_and_not_recorded(
    bench: Bench, request_: v2.ModelInferRequest, error: type[SlipwayError], complaint: str
) -> None:
    with pytest.raises(error) as refused:
        await bench.infer(request_)

    assert complaint in str(refused.value)
    assert bench.records.added == []


@pytest.mark.parametrize(
    "metadata",
    [
        {"x_slipway_variant": "other"},
        *({"x_slipway_weight": w} for w in ("0", "10001", "0000100001", "-5", "half", "", "²")),
    ],
)
async def test_metadata_that_no_router_writes_is_refused(bench: Bench, metadata: dict[str, str]) -> None:
    with pytest.raises(Invalid, match="metadata x-slipway-"):
        await bench.infer(infer_request(), **metadata)


async def test_the_loaded_version_may_be_named(bench: Bench) -> None:
    assert (await bench.infer(infer_request(model_version="7"))).model_version == "7"


async def test_with_no_version_loaded_the_caller_learns_why(bench: Bench) -> None:
    bench.deployment.current = None
    bench.deployment.detail = "no alias yet"

    with pytest.raises(Unavailable, match="no version of 'parcel-delay' is loaded as champion: no alias yet"):
        await bench.infer(infer_request())


async def test_the_next_call_gets_the_version_that_took_over(bench: Bench) -> None:
    await bench.infer(infer_request())
    bench.deployment.current = make_model("8")

    assert (await bench.infer(infer_request())).model_version == "8"


async def test_no_time_left_is_refused_before_anything_else(bench: Bench) -> None:
    with pytest.raises(DeadlineExceeded):
        await bench.infer(infer_request(), time_left_s=0.0)


async def test_what_cannot_be_recorded_is_not_answered_nor_computed(bench: Bench) -> None:
    bench.records.full = True

    with pytest.raises(Overloaded):
        await bench.infer(infer_request())

    assert bench.features.questions == []


async def test_without_features_there_is_no_prediction(bench: Bench) -> None:
    bench.features.failures["courier-0"] = Unavailable("features service is down")

    with pytest.raises(Unavailable):
        await bench.infer(infer_request())

    assert bench.records.added == []


async def test_calls_that_end_together_are_answered_as_far_as_there_is_room_for_their_records(bench: Bench) -> None:
    calls = []
    for _ in range(3):
        begun = bench.predictor.begin(vector_request(1, 2, 3), {}.get, None)
        assert begun.call.vectors is not None
        calls.append((begun, begun.scorer.score_vectors(begun.call.vectors)))
    bench.records.room = 2

    answers = bench.predictor.end_each(calls)

    assert [type(answer) for answer in answers] == [v2.ModelInferResponse, v2.ModelInferResponse, Overloaded]
    assert len(bench.records.added) == 2
