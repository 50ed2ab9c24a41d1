"""What stands in for the rest of the platform in unit tests of inference."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry

from services.chassis.errors import Overloaded
from services.contracts.inference.v1.predictions_pb2 import PredictionRecord
from services.contracts.open_inference.v2 import grpc_predict_v2_pb2 as v2
from services.inference.artifacts import Artifacts, ModelVersion
from services.inference.contract import ModelContract, parse_contract
from services.inference.feature_client import EntityRows, Vectors
from services.inference.loaded_model import LoadedModel, load
from services.inference.metrics import InferenceMetrics
from tests.support.tiny_models import contract_json, logistic_onnx, sha256

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
MODEL = "parcel-delay"


def make_metrics() -> InferenceMetrics:
    return InferenceMetrics("champion", CollectorRegistry())


def make_artifacts(onnx: bytes, version: str = "1", **contract: Any) -> Artifacts:
    return Artifacts(
        version=ModelVersion(model=MODEL, version=version, run_id="run", onnx_sha256=sha256(onnx)),
        contract=parse_contract(contract_json(**contract), MODEL),
    )


def make_model(version: str = "1", onnx: bytes | None = None, **contract: Any) -> LoadedModel:
    onnx = logistic_onnx() if onnx is None else onnx
    return load(make_artifacts(onnx, version, **contract), onnx)


def vector_of(courier: str, weight_kg: float) -> list[float]:
    """What the fake features service answers: the courier's number (a gap if it has none), a gap, the weight."""
    number = courier.removeprefix("courier-")
    return [float(number) if number.isdecimal() else float("nan"), float("nan"), weight_kg]


class FakeFeatures:
    """Answers at once, remembers the questions, fails for the rows that are told."""

    def __init__(self) -> None:
        self.questions: list[list[EntityRows]] = []
        self.failures: dict[str, Exception] = {}
        self.watermark = "2026-05-04T11:59:00Z"

    async def fetch(self, contract: ModelContract, calls: Sequence[EntityRows]) -> Vectors:
        self.questions.append(list(calls))
        couriers = [courier for rows in calls for courier in rows.columns[1]]
        weights = [weight for rows in calls for weight in rows.columns[3]]
        for courier in couriers:
            if courier in self.failures:
                raise self.failures[courier]
        values = np.array([vector_of(c, w) for c, w in zip(couriers, weights, strict=True)], np.float32)
        return Vectors(values, bytes([1, 2, 3]) * len(couriers), self.watermark)


class FakeDeployment:
    def __init__(self, current: LoadedModel | None, detail: str = "", previous: LoadedModel | None = None) -> None:
        self.current = current
        self.previous = previous
        self.detail = detail
        self.wanted: str | None = None

    @property
    def loaded(self) -> tuple[LoadedModel, ...]:
        return tuple(model for model in (self.current, self.previous) if model is not None)

    async def load_now(self) -> None:
        raise NotImplementedError

    async def unload(self, version: str = "") -> None:
        raise NotImplementedError


class FakeRecords:
    def __init__(self) -> None:
        self.added: list[PredictionRecord] = []
        self.full = False
        self.room: int | None = None

    def check_room(self, rows: int) -> None:
        if self.full:
            raise Overloaded("full")

    def add(self, records: Sequence[PredictionRecord]) -> None:
        if self.room is not None and len(self.added) + len(records) > self.room:
            raise Overloaded("no room for all")
        self.added += records


def infer_request(rows: int = 1, **changes: Any) -> v2.ModelInferRequest:
    """An entity call with typed contents: parcels p0, p1 …, couriers courier-0, courier-1 …, weights 1, 2 …"""
    request = v2.ModelInferRequest(model_name=MODEL, **changes)
    texts = {
        "parcel_id": [f"p{row}" for row in range(rows)],
        "shop": ["shop-1"] * rows,
        "courier": [f"courier-{row}" for row in range(rows)],
        "pickup_at": ["2026-05-04T13:00:00Z"] * rows,
    }
    for name, values in texts.items():
        tensor = request.inputs.add(name=name, datatype="BYTES", shape=[rows])
        tensor.contents.bytes_contents.extend(value.encode() for value in values)
    tensor = request.inputs.add(name="weight_kg", datatype="FP64", shape=[rows])
    tensor.contents.fp64_contents.extend(float(row + 1) for row in range(rows))
    return request
