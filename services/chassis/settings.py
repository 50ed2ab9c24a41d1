"""Settings: one frozen class per service, read from SLIPWAY_* environment variables, passed and never imported."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class KafkaSettings(BaseModel):
    """SLIPWAY_KAFKA__*"""

    model_config = ConfigDict(frozen=True)

    bootstrap_servers: str = "127.0.0.1:9092"
    """host:port, several joined by commas."""
    partitions: int = Field(default=1, ge=1)
    """Partitions of a topic that we create."""
    replication_factor: int = Field(default=1, ge=1)
    """Copies of a topic that we create."""


class ServiceSettings(BaseSettings):
    """What every process is told. A service's own class adds its fields."""

    model_config = SettingsConfigDict(
        env_prefix="SLIPWAY_", env_nested_delimiter="__", frozen=True, extra="ignore", use_attribute_docstrings=True
    )

    kafka: KafkaSettings = KafkaSettings()
    """The broker."""
    host: str = "127.0.0.1"
    """Address that servers bind to."""
    ops_port: int = Field(ge=0, le=65535)
    """Port of /metrics, /live and /ready."""
    log_level: str = "INFO"
    """DEBUG, INFO, WARNING or ERROR."""
    log_format: str = Field(default="auto", pattern="^(auto|console|json)$")
    """auto: console on a terminal, else json."""


class WithFeatureRepo(BaseModel):
    """For services that read the problem."""

    feature_repo: Path = Path("feature_repo")
    """Folder that states the problem."""
