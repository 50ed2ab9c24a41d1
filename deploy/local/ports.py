"""Who listens where on a laptop. `SLIPWAY_PORT_OFFSET` moves all of it."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields

from services.chassis.errors import Invalid

LOOPBACK = "127.0.0.1"
_HIGHEST_PORT = 65_535
_OFFSET = "SLIPWAY_PORT_OFFSET"


@dataclass(frozen=True, slots=True)
class Ports:
    """Port numbers by `<process>_<kind>`; see the table in docs/architecture.md."""

    kafka: int = 9092
    kafka_controller: int = 9093
    redis: int = 6379
    mlflow: int = 5000
    envoy: int = 8080
    envoy_admin: int = 9901
    ingestion_grpc: int = 9101
    ingestion_http: int = 8101
    ingestion_ops: int = 9201
    lake_ops: int = 9202
    features_stream_ops: int = 9203
    features_grpc: int = 9104
    features_ops: int = 9204
    training_grpc: int = 9105
    training_ops: int = 9205
    inference_champion_grpc: int = 9106
    inference_champion_http: int = 8106
    inference_champion_fast: int = 9116
    inference_champion_ops: int = 9206
    inference_challenger_grpc: int = 9107
    inference_challenger_http: int = 8107
    inference_challenger_fast: int = 9117
    inference_challenger_ops: int = 9207
    router_grpc: int = 9108
    router_http: int = 8108
    router_ops: int = 9208
    monitoring_grpc: int = 9109
    monitoring_http: int = 8109
    monitoring_ops: int = 9209

    def moved(self, offset: int) -> Ports:
        """All ports, `offset` higher."""
        return Ports(**{field.name: getattr(self, field.name) + offset for field in fields(self)})

    def of(self, process: str) -> dict[str, int]:
        """The ports of one process by kind: `{"grpc": 9101, …}`; parts have their own name as the kind."""
        prefix = process.replace("-", "_")
        return {
            field.name.removeprefix(prefix).lstrip("_") or prefix: getattr(self, field.name)
            for field in fields(self)
            if field.name == prefix
            or field.name.removeprefix(f"{prefix}_") in {"grpc", "http", "ops", "fast", "admin", "controller"}
        }


def local_ports() -> Ports:
    """The laptop's ports, moved by `SLIPWAY_PORT_OFFSET`. Raises Invalid if that is no number or moves them too far."""
    text = os.environ.get(_OFFSET, "0")
    standard = Ports()
    most = _HIGHEST_PORT - max(getattr(standard, field.name) for field in fields(standard))
    if not (text.isascii() and text.isdigit() and int(text) <= most):
        raise Invalid(f"{_OFFSET}: expected a number from 0 to {most}, got {text!r}")
    return standard.moved(int(text))


def address(port: int) -> str:
    """`host:port` on loopback."""
    return f"{LOOPBACK}:{port}"
