"""Inference as a process, among a real Kafka and MLflow and a features service that answers by rule."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import pytest

from services.chassis.settings import KafkaSettings
from tests.integration.inference.platform import FakeFeaturesServer, Inference, Versions, run_inference

RunInference = Callable[..., AbstractContextManager[Inference]]


@pytest.fixture
def versions(mlflow_server: str, tmp_path: Path) -> Versions:
    return Versions(mlflow_server, tmp_path)


@pytest.fixture
def features() -> Iterator[FakeFeaturesServer]:
    server = FakeFeaturesServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def environment(features: FakeFeaturesServer, tmp_path: Path) -> dict[str, str]:
    """Settings without MLflow and Kafka: nobody listens on port 1."""
    return {
        "SLIPWAY_MODEL": "parcel-delay",
        "SLIPWAY_FEATURES": features.address,
        "SLIPWAY_MODEL_CACHE": str(tmp_path / "models"),
        "SLIPWAY_ALIAS_POLL_S": "0.1",
        "SLIPWAY_MLFLOW": "http://127.0.0.1:1",
        "SLIPWAY_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:1",
    }


@pytest.fixture
def with_mlflow(environment: dict[str, str], mlflow_server: str) -> Mapping[str, str]:
    return environment | {"SLIPWAY_MLFLOW": mlflow_server}


@pytest.fixture
def with_all(with_mlflow: Mapping[str, str], kafka: KafkaSettings) -> Mapping[str, str]:
    return dict(with_mlflow) | {"SLIPWAY_KAFKA__BOOTSTRAP_SERVERS": kafka.bootstrap_servers}


@pytest.fixture
def inference() -> RunInference:
    """`with inference(settings) as running:`"""
    return partial(run_inference)
