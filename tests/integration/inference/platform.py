"""What surrounds inference in its integration tests."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from google.protobuf.timestamp_pb2 import Timestamp
from kafka import KafkaConsumer

from services.chassis.settings import KafkaSettings
from services.contracts.features.v1 import features_pb2, features_pb2_grpc
from services.contracts.inference.v1.predictions_pb2 import PredictionRecord, PredictionRecords
from services.contracts.open_inference.v2 import grpc_predict_v2_pb2 as v2
from services.contracts.open_inference.v2 import grpc_predict_v2_pb2_grpc as v2_grpc
from services.topics import PREDICTIONS
from tests.support import eventually, free_port, run_service
from tests.support.process import Running
from tests.support.tiny_models import FEATURES, contract_json, logistic_onnx, sha256

MODEL = "parcel-delay"
HISTORY_BEGINS_US = 1_000_000_000_000_000  # 2001


class FakeFeaturesServer(features_pb2_grpc.FeaturesServiceServicer):
    """A courier's number, no delay known, the weight (stale); `bad` couriers are refused, old moments out of range."""

    def __init__(self) -> None:
        self.port = free_port()
        self.features = list(FEATURES)
        self._server: grpc.Server | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        self._server = grpc.server(ThreadPoolExecutor(4))
        features_pb2_grpc.add_FeaturesServiceServicer_to_server(self, self._server)
        assert self._server.add_insecure_port(self.address) == self.port
        self._server.start()

    def stop(self) -> None:
        assert self._server is not None
        self._server.stop(0).wait()

    def GetFeatureServiceSchema(self, request: Any, context: Any) -> features_pb2.GetFeatureServiceSchemaResponse:
        text, moment, double = (
            features_pb2.DATA_TYPE_STRING,
            features_pb2.DATA_TYPE_TIMESTAMP,
            features_pb2.DATA_TYPE_DOUBLE,
        )
        return features_pb2.GetFeatureServiceSchemaResponse(
            join_keys=[features_pb2.Field(name=name, data_type=text) for name in ("shop", "courier")],
            request_fields=[
                features_pb2.Field(name="pickup_at", data_type=moment),
                features_pb2.Field(name="weight_kg", data_type=double),
            ],
            features=self.features,
        )

    def GetVectors(self, request: Any, context: Any) -> features_pb2.GetVectorsResponse:
        if min(request.as_of_us) < HISTORY_BEGINS_US:
            context.abort(grpc.StatusCode.OUT_OF_RANGE, "as_of lies before the history")
        columns = {column.name: column for column in request.columns}
        couriers, weights = columns["courier"].strings, columns["weight_kg"].doubles
        if "bad" in couriers:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "column 'courier': 'bad' is no courier")
        values = [[float(c.removeprefix("courier-")), np.nan, w] for c, w in zip(couriers, weights, strict=True)]
        return features_pb2.GetVectorsResponse(
            values=np.array(values, "<f4").tobytes(),
            statuses=bytes([1, 2, 3]) * len(couriers),
            watermark=Timestamp(seconds=1_357_000_000),
        )


class Versions:
    """Registers versions of the tiny model as training does."""

    def __init__(self, mlflow_server: str, folder: Path) -> None:
        from mlflow import MlflowClient  # noqa: PLC0415  two seconds that only these tests pay

        self._client = MlflowClient(mlflow_server, mlflow_server)
        self._folder = folder

    def register(
        self, onnx: bytes | None = None, *, alias: str = "champion", digest: str = "", contract: bytes | None = None
    ) -> str:
        """A new version that the alias then names. `digest` is what its tag claims, if not the truth."""
        onnx = logistic_onnx() if onnx is None else onnx
        run_id = self._client.create_run("0").info.run_id
        for name, content in (("model.onnx", onnx), ("contract.json", contract or contract_json())):
            (self._folder / name).write_bytes(content)
            self._client.log_artifact(run_id, str(self._folder / name), "model")
        if not self._client.search_registered_models(f"name = '{MODEL}'"):
            self._client.create_registered_model(MODEL)
        tags = {"slipway.onnx_sha256": digest or sha256(onnx)}
        version = self._client.create_model_version(MODEL, f"runs:/{run_id}/model", run_id, tags=tags).version
        self.point(alias, str(version))
        return str(version)

    def point(self, alias: str, version: str) -> None:
        """Moves the alias."""
        self._client.set_registered_model_alias(MODEL, alias, version)

    def withdraw(self, alias: str) -> None:
        """Takes the alias away."""
        self._client.delete_registered_model_alias(MODEL, alias)


