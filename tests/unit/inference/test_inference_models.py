"""What a version must be before it may serve."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from services.chassis.errors import Conflict, Invalid
from services.contracts.features.v1 import features_pb2
from services.inference.contract import check_schema, parse_contract
from services.inference.loaded_model import load
from services.inference.model_cache import ModelCache
from tests.support.tiny_models import FEATURES, contract_json, logistic_onnx, moody_onnx, sha256
from tests.unit.inference.fakes import MODEL, make_artifacts, make_model


def schema(**changes: object) -> features_pb2.GetFeatureServiceSchemaResponse:
    told: dict[str, object] = {
        "join_keys": [
            features_pb2.Field(name="courier", data_type=features_pb2.DATA_TYPE_STRING),
            features_pb2.Field(name="shop", data_type=features_pb2.DATA_TYPE_STRING),
        ],
        "request_fields": [
            features_pb2.Field(name="pickup_at", data_type=features_pb2.DATA_TYPE_TIMESTAMP),
            features_pb2.Field(name="weight_kg", data_type=features_pb2.DATA_TYPE_DOUBLE),
        ],
        "features": list(FEATURES),
    }
    return features_pb2.GetFeatureServiceSchemaResponse(**(told | changes))  # type: ignore[arg-type]


def test_a_loaded_model_computes_what_the_graph_says() -> None:
    vectors = np.array([[1, 2, 4], [np.nan, 0, 0]], np.float32)

    found = make_model().probabilities(vectors)

    assert found == pytest.approx([1 / (1 + np.exp(-0.5)), 0.5])


def test_other_bytes_than_the_digest_says_are_refused() -> None:
    with pytest.raises(Invalid, match=r"model.onnx has digest .* the version's tag says"):
        load(make_artifacts(logistic_onnx(bias=1.0)), logistic_onnx(bias=2.0))


@pytest.mark.parametrize("nonsense", [float("nan"), float("inf"), -0.5, 1.5])
def test_nonsense_is_never_given_as_a_probability(nonsense: float) -> None:
    model = make_model(onnx=moody_onnx(42.0))

    with pytest.raises(Conflict, match="for row 1, expected a probability"):
        model.probabilities(np.array([[0, nonsense, 0], [42, nonsense, 0]], np.float32))


def test_a_contract_fits_the_schema_whatever_the_order_of_columns() -> None:
    check_schema(parse_contract(contract_json(), MODEL), schema())


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"features": [FEATURES[1], FEATURES[0], FEATURES[2]]}, "they differ at position 0"),
        ({"features": list(FEATURES[:2])}, "gives 2 features, the model was trained on 3; they differ at position 2"),
        ({"features": [*FEATURES, "more"]}, "they differ at position 3"),
        ({"join_keys": []}, "join keys: the model was trained with"),
        ({"request_fields": [features_pb2.Field(name="weight_kg", data_type=2)]}, "request fields"),
    ],
)
def test_a_model_trained_on_other_definitions_is_refused(changes: dict[str, object], complaint: str) -> None:
    with pytest.raises(Invalid, match=complaint):
        check_schema(parse_contract(contract_json(), MODEL), schema(**changes))


@pytest.mark.parametrize(
    "raw",
    [b"{", b"[]", contract_json(model="other"), contract_json(features=[]), contract_json(join_keys=[{"name": "a"}])],
)
def test_a_malformed_contract_is_refused(raw: bytes) -> None:
    with pytest.raises(Invalid, match=r"contract\.json"):
        parse_contract(raw, MODEL)


def test_an_entity_call_has_a_tensor_for_each_name_once() -> None:
    contract = parse_contract(
        contract_json(entity_id="shop", request_fields=[{"name": "courier", "datatype": "BYTES"}]), MODEL
    )

    assert [column.name for column in contract.inputs] == ["shop", "courier"]


def test_the_cache_gives_back_what_was_served(tmp_path: Path) -> None:
    onnx = logistic_onnx()
    artifacts = make_artifacts(onnx)
    ModelCache(tmp_path).keep_onnx(onnx)
    ModelCache(tmp_path).note_served("champion", artifacts)

    after = ModelCache(tmp_path)

    assert after.last_served(MODEL, "champion") == artifacts
    assert after.last_served(MODEL, "challenger") is None
    assert after.onnx(sha256(onnx)) == onnx


def test_the_cache_forgets_the_oldest_models_but_none_that_is_served(tmp_path: Path) -> None:
    cache = ModelCache(tmp_path)
    models = [logistic_onnx(bias=float(number)) for number in range(5)]
    for age, onnx in enumerate(models):
        cache.keep_onnx(onnx)
        os.utime(tmp_path / f"{sha256(onnx)}.onnx", (1000 - age, 1000 - age))
    cache.note_served("champion", make_artifacts(models[4]))

    cache.forget_old(kept=2)

    assert [cache.onnx(sha256(onnx)) is not None for onnx in models] == [True, True, False, False, True]


def test_a_digest_that_names_a_path_is_not_looked_up(tmp_path: Path) -> None:
    (tmp_path / "outside.onnx").write_bytes(b"secret")

    assert ModelCache(tmp_path / "cache").onnx("../outside") is None


def test_damaged_files_of_the_cache_count_as_absent(tmp_path: Path) -> None:
    onnx = logistic_onnx()
    cache = ModelCache(tmp_path)
    cache.keep_onnx(onnx)
    cache.note_served("champion", make_artifacts(onnx))
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:-1])

    assert cache.onnx(sha256(onnx)) is None
    assert cache.last_served(MODEL, "champion") is None


def test_onnxruntime_starts_no_telemetry_thread() -> None:
    """The library's uploader is a thread of its own that begins with the import."""
    count = "import {module}, os; print(len(os.listdir('/proc/self/task')))"
    environment = {"PATH": "/usr/bin", "OPENBLAS_NUM_THREADS": "1"}

    def threads(module: str) -> int:
        done = subprocess.run(
            [sys.executable, "-c", count.format(module=module)],
            env=environment,
            check=True,
            capture_output=True,
            text=True,
        )
        return int(done.stdout)

    assert threads("services.inference.loaded_model") == threads("numpy")
