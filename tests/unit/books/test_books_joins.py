"""The outside join: each prediction once, labels only within the horizon."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from loadtests.books.joins import join, score_of_all, scores, weeks
from loadtests.books.topics import PREDICTIONS_SCHEMA
from services.chassis.clock import to_us

START = datetime(2024, 1, 1, tzinfo=UTC)
HORIZON = timedelta(hours=2)


def predictions(*rows: tuple[str, str, str, float, float]) -> pa.Table:
    """Rows of (prediction id, entity id, version, hours after START, score), all served by the champion."""
    columns = [
        {
            "prediction_id": prediction_id,
            "entity_id": entity_id,
            "version": version,
            "variant": "champion",
            "release_id": "",
            "as_of_us": to_us(START + timedelta(hours=hours)),
            "score": score,
            "latency_s": 0.001,
            "missing": 0,
            "stale": 0,
        }
        for prediction_id, entity_id, version, hours, score in rows
    ]
    return pa.Table.from_pylist(columns, PREDICTIONS_SCHEMA)


def outcomes(*rows: tuple[str, float | None, float]) -> pa.Table:
    """Rows of (entity id, label, hours after START at which it became available)."""
    ids, labels, hours = zip(*rows, strict=True) if rows else ((), (), ())
    moments = [to_us(START + timedelta(hours=hour)) for hour in hours]
    return pa.table(
        {
            "entity_id": pa.array(ids, pa.string()),
            "label": pa.array(labels, pa.float64()),
            "available_at_us": pa.array(moments, pa.int64()),
        }
    )


def test_each_state_is_counted_once() -> None:
    asked = predictions(*((name, name, "1", 0, 0.5) for name in ("joined", "void", "late", "never")))

    joined = join(asked, outcomes(("joined", 1.0, 2), ("void", None, 1), ("late", 0.0, 2.01)), HORIZON)

    counts = joined.counts
    assert (counts.predictions, counts.joined, counts.void, counts.open) == (4, 1, 1, 2)


def test_a_repeated_prediction_counts_once_and_is_told() -> None:
    asked = predictions(("p", "e", "1", 0, 0.9), ("p", "e", "2", 0, 0.1))

    joined = join(asked, outcomes(("e", 1.0, 1)), HORIZON)

    assert joined.counts.predictions == 1 and joined.counts.repeats == 1
    assert joined.table["version"].to_pylist() == ["1"]


def test_no_predictions_are_no_error() -> None:
    joined = join(predictions(), outcomes(), HORIZON)

    assert joined.counts.predictions == 0
    assert weeks(joined) == []


def test_scores_are_by_version_and_window_and_need_both_classes() -> None:
    rows = [(f"a{n}", f"a{n}", "1", n, n / 10) for n in range(4)] + [("b", "b", "2", 0, 0.5)]
    told = [(f"a{n}", float(n >= 2), n + 1) for n in range(4)] + [("b", 1.0, 1)]
    joined = join(predictions(*rows), outcomes(*told), HORIZON)

    found = list(
        scores(joined, [(START, START + timedelta(days=1)), (START + timedelta(days=1), START + timedelta(days=2))])
    )

    assert [(score.version, score.labels, score.auc) for score in found] == [("1", 4, 1.0)]
    assert found[0].positive_rate == 0.5


def test_score_of_a_variant_joins_its_versions() -> None:
    rows = [("a", "a", "1", 0, 0.2), ("b", "b", "2", 1, 0.7)]
    joined = join(predictions(*rows), outcomes(("a", 0.0, 1), ("b", 1.0, 2)), HORIZON)

    score = score_of_all(joined, START, START + timedelta(hours=2), "champion")

    assert score is not None and score.auc == pytest.approx(1.0)
    assert score_of_all(joined, START, START + timedelta(hours=2), "challenger") is None


def test_weeks_cover_every_prediction() -> None:
    joined = join(predictions(("a", "a", "1", 5, 0.1), ("b", "b", "1", 24 * 7, 0.1)), outcomes(), HORIZON)

    assert weeks(joined) == [
        (START, START + timedelta(days=7)),
        (START + timedelta(days=7), START + timedelta(days=14)),
    ]
