"""A model that serves: registered as training would do it, loaded, and released to a share of the keys."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import grpc

from loadtests.journeys import Schema
from loadtests.replay.client import CHANNEL
from services.chassis.errors import Unavailable
from services.contracts.features.v1 import features_pb2
from services.contracts.open_inference.v2 import grpc_predict_v2_pb2 as v2
from services.contracts.open_inference.v2 import grpc_predict_v2_pb2_grpc as v2_grpc
from services.contracts.router.v1 import router_pb2, router_pb2_grpc
from services.problem import ModelRecipe

CHALLENGER_WEIGHT = 2500
"""Basis points of the split that is measured."""

_WITHIN_S, _TIMEOUT_S, _LOOK_S = 60.0, 10.0, 0.1
_DETAIL = "x-slipway-detail"
_DATATYPES = {
    features_pb2.DATA_TYPE_STRING: "BYTES",
    features_pb2.DATA_TYPE_TIMESTAMP: "BYTES",
    features_pb2.DATA_TYPE_INT64: "INT64",
    features_pb2.DATA_TYPE_DOUBLE: "FP64",
}


def register(mlflow: str, recipe: ModelRecipe, schema: Schema, onnx: Path) -> None:
    """Version 1 as the champion and version 2, for a challenger, of the same bytes."""
    from mlflow import MlflowClient  # noqa: PLC0415  two seconds, after all that may fail before

    described = onnx.with_name("contract.json")
    described.write_text(json.dumps(contract(recipe, schema)))
    client = MlflowClient(mlflow, mlflow)
    client.create_registered_model(recipe.name)
    for _ in range(2):
        run_id = client.create_run("0").info.run_id
        for path in (onnx, described):
            client.log_artifact(run_id, str(path), "model")
        tags = {"slipway.onnx_sha256": sha256(onnx.read_bytes()).hexdigest()}
        client.create_model_version(recipe.name, f"runs:/{run_id}/model", run_id, tags=tags)
    client.set_registered_model_alias(recipe.name, "champion", "1")


def contract(recipe: ModelRecipe, schema: Schema) -> dict[str, object]:
    """`contract.json`, as docs/architecture.md has it."""
    return {
        "model": recipe.name,
        "feature_service": recipe.feature_service,
        "entity_id": recipe.label.entity_id,
        "join_keys": [{"name": each.name, "datatype": _DATATYPES[each.data_type]} for each in schema.join_keys],
        "request_fields": [
            {"name": each.name, "datatype": _DATATYPES[each.data_type]} for each in schema.request_fields
        ],
        "features": list(schema.features),
    }


def wait_served(address: str, model: str) -> None:
    """Returns when the deployment has loaded a version. Raises Unavailable with its reason if it does not."""
    with grpc.insecure_channel(address, options=CHANNEL) as channel:
        stub = v2_grpc.GRPCInferenceServiceStub(channel)  # type: ignore[no-untyped-call]
        _wait(lambda: _why_not_ready(stub, model), f"{model} is not served at {address}")


def split(router: str, model: str) -> None:
    """A release of version 2 with a weight set by hand, which stays. Returns when Envoy has it."""
    with grpc.insecure_channel(router, options=CHANNEL) as channel:
        stub = router_pb2_grpc.RouterServiceStub(channel)  # type: ignore[no-untyped-call]
        start = router_pb2.StartReleaseRequest(
            model=model, version="2", strategy=router_pb2.STRATEGY_CANARY, actor="ceilings", reason="a split to measure"
        )
        release_id = stub.StartRelease(start, timeout=_TIMEOUT_S).release.release_id
        weight = router_pb2.SetWeightRequest(
            release_id=release_id, challenger_weight=CHALLENGER_WEIGHT, actor="ceilings", why="to measure"
        )
        # Refused until the challenger's deployment has loaded the version.
        _wait(lambda: stub.SetWeight(weight, timeout=_TIMEOUT_S) and "", "the challenger does not serve version 2")
        _wait(lambda: _why_not_applied(stub), "Envoy has not taken the split")


def _why_not_ready(stub: v2_grpc.GRPCInferenceServiceStub, model: str) -> str:
    answer, call = stub.ModelReady.with_call(v2.ModelReadyRequest(name=model), timeout=_TIMEOUT_S)
    told = {key: str(value) for key, value in call.trailing_metadata()}
    return "" if answer.ready else told.get(_DETAIL, "it gives no reason")


def _why_not_applied(stub: router_pb2_grpc.RouterServiceStub) -> str:
    now = stub.GetSplit(router_pb2.GetSplitRequest(), timeout=_TIMEOUT_S)
    if now.applied and now.challenger_weight == CHALLENGER_WEIGHT:
        return ""
    return f"the weight is {now.challenger_weight}"


def _wait(why_not: Callable[[], str], otherwise: str) -> None:
    """Until there is no reason why not. Raises Unavailable with the last one."""
    deadline, why = time.monotonic() + _WITHIN_S, ""
    while time.monotonic() < deadline:
        try:
            why = why_not()
        except grpc.RpcError as error:
            why = str(error.details())
        if not why:
            return
        time.sleep(_LOOK_S)
    raise Unavailable(f"{otherwise} after {_WITHIN_S:.0f} s: {why}")
