"""Small training sets, and neighbours of the pipeline that tests lead by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from services.chassis.clock import to_us
from services.chassis.errors import Unavailable
from services.problem import Gate, Label, ModelRecipe, Retrain, Spine
from services.training.contract import Column, FeatureSchema
from services.training.dataset import Dataset, TrainingSet
from services.training.mlflow_tracker import DETAIL, ONNX_SHA256, RUN_ID, Artifacts, Champion, Version
from services.training.runs import Run, RunRequest

T0 = datetime(2024, 3, 1, tzinfo=UTC)
FEATURES = ("a", "b", "c")
REQUEST = RunRequest("request-1", "m", T0, T0 + timedelta(days=10), "a hunch", "ann", T0)


def recipe(**changes: Any) -> ModelRecipe:
    day = timedelta(days=1)
    told: dict[str, Any] = {
        "name": "m",
        "feature_service": "m_v1",
        "spine": Spine("order.placed", "due_at", timedelta(hours=1)),
        "label": Label("order_id", {"order.done": "late"}, day),
        "gate": Gate(min_auc=0.6, max_log_loss_increase=0.0),
        "retrain": Retrain(0.25, 0.25, 0.05, 100, day, day, day),
        "parameters": {"num_leaves": 7, "min_data_in_leaf": 10, "num_boost_round": 10},
        "search": {"learning_rate": [0.1, 0.2]},
        "trials": 2,
    }
    return ModelRecipe(**told | changes)


def dataset(rows: int = 600, *, signal: float = 2.0, seed: int = 0, per_moment: int = 1) -> Dataset:
    """`a` tells of the label; some values are missing."""
    chance = np.random.default_rng(seed)
    values = chance.normal(size=(rows, len(FEATURES))).astype(np.float32)
    values[chance.random(values.shape) < 0.1] = np.nan
    labels = chance.random(rows) < 1 / (1 + np.exp(-signal * np.nan_to_num(values[:, 0])))
    moments = to_us(T0) + np.arange(rows, dtype=np.int64) // per_moment * 1_000_000
    return Dataset(FEATURES, values, labels.astype(np.float32), moments)


def write(rows: Dataset, path: Path) -> TrainingSet:
    columns: dict[str, Any] = {"as_of": pa.array(rows.as_of_us).cast(pa.timestamp("us", "UTC")), "label": rows.labels}
    columns |= {name: pa.array(rows.values[:, at], from_pandas=True) for at, name in enumerate(rows.features)}
    pq.write_table(pa.table(columns), path)
    return TrainingSet(str(path), "d1", len(rows), 0, rows.features)


class Killed(BaseException):
    """The process dies here."""


@dataclass
class FakeFeatures:
    """Gives one training set; `down` times it does not answer."""

    told: TrainingSet
    down: int = 0
    built: int = 0

    def schema(self, feature_service: str) -> FeatureSchema:
        return FeatureSchema((Column("k", "BYTES"),), (), self.told.features)

    def build_training_set(self, begin: datetime, end: datetime, tell: Callable[[str], None]) -> TrainingSet:
        if self.down:
            self.down -= 1
            raise Unavailable("features service does not answer")
        self.built += 1
        tell("reads the lake")
        return self.told


@dataclass
class FakeTracker:
    """MLflow as a handful of dictionaries. At call number `fails_at` (from 0) `failure` is raised after its effect."""

    fails_at: int | None = None
    failure: type[BaseException] = Killed
    calls: int = 0
    statuses: dict[str, str] = field(default_factory=dict)
    tags: dict[str, dict[str, str]] = field(default_factory=dict)
    trials: list[Mapping[str, Any]] = field(default_factory=list)
    artifacts: dict[str, Artifacts] = field(default_factory=dict)
    versions: list[tuple[str, Version]] = field(default_factory=list)
    challenger: str = ""
    champion_version: Champion | None = None

    def version_of(self, run_id: str) -> Version | None:
        self._called()
        return next((version for owner, version in self.versions if owner == run_id), None)

    def begin(self, run: Run) -> str:
        for left, tags in self.tags.items():
            if tags[RUN_ID] == run.run_id and self.statuses[left] == "RUNNING":
                self.statuses[left] = "FAILED"
        begun = f"mlflow-{len(self.statuses)}"
        self.statuses[begun], self.tags[begun] = "RUNNING", {RUN_ID: run.run_id}
        self._called()
        return begun

    def log(self, mlflow_run_id: str, parameters: Mapping[str, Any], **measures: float) -> None:
        self._called()

    def tag(self, mlflow_run_id: str, tags: Mapping[str, str]) -> None:
        self.tags[mlflow_run_id] |= tags
        self._called()

    def log_trial(self, parent: str, run_id: str, number: int, parameters: Mapping[str, Any], **told: float) -> None:
        self.trials.append(parameters)
        self._called()

    def end(self, mlflow_run_id: str, outcome: str, detail: str, *, failed: bool = False) -> None:
        self.statuses[mlflow_run_id] = "FAILED" if failed else "FINISHED"
        self.tags[mlflow_run_id] |= {"outcome": outcome, DETAIL: detail}
        self._called()

    def keep(self, mlflow_run_id: str, artifacts: Artifacts) -> None:
        self.artifacts[mlflow_run_id] = artifacts
        self._called()

    def register(self, mlflow_run_id: str, run_id: str, tags: Mapping[str, str]) -> Version:
        made = Version(str(len(self.versions) + 1), mlflow_run_id, tags[ONNX_SHA256], tags[DETAIL])
        found = next((version for owner, version in self.versions if owner == run_id), None)
        if found is None:
            self.versions.append((run_id, made))
        self._called()
        return found or made

    def make_challenger(self, version: str) -> None:
        self.challenger = version
        self._called()

    def champion(self) -> Champion | None:
        self._called()
        return self.champion_version

    def _called(self) -> None:
        fails, self.calls = self.calls == self.fails_at, self.calls + 1
        if fails:
            raise self.failure("MLflow answered too late")
