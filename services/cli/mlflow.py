"""What MLflow's REST API tells of a registered model."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import httpx

from services.chassis.clock import from_us
from services.chassis.errors import NotFound, Unavailable
from services.cli.rpc import IS_IT_RUNNING

_API = "/api/2.0/mlflow"
_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Version:
    """A registered version. `created_at` is wall clock."""

    version: str
    run_id: str
    created_at: datetime
    tags: dict[str, str]
    aliases: tuple[str, ...]


class Mlflow:
    """Every method raises Unavailable if MLflow does not answer, NotFound if it has no such thing."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._http = httpx.Client(base_url=url, timeout=_TIMEOUT_S, trust_env=False)

    def versions(self, model: str) -> list[Version]:
        """Newest first; none if the model was never registered."""
        try:
            described = self._get("registered-models/get", name=model)["registered_model"]
        except NotFound:
            return []
        aliases: dict[str, list[str]] = {}
        for alias in described.get("aliases", []):
            aliases.setdefault(str(alias["version"]), []).append(alias["alias"])
        found = self._get("model-versions/search", filter=f"name='{model}'", max_results="1000")
        versions = [_version(entry, aliases) for entry in found.get("model_versions", [])]
        return sorted(versions, key=lambda version: int(version.version), reverse=True)

    def metrics(self, run_id: str) -> dict[str, float]:
        """The last value of each metric of a run."""
        data = self._get("runs/get", run_id=run_id)["run"]["data"]
        return {metric["key"]: float(metric["value"]) for metric in data.get("metrics", [])}

    def _get(self, path: str, **parameters: str) -> Any:
        try:
            response = self._http.get(f"{_API}/{path}", params=parameters)
        except httpx.HTTPError as error:
            raise Unavailable(f"MLflow does not answer on {self.url}. {IS_IT_RUNNING}") from error
        if response.status_code == httpx.codes.NOT_FOUND:
            raise NotFound(f"MLflow has no {path} {parameters}")
        if response.is_error:
            raise Unavailable(f"MLflow answered {response.status_code} to {path}: {response.text[:200]}")
        return response.json()


def _version(entry: dict[str, Any], aliases: dict[str, list[str]]) -> Version:
    version = str(entry["version"])
    return Version(
        version=version,
        run_id=entry.get("run_id", ""),
        created_at=from_us(int(entry["creation_timestamp"]) * 1000),
        tags={tag["key"]: tag["value"] for tag in entry.get("tags", [])},
        aliases=tuple(sorted(aliases.get(version, []))),
    )
