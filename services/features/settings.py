"""What the two processes are told: SLIPWAY_* environment variables."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from services.chassis.settings import ServiceSettings, WithFeatureRepo


class _OnlineSettings(WithFeatureRepo, ServiceSettings):
    redis: str = Field(default="127.0.0.1:6379", pattern=r"^[^\s:]+:\d+$")
    """host:port of the online store."""
    history_s: float = Field(default=86_400.0, gt=0)
    """How far behind the watermark a value can be read, and an event be told from its duplicate, seconds. The same for
    both processes."""

    @property
    def history_us(self) -> int:
        """In microseconds, as everything here."""
        return round(self.history_s * 1e6)


class StreamSettings(_OnlineSettings):
    """SLIPWAY_* of `python -m services.features stream`."""

    ops_port: int = Field(default=9203, ge=0, le=65535)
    """Port of /metrics, /live and /ready."""


class ServeSettings(_OnlineSettings):
    """SLIPWAY_* of `python -m services.features serve`."""

    grpc_port: int = Field(default=9104, ge=0, le=65535)
    """Port of FeaturesService."""
    ops_port: int = Field(default=9204, ge=0, le=65535)
    """Port of /metrics, /live and /ready."""
    registry: Path = Path(".slipway/registry.db")
    """Feast's registry file, written at the start."""
    lake: str = Field(default=".slipway/lake", min_length=1)
    """Folder or URI of the Delta tables that training sets are built from."""
    training_sets: Path = Path(".slipway/training-sets")
    """Folder of the training sets."""
    redis_timeout_s: float = Field(default=2.0, gt=0)
    """How long a call waits for the online store, seconds."""
    max_rows: int = Field(default=10_000, gt=0)
    """Rows of one GetVectors call."""
    max_calls: int = Field(default=64, gt=0)
    """GetVectors calls at a time; more are refused."""
