"""What the service is told: SLIPWAY_* environment variables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field

from services.chassis.settings import ServiceSettings

DEFAULT_PORTS = {"champion": (9106, 8106, 9206, 9116), "challenger": (9107, 8107, 9207, 9117)}


def _default_port(told: dict[str, Any], which: int) -> int:
    """gRPC, HTTP, ops and fast lane by variant; 0 for a variant that is refused anyway."""
    return DEFAULT_PORTS.get(told.get("variant", ""), (0, 0, 0, 0))[which]


class InferenceSettings(ServiceSettings):
    """SLIPWAY_*; the ports default to the laptop's, by variant."""

    model: str = Field(min_length=1)
    """Registered model that is served."""
    variant: str = Field(default="champion", pattern="^(champion|challenger)$")
    """The MLflow alias that this deployment follows."""
    grpc_port: int = Field(default_factory=lambda told: _default_port(told, 0), ge=0, le=65535)
    """Port of the Open Inference Protocol over gRPC."""
    http_port: int = Field(default_factory=lambda told: _default_port(told, 1), ge=0, le=65535)
    """Port of its REST form, of the clouds' container contracts, and of /docs."""
    ops_port: int = Field(default_factory=lambda told: _default_port(told, 2), ge=0, le=65535)
    """Port of /metrics, /live and /ready."""
    fast_port: int = Field(default_factory=lambda told: _default_port(told, 3), ge=0, le=65535)
    """Port of the fast lane: ModelInfer alone, over gRPC."""
    fast_lane: bool = True
    """Whether there is a fast lane; without it ModelInfer is answered on the gRPC port, as ever."""
    mlflow: str = "http://127.0.0.1:5000"
    """URL of the MLflow server, which also proxies its artifacts."""
    features: str = "127.0.0.1:9104"
    """host:port of the features service."""
    model_cache: Path = Path(".slipway/models")
    """Folder of models by digest; what was served last is served again while MLflow is down."""

    alias_poll_s: float = Field(default=1.0, gt=0)
    """How often the alias is looked up."""
    refused_retry_s: float = Field(default=30.0, gt=0)
    """How long a version that failed its checks is left alone."""
    max_model_bytes: int = Field(default=256 * 1024 * 1024, gt=0)
    """A larger model.onnx is refused."""

    features_timeout_s: float = Field(default=2.0, gt=0)
    """The longest wait for the features service."""
    max_call_rows: int = Field(default=1024, gt=0)
    """Rows of one ModelInfer call."""
    max_batch_rows: int = Field(default=256, gt=0)
    """Rows of several calls that share one question to the features service."""
    max_waiting_rows: int = Field(default=4096, gt=0)
    """Rows that may wait for their turn; calls beyond are refused."""
    max_questions: int = Field(default=4, gt=0)
    """Questions to the features service at the same time."""

    record_queue_rows: int = Field(default=100_000, gt=0)
    """Predictions that wait for Kafka; when it is full, calls are refused."""
    drain_s: float = Field(default=2.0, gt=0)
    """At the end: the longest wait for calls in progress, and then for Kafka."""
