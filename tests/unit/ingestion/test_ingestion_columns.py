from __future__ import annotations

from enum import Enum
from typing import Literal

import pytest
from pydantic import create_model

from services.chassis.errors import Invalid
from services.ingestion.columns import payload_columns
from services.problem import EventType, Payload
from tests.unit.ingestion.documents import EVENT_TYPES


class _Colour(Enum):
    RED = "red"


def _event_type(annotation: object, name: str = "field") -> EventType:
    fields: dict[str, object] = {"key": (str, ...), name: (annotation, None)}
    return EventType("some.thing", create_model("_Some", __base__=Payload, **fields), "key")


def test_declared_fields_come_first_then_computed_ones():
    assert payload_columns(EVENT_TYPES["parcel.delivered"]) == {
        "parcel_id": "string",
        "shop": "string",
        "courier": "string",
        "delay_minutes": "float64",
        "late": "int64",
    }


@pytest.mark.parametrize(
    ("annotation", "kind"),
    [
        (bool, "bool"),
        (int | None, "int64"),
        (Literal["a", "b"], "string"),
        (Literal[1] | None, "int64"),
        (_Colour | None, "string"),
    ],
)
def test_annotations_are_columns(annotation: object, kind: str):
    assert payload_columns(_event_type(annotation))["field"] == kind


@pytest.mark.parametrize("annotation", [list[int], int | str, dict[str, int], None])
def test_a_field_that_cannot_be_a_column_is_named(annotation: object):
    with pytest.raises(Invalid, match=r"some\.thing\.field"):
        payload_columns(_event_type(annotation))


def test_a_field_may_not_take_a_column_of_the_platform():
    with pytest.raises(Invalid, match="event_time"):
        payload_columns(_event_type(str, "event_time"))
