"""Calls over the wire: answers, records, errors."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from urllib.request import urlopen

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from services.chassis.clock import from_proto, parse_rfc3339
from services.chassis.settings import KafkaSettings
from services.contracts.open_inference.v2 import grpc_predict_v2_pb2 as v2
from tests.integration.inference.conftest import RunInference
from tests.integration.inference.platform import (
    MODEL,
    FakeFeaturesServer,
    Versions,
    entity_request,
    probabilities,
    recorded,
    run_onnx,
)
from tests.support import eventually
from tests.support.tiny_models import FEATURES, contract_json, logistic_onnx, sha256


def test_an_entity_call_is_answered_and_recorded_with_the_vector_behind_it(
    inference: RunInference, versions: Versions, with_all: Mapping[str, str], kafka: KafkaSettings
) -> None:
    onnx = logistic_onnx(bias=-1.0)
    version = versions.register(onnx)
    router = (("x-slipway-variant", "champion"), ("x-slipway-release", "r1"), ("x-slipway-weight", "7500"))
    with inference(with_all) as running:
        response = running.infer(
            entity_request("courier-1", "courier-2", id="c", as_of="2013-01-01T10:00:00Z"),
            metadata=(*router, ("x-routing-key", "someone")),
        )
        vector = v2.ModelInferRequest(model_name=MODEL, id="v")
        vector.inputs.add(name="features", datatype="FP32", shape=[1, 3])
        vector.raw_input_contents.append(struct.pack("<3f", 1, 2, 3))
        raw_response = running.infer(vector)
        records = {record.prediction_id: record for record in recorded(kafka, 3)}
        with urlopen(f"http://127.0.0.1:{running.running.ops_port}/metrics", timeout=10) as exposition:
            metrics = exposition.read().decode()

    assert set(records) == {"c-0", "c-1", "v"}
    assert probabilities(response) == [run_onnx(onnx, records["c-0"]), run_onnx(onnx, records["c-1"])]
    assert probabilities(response) == [records["c-0"].score, records["c-1"].score]
    assert struct.unpack("<f", raw_response.raw_output_contents[0]) == (run_onnx(onnx, records["v"]),)
    assert response.parameters["prediction_id"].string_param == "c-0"
    assert response.parameters["missing_feature_names"].string_param == FEATURES[1]
    assert response.parameters["stale_features"].int64_param == 2
    assert response.parameters["watermark"].string_param == "2013-01-01T00:26:40Z"
    told = records["c-1"]
    assert (told.entity_id, told.model_version, told.onnx_sha256) == ("p-c-1", version, sha256(onnx))
    assert (told.release_id, told.assignment_probability, told.routing_key) == ("r1", 0.75, "someone")
    assert from_proto(told.as_of) == parse_rfc3339("2013-01-01T10:00:00Z")
    assert (records["v"].entity_id, records["v"].assignment_probability) == ("", 1.0)
    assert 'slipway_inference_requests_total{code="OK"} 2.0' in metrics
    assert f'version="{version}"}} 1.0' in metrics


def test_what_a_stranger_may_ask(inference: RunInference, versions: Versions, with_mlflow: Mapping[str, str]) -> None:
    """Health, reflection and metadata; Kafka is down, and nothing here needs it."""
    version = versions.register()
    with inference(with_mlflow) as running:
        health = health_pb2_grpc.HealthStub(running.channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
        listed = reflection_pb2_grpc.ServerReflectionStub(running.channel).ServerReflectionInfo(
            iter([reflection_pb2.ServerReflectionRequest(list_services="")]), timeout=10
        )
        services = {service.name for service in next(listed).list_services_response.service}
        live = running.stub.ServerLive(v2.ServerLiveRequest(), timeout=10)
        ready = running.stub.ServerReady(v2.ServerReadyRequest(), timeout=10)
        server = running.stub.ServerMetadata(v2.ServerMetadataRequest(), timeout=10)
        model = running.stub.ModelMetadata(v2.ModelMetadataRequest(name=MODEL), timeout=10)

    assert health.status == health_pb2.HealthCheckResponse.SERVING
    assert "inference.GRPCInferenceService" in services
    assert live.live and ready.ready and server.name and server.version
    assert (model.name, list(model.versions)) == (MODEL, [version])
    assert [(tensor.name, tensor.datatype, list(tensor.shape)) for tensor in model.inputs] == [
        ("parcel_id", "BYTES", [-1]),
        ("shop", "BYTES", [-1]),
        ("courier", "BYTES", [-1]),
        ("pickup_at", "BYTES", [-1]),
        ("weight_kg", "FP64", [-1]),
    ]
    assert [(tensor.name, tensor.datatype, list(tensor.shape)) for tensor in model.outputs] == [
        ("probability", "FP32", [-1])
    ]


def test_every_error_has_its_code_and_says_what_is_wrong(
    inference: RunInference, versions: Versions, with_mlflow: Mapping[str, str]
) -> None:
    versions.register()
    good = entity_request("courier-1")
    missing, mixed, datatype, elements = (v2.ModelInferRequest.FromString(good.SerializeToString()) for _ in range(4))
    del missing.inputs[2]
    mixed.raw_input_contents.extend([b""] * len(mixed.inputs))
    datatype.inputs[4].datatype = "INT64"
    elements.inputs[4].shape[0] = 2
    cases = {
        "unknown model": (v2.ModelInferRequest(model_name="other"), "NOT_FOUND", "'other' is not served here"),
        "unknown version": (entity_request("courier-1", model_version="99"), "NOT_FOUND", "'99'"),
        "missing tensor": (missing, "INVALID_ARGUMENT", "'courier': missing"),
        "mixed contents": (mixed, "INVALID_ARGUMENT", "'parcel_id': expected contents or raw_input_contents"),
        "wrong datatype": (datatype, "INVALID_ARGUMENT", "'weight_kg': expected datatype FP64, got 'INT64'"),
        "wrong shape": (elements, "INVALID_ARGUMENT", "'weight_kg': expected 1 rows"),
        "no rows": (entity_request(), "INVALID_ARGUMENT", "'parcel_id': expected 1 to 1024 rows, got 0"),
        "too many rows": (entity_request(*["courier-1"] * 1025), "INVALID_ARGUMENT", "1 to 1024 rows, got 1025"),
        "bad moment": (entity_request("courier-1", as_of="then"), "INVALID_ARGUMENT", "as_of"),
        "what features refuses": (entity_request("bad"), "INVALID_ARGUMENT", "'bad' is no courier"),
        "too long ago": (entity_request("courier-1", as_of="1999-01-01T00:00:00Z"), "OUT_OF_RANGE", "history"),
    }
    with inference(with_mlflow) as running:
        found = {name: running.refusal(request) for name, (request, _, _) in cases.items()}
        still = running.infer(good)
        unknown_metadata = grpc.StatusCode.OK
        try:
            running.stub.ModelMetadata(v2.ModelMetadataRequest(name="other"), timeout=10)
        except grpc.RpcError as error:
            unknown_metadata = error.code()  # type: ignore[attr-defined]

    assert {name: code for name, (code, _) in found.items()} == {name: code for name, (_, code, _) in cases.items()}
    for name, (_, _, complaint) in cases.items():
        assert complaint in found[name][1], name
    assert unknown_metadata is grpc.StatusCode.NOT_FOUND
    assert len(probabilities(still)) == 1


def test_a_bad_row_fails_its_own_caller_alone(
    inference: RunInference, versions: Versions, with_mlflow: Mapping[str, str]
) -> None:
    versions.register()
    couriers = ["bad" if n % 10 == 3 else f"courier-{n}" for n in range(60)]

    with inference(with_mlflow) as running, ThreadPoolExecutor(20) as callers:

        def call(courier: str) -> str:
            try:
                return "OK" if running.infer(entity_request(courier)) else ""
            except grpc.RpcError as error:
                return error.code().name  # type: ignore[attr-defined, no-any-return]

        codes = list(callers.map(call, couriers))

    assert codes == ["INVALID_ARGUMENT" if courier == "bad" else "OK" for courier in couriers]


def test_while_the_features_service_is_down_nothing_is_invented(
    inference: RunInference, versions: Versions, with_mlflow: Mapping[str, str], features: FakeFeaturesServer
) -> None:
    versions.register()
    with inference(with_mlflow) as running:
        running.infer(entity_request("courier-1"))
        features.stop()
        code, details = running.refusal(entity_request("courier-1"))
        features.start()

        def answered() -> bool:
            try:
                return bool(running.infer(entity_request("courier-1")).outputs)
            except grpc.RpcError as error:
                raise AssertionError(error) from error

        eventually(answered, "predictions flow again")

    assert code == "UNAVAILABLE" and f"features service at {features.address}" in details


def test_a_challenger_waits_for_its_alias_and_then_serves(
    inference: RunInference, versions: Versions, with_mlflow: Mapping[str, str]
) -> None:
    versions.register(alias="champion")
    with inference(with_mlflow | {"SLIPWAY_VARIANT": "challenger"}) as running:
        assert not running.is_ready()
        code, details = running.refusal(entity_request("courier-1"))
        assert code == "UNAVAILABLE" and "has no alias 'challenger'" in details
        assert "has no alias 'challenger'" in running.detail()

        version = versions.register(alias="challenger")
        running.wait_version(version)

        response = running.infer(entity_request("courier-1"))
        assert response.parameters["variant"].string_param == "challenger" and running.detail() == ""


def test_a_model_trained_on_other_features_does_not_serve(
    inference: RunInference, versions: Versions, with_mlflow: Mapping[str, str]
) -> None:
    versions.register(contract=contract_json(features=list(reversed(FEATURES))))

    with inference(with_mlflow, ready=False) as running:
        eventually(lambda: "version 1 was refused" in running.running.output, "the refusal is logged")

        assert not running.is_ready()
        assert "they differ at position 0" in running.detail()
