"""Point-in-time training sets: the spine's rows, their vectors as serving would have given them, their labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from services.chassis.clock import from_us, rfc3339, to_us
from services.chassis.errors import Invalid
from services.chassis.logging import get_logger
from services.features.definitions import AS_OF, DataType, Definitions, OnDemandView, VectorFeature, VectorPlan
from services.features.lake import Lake, Snapshot, Tell
from services.features.offline_engine import OfflineEngine, connected
from services.features.on_demand import run_on_demand
from services.features.spine import ENTITY, LABEL, Period, instants_us, spine
from services.features.training_files import scratch_folder, write_training_set
from services.problem import ModelRecipe

Floats = NDArray[np.float64]

_MICROSECOND = timedelta(microseconds=1)
_MOMENT = pa.timestamp("us", tz="UTC")
_LABEL = "label"
_ARROW = {DataType.STRING: pa.string(), DataType.INT64: pa.int64(), DataType.DOUBLE: pa.float64()}
_CHUNK = 20_000
_MEMORY_MB = 2_000


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """`uri` is a Parquet file; `digest` SHA-256 over its rows in order, in hex."""

    uri: str
    digest: str
    rows: int
    unlabelled_rows: int
    features: tuple[str, ...]


class TrainingSets:
    """Builds them into a folder. Blocks its caller; several threads may build at once."""

    def __init__(
        self, definitions: Definitions, recipe: ModelRecipe, lake: Lake, folder: Path, wait_s: float = 60.0
    ) -> None:
        """`wait_s`: how long a build waits for a lake that has not come far enough."""
        self._plan = definitions.service(recipe.feature_service)
        self._recipe = recipe
        self._lake = lake
        self._folder = folder
        self._wait_s = wait_s
        _check_names(self._plan, recipe)

    def build(
        self,
        from_: datetime,
        to: datetime,
        known_by: datetime | None = None,
        tell: Tell = lambda _: None,
        *,
        labels: bool = True,
    ) -> TrainingSet:
        """Labelled rows with their moment in [from_, to) and the label's horizon over before `known_by` (None: `to`).

        Without `labels`: every row with its moment in the range, also if there is none, and no column for a label.
        Nothing that became available at `known_by` or later is used.
        `tell` hears what is being done. Raises Invalid if the range is none or holds no labelled row, Conflict if the
        lake does not reach `known_by` in time, Unavailable if it cannot be read.
        """
        known_by = known_by or to
        if not from_ < to <= known_by:
            given = f"from {rfc3339(from_)}, to {rfc3339(to)}, known_by {rfc3339(known_by)}"
            raise Invalid(f"training set: {given}; they must be from < to <= known_by")
        snapshot = self._lake.snapshot_known_by(self._event_types(labels), known_by, self._wait_s, tell)
        period = Period(to_us(from_), to_us(to), to_us(known_by))
        self._folder.mkdir(parents=True, exist_ok=True)
        with scratch_folder(self._folder) as scratch:
            rows = self._rows(snapshot, period, scratch, tell, labels)
            found = rows.num_rows
            if labels:
                rows = self._labelled(rows, period, tell)
            features = self._features(rows, OfflineEngine(snapshot, scratch, _MEMORY_MB), tell)
        tell(f"writing {rows.num_rows} rows of {len(features)} features")
        table = self._table(rows, features)
        digest, path = write_training_set(table, self._folder, _origin(self._recipe, period, snapshot))
        get_logger().info("training_set_built", digest=digest, rows=table.num_rows, versions=snapshot.versions)
        return TrainingSet(path.resolve().as_uri(), digest, table.num_rows, found - table.num_rows, tuple(features))

    def _event_types(self, labels: bool) -> list[str]:
        windowed = [view.event_type for view in self._plan.windowed]
        outcomes = self._recipe.label.outcomes if labels else ()
        return list(dict.fromkeys([self._recipe.spine.event_type, *outcomes, *windowed]))

    def _rows(self, snapshot: Snapshot, period: Period, scratch: Path, tell: Tell, labels: bool) -> pa.Table:
        """The rows of the range, ordered."""
        outcomes = f", outcomes of {', '.join(self._recipe.label.outcomes)}" if labels else ""
        tell(f"rows of {self._recipe.spine.event_type}{outcomes}")
        with connected(scratch, _MEMORY_MB) as connection:
            found = spine(snapshot, self._recipe, self._plan, period, labels=labels)
            if found is None:
                raise Invalid(self._nothing_found(period, 0))
            return connection.to_pyarrow(found.order_by([AS_OF, ENTITY]))

    def _labelled(self, rows: pa.Table, period: Period, tell: Tell) -> pa.Table:
        """Those with a label."""
        self._tell_open(rows, period, tell)
        labelled = rows.filter(rows[LABEL].is_valid())
        if not labelled.num_rows:
            raise Invalid(self._nothing_found(period, rows.num_rows))
        return labelled

    def _tell_open(self, rows: pa.Table, period: Period, tell: Tell) -> None:
        horizon = self._recipe.label.horizon
        still_open = pc.sum(pc.greater_equal(rows[AS_OF], period.known_by_us - horizon // _MICROSECOND)).as_py()
        if still_open:
            known_by = rfc3339(from_us(period.known_by_us))
            tell(
                f"{still_open} of {rows.num_rows} rows left out: {horizon} after their moment was not before {known_by}"
            )

    def _features(self, rows: pa.Table, engine: OfflineEngine, tell: Tell) -> dict[str, Floats]:
        """The vectors by feature name, in the order of the feature service."""
        values: dict[str, Floats] = {}
        for number, view in enumerate(self._plan.windowed, start=1):
            tell(f"windowed features of {view.name} ({number} of {len(self._plan.windowed)})")
            found = engine.values(view, rows)
            values |= {VectorFeature(view.name, name).name: column for name, column in found.items()}
        for computed in self._plan.on_demand:
            tell(f"on-demand features of {computed.name}")
            values |= _computed(computed, rows, values)
        return {each.name: values[each.name] for each in self._plan.features}

    def _table(self, rows: pa.Table, features: Mapping[str, Floats]) -> pa.Table:
        entity_id = self._recipe.label.entity_id
        columns = {entity_id: rows[ENTITY], AS_OF: rows[AS_OF].cast(_MOMENT)}
        columns |= {each.name: rows[each.name] for each in self._plan.columns if each.name != entity_id}
        with np.errstate(over="ignore"):
            columns |= {name: pa.array(values.astype(np.float32)) for name, values in features.items()}
        if LABEL in rows.column_names:
            columns[_LABEL] = rows[LABEL].cast(pa.float32())
        return pa.table(columns)

    def _nothing_found(self, period: Period, unlabelled: int) -> str:
        event_type, outcomes = self._recipe.spine.event_type, ", ".join(self._recipe.label.outcomes)
        horizon = self._recipe.label.horizon
        first, last, known_by = (rfc3339(from_us(us)) for us in (period.from_us, period.to_us, period.known_by_us))
        if not unlabelled:
            return f"training set: no {event_type} has its prediction moment in [{first}, {last}) and was known by then"
        return (
            f"training set: {unlabelled} rows of {event_type} have their prediction moment in [{first}, {last}), but "
            f"{outcomes} tell none of their labels within {horizon} of the moment, over before {known_by}"
        )


def _computed(view: OnDemandView, rows: pa.Table, windowed: Mapping[str, Floats]) -> dict[str, Floats]:
    """The view's outputs by feature name; in chunks, since its function takes lists. No rows: it is not asked."""
    chunks = [dict.fromkeys(view.outputs, np.empty(0))]
    for start in range(0, rows.num_rows, _CHUNK):
        part = rows.slice(start, _CHUNK)
        request = {each.name: _request_values(part[each.name], each.data_type) for each in view.request_fields}
        inputs = {each.name: windowed[each.name][start : start + _CHUNK] for each in view.inputs}
        chunks.append(run_on_demand(view, request, inputs))
    return {
        VectorFeature(view.name, name).name: np.concatenate([chunk[name] for chunk in chunks]) for name in view.outputs
    }


