"""The environment of the two processes, on a real broker and a real Redis."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.chassis.settings import KafkaSettings
from tests.integration.features.platform import Platform
from tests.support import PARCELS, free_port


@pytest.fixture
def platform(kafka: KafkaSettings, redis_server: str, tmp_path: Path) -> Platform:
    """Two partitions for each topic."""
    kafka = kafka.model_copy(update={"partitions": 2})
    env = {
        "SLIPWAY_KAFKA__BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "SLIPWAY_KAFKA__PARTITIONS": str(kafka.partitions),
        "SLIPWAY_FEATURE_REPO": str(PARCELS),
        "SLIPWAY_REDIS": redis_server,
        "SLIPWAY_REGISTRY": str(tmp_path / "registry.db"),
        "SLIPWAY_LAKE": str(tmp_path / "lake"),
        "SLIPWAY_TRAINING_SETS": str(tmp_path / "training-sets"),
        "SLIPWAY_GRPC_PORT": str(free_port()),
    }
    return Platform(kafka, redis_server, env)
