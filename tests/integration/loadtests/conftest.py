"""Ingestion as a process and the counting platform behind it, for a problem."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from services.chassis.settings import KafkaSettings
from services.problem import load_event_types
from tests.integration.loadtests.platform import CountingPlatform
from tests.support import FLIGHTS, PARCELS, free_port, run_service

INPUTS = {
    PARCELS: {"parcel_id": "BYTES", "shop": "BYTES", "courier": "BYTES", "pickup_at": "BYTES", "weight_kg": "FP64"},
    FLIGHTS: {"flight_id": "BYTES", "origin": "BYTES", "tailnum": "BYTES", "distance_miles": "FP64"},
}
RunPlatform = Callable[[Path], AbstractContextManager[CountingPlatform]]


@pytest.fixture
def platform(kafka: KafkaSettings) -> RunPlatform:
    """`with platform(PARCELS) as running:` ingestion accepts, and features and inference count what it publishes."""

    @contextmanager
    def run(feature_repo: Path) -> Iterator[CountingPlatform]:
        env = {
            "SLIPWAY_KAFKA__BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
            "SLIPWAY_FEATURE_REPO": str(feature_repo),
            "SLIPWAY_AVAILABILITY": "recordedtime",
            "SLIPWAY_GRPC_PORT": str(free_port()),
            "SLIPWAY_HTTP_PORT": str(free_port()),
        }
        with (
            run_service("services.ingestion", "accept", env=env),
            CountingPlatform(kafka, list(load_event_types(feature_repo)), INPUTS[feature_repo]).serve() as counting,
        ):
            counting.ingestion = f"http://127.0.0.1:{env['SLIPWAY_HTTP_PORT']}"
            yield counting

    return run
