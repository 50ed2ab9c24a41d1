"""Where the platform is: SLIPWAY_* environment variables, else the laptop's ports (with SLIPWAY_PORT_OFFSET)."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from deploy.local.home import local_feature_repo
from deploy.local.ports import address, local_ports
from services.chassis.errors import Invalid
from services.chassis.settings import KafkaSettings
from services.problem import ModelRecipe, load_recipe


def _local_kafka() -> KafkaSettings:
    return KafkaSettings(bootstrap_servers=address(local_ports().kafka))


class CliSettings(BaseSettings):
    """SLIPWAY_*; every default is the laptop's."""

    model_config = SettingsConfigDict(
        env_prefix="SLIPWAY_", env_nested_delimiter="__", frozen=True, extra="ignore", use_attribute_docstrings=True
    )

    feature_repo: Path = Field(default_factory=local_feature_repo)
    """Folder that states the problem."""
    kafka: KafkaSettings = Field(default_factory=_local_kafka)
    """The broker."""
    envoy: str = Field(default_factory=lambda: address(local_ports().envoy))
    """host:port of Envoy, where predictions are asked for."""
    router: str = Field(default_factory=lambda: address(local_ports().router_grpc))
    """host:port of RouterService."""
    features: str = Field(default_factory=lambda: address(local_ports().features_grpc))
    """host:port of FeaturesService, which builds the rows of a batch prediction."""
    training: str = Field(default_factory=lambda: address(local_ports().training_grpc))
    """host:port of TrainingService."""
    monitoring: str = Field(default_factory=lambda: address(local_ports().monitoring_grpc))
    """host:port of MonitoringService."""
    mlflow: str = Field(default_factory=lambda: f"http://{address(local_ports().mlflow)}")
    """URL of the MLflow server."""

    @property
    def recipe(self) -> ModelRecipe:
        """What the platform predicts."""
        return load_recipe(self.feature_repo)


def cli_settings() -> CliSettings:
    """From the environment. Raises Invalid, naming the variable."""
    try:
        return CliSettings()
    except ValidationError as error:
        first = error.errors()[0]
        variable = "SLIPWAY_" + "__".join(str(part) for part in first["loc"]).upper()
        raise Invalid(f"{variable}: {first['msg']}") from error
