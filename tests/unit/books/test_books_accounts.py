"""The accounts balance exactly when nothing was lost, invented or counted twice."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from loadtests.books.accounts import EventCounts, Sent, event_accounts, prediction_accounts
from loadtests.books.joins import JoinCounts
from loadtests.books.lake import TableCount
from services.contracts.monitoring.v1.monitoring_pb2 import GetCountsResponse

SENT = Sent(events=10, heartbeats=2, duplicates=1, dead_letters={"schema": 2})
COUNTS = EventCounts(
    upstream_records=12,
    lake={"order.placed": TableCount(7, 7)},
    duplicates=1,
    dead_letters=Counter({"schema": 2}),
)
LOGGED = JoinCounts(predictions=6, repeats=1, joined=3, void=1)
TOLD = GetCountsResponse(recorded=6, joined=3, void=1, pending=1, expired=1, duplicate_predictions=1)


def unbalanced(sent: Sent, counts: EventCounts) -> list[str]:
    return [account.what for account in event_accounts(sent, counts) if not account.balanced]


def test_whole_books_balance() -> None:
    assert unbalanced(SENT, COUNTS) == []
    assert all(account.balanced for account in prediction_accounts(6, LOGGED, TOLD))


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        (replace(COUNTS, lake={"order.placed": TableCount(6, 6)}), ["events"]),
        (replace(COUNTS, lake={"order.placed": TableCount(8, 7)}), ["rows of the lake"]),
        (replace(COUNTS, duplicates=2), ["events", "duplicates"]),
        (
            replace(COUNTS, dead_letters=Counter({"schema": 1, "malformed": 1})),
            ["dead letters: malformed", "dead letters: schema"],
        ),
        (replace(COUNTS, upstream_records=13), ["upstream records"]),
    ],
)
def test_a_lost_doubled_or_mislabelled_event_shows(counts: EventCounts, expected: list[str]) -> None:
    assert unbalanced(SENT, counts) == expected


@pytest.mark.parametrize(
    ("answered", "told", "expected"),
    [
        (7, TOLD, ["predictions"]),
        (
            6,
            GetCountsResponse(recorded=6, joined=4, void=1, pending=1, expired=0, duplicate_predictions=1),
            ["joined", "without outcome"],
        ),
        (
            6,
            GetCountsResponse(recorded=6, joined=3, void=1, pending=1, expired=0, duplicate_predictions=1),
            ["predictions by state", "without outcome"],
        ),
    ],
)
def test_a_prediction_lost_or_joined_twice_shows(answered: int, told: GetCountsResponse, expected: list[str]) -> None:
    found = [account.what for account in prediction_accounts(answered, LOGGED, told) if not account.balanced]

    assert found == expected
