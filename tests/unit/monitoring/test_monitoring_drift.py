"""PSI by hand, histograms by example, and none of it counted twice."""

import json
import math
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from services.chassis.errors import Invalid
from services.monitoring import drift
from services.monitoring.database import Database
from services.monitoring.drift_book import DriftBook
from services.monitoring.joiner import Batch, Joiner, Prediction

NAMES = ["load", "rain"]
DOCUMENT: dict[str, Any] = {
    "features": {
        "rain": {"edges": [0.5], "counts": [80, 20], "missing": 0},
        "load": {"edges": [1.0, 2.0], "counts": [10, 20, 30], "missing": 40},
    },
    "rows": 100,
    "log_loss": 0.4,
}
HOUR_US = 3_600_000_000


def test_psi_by_hand() -> None:
    # Shares with a half added to each of two bins: 60.5/101 and 40.5/101 against 80.5/101 and 20.5/101.
    expected = (20 / 101) * math.log(80.5 / 60.5) + (-20 / 101) * math.log(20.5 / 40.5)

    assert drift.psi(np.array([60, 40]), np.array([80, 20])) == pytest.approx(expected)


def test_psi_of_the_same_shares_is_nothing_and_of_an_empty_bin_finite() -> None:
    assert drift.psi(np.array([10, 30]), np.array([10, 30])) == 0
    assert 1 < drift.psi(np.array([500, 500]), np.array([1000, 0])) < 10


def test_an_edge_belongs_to_the_bin_above_it_and_nan_to_its_own() -> None:
    reference = drift.parse_reference("1", NAMES, DOCUMENT)
    rows = np.array([[0.9, 0.0], [1.0, 0.5], [2.0, 9.0], [np.nan, np.nan]], np.float32)

    assert drift.histogram(reference, rows).tolist() == [1, 1, 1, 1, 1, 2, 1]


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"features": {"load": DOCUMENT["features"]["load"]}},
        {"features": {**DOCUMENT["features"], "rain": {"edges": [0.5], "counts": [1]}}},
        {"features": {**DOCUMENT["features"], "rain": {"edges": [2, 1], "counts": [1, 1, 1]}}},
    ],
)
def test_a_reference_that_cannot_be_used_is_refused_by_version(broken: dict[str, Any]) -> None:
    with pytest.raises(Invalid, match="version 9"):
        drift.parse_reference("9", NAMES, broken)


class Watched:
    def __init__(self) -> None:
        self.database = Database("sqlite://")
        self.book = DriftBook(self.database, HOUR_US, threshold=0.25)
        self.joiner = Joiner(timedelta(hours=1), ["labels"], timedelta(hours=1))
        self.count = 0

    def keep(self) -> drift.Reference:
        self.book.keep("1", json.dumps(NAMES), json.dumps(DOCUMENT))
        reference = self.book.reference("1")
        assert reference is not None
        return reference

    def ask(self, *rows: tuple[float, float], hour: float = 0, version: str = "1") -> None:
        asked = []
        for row in rows:
            self.count += 1
            vector = np.array(row, "<f4").tobytes()
            identity = f"p{self.count}"
            asked.append(Prediction(identity, identity, version, "champion", "", int(hour * HOUR_US), 0.5, vector))
        with self.database.write() as connection:
            self.joiner.apply(connection, Batch(predictions=asked))


@pytest.fixture
def watched() -> Watched:
    return Watched()


def test_predictions_that_came_before_the_reference_are_counted_once(watched: Watched) -> None:
    watched.ask((1, 1), (3, 0))
    watched.book.catch_up()
    reference = watched.keep()

    watched.book.catch_up()
    watched.book.catch_up()
    watched.ask((1, math.nan))
    watched.book.catch_up()

    load, rain = watched.book.window(reference, 0, HOUR_US)
    assert (load.rows, rain.rows) == (3, 3)
    assert rain.missing_share == pytest.approx(1 / 3)


def test_a_window_is_the_sum_of_its_buckets_and_of_its_version(watched: Watched) -> None:
    reference = watched.keep()
    for hour in range(4):
        watched.ask((1, 1), hour=hour + 0.5)
    watched.ask((1, 1), hour=2, version="2")

    watched.book.catch_up()

    assert watched.book.window(reference, HOUR_US, 3 * HOUR_US)[0].rows == 2
    assert watched.book.window(reference, 9 * HOUR_US, 10 * HOUR_US) == []


def test_a_row_without_a_whole_vector_says_nothing(watched: Watched) -> None:
    reference = watched.keep()
    watched.ask((1, 1))
    watched.ask((1,))  # type: ignore[arg-type]

    watched.book.catch_up()

    assert watched.book.window(reference, 0, HOUR_US)[0].rows == 1


def test_what_moved_has_drifted_and_what_stayed_has_not(watched: Watched) -> None:
    reference = watched.keep()
    watched.ask(*[(0.5, 0.0)] * 80, *[(0.5, 1.0)] * 20)
    watched.book.catch_up()

    load, rain = watched.book.window(reference, 0, HOUR_US)

    assert load.drifted
    assert not rain.drifted
    assert rain.psi == pytest.approx(0, abs=1e-4)
