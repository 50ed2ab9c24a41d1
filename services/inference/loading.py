"""How a version gets into memory: from the registry or the disk, and through every check."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from services.chassis.errors import Invalid, NotFound
from services.chassis.logging import get_logger
from services.inference.artifacts import Artifacts, ModelVersion
from services.inference.contract import ModelContract, check_schema, parse_contract
from services.inference.feature_client import FeatureClient
from services.inference.loaded_model import LoadedModel, check_digest, load
from services.inference.model_cache import ModelCache
from services.inference.refusal import Check, Refused
from services.inference.registry import DIGEST_TAG, ModelRegistry
from services.inference.trial import prove

_MAX_CONTRACT_BYTES = 4 * 1024 * 1024

Prove = Callable[[Artifacts, bytes], Awaitable[None]]


class VersionLoader:
    """Raises Refused if a version fails a check, Unavailable if MLflow or the features service does not answer."""

    def __init__(
        self,
        registry: ModelRegistry,
        cache: ModelCache,
        features: FeatureClient,
        *,
        max_model_bytes: int,
        prove: Prove = prove,
    ) -> None:
        """`prove` tries a version where it can do no harm."""
        self._registry = registry
        self._cache = cache
        self._features = features
        self._max_model_bytes = max_model_bytes
        self._prove = prove
        self._proven: set[str] = set()

    async def from_registry(self, version: ModelVersion) -> LoadedModel:
        """Downloads what the disk does not have, checks it, and keeps it on disk."""
        folder = await self._registry.artifacts_of(version)
        raw_contract = await self._registry.download(folder, "contract.json", _MAX_CONTRACT_BYTES)
        artifacts = Artifacts(version=version, contract=parse_contract(raw_contract, version.model))
        if not version.onnx_sha256:
            raise Refused(Check.DIGEST, f"the tag {DIGEST_TAG} says nothing, expected the digest of model.onnx")
        onnx = await asyncio.to_thread(self._cache.onnx, version.onnx_sha256)
        if onnx is not None:
            return await self._checked(artifacts, onnx)
        onnx = await self._registry.download(folder, "model.onnx", self._max_model_bytes)
        model = await self._checked(artifacts, onnx)
        await self._keep(self._cache.keep_onnx, onnx)
        return model

    async def from_disk(self, model: str, variant: str) -> LoadedModel:
        """What that deployment served last. Raises NotFound if it is not there or not whole."""
        artifacts = await asyncio.to_thread(self._cache.last_served, model, variant)
        if artifacts is None:
            raise NotFound("nothing was served before")
        version = artifacts.version
        onnx = await asyncio.to_thread(self._cache.onnx, version.onnx_sha256)
        if onnx is None:
            raise NotFound(f"the cached version {version.version} is damaged or gone")
        try:
            return await self._checked(artifacts, onnx)
        except Refused as error:
            raise Refused(error.check, f"the cached version {version.version} fails: {error}") from error

    async def check_features(self, contract: ModelContract) -> None:
        """Raises Refused unless the features service asks for and gives what the contract says."""
        try:
            schema = await self._features.schema(contract.feature_service)
        except Invalid as error:
            raise Refused(Check.CONTRACT, str(error)) from error
        check_schema(contract, schema)

    async def note_served(self, variant: str, version: ModelVersion, model: LoadedModel) -> None:
        """So that a restart without MLflow knows."""
        await self._keep(self._cache.note_served, variant, Artifacts(version=version, contract=model.contract))
        await self._keep(self._cache.forget_old)

    async def _checked(self, artifacts: Artifacts, onnx: bytes) -> LoadedModel:
        await self.check_features(artifacts.contract)
        check_digest(artifacts.version, onnx)
        if artifacts.version.onnx_sha256 not in self._proven:
            await self._prove(artifacts, onnx)
        model = await asyncio.to_thread(load, artifacts, onnx)
        self._proven.add(model.onnx_sha256)
        return model

    async def _keep(self, write: Callable[..., None], *what: object) -> None:
        """A disk that refuses costs the cache, not the serving."""
        try:
            await asyncio.to_thread(write, *what)
        except OSError as error:
            get_logger().warning("model_not_cached", error=str(error))
