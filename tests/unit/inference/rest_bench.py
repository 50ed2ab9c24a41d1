"""The REST application among fakes, without a socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

from httpx import ASGITransport, AsyncClient, Response
from prometheus_client import CollectorRegistry

from services.inference.contract import ModelContract
from services.inference.feature_client import EntityRows, Vectors
from services.inference.metrics import InferenceMetrics
from services.inference.predictor import Predictor
from services.inference.rest.api import make_api
from services.inference.rest.clouds import CloudSettings
from services.inference.scorer import Limits
from tests.unit.inference.fakes import MODEL, NOW, FakeDeployment, FakeFeatures, FakeRecords, make_model

INFER = f"/v2/models/{MODEL}/infer"
VERTEX = CloudSettings(aip_health_route="/vertex/health", aip_predict_route="/v1/endpoints/5/deployedModels/7:predict")


class HeldFeatures(FakeFeatures):
    """Answers when it is allowed to, which it is."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.allowed = asyncio.Event(), asyncio.Event()
        self.allowed.set()

    async def fetch(self, contract: ModelContract, calls: Sequence[EntityRows]) -> Vectors:
        self.asked.set()
        await self.allowed.wait()
        return await super().fetch(contract, calls)


class ToldDeployment(FakeDeployment):
    """Remembers what it was told to do."""

    def __init__(self) -> None:
        super().__init__(make_model("7"))
        self.told: list[str] = []

    async def load_now(self) -> None:
        self.told.append("load")

    async def unload(self, version: str = "") -> None:
        self.told.append(f"unload {version}")


class RestBench:
    """`client` speaks to it; an error that is no answer is raised in the test."""

    def __init__(self) -> None:
        self.counts = CollectorRegistry()
        self.deployment = ToldDeployment()
        self.features = HeldFeatures()
        self.records = FakeRecords()
        self.stopping = False
        metrics = InferenceMetrics("champion", self.counts)
        predictor = Predictor(
            MODEL,
            "champion",
            deployment=self.deployment,
            fetch=self.features.fetch,
            records=self.records,
            metrics=metrics,
            now=lambda: NOW,
            limits=Limits(),
            max_call_rows=8,
        )
        self.api = make_api(
            MODEL,
            predictor=predictor,
            deployment=self.deployment,
            metrics=metrics,
            clouds=VERTEX,
            stopping=lambda: self.stopping,
        )
        self.client = AsyncClient(transport=ASGITransport(self.api), base_url="http://inference")

    def probabilities(self, *vectors: list[float]) -> list[float]:
        """What the model itself gives."""
        import numpy as np  # noqa: PLC0415

        assert self.deployment.current is not None
        found: list[float] = self.deployment.current.probabilities(np.array(vectors, np.float32)).tolist()
        return found

    def count(self, code: str) -> float:
        """Calls that ended so."""
        return self.counts.get_sample_value("slipway_inference_requests_total", {"code": code}) or 0.0

    async def infer(self, body: Any, **headers: str) -> Response:
        return await self.client.post(INFER, json=body, headers=_dashed(headers))

    async def infer_binary(self, head: Any, *tensors: bytes, **headers: str) -> Response:
        """With the binary extension."""
        text = json.dumps(head).encode()
        told = {"inference-header-content-length": str(len(text)), **_dashed(headers)}
        return await self.client.post(INFER, content=b"".join((text, *tensors)), headers=told)


def _dashed(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


def entity_body(rows: int = 1, **changes: Any) -> dict[str, Any]:
    """As `fakes.infer_request`, in JSON."""
    columns: dict[str, tuple[str, list[Any]]] = {
        "parcel_id": ("BYTES", [f"p{row}" for row in range(rows)]),
        "shop": ("BYTES", ["shop-1"] * rows),
        "courier": ("BYTES", [f"courier-{row}" for row in range(rows)]),
        "pickup_at": ("BYTES", ["2026-05-04T13:00:00Z"] * rows),
        "weight_kg": ("FP64", [float(row + 1) for row in range(rows)]),
    }
    inputs = [
        {"name": name, "datatype": datatype, "shape": [rows], "data": data}
        for name, (datatype, data) in columns.items()
    ]
    return {"inputs": inputs} | changes


def vector_body(**changes: Any) -> dict[str, Any]:
    """The whole vector [1, 2, 3] in JSON, with some keys of its tensor changed."""
    return {"inputs": [{"name": "features", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]} | changes]}
