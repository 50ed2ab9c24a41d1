"""Quality of versions over windows of event time, from the joined rows; windows that did not change are remembered."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import sqlalchemy as sa

from services.chassis.errors import Invalid
from services.monitoring import quality
from services.monitoring.database import Database
from services.monitoring.joiner import Joined
from services.monitoring.schema import Status, predictions

DAY_US = 86_400_000_000
_MOST_WINDOWS = 2000
_REMEMBERED = 4 * _MOST_WINDOWS

_COLUMNS = [
    predictions.c[name] for name in ("version", "variant", "challenger_weight", "as_of_us", "score", "status", "label")
]


@dataclass(frozen=True, slots=True)
class Group:
    """One version as one variant in one window: `[from_us, to_us)` of prediction moments.

    `challenger_weight` (basis points) is the one that all its calls were assigned at; None: any.
    """

    version: str
    variant: str
    from_us: int
    to_us: int
    predictions: int
    scored: quality.Scored
    challenger_weight: int | None = None


@dataclass(frozen=True, slots=True)
class Window:
    """Which rows: bounds on `as_of`, None for no bound; `release_id` "" for every release; each weight apart or not."""

    from_us: int | None = None
    to_us: int | None = None
    release_id: str = ""
    by_weight: bool = False


_WHOLE = Window()

_Key = tuple[str, str, int | None]
"""Version, variant, and the challenger's weight if it is asked for."""


class QualityBook:
    """Thread-safe. `note` tells it what a committed batch changed."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._sequence = 0
        self._changed_days: dict[int, int] = {}
        self._changed_releases: dict[str, int] = {}
        self._remembered: OrderedDict[Window, tuple[int, list[Group]]] = OrderedDict()

    def note(self, joined: Joined) -> None:
        """A batch was committed that changed these days and releases."""
        with self._lock:
            self._sequence += 1
            for day in {moment // DAY_US for moment in joined.as_of_us}:
                self._changed_days[day] = self._sequence
            for release_id in joined.release_ids:
                self._changed_releases[release_id] = self._sequence

    def groups(self, window: Window) -> list[Group]:
        """Every version and variant (and weight) of one window, by version."""
        with self._lock:
            sequence = self._sequence
            found = self._remembered.get(window)
            if found is not None and self._last_change(window) <= found[0]:
                return found[1]
        computed = self._compute(window)
        with self._lock:
            self._remembered[window] = (sequence, computed)
            self._remembered.move_to_end(window)
            while len(self._remembered) > _REMEMBERED:
                self._remembered.popitem(last=False)
        return computed

    def windows(self, span: Window, length_us: int) -> list[Group]:
        """The groups of each window of `length_us` in the span, aligned to the epoch, oldest first; 0: one window.

        Raises Invalid if that makes too many windows.
        """
        if length_us == 0:
            return self.groups(span)
        bounds = self.bounds(span)
        if bounds is None:
            return []
        first, last = bounds[0] // length_us, (bounds[1] - 1) // length_us
        if last - first >= _MOST_WINDOWS:
            raise Invalid(f"window_s: {last - first + 1} windows; choose longer ones, at most {_MOST_WINDOWS}")
        cut = (_cut(span, n * length_us, (n + 1) * length_us) for n in range(first, last + 1))
        return [group for window in cut for group in self.groups(window)]

    def _last_change(self, window: Window) -> int:
        if window.release_id:
            return self._changed_releases.get(window.release_id, 0)
        if window.from_us is None or window.to_us is None:
            return self._sequence
        days = range(window.from_us // DAY_US, (window.to_us - 1) // DAY_US + 1)
        return max((self._changed_days.get(day, 0) for day in days), default=0)

    def bounds(self, span: Window = _WHOLE) -> tuple[int, int] | None:
        """The first prediction moment in the span and the one past the last; None without a prediction."""
        low, high = sa.func.min(predictions.c.as_of_us), sa.func.max(predictions.c.as_of_us)
        with self._database.read() as connection:
            # Apart, each is one step into an index; together they are a scan.
            first = connection.execute(sa.select(low).where(*_conditions(span))).scalar()
            last = connection.execute(sa.select(high).where(*_conditions(span))).scalar()
        return None if first is None or last is None else (first, last + 1)

    def _compute(self, window: Window) -> list[Group]:
        with self._database.read() as connection:
            rows = connection.execute(sa.select(*_COLUMNS).where(*_conditions(window))).all()
        by_group: dict[_Key, list[Any]] = {}
        for version, variant, weight, *rest in rows:
            by_group.setdefault((version, variant, weight if window.by_weight else None), []).append(rest)
        return [_group(key, members, window) for key, members in sorted(by_group.items(), key=_by_version)]


def total(groups: Iterable[Group]) -> tuple[int, float]:
    """Labels and mean log loss (nats) over groups together; the loss of no labels is NaN."""
    parts = [(g.scored.labels, g.scored.log_loss) for g in groups if g.scored.log_loss is not None]
    count = sum(labels for labels, _ in parts)
    return count, (sum(labels * loss for labels, loss in parts) / count if count else float("nan"))


def version_order(version: str) -> tuple[int, str]:
    """Sorts versions as numbers where they are numbers."""
    return (int(version), "") if version.isdecimal() else (0, version)


def _conditions(window: Window) -> list[sa.ColumnElement[bool]]:
    conditions: list[sa.ColumnElement[bool]] = []
    if window.release_id:
        # Repeats the partial index's condition, so that SQLite takes it.
        conditions += [predictions.c.release_id == window.release_id, sa.text("release_id != ''")]  # type: ignore[list-item]
    if window.from_us is not None:
        conditions.append(predictions.c.as_of_us >= window.from_us)
    if window.to_us is not None:
        conditions.append(predictions.c.as_of_us < window.to_us)
    return conditions


def _cut(span: Window, from_us: int, to_us: int) -> Window:
    low = from_us if span.from_us is None else max(span.from_us, from_us)
    high = to_us if span.to_us is None else min(span.to_us, to_us)
    return replace(span, from_us=low, to_us=high)


def _by_version(item: tuple[_Key, Any]) -> tuple[tuple[int, str], str, int]:
    (version, variant, weight), _ = item
    return version_order(version), variant, weight or 0


def _group(key: _Key, rows: list[Any], window: Window) -> Group:
    as_of_us, scores, statuses, labels = zip(*rows, strict=True)
    joined = np.asarray(statuses) == Status.JOINED
    return Group(
        version=key[0],
        variant=key[1],
        challenger_weight=key[2],
        from_us=min(as_of_us) if window.from_us is None else window.from_us,
        to_us=max(as_of_us) + 1 if window.to_us is None else window.to_us,
        predictions=len(rows),
        scored=quality.score(np.asarray(labels, np.float64)[joined], np.asarray(scores, np.float64)[joined]),
    )
