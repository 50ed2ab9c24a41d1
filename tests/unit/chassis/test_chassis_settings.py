"""Settings: from SLIPWAY_* variables, bounded, frozen."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import Field, ValidationError

from services.chassis.settings import ServiceSettings, WithFeatureRepo


class Settings(WithFeatureRepo, ServiceSettings):
    """Of a service that exists here only."""

    ops_port: int = Field(default=9999, ge=0, le=65535)


def _settings(monkeypatch: pytest.MonkeyPatch, **variables: str) -> Settings:
    for name, value in variables.items():
        monkeypatch.setenv(f"SLIPWAY_{name}", value)
    return Settings()


def test_the_laptop_needs_no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = _settings(monkeypatch)

    assert settings.kafka.bootstrap_servers == "127.0.0.1:9092"
    assert settings.host == "127.0.0.1"


def test_variables_reach_nested_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = _settings(monkeypatch, KAFKA__BOOTSTRAP_SERVERS="a:1,b:2", KAFKA__PARTITIONS="6", FEATURE_REPO="/p")

    assert settings.kafka.bootstrap_servers == "a:1,b:2"
    assert settings.kafka.partitions == 6
    assert settings.feature_repo == Path("/p")


@pytest.mark.parametrize(
    ("name", "value"),
    [("OPS_PORT", "70000"), ("OPS_PORT", "many"), ("LOG_FORMAT", "xml"), ("KAFKA__PARTITIONS", "0")],
)
def test_a_value_out_of_bounds_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    with pytest.raises(ValidationError, match=name.rpartition("__")[2].lower()):
        _settings(monkeypatch, **{name: value})


def test_variables_of_other_services_do_not_disturb(monkeypatch: pytest.MonkeyPatch) -> None:
    _settings(monkeypatch, SOMETHING_ELSE="1")


def test_nobody_changes_settings_later(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = _settings(monkeypatch)

    with pytest.raises(ValidationError):
        settings.ops_port = 1  # type: ignore[misc]