class Inference:
    """A running inference process and a client of it."""

    def __init__(self, running: Running, address: str, http_address: str, fast_address: str) -> None:
        self.running = running
        self.address = address
        self.http_address = http_address
        self.fast_address = fast_address
        self._channel = grpc.insecure_channel(address)
        self.stub = v2_grpc.GRPCInferenceServiceStub(self._channel)

    @property
    def channel(self) -> grpc.Channel:
        return self._channel

    def infer(self, request: v2.ModelInferRequest, **options: Any) -> v2.ModelInferResponse:
        response: v2.ModelInferResponse = self.stub.ModelInfer(request, **({"timeout": 10} | options))
        return response

    def refusal(self, request: v2.ModelInferRequest, **options: Any) -> tuple[str, str]:
        """Code and details of a call that must fail."""
        try:
            self.infer(request, **options)
        except grpc.RpcError as error:
            return error.code().name, error.details()  # type: ignore[attr-defined]
        raise AssertionError("the call was answered")

    def is_ready(self, version: str = "") -> bool:
        return bool(self.stub.ModelReady(v2.ModelReadyRequest(name=MODEL, version=version), timeout=10).ready)

    def detail(self) -> str:
        """Why the alias's version does not serve; "" if it does."""
        _, call = self.stub.ModelReady.with_call(v2.ModelReadyRequest(name=MODEL), timeout=10)
        return str(dict(call.trailing_metadata()).get("x-slipway-detail", ""))

    def serves(self, version: str) -> bool:
        """Whether it is the version that answers when none is named."""
        if not self.is_ready(version):
            return False
        metadata = self.stub.ModelMetadata(v2.ModelMetadataRequest(name=MODEL), timeout=10)
        return bool(metadata.versions[0] == version)

    def wait_version(self, version: str) -> None:
        eventually(lambda: self.serves(version), f"version {version} serves")

    def close(self) -> None:
        self._channel.close()


@contextmanager
def run_inference(env: Mapping[str, str], *, ready: bool = True) -> Iterator[Inference]:
    """The process, ready, with a client; it is stopped at the end."""
    port, http_port, fast_port = free_port(), free_port(), free_port()
    ports = {"SLIPWAY_GRPC_PORT": str(port), "SLIPWAY_HTTP_PORT": str(http_port), "SLIPWAY_FAST_PORT": str(fast_port)}
    with run_service("services.inference", env={**ports, **env}, ready=ready) as running:
        inference = Inference(running, *(f"127.0.0.1:{each}" for each in (port, http_port, fast_port)))
        try:
            yield inference
        finally:
            inference.close()


def entity_request(*couriers: str, id: str = "", as_of: str = "", **changes: Any) -> v2.ModelInferRequest:  # noqa: A002
    """An entity call: parcels p-0, p-1 … of these couriers, 2 kg each."""
    request = v2.ModelInferRequest(model_name=MODEL, id=id, **changes)
    rows = len(couriers)
    texts = {
        "parcel_id": [f"p-{id}-{row}" for row in range(rows)],
        "shop": ["shop-1"] * rows,
        "courier": couriers,
        "pickup_at": ["2026-05-04T13:00:00Z"] * rows,
    }
    for name, values in texts.items():
        tensor = request.inputs.add(name=name, datatype="BYTES", shape=[rows])
        tensor.contents.bytes_contents.extend(value.encode() for value in values)
    weights = request.inputs.add(name="weight_kg", datatype="FP64", shape=[rows])
    weights.contents.fp64_contents.extend([2.0] * rows)
    if as_of:
        request.parameters["as_of"].string_param = as_of
    return request


def probabilities(response: v2.ModelInferResponse) -> list[float]:
    return list(response.outputs[0].contents.fp32_contents)


def recorded(kafka: KafkaSettings, count: int, timeout_s: float = 20.0) -> list[PredictionRecord]:
    """At least `count` prediction records of the topic, in order."""
    found: list[PredictionRecord] = []
    consumer = KafkaConsumer(
        PREDICTIONS.name, bootstrap_servers=kafka.bootstrap_servers, group_id=None, auto_offset_reset="earliest"
    )
    try:
        deadline = time.monotonic() + timeout_s
        while len(found) < count and time.monotonic() < deadline:
            for records in consumer.poll(timeout_ms=200).values():
                for record in records:
                    found.extend(PredictionRecords.FromString(record.value).records)
    finally:
        consumer.close()
    assert len(found) >= count, f"expected {count} records, got {len(found)}"
    return found


def run_onnx(onnx: bytes, record: PredictionRecord) -> float:
    """What onnxruntime says of a recorded vector."""
    from services.inference.loaded_model import ort  # noqa: PLC0415  with its telemetry off

    session = ort.InferenceSession(onnx, providers=["CPUExecutionProvider"])
    vector = np.frombuffer(record.vector, "<f4").reshape(1, -1)
    return float(session.run(["probability"], {"features": vector})[0][0])
