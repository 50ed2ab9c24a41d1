"""What makes an upstream record an event: the CloudEvent's envelope, its type, the payload's schema and expectations.

A good event is checked in one pass in pydantic's core. Only when that fails is the document taken apart again, to name
the first reason in the order of `Reason`.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import reduce
from typing import Annotated, Any, Final, Literal, NamedTuple

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError
from pydantic import create_model as create
from pydantic_core import ErrorDetails, from_json

from services.chassis.clock import Now, rfc3339, to_us
from services.ingestion.columns import Kind, payload_columns
from services.problem import EventType, Payload

HEARTBEAT: Final = "slipway.heartbeat"
CLOCK_SKEW = timedelta(minutes=5)
"""How far another clock may be ahead of ours."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_INT64 = range(-(2**63), 2**63)
_MAX_DETAIL = 500
# How pydantic's names for a missing, an unknown or a wrongly typed field end; its other names are expectations.
_SCHEMA_ERRORS = ("missing", "extra_forbidden", "_type", "_parsing", "_parsing_size", "none_required", "int_from_float")
_Word = Annotated[str, StringConstraints(min_length=1, max_length=512)]


class Reason(StrEnum):
    """Why a record is a dead letter, in the order of the checks."""

    MALFORMED = "malformed"
    ENVELOPE = "envelope"
    UNKNOWN_TYPE = "unknown_type"
    SCHEMA = "schema"
    EXPECTATION = "expectation"


class Accepted(NamedTuple):
    """An event that passed. Times in microseconds since the epoch; `recorded_us` is None if upstream did not say."""

    event_id: str
    type: str
    time_us: int
    recorded_us: int | None
    key: bytes
    payload_json: bytes


class Heartbeat(NamedTuple):
    """Upstream sent all that it knew by `recorded_us`."""

    event_id: str
    recorded_us: int


class Rejected(NamedTuple):
    """`detail` names the field; `event_id` is "" if none could be read."""

    reason: Reason
    detail: str
    event_id: str


Verdict = Accepted | Heartbeat | Rejected


class _Wrong(Exception):
    def __init__(self, reason: Reason, detail: str) -> None:
        self.reason, self.detail = reason, detail


class _CloudEvent(BaseModel):
    """Required attributes and the ones we read; other extensions are upstream's own affair."""

    model_config = ConfigDict(strict=True, extra="ignore")

    specversion: Literal["1.0"]
    type: _Word
    recordedtime: AwareDatetime | None = None


class _Envelope(_CloudEvent):
    id: _Word
    source: _Word
    time: AwareDatetime
    datacontenttype: Annotated[str, StringConstraints(pattern=r"^application/([\w.+-]+\+)?json\s*(;.*)?$")] | None = (
        None
    )


class _Heartbeat(_CloudEvent):
    id: str = ""
    recordedtime: AwareDatetime


