"""Which version this deployment serves: it follows an MLflow alias, and lets nothing unchecked take over."""

from __future__ import annotations

import asyncio
import time

from services.chassis.errors import Invalid, Unavailable
from services.chassis.lifecycle import Lifecycle
from services.chassis.logging import get_logger
from services.inference.contract import check_schema, parse_contract
from services.inference.feature_client import FeatureClient
from services.inference.loaded_model import LoadedModel, load
from services.inference.metrics import InferenceMetrics
from services.inference.model_cache import Artifacts, ModelCache
from services.inference.registry import ModelRegistry, ModelVersion

PART = "model"
_MAX_CONTRACT_BYTES = 4 * 1024 * 1024


class Deployment:
    """Holds the served version and follows the alias. A swap is one assignment of an immutable model.

    Ready once a version is loaded, or MLflow says that there is no such alias (yet).
    """

    def __init__(
        self,
        model: str,
        variant: str,
        *,
        registry: ModelRegistry,
        cache: ModelCache,
        features: FeatureClient,
        metrics: InferenceMetrics,
        lifecycle: Lifecycle,
        max_model_bytes: int,
        refused_retry_s: float,
    ) -> None:
        self._model = model
        self._variant = variant
        self._registry = registry
        self._cache = cache
        self._features = features
        self._metrics = metrics
        self._lifecycle = lifecycle
        self._max_model_bytes = max_model_bytes
        self._refused_retry_s = refused_retry_s
        self.current: LoadedModel | None = None
        """The version that serves, or None. Read it once for a call."""
        self._confirmed = False
        self._refused: dict[str, tuple[float, str]] = {}
        self.detail = ""
        """Why the alias's version is not the one that is served; "" when it is."""
        self._wait(f"looking up alias {variant!r} of {model!r}")

    async def follow(self, poll_s: float) -> None:
        """Runs until cancelled."""
        while True:
            await self.poll()
            await asyncio.sleep(poll_s)

    async def poll(self) -> None:
        """One look at the alias, and the swap if it names another version. Raises nothing."""
        try:
            await self._follow_alias()
        except Unavailable as error:
            self._wait(str(error))
        except Exception as error:  # the served version must go on, whatever a new one does
            get_logger().exception("alias_poll_failed")
            self._wait(f"{type(error).__name__}: {error}")

    async def _follow_alias(self) -> None:
        try:
            wanted = await self._registry.version_of(self._model, self._variant)
        except Unavailable as unavailable:
            if self.current is None:
                await self._serve_from_cache(unavailable)
            raise
        if wanted is None:
            self._say(f"model {self._model!r} has no alias {self._variant!r}")
            self._lifecycle.ready(PART)
        elif self._confirmed and self.current is not None and self.current.version == wanted:
            self._say("")
        else:
            await self._take_over(wanted)

    async def _take_over(self, wanted: str) -> None:
        until, why = self._refused.get(wanted, (0.0, ""))
        if time.monotonic() < until:
            self._wait(why)
            return
        try:
            version = await self._registry.describe(self._model, wanted)
            artifacts, onnx = await self._obtain(version)
            model = await self._checked(artifacts, onnx)
        except Invalid as error:
            self._refuse(wanted, str(error))
            return
        self._swap(model)
        self._confirmed = True
        try:
            await asyncio.to_thread(self._keep, artifacts, onnx)
        except OSError as error:
            get_logger().warning("model_not_cached", version=wanted, error=str(error))

    async def _obtain(self, version: ModelVersion) -> tuple[Artifacts, bytes]:
        folder = await self._registry.artifacts_of(version)
        contract = parse_contract(
            await self._registry.download(folder, "contract.json", _MAX_CONTRACT_BYTES), version.model
        )
        onnx = await asyncio.to_thread(self._cache.onnx, version.onnx_sha256) if version.onnx_sha256 else None
        if onnx is None:
            onnx = await self._registry.download(folder, "model.onnx", self._max_model_bytes)
        return Artifacts(version=version, contract=contract), onnx

    async def _checked(self, artifacts: Artifacts, onnx: bytes) -> LoadedModel:
        check_schema(artifacts.contract, await self._features.schema(artifacts.contract.feature_service))
        return await asyncio.to_thread(load, artifacts, onnx)

    async def _serve_from_cache(self, why: Unavailable) -> None:
        """What was served before is served again, until MLflow confirms it. Raises Unavailable if it cannot be."""
        artifacts = await asyncio.to_thread(self._cache.last_served, self._model, self._variant)
        onnx = await asyncio.to_thread(self._cache.onnx, artifacts.version.onnx_sha256) if artifacts else None
        if artifacts is None or onnx is None:
            raise Unavailable(f"{why}, and nothing was served before") from why
        try:
            self._swap(await self._checked(artifacts, onnx))
        except Invalid as error:
            raise Unavailable(f"{why}, and the cached version {artifacts.version.version} fails: {error}") from why

    def _keep(self, artifacts: Artifacts, onnx: bytes) -> None:
        self._cache.keep_onnx(onnx)
        self._cache.note_served(self._variant, artifacts)

    def _swap(self, model: LoadedModel) -> None:
        previous = self.current.version if self.current else None
        self.current = model
        self._refused.clear()
        self._metrics.serves(model.name, model.version, model.onnx_sha256)
        self._lifecycle.ready(PART)
        self._say("")
        get_logger().info("model_serves", version=model.version, previous=previous, onnx_sha256=model.onnx_sha256)

    def _refuse(self, version: str, why: str) -> None:
        told = f"version {version} was refused: {why}"
        self._refused[version] = (time.monotonic() + self._refused_retry_s, told)
        self._metrics.refusals.inc()
        get_logger().error("model_refused", version=version, reason=why)
        self._wait(told)

    def _wait(self, why: str) -> None:
        self._say(why)
        if self.current is None:
            self._lifecycle.not_ready(PART, why)

    def _say(self, detail: str) -> None:
        if detail and detail != self.detail:
            get_logger().info("deployment_waits", detail=detail)
        self.detail = detail
