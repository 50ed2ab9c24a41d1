"""The vectors of a feature service: windowed values from the online store, then what is computed from a request."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.features.definitions import AS_OF, VectorPlan, WindowedView
from services.features.entity_keys import EntityKeys, Key, state_field
from services.features.merging import Floats, Ints
from services.features.on_demand import run_on_demand
from services.features.reading import MISSING, PRESENT, Asked, Reader, Statuses, too_far_back
from services.features.redis_store import ServeStore, Values
from services.features.rows import Rows
from services.features.state import StateLayout


@dataclass(frozen=True, slots=True)
class Vectors:
    """`values` float32 [rows, features], NaN for none; `statuses` a FeatureStatus byte for each; `watermark_us`."""

    values: NDArray[np.float32]
    statuses: Statuses
    watermark_us: int | None


class VectorService:
    """Answers for one feature service."""

    def __init__(self, project: str, plan: VectorPlan, store: ServeStore, history_us: int) -> None:
        self.plan = plan
        self.features = [each.name for each in plan.features]
        self._views = [_View(project, view, self.features) for view in plan.windowed]
        self._reader = Reader([view.layout for view in self._views])
        self._store = store
        self._history_us = history_us

    async def vectors(self, rows: Rows) -> Vectors:
        """Raises OutOfRange for moments before the history, Unavailable, and Invalid if an on-demand view fails."""
        asked = [view.ask(rows) for view in self._views]
        fields: defaultdict[bytes, list[bytes]] = defaultdict(list)
        for view, each in zip(self._views, asked, strict=True):
            for key in each.keys:
                fields[key].append(view.state_field)
        reading = await self._store.read(fields)
        # A state reaches back to its mark, and that is a history behind a watermark that was published before the state
        # was written. So it is no later than what the watermark says that is read after the state. What is final is
        # told by the watermark that was read before.
        self._check_moments(rows.as_of_us, reading.watermark_after_us)
        values, statuses = self._compute(rows, asked, reading.values)
        return Vectors(values, statuses, reading.watermark_before_us)

    def _check_moments(self, as_of_us: Ints, watermark_us: int | None) -> None:
        if watermark_us is not None and (as_of_us < watermark_us - self._history_us).any():
            raise too_far_back(int(as_of_us.min()), watermark_us - self._history_us)

    def _compute(self, rows: Rows, asked: list[_Entities], found: Values) -> tuple[NDArray[np.float32], Statuses]:
        values = np.empty((len(rows.as_of_us), len(self.features)))
        statuses = np.empty(values.shape, np.uint8)
        windowed: dict[str, Floats] = {}
        # The values of a hash are in the order of the views.
        blobs = [[found[key].pop(0) for key in each.keys] for each in asked]
        questions = [
            Asked([*states, None], each.states, rows.as_of_us) for states, each in zip(blobs, asked, strict=True)
        ]
        for view, answers in zip(self._views, self._reader.read(questions), strict=True):
            values[:, view.places] = answers.values[:, view.wanted]
            statuses[:, view.places] = answers.statuses[:, view.wanted]
            windowed |= zip(view.names, answers.values.T, strict=True)
        self._add_on_demand(rows, windowed, values, statuses)
        with np.errstate(over="ignore"):
            return values.astype("<f4"), statuses

    def _add_on_demand(self, rows: Rows, windowed: dict[str, Floats], values: Floats, statuses: Statuses) -> None:
        request = {**rows.columns, AS_OF: rows.as_of} if self.plan.on_demand else {}
        for view in self.plan.on_demand:
            for name, column in run_on_demand(view, request, windowed).items():
                feature = f"{view.name}__{name}"
                if feature in self.features:
                    place = self.features.index(feature)
                    values[:, place] = column
                    statuses[:, place] = np.where(np.isnan(column), MISSING, PRESENT)


@dataclass(frozen=True, slots=True)
class _Entities:
    """`states` says for each row which of the `keys` is its entity; one beyond the last: none."""

    keys: list[bytes]
    states: Ints


class _View:
    """One windowed view of the feature service. `wanted` are the numbers of its aggregations that go to `places`."""

    def __init__(self, project: str, view: WindowedView, features: list[str]) -> None:
        self.state_field = state_field(view.name)
        self.names = [f"{view.name}__{each.name}" for each in view.aggregations]
        self.wanted = [number for number, name in enumerate(self.names) if name in features]
        self.places = [features.index(self.names[number]) for number in self.wanted]
        self._join_keys = view.join_keys
        self._entity_keys = EntityKeys(project, view.join_keys)
        self.layout = StateLayout(view)

    def ask(self, rows: Rows) -> _Entities:
        found = list(zip(*(rows.columns[name] for name in self._join_keys), strict=True))
        numbers: dict[Key, int] = {}
        states = [-1 if None in key else numbers.setdefault(key, len(numbers)) for key in found]
        nobody = len(numbers)
        return _Entities(
            [self._entity_keys.of(key) for key in numbers],
            np.array([nobody if state < 0 else state for state in states], np.int64),
        )
