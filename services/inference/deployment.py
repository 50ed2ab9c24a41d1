"""Which versions this deployment serves: it follows an MLflow alias, and lets nothing unchecked take over."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

from services.chassis.errors import Conflict, NotFound, SlipwayError, Unavailable
from services.chassis.lifecycle import Lifecycle
from services.chassis.logging import get_logger
from services.inference.artifacts import ModelVersion
from services.inference.loaded_model import LoadedModel
from services.inference.loading import VersionLoader
from services.inference.metrics import InferenceMetrics
from services.inference.refusal import Refused
from services.inference.registry import ModelRegistry

PART = "model"
# While a version carries it, a release is in progress.
_RELEASE_ALIAS = "challenger"

Announce = Callable[[bool], Awaitable[None]]


class Deployment:
    """Holds the served version and follows the alias. A swap is one assignment of immutable models.

    The version that served before stays loaded and answers by its number until another takes over or, after
    `previous_kept_s` at least, no release is in progress: no version carries the alias `challenger`.

    Ready once a version is loaded, or MLflow says that there is no such alias (yet).
    """

    def __init__(
        self,
        model: str,
        variant: str,
        *,
        registry: ModelRegistry,
        loader: VersionLoader,
        metrics: InferenceMetrics,
        lifecycle: Lifecycle,
        refused_retry_s: float,
        previous_kept_s: float = 60.0,
        announce: Announce | None = None,
    ) -> None:
        """`announce` is told whether any version serves, when that changes."""
        self._model = model
        self._variant = variant
        self._registry = registry
        self._loader = loader
        self._announce = announce
        self._metrics = metrics
        self._lifecycle = lifecycle
        self._refused_retry_s = refused_retry_s
        self._previous_kept_s = previous_kept_s
        self.loaded: tuple[LoadedModel, ...] = ()
        """The version that serves, then the one before it. Read it once for a call."""
        self.wanted: str | None = None
        """The version that the alias named at the last look; None if there was no such alias."""
        self._swapped_at = 0.0
        self._confirmed = False
        self._announced: bool | None = None
        self._refused: dict[str, tuple[float, Conflict]] = {}
        self._problem: SlipwayError | None = None
        self._looking = asyncio.Lock()
        self._wait(Unavailable(f"looking up alias {variant!r} of {model!r}"))

    @property
    def current(self) -> LoadedModel | None:
        """The version that serves, or None."""
        loaded = self.loaded
        return loaded[0] if loaded else None

    @property
    def detail(self) -> str:
        """Why the alias's version is not the one that is served; "" when it is."""
        return str(self._problem or "")

    async def follow(self, poll_s: float) -> None:
        """Runs until cancelled."""
        while True:
            await self.poll()
            await asyncio.sleep(poll_s)

    async def poll(self) -> None:
        """One look at the alias, and the swap if it names another version. Raises nothing."""
        async with self._looking:
            try:
                await self._follow_alias()
            except Unavailable as error:
                self._wait(error)
            except Exception as error:  # the served version must go on, whatever a new one does
                get_logger().exception("alias_poll_failed")
                self._wait(SlipwayError(f"{type(error).__name__}: {error}"))
            await self._tell()

    async def load_now(self) -> None:
        """Looks at the alias, also at a version that was refused; returns when its version serves.

        Raises NotFound if there is no such alias, Conflict if its version fails a check, Unavailable if a part does not
        answer.
        """
        self._refused.clear()
        # Who asked may leave; a version that is taking over must not be left half-way.
        await asyncio.shield(self.poll())
        if self._problem is not None:
            raise self._problem

    async def unload(self, version: str = "") -> None:
        """Lets go of that version, or of all. Raises Conflict for the one that serves while there is the alias."""
        async with self._looking:
            aliases = await self._registry.aliases(self._model)
            self.wanted = aliases.get(self._variant)
            going = [model for model in self.loaded if version in ("", model.version)]
            if version and not going:
                raise NotFound(f"version {version!r} of {self._model!r} is not loaded")
            if self.wanted is not None and self.current in going:
                what = f"the alias {self._variant!r} decides what serves, and it names version {self.wanted}"
                raise Conflict(f"model {self._model!r} stays loaded: {what}; move or delete the alias")
            self._let_go(self.loaded if self.current in going else going)
            if self.wanted is None:
                self._say(self._no_alias())
            await self._tell()

    async def _follow_alias(self) -> None:
        try:
            aliases = await self._registry.aliases(self._model)
        except Unavailable as unavailable:
            if self.current is None:
                await self._serve_from_disk(unavailable)
            raise
        self.wanted = aliases.get(self._variant)
        self._let_go(self._outlived(aliases))
        if self.wanted is None:
            self._say(self._no_alias())
            self._lifecycle.ready(PART)
        elif self._confirmed and self.current is not None and self.current.version == self.wanted:
            self._say(None)
        else:
            await self._take_over(self.wanted)

    async def _take_over(self, wanted: str) -> None:
        until, refusal = self._refused.get(wanted, (0.0, None))
        if refusal is not None and time.monotonic() < until:
            self._wait(refusal)
            return
        try:
            version = await self._registry.describe(self._model, wanted)
            model = await self._warm(version) or await self._loader.from_registry(version)
        except Refused as error:
            self._refuse(wanted, error)
            return
        self._swap(model)
        self._confirmed = True
        await self._loader.note_served(self._variant, version, model)

    async def _warm(self, version: ModelVersion) -> LoadedModel | None:
        """What is loaded already, if it is that version with those bytes and the features still fit it."""
        for model in self.loaded:
            if (model.version, model.onnx_sha256) == (version.version, version.onnx_sha256):
                await self._loader.check_features(model.contract)
                return model
        return None

    async def _serve_from_disk(self, why: Unavailable) -> None:
        """What was served before is served again, until MLflow confirms it. Raises Unavailable if it cannot be."""
        try:
            self._swap(await self._loader.from_disk(self._model, self._variant))
        except (NotFound, Refused) as error:
            raise Unavailable(f"{why}, and {error}") from why

    def _swap(self, model: LoadedModel) -> None:
        previous = self.current
        if model is not previous:
            self.loaded = (model, previous) if previous is not None else (model,)
            self._swapped_at = time.monotonic()
            self._metrics.serves(model.name, model.version, model.onnx_sha256)
            told = {"version": model.version, "previous": previous.version if previous else None}
            get_logger().info("model_serves", **told, onnx_sha256=model.onnx_sha256)
        self._refused.clear()
        self._lifecycle.ready(PART)
        self._say(None)

    def _no_alias(self) -> NotFound:
        return NotFound(f"model {self._model!r} has no alias {self._variant!r}")

    def _outlived(self, aliases: Mapping[str, str]) -> Sequence[LoadedModel]:
        """The previous version, once its time is over."""
        kept_long_enough = time.monotonic() - self._swapped_at >= self._previous_kept_s
        return self.loaded[1:] if kept_long_enough and _RELEASE_ALIAS not in aliases else ()

    def _let_go(self, going: Sequence[LoadedModel]) -> None:
        if going:
            self.loaded = tuple(model for model in self.loaded if model not in going)
            get_logger().info("models_unloaded", versions=[model.version for model in going])
            if self.current is None:
                self._metrics.serves_nothing()

    def _refuse(self, version: str, error: Refused) -> None:
        told = Conflict(f"version {version} was refused: {error}")
        self._refused[version] = (time.monotonic() + self._refused_retry_s, told)
        self._metrics.refusals.labels(error.check).inc()
        get_logger().error("model_refused", version=version, check=error.check, reason=str(error))
        self._wait(told)

    def _wait(self, problem: SlipwayError) -> None:
        self._say(problem)
        if self.current is None:
            self._lifecycle.not_ready(PART, str(problem))

    def _say(self, problem: SlipwayError | None) -> None:
        if problem is not None and str(problem) != self.detail:
            get_logger().info("deployment_waits", detail=str(problem))
        self._problem = problem

    async def _tell(self) -> None:
        serves = self.current is not None
        if self._announce is not None and serves != self._announced:
            self._announced = serves
            await self._announce(serves)
