"""MLflow's REST API as a transport of httpx, which may lie about what it sends."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field

import httpx

from tests.support.tiny_models import contract_json, logistic_onnx, sha256

_ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts/"
_CHUNK = 65536


@dataclass
class Sent(httpx.AsyncByteStream):
    """A body of chunks, with headers that may say something else; `sent` counts the bytes that were taken."""

    chunks: Iterator[bytes]
    headers: dict[str, str] = field(default_factory=dict)
    breaks: bool = False
    sent: int = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self.chunks:
            self.sent += len(chunk)
            yield chunk
        if self.breaks:
            raise httpx.RemoteProtocolError("peer closed connection without sending complete message body")


def endless() -> Iterator[bytes]:
    while True:
        yield b"\0" * _CHUNK


@dataclass
class Version:
    artifacts: Mapping[str, bytes | Sent]
    tags: Mapping[str, str]
    run_id: str
    artifact_uri: str


class FakeMlflow(httpx.AsyncBaseTransport):
    """One registered model. `register` makes a version that the alias champion then names."""

    def __init__(self, model: str) -> None:
        self._model = model
        self.versions: dict[str, Version] = {}
        self.alias = ""

    def register(
        self,
        version: str,
        onnx: bytes | Sent | None = None,
        *,
        contract: bytes | Sent | None = None,
        digest: str | None = None,
        without: str = "",
        run_id: str | None = None,
        artifact_uri: str | None = None,
    ) -> None:
        onnx = logistic_onnx() if onnx is None else onnx
        artifacts = {"model.onnx": onnx, "contract.json": contract_json() if contract is None else contract}
        if digest is None:
            digest = sha256(onnx) if isinstance(onnx, bytes) else sha256(b"")
        self.versions[version] = Version(
            {name: content for name, content in artifacts.items() if name != without},
            {"slipway.onnx_sha256": digest} if digest else {},
            f"run-{version}" if run_id is None else run_id,
            f"mlflow-artifacts:/0/{version}/artifacts" if artifact_uri is None else artifact_uri,
        )
        self.alias = version

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        path, asked = request.url.path, request.url.params
        if path.startswith(_ARTIFACTS):
            return self._artifact(path.removeprefix(_ARTIFACTS))
        if path.endswith("/registered-models/get"):
            aliases = [{"alias": "champion", "version": self.alias}]
            return _json({"registered_model": {"name": self._model, "aliases": aliases}})
        if path.endswith("/model-versions/get"):
            version = self.versions[asked["version"]]
            tags = [{"key": key, "value": value} for key, value in version.tags.items()]
            return _json({"model_version": {"run_id": version.run_id, "tags": tags}})
        assert path.endswith("/runs/get")
        version = next(version for version in self.versions.values() if version.run_id == asked["run_id"])
        return _json({"run": {"info": {"artifact_uri": version.artifact_uri}}})

    def _artifact(self, path: str) -> httpx.Response:
        _, number, _, _, name = path.split("/")
        content = self.versions[number].artifacts.get(name)
        if content is None:
            return httpx.Response(404)
        if isinstance(content, bytes):
            content = Sent(iter([content]), {"content-length": str(len(content))})
        return httpx.Response(200, headers=content.headers, stream=content)


def _json(answer: object) -> httpx.Response:
    return httpx.Response(200, content=json.dumps(answer).encode())
