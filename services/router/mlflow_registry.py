"""MLflow's model registry over its REST API: which version carries which alias, and moving one."""

from __future__ import annotations

from typing import Any

import httpx

from services.chassis.errors import Conflict, Unavailable

_API = "/api/2.0/mlflow"
_MISSING = "RESOURCE_DOES_NOT_EXIST"


class MlflowRegistry:
    """Of one registered model. Raises Unavailable if MLflow does not answer or has an error of its own."""

    def __init__(self, client: httpx.AsyncClient, model: str) -> None:
        self._client = client
        self._model = model

    async def aliases(self) -> dict[str, str]:
        """Version by alias; empty if nothing is registered yet."""
        answer = await self._call("GET", "/registered-models/get", params={"name": self._model})
        if answer is None:
            return {}
        listed = answer["registered_model"].get("aliases", [])
        return {entry["alias"]: str(entry["version"]) for entry in listed}

    async def has_version(self, version: str) -> bool:
        """Whether the version is registered."""
        params = {"name": self._model, "version": version}
        return await self._call("GET", "/model-versions/get", params=params) is not None

    async def set_alias(self, alias: str, version: str) -> None:
        """Moves the alias. Raises Conflict if the version does not exist."""
        body = {"name": self._model, "alias": alias, "version": version}
        if await self._call("POST", "/registered-models/alias", json=body) is None:
            raise Conflict(f"version {version} of {self._model} is not registered in MLflow")

    async def delete_alias(self, alias: str) -> None:
        """Takes the alias away; fine if there is none."""
        await self._call("DELETE", "/registered-models/alias", json={"name": self._model, "alias": alias})

    async def _call(self, method: str, path: str, **arguments: Any) -> dict[str, Any] | None:
        """The answer; None if what it is about does not exist."""
        try:
            response = await self._client.request(method, _API + path, **arguments)
        except httpx.HTTPError as error:
            raise Unavailable(f"MLflow does not answer: {error or type(error).__name__}") from error
        if response.is_success:
            answer: dict[str, Any] = response.json()
            return answer
        if response.is_client_error and _error_code(response) == _MISSING:
            return None
        if response.is_client_error:
            raise Conflict(f"MLflow refused {method} {path}: {response.text[:300]}")
        raise Unavailable(f"MLflow answered {response.status_code} to {method} {path}")


def _error_code(response: httpx.Response) -> str:
    try:
        return str(response.json().get("error_code", ""))
    except ValueError:
        return ""
