"""Instants: aware, UTC, exact to the microsecond."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from services.chassis import clock

# Microseconds since the epoch, from about 1900 to 2200.
INSTANTS = st.integers(-(2**51), 2**52 + 2**51).map(
    lambda us: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)
)


@given(INSTANTS)
def test_an_instant_comes_back_whole_from_every_form(moment: datetime) -> None:
    assert clock.from_us(clock.to_us(moment)) == moment
    assert clock.from_proto(clock.to_proto(moment)) == moment
    assert clock.parse_rfc3339(clock.rfc3339(moment)) == moment


@given(INSTANTS)
def test_a_proto_timestamp_is_well_formed_also_before_1970(moment: datetime) -> None:
    stamp = clock.to_proto(moment)

    assert 0 <= stamp.nanos < 1_000_000_000
    assert clock.proto_us(stamp) == clock.to_us(moment)


def test_what_is_below_a_microsecond_is_cut() -> None:
    assert clock.proto_us(Timestamp(seconds=1, nanos=1_999)) == 1_000_001


@pytest.mark.parametrize("seconds", [10**15, -(10**15), 253_402_300_800, -62_135_596_801])
def test_a_proto_timestamp_that_no_datetime_holds_is_a_value_error(seconds: int) -> None:
    with pytest.raises(ValueError, match=f"{seconds} must be in range"):
        clock.from_proto(Timestamp(seconds=seconds))


def test_an_offset_is_turned_into_utc() -> None:
    assert clock.parse_rfc3339("2013-01-01T00:30:00+02:00") == datetime(2012, 12, 31, 22, 30, tzinfo=UTC)
    assert clock.rfc3339(datetime(2013, 1, 1, 2, tzinfo=timezone(timedelta(hours=2)))) == "2013-01-01T00:00:00Z"


def test_an_instant_without_offset_is_refused() -> None:
    with pytest.raises(ValueError, match="has no UTC offset"):
        clock.parse_rfc3339("2013-01-01T00:00:00")


def test_the_wall_clock_is_aware() -> None:
    assert clock.utc_now().tzinfo is UTC
