"""A client that knows nothing of us reads the metadata and gets the model's own answer."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from services.chassis.settings import KafkaSettings
from tests.integration.inference.conftest import RunInference
from tests.integration.inference.platform import MODEL, Versions, recorded, run_onnx
from tests.support.stock_client_env import ask_with_stock_client, stock_client_python
from tests.support.tiny_models import logistic_onnx

ENTITIES = {
    "parcel_id": {"datatype": "BYTES", "data": ["p-1", "p-2"]},
    "shop": {"datatype": "BYTES", "data": ["shop-1", "shop-1"]},
    "courier": {"datatype": "BYTES", "data": ["courier-1", "courier-2"]},
    "pickup_at": {"datatype": "BYTES", "data": ["2026-05-04T13:00:00Z"] * 2},
    "weight_kg": {"datatype": "FP64", "data": [2.0, 3.5]},
}


@pytest.mark.timeout(600)
def test_tritonclient_gets_what_onnxruntime_gives_on_the_recorded_vector(
    inference: RunInference, versions: Versions, with_all: Mapping[str, str], kafka: KafkaSettings
) -> None:
    stock_client_python()
    onnx = logistic_onnx(bias=-0.5)
    version = versions.register(onnx)

    with inference(with_all) as running:
        answer = ask_with_stock_client(
            running.address,
            MODEL,
            ENTITIES,
            request_id="stock",
            parameters={"as_of": "2013-01-01T10:00:00Z"},
            whole=True,
        )
        records = recorded(kafka, 2)

    assert answer["live"] and answer["ready"]
    assert answer["server"]["name"] == "slipway-inference"
    assert answer["model"]["versions"] == [version]
    assert {tensor["name"]: tensor["datatype"] for tensor in answer["model"]["inputs"]} == {
        name: tensor["datatype"] for name, tensor in ENTITIES.items()
    }
    assert [record.entity_id for record in records[:2]] == ["p-1", "p-2"]
    assert answer["outputs"]["probability"] == [run_onnx(onnx, record) for record in records[:2]]
    assert (answer["id"], answer["version"]) == ("stock", version)
    assert answer["parameters"]["prediction_id"] == {"string_param": "stock-0"}
    whole = answer["whole"]
    assert whole["async"] == whole["stream"] == answer["outputs"]["probability"]
    assert whole["index"] == [{"name": MODEL, "version": version, "state": "READY"}]
    assert "FAILED_PRECONDITION" in whole["unload"] and "names version 1" in whole["unload"]
    assert "NOT_FOUND" in whole["load_other"] and "NOT_FOUND" in whole["version"]
    assert "INVALID_ARGUMENT" in whole["load_files"] and "INVALID_ARGUMENT" in whole["output"]
