"""Time: aware UTC instants, "now" injected, microseconds on the wire."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from google.protobuf.timestamp_pb2 import Timestamp

Now = Callable[[], datetime]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def utc_now() -> datetime:
    """The wall clock. Services take it as a parameter `now`, so that tests can give another."""
    return datetime.now(UTC)


def to_us(moment: datetime) -> int:
    """Microseconds since the Unix epoch. `moment` must be aware."""
    return (moment - _EPOCH) // _MICROSECOND


def from_us(microseconds: int) -> datetime:
    """The aware UTC instant of microseconds since the Unix epoch."""
    return _EPOCH + timedelta(microseconds=microseconds)


def to_proto(moment: datetime) -> Timestamp:
    """As a protobuf Timestamp, exact to the microsecond."""
    seconds, micros = divmod(to_us(moment), 1_000_000)
    return Timestamp(seconds=seconds, nanos=micros * 1000)


def from_proto(stamp: Timestamp) -> datetime:
    """As an aware UTC datetime; what is below a microsecond is cut. Raises ValueError outside the years 1 to 9999."""
    return stamp.ToDatetime(UTC)


def proto_us(stamp: Timestamp) -> int:
    """A protobuf Timestamp as microseconds since the Unix epoch."""
    return stamp.seconds * 1_000_000 + stamp.nanos // 1000


def parse_rfc3339(text: str) -> datetime:
    """An RFC 3339 instant as aware UTC. Raises ValueError if it is malformed or has no offset."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no UTC offset")
    return moment.astimezone(UTC)


def rfc3339(moment: datetime) -> str:
    """An instant as RFC 3339 in UTC with a trailing Z."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
