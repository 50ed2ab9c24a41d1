"""What MLflow's REST API tells of our model: versions, aliases, and the files that training left with a version."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import httpx

from services.chassis.clock import from_us
from services.chassis.errors import NotFound, Unavailable

_API = "/api/2.0/mlflow"
_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Version:
    """A registered version. `created_at` is wall clock."""

    version: str
    run_id: str
    created_at: datetime
    tags: dict[str, str] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()


class MlflowClient:
    """Every method raises Unavailable if MLflow does not answer, NotFound if it has no such thing."""

    def __init__(self, url: str) -> None:
        self._http = httpx.AsyncClient(base_url=url, timeout=_TIMEOUT_S)

    async def versions(self, model: str) -> list[Version]:
        """Every version of the model, newest first; none if it was never registered."""
        try:
            described = (await self._get(f"{_API}/registered-models/get", {"name": model}))["registered_model"]
        except NotFound:
            return []
        aliases: dict[str, list[str]] = {}
        for alias in described.get("aliases", []):
            aliases.setdefault(str(alias["version"]), []).append(alias["alias"])
        filters = {"filter": f"name='{model}'", "max_results": "1000"}
        found = (await self._get(f"{_API}/model-versions/search", filters)).get("model_versions", [])
        known = [_version(entry, aliases) for entry in found]
        return sorted(known, key=lambda version: version.created_at, reverse=True)

    async def artifact(self, run_id: str, path: str) -> str:
        """The text of one of a run's files."""
        response = await self._answer("/get-artifact", {"run_uuid": run_id, "path": path})
        return response.text

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def _get(self, path: str, parameters: dict[str, str]) -> Any:
        return (await self._answer(path, parameters)).json()

    async def _answer(self, path: str, parameters: dict[str, str]) -> httpx.Response:
        try:
            response = await self._http.get(path, params=parameters)
        except httpx.HTTPError as error:
            raise Unavailable(f"MLflow at {self._http.base_url} does not answer: {error!r}") from error
        if response.status_code == httpx.codes.NOT_FOUND:
            raise NotFound(f"MLflow has no {path} {parameters}")
        if response.is_error:
            raise Unavailable(f"MLflow answered {response.status_code} to {path} {parameters}: {response.text[:200]}")
        return response


def _version(entry: dict[str, Any], aliases: dict[str, list[str]]) -> Version:
    version = str(entry["version"])
    return Version(
        version=version,
        run_id=entry.get("run_id", ""),
        created_at=from_us(int(entry["creation_timestamp"]) * 1000),
        tags={tag["key"]: tag["value"] for tag in entry.get("tags", [])},
        aliases=tuple(sorted(aliases.get(version, []))),
    )
