"""Predictions and outcomes joined from outside: Kafka's exposure log against the lake, by Arrow alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc
from sklearn.metrics import log_loss, roc_auc_score

from services.chassis.clock import from_us, to_us

_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class JoinCounts:
    """Different predictions by what became of them. `repeats`: records of a prediction beyond its first."""

    predictions: int
    repeats: int
    joined: int
    void: int

    @property
    def open(self) -> int:
        """No outcome within the horizon."""
        return self.predictions - self.joined - self.void


@dataclass(frozen=True, slots=True)
class Score:
    """Quality of one version's joined predictions with as-of moments in [since, until)."""

    version: str
    since: datetime
    until: datetime
    labels: int
    positive_rate: float
    auc: float
    log_loss: float


@dataclass(frozen=True, slots=True)
class Joined:
    """`table`: the first record of each prediction, with `label` (null unless joined) and `void`."""

    table: pa.Table
    repeats: int

    @property
    def counts(self) -> JoinCounts:
        """How many of each."""
        label, void = self.table["label"], self.table["void"]
        return JoinCounts(
            predictions=self.table.num_rows,
            repeats=self.repeats,
            joined=len(label) - label.null_count,
            void=pc.sum(void).as_py() or 0,
        )


def join(predictions: pa.Table, outcomes: pa.Table, horizon: timedelta) -> Joined:
    """A label counts if it was available by `as_of + horizon`; an outcome without a label makes the prediction void."""
    numbered = predictions.append_column("row", pa.array(range(predictions.num_rows), pa.int64()))
    first = numbered.group_by("prediction_id").aggregate([("row", "min")])["row_min"]
    once = predictions.take(first.sort()) if len(first) else predictions
    found = once.join(outcomes, "entity_id", join_type="left outer")
    in_time = pc.less_equal(
        pc.subtract(found["available_at_us"], found["as_of_us"]), pa.scalar(horizon // _MICROSECOND, pa.int64())
    )
    in_time = pc.fill_null(in_time, fill_value=False)
    label = pc.if_else(in_time, found["label"], pa.scalar(None, pa.float64()))
    void = pc.and_(in_time, pc.is_null(found["label"]))
    table = found.drop_columns(["label", "available_at_us"]).append_column("label", label).append_column("void", void)
    return Joined(table, predictions.num_rows - once.num_rows)


def scores(joined: Joined, windows: list[tuple[datetime, datetime]]) -> Iterator[Score]:
    """For each version and window that has labels of both classes. Windows are half-open, aware UTC."""
    labelled = joined.table.filter(pc.is_valid(joined.table["label"]))
    for version in sorted(set(labelled["version"].to_pylist()), key=lambda text: (len(text), text)):
        own = labelled.filter(pc.equal(labelled["version"], version))
        for since, until in windows:
            yield from _score(version, _within(own, since, until), since, until)


def score_of_all(joined: Joined, since: datetime, until: datetime, variant: str) -> Score | None:
    """What `variant` served in [since, until), whichever version it was; None without labels of both classes."""
    table = joined.table.filter(pc.is_valid(joined.table["label"]))
    served = _within(table.filter(pc.equal(table["variant"], variant)), since, until)
    return next(_score(variant, served, since, until), None)


def weeks(joined: Joined, days: int = 7) -> list[tuple[datetime, datetime]]:
    """Windows of `days` that cover every prediction, aligned to the first one's day."""
    moments = joined.table["as_of_us"]
    if not len(moments):
        return []
    first, last = (from_us(pc.min_max(moments)[which].as_py()) for which in ("min", "max"))
    start, step = datetime(first.year, first.month, first.day, tzinfo=UTC), timedelta(days=days)
    return [(start + n * step, start + (n + 1) * step) for n in range((last - start) // step + 1)]


def _within(table: pa.Table, since: datetime, until: datetime) -> pa.Table:
    moments = table["as_of_us"]
    return table.filter(pc.and_(pc.greater_equal(moments, to_us(since)), pc.less(moments, to_us(until))))


def _score(version: str, table: pa.Table, since: datetime, until: datetime) -> Iterator[Score]:
    labels, given = table["label"].to_numpy(), table["score"].to_numpy()
    if not 0 < labels.sum() < len(labels):
        return
    yield Score(
        version,
        since,
        until,
        labels=len(labels),
        positive_rate=float(labels.mean()),
        auc=float(roc_auc_score(labels, given)),
        log_loss=float(log_loss(labels, given)),
    )