def _request_values(column: pa.ChunkedArray, data_type: DataType) -> list[Any]:
    """As a client's would reach the function."""
    if data_type is DataType.TIMESTAMP:
        moments = column if pa.types.is_integer(column.type) else instants_us(column)
        return [None if us is None else from_us(us) for us in moments.to_pylist()]
    values: list[Any] = column.cast(_ARROW[data_type]).to_pylist()
    return values


def _check_names(plan: VectorPlan, recipe: ModelRecipe) -> None:
    """Raises Invalid if two columns of the file would have one name."""
    columns = {recipe.label.entity_id, *(each.name for each in plan.columns)}
    if taken := columns & {AS_OF, _LABEL, *(each.name for each in plan.features)}:
        raise Invalid(f"feature service {plan.name!r}: {min(taken)!r} is taken in training sets; rename the field")


def _origin(recipe: ModelRecipe, period: Period, snapshot: Snapshot) -> dict[str, str]:
    """Where the rows come from, for the file's metadata."""
    moments = {"from": period.from_us, "to": period.to_us, "known_by": period.known_by_us}
    return {
        "feature_service": recipe.feature_service,
        **{name: rfc3339(from_us(us)) for name, us in moments.items()},
        **{f"version of {name}": str(version) for name, version in snapshot.versions.items()},
    }
