"""The fast lane of a real process, by grpcio's client: the same answers as on the port of all calls."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc

from services.chassis.settings import KafkaSettings
from services.contracts.open_inference.v2 import grpc_predict_v2_pb2 as v2
from services.contracts.open_inference.v2 import grpc_predict_v2_pb2_grpc as v2_grpc
from tests.integration.inference.conftest import RunInference
from tests.integration.inference.platform import MODEL, Inference, Versions, entity_request, recorded


@contextmanager
def fast(running: Inference) -> Iterator[v2_grpc.GRPCInferenceServiceStub]:
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(running.fast_address, options) as channel:
        yield v2_grpc.GRPCInferenceServiceStub(channel)


def vector_request(*values: float, **changes: str) -> v2.ModelInferRequest:
    request = v2.ModelInferRequest(model_name=MODEL, **changes)
    request.inputs.add(name="features", datatype="FP32", shape=[1, len(values)])
    request.raw_input_contents.append(struct.pack(f"<{len(values)}f", *values))
    return request


def test_both_ports_answer_alike(
    inference: RunInference, versions: Versions, with_all: Mapping[str, str], kafka: KafkaSettings
) -> None:
    versions.register()
    requests = [
        vector_request(1, 2, 3, id="v"),
        entity_request("courier-1", "courier-2", id="e", as_of="2013-01-01T10:00:00Z"),
        vector_request(1, 2, id="narrow"),
        entity_request("bad", id="bad"),
        entity_request("courier-1", id="old", as_of="1990-01-01T00:00:00Z"),
        v2.ModelInferRequest(model_name="another"),
        v2.ModelInferRequest(model_name=MODEL, model_version="99"),
    ]
    with inference(with_all) as running, fast(running) as stub:
        told = [(_outcome(running.stub, request), _outcome(stub, request)) for request in requests]
        big = _outcome(stub, v2.ModelInferRequest(model_name=MODEL, raw_input_contents=[bytes(17 << 20)]))
        records = recorded(kafka, 6)

    for slow, quick in told:
        assert slow == quick
    assert [outcome[0] for outcome, _ in told] == [
        "OK",
        "OK",
        "INVALID_ARGUMENT",
        "INVALID_ARGUMENT",
        "OUT_OF_RANGE",
        "NOT_FOUND",
        "NOT_FOUND",
    ]
    assert big[0] == "RESOURCE_EXHAUSTED"
    assert sorted(record.prediction_id for record in records) == ["e-0", "e-0", "e-1", "e-1", "v", "v"]


def _outcome(stub: v2_grpc.GRPCInferenceServiceStub, request: v2.ModelInferRequest) -> tuple[str, str]:
    """The code, and what was said with it."""
    try:
        return "OK", str(stub.ModelInfer(request, timeout=10))
    except grpc.RpcError as error:
        return error.code().name, error.details()  # type: ignore[attr-defined]


def test_many_callers_at_once(inference: RunInference, versions: Versions, with_mlflow: Mapping[str, str]) -> None:
    versions.register()
    with inference(with_mlflow) as running, fast(running) as stub, ThreadPoolExecutor(16) as pool:
        requests = [
            vector_request(n, 2, 3, id=f"v{n}") if n % 2 else entity_request("courier-1", id=f"e{n}")
            for n in range(400)
        ]
        answers = list(pool.map(lambda request: stub.ModelInfer(request, timeout=20), requests))
        packed = stub.ModelInfer(requests[1], timeout=10, compression=grpc.Compression.Gzip)

    assert [answer.id for answer in answers] == [request.id for request in requests]
    assert packed.outputs == answers[1].outputs


def test_a_stop_answers_what_has_begun(
    inference: RunInference, versions: Versions, with_mlflow: Mapping[str, str]
) -> None:
    """Every call gets an answer, or UNAVAILABLE and may be tried elsewhere."""
    versions.register()
    with inference(with_mlflow) as running, fast(running) as stub, ThreadPoolExecutor(8) as pool:
        stub.ModelInfer(vector_request(1, 2, 3), timeout=10)
        calls = [pool.submit(_outcome, stub, entity_request("courier-1", id=f"e{n}")) for n in range(300)]
        calls[20].result()
        assert running.running.terminate() == 0
        outcomes = [call.result()[0] for call in calls]

    assert set(outcomes) <= {"OK", "UNAVAILABLE"}
    assert outcomes.count("OK") >= 20


def test_the_fast_lane_can_be_turned_off(
    inference: RunInference, versions: Versions, with_mlflow: Mapping[str, str]
) -> None:
    versions.register()
    with inference(dict(with_mlflow) | {"SLIPWAY_FAST_LANE": "false"}) as running, fast(running) as stub:
        assert _outcome(stub, vector_request(1, 2, 3))[0] == "UNAVAILABLE"
        assert running.infer(vector_request(1, 2, 3)).model_name == MODEL
