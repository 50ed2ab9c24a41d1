"""The types that state a problem: what they refuse, in words."""

from __future__ import annotations

from typing import Annotated

import pytest
from pydantic import Field, ValidationError, computed_field

from services.chassis.errors import Invalid
from services.problem import EventType, Payload


class Parcel(Payload):
    """A payload with a declared and a computed field."""

    parcel_id: str
    weight_kg: Annotated[float, Field(gt=0)]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def heavy(self) -> bool:
        return self.weight_kg > 20


def test_columns_are_the_declared_fields_and_then_the_computed_ones() -> None:
    assert EventType("parcel.sent", Parcel, key="parcel_id").columns == ("parcel_id", "weight_kg", "heavy")


@pytest.mark.parametrize("name", ["parcel", "Parcel.sent", "parcel..sent", ".sent", "parcel.1", "parcel sent.x"])
def test_a_type_is_named_in_lower_case_words_joined_by_dots(name: str) -> None:
    with pytest.raises(Invalid, match="expected lower_snake words joined by dots"):
        EventType(name, Parcel, key="parcel_id")


def test_the_key_must_be_a_field() -> None:
    with pytest.raises(Invalid, match="key 'order_id' is not a field"):
        EventType("parcel.sent", Parcel, key="order_id")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"weight_kg": "1.5"}, "valid number"),
        ({"weight_kg": float("nan")}, "finite number"),
        ({"weight_kg": -1.0}, "greater than 0"),
        ({"colour": "red"}, "Extra inputs are not permitted"),
        ({"parcel_id": 7}, "valid string"),
    ],
)
def test_a_payload_takes_what_is_declared_and_nothing_else(changes: dict[str, object], words: str) -> None:
    good: dict[str, object] = {"parcel_id": "p-1", "weight_kg": 1.5}
    Parcel.model_validate(good)

    with pytest.raises(ValidationError, match=words):
        Parcel.model_validate(good | changes)
