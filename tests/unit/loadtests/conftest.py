"""The year of flights, read once."""

from __future__ import annotations

import pytest

from loadtests.flights import Flights, flights


@pytest.fixture(scope="session")
def year_of_flights() -> Flights:
    return flights()
