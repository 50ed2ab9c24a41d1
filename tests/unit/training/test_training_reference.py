"""The reference as monitoring reads it: the same rows have no drift, other rows have."""

from __future__ import annotations

import json

import numpy as np
import pytest

from services.monitoring import drift
from services.training.dataset import Dataset
from services.training.quality import assess
from services.training.reference import bin_edges, reference
from tests.unit.training.fakes import FEATURES, dataset

QUALITY = assess(np.array([0, 1, 1], np.float32), np.array([0.2, 0.6, 0.7]))


def _read(rows: Dataset) -> drift.Reference:
    document = json.loads(json.dumps(reference(rows, QUALITY), allow_nan=False))
    return drift.parse_reference("1", rows.features, document)


def _of(column: np.ndarray) -> Dataset:
    values = column.astype(np.float32)[:, None]
    return Dataset(("x",), values, np.zeros(len(values), np.float32), np.arange(len(values)))


def _psi(before: np.ndarray, now: np.ndarray) -> float:
    read = _read(_of(before))
    [found] = drift.compare(read, drift.histogram(read, now.astype(np.float32)[:, None]), 0.25)
    return found.psi


def test_monitoring_counts_the_same_rows_into_the_same_bins() -> None:
    rows = dataset(5000)

    read = _read(rows)

    np.testing.assert_array_equal(drift.histogram(read, rows.values), np.concatenate([f.counts for f in read.features]))
    assert [feature.name for feature in read.features] == list(FEATURES)
    assert read.log_loss == QUALITY.log_loss
    assert all(found.psi == 0 for found in drift.compare(read, drift.histogram(read, rows.values), 0.25))


def test_the_document_tells_what_it_covers() -> None:
    document = reference(dataset(100), QUALITY)

    assert (document["rows"], document["holdout_rows"]) == (100, 3)
    assert (document["from"], document["to"]) == ("2024-03-01T00:00:00Z", "2024-03-01T00:01:39Z")
    assert document["positive_rate"] == pytest.approx(2 / 3)
    assert document["auc"] == 1.0
    column = dataset(100).values[:, 0]
    assert document["features"]["a"]["missing_share"] == np.isnan(column).mean()


CHANCE = np.random.default_rng(1)
NORMAL = CHANCE.normal(size=20_000)
SHIFTS = {
    "the same distribution": (NORMAL[:10_000], NORMAL[10_000:], 0.0, 0.01),
    "a shifted mean": (NORMAL, NORMAL + 1, 0.5, np.inf),
    "a constant that changed upwards": (np.full(1000, 3.0), np.full(1000, 3.5), 5, np.inf),
    "a constant that changed downwards": (np.full(1000, 3.0), np.full(1000, 2.5), 5, np.inf),
    "a constant that stayed": (np.full(1000, 3.0), np.full(1000, 3.0), 0.0, 1e-9),
    "another mix of few values": (np.repeat([0, 1, 2], [800, 100, 100]), np.repeat([0, 1, 2], [400, 100, 500]), 0.5, 3),
    "a new value among few": (np.repeat([0, 1], 500), np.repeat([0, 1, 9], [250, 250, 500]), 0.5, np.inf),
    "many zeros that became fewer": (
        np.where(NORMAL < 0.8, 0, NORMAL),
        np.where(NORMAL < -0.5, 0, np.abs(NORMAL)),
        0.5,
        np.inf,
    ),
    "nothing where something was": (NORMAL, np.full(1000, np.nan), 5, np.inf),
    "something where nothing was": (np.full(1000, np.nan), NORMAL, 5, np.inf),
}


@pytest.mark.parametrize("what", SHIFTS)
def test_the_bins_see_what_moved(what: str) -> None:
    before, now, least, most = SHIFTS[what]

    assert least <= _psi(before, now) <= most


def test_edges_rise_and_hold_about_as_many_rows_each() -> None:
    edges = bin_edges(NORMAL)

    assert len(edges) == 9
    assert (np.diff(edges) > 0).all()
    counts = np.bincount(np.searchsorted(edges, NORMAL, side="right"))
    assert counts.max() - counts.min() < 10
    assert len(bin_edges(np.zeros(0))) == 0
