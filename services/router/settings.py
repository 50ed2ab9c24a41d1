"""What the router is told."""

from __future__ import annotations

from pydantic import Field

from services.chassis.settings import ServiceSettings, WithFeatureRepo


class RouterSettings(WithFeatureRepo, ServiceSettings):
    """SLIPWAY_*"""

    grpc_port: int = Field(default=9108, ge=0, le=65535)
    """Port of RouterService."""
    http_port: int = Field(default=8108, ge=0, le=65535)
    """Port of REST and of Envoy's route discovery."""
    ops_port: int = Field(default=9208, ge=0, le=65535)
    """Port of /metrics, /live and /ready."""
    database: str = "sqlite:///router.db"
    """SQLAlchemy URL of the releases."""
    mlflow: str = "http://127.0.0.1:5000"
    """URL of the MLflow server."""
    monitoring: str = "127.0.0.1:9109"
    """host:port of MonitoringService."""
    champion: str = "127.0.0.1:9106"
    """host:port of the champion deployment's gRPC server."""
    challenger: str = "127.0.0.1:9107"
    """host:port of the challenger deployment's gRPC server."""
    envoy_admin: str = "http://127.0.0.1:9901"
    """URL of Envoy's admin port."""
    call_timeout: str = Field(default="5s", pattern=r"^\d+(\.\d+)?s$")
    """The longest that Envoy lets one inference call take, as a protobuf duration."""
    tick_s: float = Field(default=0.25, gt=0)
    """Pause between two looks at the release in progress, seconds."""
    patience_s: float = Field(default=900, gt=0)
    """A release that could not be loaded or measured for so long (wall clock, seconds) ends as an error."""