class Validator:
    """Checks one record at a time; a pure function but for the clock. Thread-safe."""

    def __init__(
        self,
        event_types: Mapping[str, EventType],
        now: Now,
        *,
        recordedtime_required: bool,
        max_event_bytes: int = 1024 * 1024,
    ) -> None:
        self._now = now
        self._recordedtime_required = recordedtime_required
        self._max_event_bytes = max_event_bytes
        self._types = {name: _Type(event_type) for name, event_type in event_types.items()}
        self._fast = _all_in_one(event_types)

    def check(self, raw: bytes | None) -> Verdict:
        """The event, or the first reason why it is none."""
        try:
            return self._verdict(self._parse(raw))
        except _Wrong as wrong:
            return Rejected(wrong.reason, wrong.detail[:_MAX_DETAIL], _readable_id(raw))

    def _parse(self, raw: bytes | None) -> Any:
        if raw is None:
            raise _Wrong(Reason.MALFORMED, "the record has no value")
        if len(raw) > self._max_event_bytes:
            raise _Wrong(Reason.MALFORMED, f"{len(raw)} bytes; at most {self._max_event_bytes} are taken")
        try:
            return self._fast.validate_json(raw)
        except ValidationError as error:
            self._explain(raw)
            raise _Wrong(Reason.SCHEMA, _sentence(error.errors())) from error
        except Exception as error:  # a validator of the problem's own, on a value nobody thought of
            raise _Wrong(Reason.EXPECTATION, f"data: a validator fails: {error!r}") from error

    def _verdict(self, event: Any) -> Verdict:
        if event.type == HEARTBEAT:
            self._check_recorded(event.recordedtime)
            return Heartbeat(event.id, to_us(event.recordedtime))
        self._check_times(event)
        kind = self._types[event.type]
        recorded = event.recordedtime
        return Accepted(
            event.id,
            event.type,
            to_us(event.time),
            None if recorded is None else to_us(recorded),
            kind.key_of(event.data, event.id),
            kind.dump(event.data),
        )

    def _check_times(self, event: _Envelope) -> None:
        time, recorded = event.time, event.recordedtime
        if time < _EPOCH:
            raise _Wrong(Reason.ENVELOPE, f"time: {time.isoformat()} lies before 1970")
        if recorded is None:
            if self._recordedtime_required:
                raise _Wrong(Reason.ENVELOPE, "recordedtime: missing; this platform takes available_at from it")
            self._check_not_ahead("time", time)
            return
        self._check_recorded(recorded)
        if recorded < time:
            raise _Wrong(Reason.ENVELOPE, f"recordedtime: {rfc3339(recorded)} lies before time, {rfc3339(time)}")

    def _check_recorded(self, recorded: datetime) -> None:
        if recorded < _EPOCH:
            raise _Wrong(Reason.ENVELOPE, f"recordedtime: {recorded.isoformat()} lies before 1970")
        self._check_not_ahead("recordedtime", recorded)

    def _check_not_ahead(self, attribute: str, moment: datetime) -> None:
        # One moment too far ahead would push the watermark there, and every later event with it.
        if moment > self._now() + CLOCK_SKEW:
            raise _Wrong(
                Reason.ENVELOPE, f"{attribute}: {rfc3339(moment)} lies in the future; check the sender's clock"
            )

    def _explain(self, raw: bytes) -> None:
        """Raises the first reason, in the order of `Reason`."""
        try:
            document = from_json(raw, allow_inf_nan=False)
        except ValueError as error:
            raise _Wrong(Reason.MALFORMED, f"not JSON: {error}") from error
        if not isinstance(document, dict):
            raise _Wrong(Reason.MALFORMED, "not a JSON object")
        heartbeat = document.get("type") == HEARTBEAT
        try:
            envelope = (_Heartbeat if heartbeat else _Envelope).model_validate_json(raw)
        except ValidationError as error:
            raise _Wrong(Reason.ENVELOPE, _sentence(error.errors())) from error
        if isinstance(envelope, _Envelope):
            self._check_times(envelope)
            self._explain_payload(raw, envelope.type)

    def _explain_payload(self, raw: bytes, type_name: str) -> None:
        if type_name not in self._types:
            known = ", ".join(sorted(self._types))
            raise _Wrong(Reason.UNKNOWN_TYPE, f"type: {type_name!r} is none of {known}")
        try:
            self._types[type_name].data.validate_json(raw)
        except ValidationError as error:
            errors = error.errors()
            schema = [each for each in errors if each["type"].endswith(_SCHEMA_ERRORS)]
            reason = Reason.SCHEMA if schema else Reason.EXPECTATION
            raise _Wrong(reason, _sentence(schema or errors)) from error


class _Type:
    """What is done with the payload of one event type."""

    def __init__(self, event_type: EventType) -> None:
        holder = create("_Data", __config__=ConfigDict(strict=True), data=(event_type.payload, ...))
        self.data: TypeAdapter[Any] = TypeAdapter(holder)
        self._key: Callable[[Payload], object] = operator.attrgetter(event_type.key)
        self._integers = [name for name, kind in payload_columns(event_type).items() if kind is Kind.INT64]

    def key_of(self, payload: Payload, event_id: str) -> bytes:
        """The key's value as text; the event's id where it is null."""
        value = self._key(payload)
        return (event_id if value is None else str(value)).encode()

    def dump(self, payload: Payload) -> bytes:
        """Declared and computed fields as JSON."""
        try:
            dumped = payload.model_dump_json().encode()
            integers = [getattr(payload, name) for name in self._integers]
        except Exception as error:  # a computed field of the problem's own, on a value nobody thought of
            raise _Wrong(Reason.EXPECTATION, f"data: a computed field fails: {error!r}") from error
        for name, value in zip(self._integers, integers, strict=True):
            if value is not None and value not in _INT64:
                raise _Wrong(Reason.EXPECTATION, f"data.{name}: {value} does not fit 64 bits")
        return dumped


def _all_in_one(event_types: Mapping[str, EventType]) -> TypeAdapter[Any]:
    """Envelope and payload of every type, told apart by `type`."""
    heartbeat: dict[str, Any] = {"type": (Literal[HEARTBEAT], ...)}
    models: list[Any] = [create("_HeartbeatEvent", __base__=_Heartbeat, **heartbeat)]
    for name, event_type in event_types.items():
        fields: dict[str, Any] = {"type": (Literal[name], ...), "data": (event_type.payload, ...)}
        models.append(create(f"_{event_type.payload.__name__}Event", __base__=_Envelope, **fields))
    union: Any = reduce(operator.or_, models)
    return TypeAdapter(Annotated[union, Field(discriminator="type")])


def _sentence(errors: list[ErrorDetails]) -> str:
    """The first error with its field, and how many follow."""
    first, more = errors[0], len(errors) - 1
    field = ".".join(str(part) for part in first["loc"])
    return f"{field}: {first['msg']}" + (f" (and {more} more)" if more else "")


def _readable_id(raw: bytes | None) -> str:
    try:
        document = from_json(raw or b"")
    except ValueError:
        return ""
    found = document.get("id") if isinstance(document, dict) else None
    return found[:_MAX_DETAIL] if isinstance(found, str) else ""
