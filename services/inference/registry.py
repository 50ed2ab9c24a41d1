"""MLflow's REST API, as far as serving needs it: alias → version → artifacts, over HTTP alone."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from services.chassis.errors import Unavailable
from services.inference.artifacts import ModelVersion
from services.inference.refusal import Check, Refused

_API = "api/2.0/mlflow"
_ARTIFACTS = "api/2.0/mlflow-artifacts/artifacts"
DIGEST_TAG = "slipway.onnx_sha256"
# A compressed answer could be a thousand times its bytes.
_AS_IT_IS = {"Accept-Encoding": "identity"}


class ModelRegistry:
    """Reads registered models of one MLflow server. Every method raises Unavailable if it does not answer."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def aliases(self, model: str) -> dict[str, str]:
        """Version by alias; empty if there is no such model."""
        found = await self._get(f"{_API}/registered-models/get", name=model)
        aliases = (found or {}).get("registered_model", {}).get("aliases", [])
        return {entry["alias"]: str(entry["version"]) for entry in aliases}

    async def describe(self, model: str, version: str) -> ModelVersion:
        """The version's source run and digest. Raises Refused if it was deleted meanwhile."""
        found = await self._get(f"{_API}/model-versions/get", name=model, version=version)
        if found is None:
            raise Refused(Check.ARTIFACT, f"version {version} of {model!r} does not exist any more")
        described = found["model_version"]
        tags = {tag["key"]: tag["value"] for tag in described.get("tags", [])}
        return ModelVersion(
            model=model,
            version=version,
            run_id=described.get("run_id", ""),
            onnx_sha256=tags.get(DIGEST_TAG, ""),
        )

    async def artifacts_of(self, version: ModelVersion) -> str:
        """Path of the version's artifacts behind the artifact proxy. Raises Refused if they are not proxied."""
        found = await self._get(f"{_API}/runs/get", run_id=version.run_id) if version.run_id else None
        if found is None:
            what = f"version {version.version} of {version.model!r} has no source run"
            raise Refused(Check.ARTIFACT, f"{what}; register it from its run")
        uri = urlsplit(found["run"]["info"]["artifact_uri"])
        if uri.scheme != "mlflow-artifacts":
            what = f"run {version.run_id} keeps its artifacts at {uri.scheme!r}"
            raise Refused(Check.ARTIFACT, f"{what}; start MLflow with artifact proxy")
        return f"{uri.path.strip('/')}/model"

    async def download(self, folder: str, name: str, max_bytes: int) -> bytes:
        """The bytes of one artifact. Raises Refused if it does not exist or is larger than `max_bytes`.

        What the server says of the size is believed only if it is too much; at most `max_bytes` and a chunk are read.
        """
        what = f"artifact {folder}/{name}"
        path = f"{_ARTIFACTS}/{quote(folder)}/{quote(name)}"
        try:
            async with self._http.stream("GET", path, headers=_AS_IT_IS) as answer:
                if answer.status_code == httpx.codes.NOT_FOUND:
                    raise Refused(Check.ARTIFACT, f"{what} does not exist")
                _raise_for_status(answer)
                return await _bounded(answer, what, max_bytes)
        except httpx.HTTPError as error:
            raise self._no_answer(error) from error

    async def _get(self, path: str, **query: str) -> dict[str, Any] | None:
        """The JSON answer; None if MLflow says that there is no such thing."""
        try:
            answer = await self._http.get(path, params=query)
            if answer.status_code == httpx.codes.NOT_FOUND and "RESOURCE_DOES_NOT_EXIST" in answer.text:
                return None
            _raise_for_status(answer)
            found: dict[str, Any] = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise self._no_answer(error) from error
        return found

    def _no_answer(self, error: Exception) -> Unavailable:
        return Unavailable(f"MLflow at {self._http.base_url} does not answer: {error or type(error).__name__}")


async def _bounded(answer: httpx.Response, what: str, max_bytes: int) -> bytes:
    claimed = answer.headers.get("content-length", "0")
    if claimed.isdecimal() and int(claimed) > max_bytes:
        raise Refused(Check.ARTIFACT, f"{what} has {claimed} bytes, expected at most {max_bytes}")
    if (encoding := answer.headers.get("content-encoding", "identity")) != "identity":
        raise Refused(Check.ARTIFACT, f"{what} comes encoded as {encoding!r}, expected it as it is")
    content = bytearray()
    async for chunk in answer.aiter_raw():
        content += chunk
        if len(content) > max_bytes:
            raise Refused(Check.ARTIFACT, f"{what} has more than {max_bytes} bytes")
    return bytes(content)


def _raise_for_status(answer: httpx.Response) -> None:
    if not answer.is_success:
        raise Unavailable(f"MLflow answered {answer.status_code} to {answer.request.url.path}")
