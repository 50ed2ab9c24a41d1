"""The model's versions as MLflow last told them, and their training references as soon as they are needed."""

from __future__ import annotations

import asyncio
import json

from services.chassis.errors import Invalid, NotFound, SlipwayError
from services.chassis.lifecycle import Lifecycle
from services.chassis.logging import get_logger
from services.contracts.router.v1 import router_pb2
from services.monitoring import metrics
from services.monitoring.database import Database
from services.monitoring.drift_book import DriftBook
from services.monitoring.history import read_releases
from services.monitoring.mlflow_client import MlflowClient, Version

_SERVED = {"champion", "challenger"}


class Registry:
    """Asks MLflow again and again; while it is down the last answer stands."""

    def __init__(self, client: MlflowClient, model: str, drift: DriftBook, database: Database) -> None:
        self._client = client
        self._model = model
        self._drift = drift
        self._database = database
        self._refused: set[str] = set()
        self.versions: list[Version] = []
        self.problem = "MLflow was not asked yet"

    def champion(self) -> str | None:
        """The version that carries the alias; before MLflow answers, that of the last release that succeeded."""
        told = next((v.version for v in self.versions if "champion" in v.aliases), None)
        if told is not None or self.versions:
            return told
        with self._database.read() as connection:
            releases = read_releases(connection)
        ended = (r for r in releases if r.phase == router_pb2.PHASE_SUCCESSFUL)
        return next((r.challenger_version for r in ended), None)

    async def follow(self, lifecycle: Lifecycle, every_s: float) -> None:
        """Refreshes until the process stops."""
        while not lifecycle.stopping.is_set():
            await self.refresh()
            await asyncio.sleep(every_s)

    async def refresh(self) -> None:
        """Asks once. Never raises because of MLflow."""
        try:
            self.versions = await self._client.versions(self._model)
            for version in self.versions:
                if _SERVED & set(version.aliases):
                    await self._keep_reference(version)
            self.problem = ""
        except SlipwayError as error:
            metrics.MLFLOW_ERRORS.inc()
            if str(error) != self.problem:
                get_logger().warning("mlflow_unavailable", error=str(error))
            self.problem = str(error)

    async def _keep_reference(self, version: Version) -> None:
        if version.version in self._refused:
            return
        known = await asyncio.to_thread(self._drift.reference, version.version)
        if known is not None:
            return
        try:
            contract = await self._client.artifact(version.run_id, "model/contract.json")
            reference = await self._client.artifact(version.run_id, "model/reference.json")
            features = json.dumps(json.loads(contract)["features"])
            await asyncio.to_thread(self._drift.keep, version.version, features, reference)
        except (Invalid, NotFound, ValueError, KeyError, TypeError) as error:
            self._refused.add(version.version)
            get_logger().error("reference_refused", version=version.version, error=str(error))
