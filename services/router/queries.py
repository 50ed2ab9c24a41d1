"""What is served now and what was released, as the router tells it."""

from __future__ import annotations

from dataclasses import dataclass

from services.chassis.errors import SlipwayError
from services.router.assignment import CHAMPION
from services.router.conductor import Conductor
from services.router.mlflow_registry import MlflowRegistry
from services.router.releases import Account, Phase, split_of
from services.router.routes import Split
from services.router.store import ReleaseStore
from services.router.world import World


@dataclass(frozen=True, slots=True)
class Served:
    """Versions are "" where there is none; `applied`: Envoy has taken over the split."""

    champion_version: str
    challenger_version: str
    split: Split
    applied: bool


class Queries:
    """Reads only."""

    def __init__(self, *, store: ReleaseStore, conductor: Conductor, world: World, registry: MlflowRegistry) -> None:
        self._store = store
        self._conductor = conductor
        self._world = world
        self._registry = registry

    def split(self) -> Split:
        """What Envoy is to be told now."""
        return split_of(self._store.current())

    async def served(self) -> Served:
        """The champion by MLflow's alias, or by the last successful release if MLflow does not answer."""
        current = self._store.current()
        split = split_of(current)
        return Served(
            champion_version=await self._champion(),
            challenger_version=current.challenger_version if current and split.release_id else "",
            split=split,
            applied=self._world.applied(current),
        )

    def release(self, release_id: str) -> tuple[Account, str]:
        """An account and what it waits for; "" is the one in progress, else the last. Raises NotFound."""
        account = self._store.account(release_id)
        return account, self._conductor.waiting_for(account.release)

    def releases(self) -> list[tuple[Account, str]]:
        """All of them, newest first."""
        return [(account, self._conductor.waiting_for(account.release)) for account in self._store.accounts()]

    async def _champion(self) -> str:
        try:
            return (await self._registry.aliases()).get(CHAMPION, "")
        except SlipwayError:
            ended = (account.release for account in self._store.accounts())
            promoted = (release for release in ended if release.phase is Phase.SUCCESSFUL)
            return next((release.challenger_version for release in promoted), "")
