from __future__ import annotations

import json
from typing import Annotated, Any

import pytest
from pydantic import AfterValidator, computed_field

from services.chassis.clock import parse_rfc3339, to_us
from services.ingestion.validation import Accepted, Heartbeat, Rejected, Validator
from services.problem import EventType, Payload
from tests.unit.ingestion.documents import DELIVERED, EVENT_TYPES, NOW, delivered, document

HEARTBEAT = {"specversion": "1.0", "type": "slipway.heartbeat", "recordedtime": "2024-03-01T11:00:00Z"}


def validator(**options: Any) -> Validator:
    return Validator(EVENT_TYPES, lambda: NOW, **{"recordedtime_required": True, **options})


def us(text: str) -> int:
    return to_us(parse_rfc3339(text))


def test_a_good_event_is_taken_with_its_computed_fields():
    verdict = validator().check(document())

    assert isinstance(verdict, Accepted)
    assert verdict.event_id == "parcel-1/delivered"
    assert verdict.type == "parcel.delivered"
    assert verdict.time_us == us("2024-03-01T10:00:00Z")
    assert verdict.recorded_us == us("2024-03-01T10:00:30Z")
    assert verdict.key == b"parcel-1"
    assert json.loads(verdict.payload_json) == DELIVERED | {"late": 1}


@pytest.mark.parametrize(
    ("raw", "reason", "names"),
    [
        (b"{", "malformed", "not JSON"),
        (b"", "malformed", "not JSON"),
        (None, "malformed", "no value"),
        (b"\xff\xfe", "malformed", "not JSON"),
        (b"[]", "malformed", "object"),
        (delivered(shop="\ud800"), "malformed", "not JSON"),
        (delivered(delay_minutes=float("nan")), "malformed", "not JSON"),
        (document(id="x" * 2_000_000), "malformed", "bytes"),
        (document(specversion="0.3"), "envelope", "specversion"),
        (document(id=None), "envelope", "id"),
        (document(id=""), "envelope", "id"),
        (document(id=7), "envelope", "id"),
        (document(source=None), "envelope", "source"),
        (document(type=None), "envelope", "type"),
        (document(time=None), "envelope", "time"),
        (document(time="yesterday"), "envelope", "time"),
        (document(time="2024-03-01T10:00:00"), "envelope", "time"),
        (document(time=1709287200), "envelope", "time"),
        (document(time="1969-12-31T23:59:59Z"), "envelope", "time"),
        (document(time="0001-01-01T00:00:00+05:00"), "envelope", "time"),
        (document(datacontenttype="text/csv"), "envelope", "datacontenttype"),
        (document(recordedtime=None), "envelope", "recordedtime"),
        (document(recordedtime="2024-03-01T09:59:59Z"), "envelope", "recordedtime"),
        (document(recordedtime="2024-03-01T12:06:00Z"), "envelope", "recordedtime"),
        (document(type="parcel.eaten"), "unknown_type", "parcel.eaten"),
        (document(data=None), "schema", "data"),
        (document(data=[]), "schema", "data"),
        (delivered(shop=...), "schema", "data.shop"),
        (delivered(shop=None), "schema", "data.shop"),
        (delivered(shop=1), "schema", "data.shop"),
        (delivered(delay_minutes="4.5"), "schema", "data.delay_minutes"),
        (delivered(delay_minutes=True), "schema", "data.delay_minutes"),
        (delivered(late=1), "schema", "data.late"),
        (delivered(shop="mall-1"), "expectation", "data.shop"),
        (delivered(delay_minutes=6001), "expectation", "data.delay_minutes"),
        (delivered(parcel_id=""), "expectation", "data.parcel_id"),
        (document().replace(b"4.5", b"1e999"), "expectation", "data.delay_minutes"),
    ],
)
def test_a_bad_record_is_rejected_with_the_field_that_is_wrong(raw: bytes | None, reason: str, names: str):
    verdict = validator().check(raw)

    assert isinstance(verdict, Rejected)
    assert (verdict.reason, names in verdict.detail) == (reason, True), verdict.detail


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (document(type="parcel.eaten", source=""), "envelope"),
        (document(recordedtime="2024-03-01T09:00:00Z", data={}), "envelope"),
        (document(type="parcel.eaten", data={}), "unknown_type"),
        (delivered(shop="mall-1", courier=...), "schema"),
    ],
)
def test_the_first_reason_is_given(raw: bytes, reason: str):
    verdict = validator().check(raw)

    assert isinstance(verdict, Rejected)
    assert verdict.reason == reason


def test_a_rejection_says_which_event_it_was_if_that_can_be_read():
    assert validator().check(delivered(shop="mall-1")).event_id == "parcel-1/delivered"
    assert validator().check(b"{").event_id == ""


def test_extensions_and_other_offsets_are_upstreams_affair():
    verdict = validator().check(document(time="2024-03-01T12:00:00+02:00", traceparent="00-ab", priority=3))

    assert isinstance(verdict, Accepted)
    assert verdict.time_us == us("2024-03-01T10:00:00Z")


def test_with_our_own_clock_recordedtime_is_optional_and_time_not_in_the_future():
    check = validator(recordedtime_required=False).check

    assert isinstance(check(document(recordedtime=None)), Accepted)
    assert isinstance(check(document(recordedtime=None, time="2024-03-01T12:04:00Z")), Accepted)
    assert "time" in check(document(recordedtime=None, time="2024-03-01T12:06:00Z")).detail


def test_a_heartbeat_needs_nothing_but_its_recordedtime():
    heartbeat = validator().check(json.dumps(HEARTBEAT).encode())

    assert heartbeat == Heartbeat("", us("2024-03-01T11:00:00Z"))
    without = validator().check(json.dumps(HEARTBEAT | {"recordedtime": None}).encode())
    assert isinstance(without, Rejected)
    assert without.reason == "envelope"


def _explodes(value: str) -> str:
    raise ZeroDivisionError(value)


class _Odd(Payload):
    key: str | None
    number: int
    text: Annotated[str, AfterValidator(lambda text: _explodes(text) if text == "boom" else text)] = ""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def inverse(self) -> float:
        return 1 / self.number


@pytest.mark.parametrize(
    ("data", "names"),
    [
        ({"key": "a", "number": 2**63}, "data.number"),
        ({"key": "a", "number": 0}, "computed field"),
        ({"key": "a", "number": 1, "text": "boom"}, "validator"),
    ],
)
def test_what_the_problems_own_code_cannot_do_is_a_dead_letter_too(data: dict[str, object], names: str):
    odd = Validator({"odd.thing": EventType("odd.thing", _Odd, "key")}, lambda: NOW, recordedtime_required=True)

    verdict = odd.check(document(type="odd.thing", data=data))

    assert isinstance(verdict, Rejected)
    assert (verdict.reason, names in verdict.detail) == ("expectation", True), verdict.detail


def test_an_event_whose_key_is_null_is_keyed_by_its_id():
    odd = Validator({"odd.thing": EventType("odd.thing", _Odd, "key")}, lambda: NOW, recordedtime_required=True)

    assert odd.check(document(type="odd.thing", data={"key": None, "number": 1})).key == b"parcel-1/delivered"
