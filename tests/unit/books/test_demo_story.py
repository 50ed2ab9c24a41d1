"""The demo's patience, and the verdicts that nothing but a measurement satisfies."""

from __future__ import annotations

from collections import Counter

import pytest

from loadtests.books.accounts import EventCounts
from loadtests.books.joins import join
from loadtests.demo.platform import Chronicle
from loadtests.demo.reckoning import Reckoning, verdicts
from loadtests.demo.story import Standstill
from loadtests.replay import Totals
from services.chassis.errors import Unavailable
from tests.unit.books.test_books_joins import HORIZON, outcomes, predictions


def test_time_stands_still_while_something_goes_on() -> None:
    going_on = iter(["training run 1: fit", ""])
    standstill = Standstill(lambda: next(going_on), patience_s=60.0)

    assert standstill() is True
    assert standstill() is False


def test_a_standstill_without_end_says_what_it_waited_for() -> None:
    standstill = Standstill(lambda: "a release of version 7", patience_s=-1.0)

    with pytest.raises(Unavailable, match="a release of version 7"):
        standstill()


def test_nothing_measured_is_no_success() -> None:
    nothing = Reckoning(
        totals=Totals(),
        chronicle=Chronicle([], [], []),
        accounts=[],
        joined=join(predictions(), outcomes(), HORIZON),
        weekly=[],
        monthly=[],
        late=None,
        events=EventCounts(0, {}, 0, Counter()),
    )

    assert [verdict.holds for verdict in verdicts(nothing, 0.5)] == [False] * 4
