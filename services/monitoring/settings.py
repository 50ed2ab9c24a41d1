"""Settings of monitoring."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field

from services.chassis.settings import ServiceSettings, WithFeatureRepo

_OPS = {
    "ingestion": "127.0.0.1:9201",
    "lake": "127.0.0.1:9202",
    "features-stream": "127.0.0.1:9203",
    "features": "127.0.0.1:9204",
    "training": "127.0.0.1:9205",
    "inference-champion": "127.0.0.1:9206",
    "inference-challenger": "127.0.0.1:9207",
    "router": "127.0.0.1:9208",
    "monitoring": "127.0.0.1:9209",
}


class MonitoringSettings(ServiceSettings, WithFeatureRepo):
    """SLIPWAY_*"""

    grpc_port: int = Field(default=9109, ge=0, le=65535)
    """Port of MonitoringService."""
    http_port: int = Field(default=8109, ge=0, le=65535)
    """Port of the console."""
    ops_port: int = Field(default=9209, ge=0, le=65535)
    """Port of /metrics, /live and /ready."""
    database: str = "sqlite:///monitoring.db"
    """SQLAlchemy URL of predictions, outcomes and offsets."""
    mlflow: str = "http://127.0.0.1:5000"
    """URL of the MLflow server: versions, aliases and training references."""
    mlflow_poll_s: float = Field(default=3.0, gt=0)
    """How often MLflow is asked for versions and aliases."""
    router: str = "127.0.0.1:9108"
    """host:port of RouterService, for the split and the console's buttons."""
    training: str = "127.0.0.1:9105"
    """host:port of TrainingService, for runs in progress."""
    ops: dict[str, str] = _OPS
    """host:port of each process's ops server (JSON object), for the console's flow."""
    outcome_margin_days: float = Field(default=30.0, gt=0)
    """Event time past the label's horizon for which an outcome without a prediction is kept."""

    @property
    def outcome_margin(self) -> timedelta:
        """`outcome_margin_days` as a duration."""
        return timedelta(days=self.outcome_margin_days)
