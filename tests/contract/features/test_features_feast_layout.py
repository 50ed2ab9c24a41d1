"""What the stream writes is where Feast 0.67 looks for it, in the bytes that Feast reads."""

from __future__ import annotations

import pytest
from feast.infra.online_stores.helpers import _mmh3, _redis_key
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from google.protobuf.timestamp_pb2 import Timestamp

from services.features.definitions import Aggregation, Function, WindowedView
from services.features.entity_keys import EntityKeys, time_field, value_field
from services.features.events import Events
from services.features.view_updates import ViewUpdates

SECOND = 1_000_000


def _feast_key(project: str, **values: str | int) -> bytes:
    made = [Value(int64_val=v) if isinstance(v, int) else Value(string_val=v) for v in values.values()]
    key: bytes = _redis_key(project, EntityKey(join_keys=list(values), entity_values=made), 3)
    return key


@pytest.mark.parametrize(
    "values",
    [
        {"shop": "shop-1"},
        {"shop": "Zürich", "courier": "c"},
        {"courier": "c", "shop": "s", "area": ""},
        {"number": 7},
        {"shop": "s", "number": -(2**63)},
    ],
)
def test_the_key_of_an_entity_is_feasts(values):
    keys = EntityKeys("parcels", tuple(values))

    assert keys.of(tuple(values.values())) == _feast_key("parcels", **values)


def test_fields_are_feasts():
    assert value_field("view", "feature") == _mmh3("view:feature")
    assert time_field("view") == b"_ts:view"


def test_values_are_feasts_messages_as_of_the_newest_available_event():
    view = WindowedView(
        "recent",
        "thing.happened",
        ("who",),
        (
            Aggregation("count", "x", Function.COUNT, 60 * SECOND, SECOND, integer=True),
            Aggregation("mean", "x", Function.MEAN, 60 * SECOND, SECOND, integer=False),
            Aggregation("std", "x", Function.STDDEV, 60 * SECOND, SECOND, integer=False),
        ),
        0,
    )
    events = Events(
        [100 * SECOND, 105 * SECOND + 5],
        [101 * SECOND, 105 * SECOND + 5],
        [1, 2],
        [{"who": "a", "x": 0.5}, {"who": "a", "x": None}],
    )
    updates = ViewUpdates("things", view)
    touched = updates.touched(events)

    (items,), _ = updates.updated(touched, [None], mark_us=0, seen=lambda times_us, _: times_us < 0)

    fields = dict(zip(items[::2], items[1::2], strict=True))
    del fields[updates.state_field]
    assert touched.keys == [_feast_key("things", who="a")]
    assert fields == {
        b"_ts:recent": Timestamp(seconds=105, nanos=5000).SerializeToString(),
        _mmh3("recent:count"): Value(int64_val=1).SerializeToString(),
        _mmh3("recent:mean"): Value(double_val=0.5).SerializeToString(),
        _mmh3("recent:std"): Value().SerializeToString(),
    }
