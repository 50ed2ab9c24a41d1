"""The HTTP port of the process: a stock client, the clouds' requests, the end of the process."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from services.contracts.features.v1 import features_pb2
from services.contracts.open_inference.v2 import grpc_predict_v2_pb2 as v2
from tests.integration.inference.conftest import RunInference
from tests.integration.inference.platform import MODEL, FakeFeaturesServer, Versions, entity_request, probabilities
from tests.support import eventually, free_port, run_service
from tests.support.stock_client_env import ask_with_stock_http_client, stock_client_python

ENTITIES = {
    "parcel_id": {"datatype": "BYTES", "data": ["p-1", "p-2"]},
    "shop": {"datatype": "BYTES", "data": ["shop-1", "shop-1"]},
    "courier": {"datatype": "BYTES", "data": ["courier-1", "courier-2"]},
    "pickup_at": {"datatype": "BYTES", "data": ["2026-05-04T13:00:00Z"] * 2},
    "weight_kg": {"datatype": "FP64", "data": [2.0, 2.0]},
}
INSTANCE = {name: tensor["data"][0] for name, tensor in ENTITIES.items()}


class HeldFeatures(FakeFeaturesServer):
    """Answers when it is allowed to."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.allowed = threading.Event(), threading.Event()

    def GetVectors(self, request: Any, context: Any) -> features_pb2.GetVectorsResponse:
        self.asked.set()
        assert self.allowed.wait(20)
        return super().GetVectors(request, context)


@pytest.fixture
def held_features() -> Iterator[HeldFeatures]:
    server = HeldFeatures()
    server.start()
    yield server
    server.stop()


@pytest.mark.timeout(600)
def test_tritonclient_over_http_gets_in_every_way_what_grpc_gives(
    inference: RunInference, versions: Versions, with_mlflow: Mapping[str, str]
) -> None:
    stock_client_python()
    version = versions.register()

    with inference(with_mlflow) as running:
        expected = probabilities(running.infer(entity_request("courier-1", "courier-2")))
        index = running.stub.RepositoryIndex(v2.RepositoryIndexRequest(), timeout=10)
        answer = ask_with_stock_http_client(running.http_address, MODEL, ENTITIES, version)

    assert {way: found for way, found in answer["probabilities"].items() if found != expected} == {}
    assert len(answer["probabilities"]) == 13
    assert answer["live"] and answer["ready"] and not answer["unknown_ready"]
    assert {"binary_tensor_data", "model_repository"} <= set(answer["server"]["extensions"])
    assert answer["loaded"] and answer["index"] == [dict(_entry(each)) for each in index.models]
    assert (answer["model"]["name"], answer["model"]["versions"]) == (MODEL, [version])
    assert {tensor["name"]: tensor["datatype"] for tensor in answer["model"]["inputs"]} == {
        name: tensor["datatype"] for name, tensor in ENTITIES.items()
    }
    assert (answer["id"], answer["parameters"]["prediction_id"]) == ("stock-http", "stock-http-0")
    assert answer["parameters"]["variant"] == "challenger"
    status, message = answer["error"]
    assert status == "400" and "tensor 'shop': missing" in message


def test_started_as_sagemaker_does_it_answers_both_clouds_and_ends_with_the_call_in_progress(
    versions: Versions, with_mlflow: Mapping[str, str], held_features: HeldFeatures
) -> None:
    versions.register()
    port = free_port()
    variables = {
        "SAGEMAKER_BIND_TO_PORT": str(port),
        "AIP_HEALTH_ROUTE": "/health",
        "AIP_PREDICT_ROUTE": "/v1/endpoints/5/deployedModels/7:predict",
        "SLIPWAY_FEATURES": held_features.address,
        "SLIPWAY_GRPC_PORT": str(free_port()),
        "SLIPWAY_FAST_LANE": "false",
    }
    with (
        run_service("services.inference", "serve", env={**with_mlflow, **variables}) as running,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as client,
        ThreadPoolExecutor(1) as caller,
    ):
        healthy = [client.get(path).status_code for path in ("/ping", "/health")]
        vectors = client.post("/invocations", content="1,,2\n", headers={"content-type": "text/csv", "accept": "*/*"})
        waiting = caller.submit(
            httpx.post, f"{client.base_url}{variables['AIP_PREDICT_ROUTE']}", json={"instances": [INSTANCE]}, timeout=20
        )
        assert held_features.asked.wait(20)
        running.process.terminate()
        eventually(lambda: _is_refused(port), "nobody new is let in")
        closed_at = time.monotonic()
        eventually(lambda: time.monotonic() > closed_at + 0.5, "the call has lasted longer than the port")
        held_features.allowed.set()
        answer = waiting.result()
        ended = running.process.wait(20)

    assert healthy == [200, 200]
    assert answer.status_code == 200
    assert answer.json()["predictions"] == vectors.json()["predictions"]
    assert ended == 0


def _entry(model: v2.RepositoryIndexResponse.ModelIndex) -> Iterator[tuple[str, str]]:
    return ((name, getattr(model, name)) for name in ("name", "version", "state", "reason"))


def _is_refused(port: int) -> bool:
    try:
        httpx.get(f"http://127.0.0.1:{port}/ping", timeout=5)
    except httpx.ConnectError:
        return True
    return False
