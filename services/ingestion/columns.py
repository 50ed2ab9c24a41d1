"""The columns that an event type has in the lake, from the annotations of its payload."""

from __future__ import annotations

import types
from enum import Enum, StrEnum
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from services.chassis.errors import Invalid
from services.problem import EventType


class Kind(StrEnum):
    """Types of a column; every payload column is nullable."""

    STRING = "string"
    INT64 = "int64"
    FLOAT64 = "float64"
    BOOL = "bool"


PLATFORM_COLUMNS = (
    "event_id",
    "event_time",
    "available_at",
    "processed_at",
    "source_topic",
    "source_partition",
    "source_offset",
    "event_date",
)
_KINDS = {str: Kind.STRING, int: Kind.INT64, float: Kind.FLOAT64, bool: Kind.BOOL}


def payload_columns(event_type: EventType) -> dict[str, Kind]:
    """Declared fields, then computed ones. Raises Invalid, naming the field, if one cannot be a column."""
    payload = event_type.payload
    annotations = {name: field.annotation for name, field in payload.model_fields.items()}
    annotations |= {name: field.return_type for name, field in payload.model_computed_fields.items()}
    if taken := sorted(annotations.keys() & set(PLATFORM_COLUMNS)):
        raise Invalid(f"event type {event_type.name!r}: the platform has a column {taken[0]!r}; rename the field")
    return {name: _kind(f"{event_type.name}.{name}", annotation) for name, annotation in annotations.items()}


def _kind(field: str, annotation: Any) -> Kind:
    kinds = {_KINDS.get(plain) for plain in _plain_types(annotation)}
    if len(kinds) != 1 or None in kinds:
        raise Invalid(f"{field}: {annotation} cannot be a column; use str, int, float or bool, one of them or None")
    return next(kind for kind in kinds if kind is not None)


def _plain_types(annotation: Any) -> set[type]:
    """The Python types of the values, without None."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _plain_types(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return {plain for option in get_args(annotation) for plain in _plain_types(option)}
    if origin is Literal:
        return {type(value) for value in get_args(annotation)} - {types.NoneType}
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return {type(member.value) for member in annotation}
    return set() if annotation in (None, types.NoneType) else {annotation}
