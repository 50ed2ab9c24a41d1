"""Batch predictions beside online ones: the same rows, moments and scores; and runs that are killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from deploy.local.home import REPOSITORY
from services.chassis.clock import parse_rfc3339, rfc3339
from services.chassis.settings import KafkaSettings
from services.contracts.open_inference.v2 import grpc_predict_v2_pb2 as v2
from tests.integration.features.platform import Platform
from tests.integration.inference.platform import MODEL, Inference, Versions, probabilities, run_inference
from tests.problems.parcels.upstream import START, parcels
from tests.support import PARCELS, eventually, free_port
from tests.support.event_lake import EventLake
from tests.support.process import start_process
from tests.support.tiny_models import contract_json, logistic_onnx

HOUR = timedelta(hours=1)
END = START + timedelta(days=2)
SINCE = END - 4 * HOUR
TO_PICKUP = timedelta(minutes=10)
WEIGHTS = (0.25, -0.05, 0.02, 0.05, 0.5, -0.03, 0.125, 0.01, -0.0625, 0.002)


@dataclass(frozen=True, slots=True)
class Running:
    """A features service with two days of events, and inference beside it."""

    inference: Inference
    features: Platform
    mlflow: str
    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        return {
            "SLIPWAY_MODEL": MODEL,
            "SLIPWAY_MLFLOW": self.mlflow,
            "SLIPWAY_FEATURES": _address(self.features),
            "SLIPWAY_FEATURE_REPO": str(PARCELS),
        }

    def range_into(self, out: str) -> list[str]:
        """The options of a run over the last four hours."""
        moments = ["--from", rfc3339(SINCE), "--to", rfc3339(END), "--slice", "1h"]
        return ["--model", "champion", *moments, "--out", str(self.folder / out)]

    def run(self, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`python -m <module> …`, to its end."""
        return subprocess.run(
            [sys.executable, "-m", module, *arguments],
            cwd=REPOSITORY,
            env=os.environ | self.environment,
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture
def running(kafka: KafkaSettings, redis_server: str, mlflow_server: str, tmp_path: Path) -> Iterator[Running]:
    features = _features(kafka, redis_server, tmp_path)
    names = [each.name for each in features.plan.features]
    Versions(mlflow_server, tmp_path).register(logistic_onnx(WEIGHTS), contract=contract_json(features=names))
    _two_days(features)
    environment = {
        "SLIPWAY_MODEL": MODEL,
        "SLIPWAY_FEATURES": _address(features),
        "SLIPWAY_MLFLOW": mlflow_server,
        "SLIPWAY_MODEL_CACHE": str(tmp_path / "models"),
        "SLIPWAY_KAFKA__BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
    }
    # All start at once; inference is ready when it has seen the features service.
    with features.stream(ready=False), features.serve(ready=False), run_inference(environment) as inference:
        eventually(lambda: features.reached(END), "all is worked in")
        yield Running(inference, features, mlflow_server, tmp_path)


def _features(kafka: KafkaSettings, redis_server: str, folder: Path) -> Platform:
    return Platform(
        kafka,
        redis_server,
        {
            "SLIPWAY_KAFKA__BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
            "SLIPWAY_FEATURE_REPO": str(PARCELS),
            "SLIPWAY_REDIS": redis_server,
            "SLIPWAY_REGISTRY": str(folder / "registry.db"),
            "SLIPWAY_LAKE": str(folder / "lake"),
            "SLIPWAY_TRAINING_SETS": str(folder / "training-sets"),
            "SLIPWAY_GRPC_PORT": str(free_port()),
        },
    )


def _address(features: Platform) -> str:
    return f"127.0.0.1:{features.env['SLIPWAY_GRPC_PORT']}"


def _two_days(features: Platform) -> None:
    """Of events, in the topics and in the lake."""
    events = [event for event in parcels(until=END) if event.recorded_at < END]
    lake = EventLake(Path(features.env["SLIPWAY_LAKE"]), features.definitions.event_types)
    lake.add(lake.from_cloud_event(event.value) for event in events)
    lake.reached(END)
    features.publish(events)
    features.watermark(END)


def _online(inference: Inference, row: Mapping[str, Any]) -> float:
    request = v2.ModelInferRequest(model_name=MODEL)
    for name in ("parcel_id", "shop", "courier", "pickup_at"):
        tensor = request.inputs.add(name=name, datatype="BYTES", shape=[1])
        tensor.contents.bytes_contents.append((row[name] or "").encode())
    weight = request.inputs.add(name="weight_kg", datatype="FP64", shape=[1])
    weight.contents.fp64_contents.append(row["weight_kg"])
    request.parameters["as_of"].string_param = rfc3339(row["as_of"])
    response = inference.infer(request)
    assert response.parameters["missing_features"].int64_param == row["missing_features"]
    return probabilities(response)[0]


def test_batch_scores_are_the_online_ones_and_a_killed_run_ends_with_the_same_output(running: Running) -> None:
    clean = running.run("services.cli", "batch-predict", *running.range_into("clean.parquet"))
    assert clean.returncode == 0, clean.stderr
    assert "4 of 4" in clean.stderr and "rows scored by version 1" in clean.stdout

    rows = pq.read_table(running.folder / "clean.parquet").to_pylist()
    assert {row["parcel_id"] for row in rows} == _asked_for()
    online = np.array([_online(running.inference, row) for row in rows], np.float32)
    batch = np.array([row["probability"] for row in rows], np.float32)
    assert len(set(batch.tolist())) > 80
    np.testing.assert_allclose(batch, online, rtol=1e-6)

    work = running.folder / ".killed.parquet.scored"
    command = [sys.executable, "-m", "services.inference.batch", *running.range_into("killed.parquet")]
    killed = start_process(command, env=running.environment, ops_port=0)
    eventually(lambda: len(list(work.glob("*.parquet"))) >= 1, "a slice is scored")
    killed.kill()
    killed.log.unlink()
    done = len(list(work.glob("*.parquet")))
    assert 1 <= done < 4 and not (running.folder / "killed.parquet").exists()

    resumed = running.run("services.inference.batch", *running.range_into("killed.parquet"))
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert f'"done": {done}, "of": 4' in resumed.stdout
    assert (running.folder / "killed.parquet").read_bytes() == (running.folder / "clean.parquet").read_bytes()
    assert not work.exists()


def _asked_for() -> set[str]:
    """The parcels with their moment in the range, whatever became of them."""
    orders = [json.loads(event.value)["data"] for event in parcels(until=END) if event.type == "parcel.ordered"]
    return {order["parcel_id"] for order in orders if SINCE <= parse_rfc3339(order["pickup_at"]) - TO_PICKUP < END}
