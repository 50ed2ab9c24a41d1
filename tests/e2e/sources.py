"""What upstream sends in these tests; named by module:function, so that a replay in another process finds it."""

from __future__ import annotations

from datetime import timedelta

from loadtests.upstream import Listed
from tests.problems.parcels.upstream import START, parcels

FIRST_MODEL = START + timedelta(days=4)
SHIFT = START + timedelta(days=6)
END = START + timedelta(days=9)
ONE_DAY = FIRST_MODEL + timedelta(days=1)


def shifting() -> Listed:
    """Nine days; after six every courier is slower."""
    return Listed(parcels(until=END, shift_at=SHIFT))


def steady() -> Listed:
    """Five days of the same world without the shift."""
    return Listed(parcels(until=ONE_DAY))
