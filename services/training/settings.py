"""What training is told."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from services.chassis.settings import ServiceSettings, WithFeatureRepo


class TrainingSettings(WithFeatureRepo, ServiceSettings):
    """SLIPWAY_*"""

    grpc_port: int = Field(default=9105, ge=0, le=65535)
    """Port of TrainingService."""
    ops_port: int = Field(default=9205, ge=0, le=65535)
    """Port of /metrics, /live and /ready."""
    training_state: Path = Path(".slipway/training")
    """Folder of the runs, the queue and the records that Kafka does not have yet."""
    features: str = "127.0.0.1:9104"
    """host:port of the features service."""
    mlflow: str = "http://127.0.0.1:5000"
    """URL of the MLflow server."""
    patience_s: float = Field(default=600, gt=0)
    """How long a run waits for MLflow, the features service or its lake before it ends as an error, seconds."""
    dataset_timeout_s: float = Field(default=3600, gt=0)
    """The longest that building one training set may take, seconds."""
    min_rows: int = Field(default=200, ge=10)
    """A training set with fewer rows is not used."""
    threads: int = Field(default=2, ge=1, le=2)
    """Threads of LightGBM and of onnxruntime; the model does not depend on it."""
    attempts: int = Field(default=3, ge=1)
    """How often a run is started, again only after a crash, before it ends as an error."""
