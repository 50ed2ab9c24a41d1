"""What a batch of events does to one view: which entities it touches, their new states, the values for Feast."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from feast.protos.feast.types.Value_pb2 import Value
from google.protobuf.timestamp_pb2 import Timestamp

from services.features.definitions import EVENT_TIME, WindowedView
from services.features.entity_keys import EntityKeys, Key, state_field, time_field, value_field
from services.features.events import Events, hash64
from services.features.merging import Floats
from services.features.reading import Asked, Reader
from services.features.state import ABOUT, NewEntries, Outcome, Records, Seen, StateLayout, decode, encode, update

_NULL = Value().SerializeToString()
# A Value of a double is its tag and eight bytes.
_DOUBLE_TAG = Value(double_val=1.0).SerializeToString()[:1]


@dataclass(frozen=True, slots=True)
class Touched:
    """Events of a view by entity: `keys` are those of the hashes, in the order in which `entries` numbers them."""

    keys: list[bytes]
    entries: NewEntries
    no_key: int


class ViewUpdates:
    """One view's side of the stream. Knows bytes, not Redis."""

    def __init__(self, project: str, view: WindowedView) -> None:
        self.view = view
        self.layout = StateLayout(view)
        self.state_field = state_field(view.name)
        self._reader = Reader([self.layout])
        self._entity_keys = EntityKeys(project, view.join_keys)
        self._time_field = time_field(view.name)
        self._value_fields = [value_field(view.name, each.name) for each in view.aggregations]
        self._integers = [each.integer for each in view.aggregations]

    def touched(self, events: Events) -> Touched:
        """The entities of the events; one with a null join key has none."""
        columns = [[_key_part(each.get(key)) for each in events.payloads] for key in self.view.join_keys]
        found = list(zip(*columns, strict=True))
        numbers: dict[Key, int] = {}
        owners = np.array([-1 if None in key else numbers.setdefault(key, len(numbers)) for key in found], np.int64)
        with_key = (owners >= 0).nonzero()[0]
        about, values = self._entries(events)
        entries = NewEntries(about[with_key], values[with_key], owners[with_key])
        return Touched([self._entity_keys.of(key) for key in numbers], entries, len(found) - len(with_key))

    def updated(
        self, touched: Touched, blobs: Sequence[bytes | None], mark_us: int, seen: Seen
    ) -> tuple[list[list[bytes]], Outcome]:
        """The fields of each touched entity's hash (name, value, name, value …), from the bytes of its state before."""
        states, outcome = update(decode(self.layout, blobs), touched.entries, mark_us, seen)
        after = encode(states)
        (answers,) = self._reader.read([Asked(after, np.arange(len(after)), states.newest_available_us)])
        values = self._feast_values(answers.values)
        times = [_timestamp(newest_us) for newest_us in answers.newest_us.tolist()]
        fields = [
            [self.state_field, blob, self._time_field, time, *entity_values]
            for blob, time, entity_values in zip(after, times, values, strict=True)
        ]
        return fields, outcome

    def _entries(self, events: Events) -> tuple[Records, Floats]:
        about = np.empty(len(events.ids), ABOUT)
        about["time"], about["available"] = events.times_us, events.available_us
        about["id"] = np.array(events.ids, np.uint64)
        values = np.empty((len(about), len(self.layout.columns)))
        for number, column in enumerate(self.layout.columns):
            values[:, number] = about["time"] / 1e6 if column == EVENT_TIME else self._column(column, events)
        return about, values

    def _column(self, column: str, events: Events) -> Floats:
        values = [payload.get(column) for payload in events.payloads]
        return _numbers([_countable(value) for value in values] if column in self.layout.countable else values)

    def _feast_values(self, values: Floats) -> list[list[bytes]]:
        """For each entity field name, value, field name, value …"""
        columns = []
        for field, integer, column in zip(self._value_fields, self._integers, values.T, strict=True):
            columns.append([field] * len(column))
            columns.append(_integers(column) if integer else _doubles(column))
        return [list(each) for each in zip(*columns, strict=True)]


def _key_part(value: Any) -> str | int | None:
    """None for null, and for what the event type's schema does not allow any more."""
    return value if isinstance(value, str | int) else None


def _countable(value: Any) -> float | None:
    """A text as a number that no other text is likely to have; 53 bits, which a float64 holds exactly."""
    return float(hash64(value) >> 11) if isinstance(value, str) else value


def _numbers(values: list[Any]) -> Floats:
    """NaN for null, and for what the event type's schema does not allow any more."""
    try:
        # A float64 array of a list turns None into NaN.
        return np.array(values, np.float64)
    except (TypeError, ValueError):
        return np.array([value if isinstance(value, int | float) else None for value in values], np.float64)


def _doubles(values: Floats) -> list[bytes]:
    data = values.astype("<f8").tobytes()
    return [
        _NULL if null else _DOUBLE_TAG + data[8 * number : 8 * number + 8]
        for number, null in enumerate(np.isnan(values).tolist())
    ]


def _integers(values: Floats) -> list[bytes]:
    return [_NULL if value != value else Value(int64_val=int(value)).SerializeToString() for value in values.tolist()]  # noqa: PLR0124  NaN


def _timestamp(us: int) -> bytes:
    seconds, rest = divmod(us, 1_000_000)
    return Timestamp(seconds=seconds, nanos=rest * 1000).SerializeToString()
