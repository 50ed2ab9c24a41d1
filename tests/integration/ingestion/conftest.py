"""The environment of the two processes, on a real broker and a lake of the test's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.chassis.settings import KafkaSettings
from tests.integration.ingestion.platform import Platform
from tests.support import PARCELS, free_port


@pytest.fixture
def platform(kafka: KafkaSettings, tmp_path: Path) -> Platform:
    """Two partitions, recordedtime trusted, quick flushes."""
    kafka = kafka.model_copy(update={"partitions": 2})
    env = {
        "SLIPWAY_KAFKA__BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "SLIPWAY_KAFKA__PARTITIONS": str(kafka.partitions),
        "SLIPWAY_FEATURE_REPO": str(PARCELS),
        "SLIPWAY_AVAILABILITY": "recordedtime",
        "SLIPWAY_LAKE": str(tmp_path / "lake"),
        "SLIPWAY_FLUSH_S": "0.2",
        "SLIPWAY_GRPC_PORT": str(free_port()),
        "SLIPWAY_HTTP_PORT": str(free_port()),
    }
    return Platform(kafka, tmp_path / "lake", env)
