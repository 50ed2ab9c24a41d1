"""The Redis hash of an entity, as Feast names it (entity key serialization version 3), and its fields."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import lru_cache

from feast.infra.online_stores.helpers import _mmh3 as feast_field
from feast.protos.feast.types.Value_pb2 import ValueType

_MOST_REMEMBERED = 100_000

Key = tuple[str | int, ...]
"""Values of a view's join keys, in the order of the view."""


class EntityKeys:
    """The keys of the hashes that hold entities of one combination of join keys."""

    def __init__(self, project: str, join_keys: Sequence[str]) -> None:
        names = [name.encode() for name in sorted(join_keys)]
        described = b"".join(struct.pack("<II", ValueType.STRING, len(name)) + name for name in names)
        self._prefix = struct.pack("<I", len(names)) + described
        self._order = [join_keys.index(name) for name in sorted(join_keys)]
        self._project = project.encode()
        self.of = lru_cache(_MOST_REMEMBERED)(self._of)

    def _of(self, key: Key) -> bytes:
        """The Redis key of an entity."""
        return b"".join((self._prefix, *(_value(key[position]) for position in self._order), self._project))


def value_field(view: str, feature: str) -> bytes:
    """Where Feast keeps a feature's value (a serialized `feast.types.Value`)."""
    field: bytes = feast_field(f"{view}:{feature}")
    return field


def time_field(view: str) -> bytes:
    """Where Feast keeps the event time of the view's values (a serialized `google.protobuf.Timestamp`)."""
    return f"_ts:{view}".encode()


def state_field(view: str) -> bytes:
    """Where the view's state is kept (`state.py`); no field of Feast's."""
    return f"_state:{view}".encode()


def _value(value: str | int) -> bytes:
    if isinstance(value, int):
        return struct.pack("<IIq", ValueType.INT64, 8, value)
    text = value.encode()
    return struct.pack("<II", ValueType.STRING, len(text)) + text
