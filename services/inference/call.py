"""What one ModelInfer call asks for: rows, a moment, ids, and how it came here."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from services.chassis.clock import Now, parse_rfc3339, to_us
from services.chassis.errors import Invalid
from services.contracts.open_inference.v2 import grpc_predict_v2_pb2 as v2
from services.inference.contract import ModelContract
from services.inference.feature_client import EntityRows
from services.inference.loaded_model import INPUT, OUTPUT
from services.inference.tensors import Decoded, TensorSpec, decode

_VARIANTS = ("champion", "challenger")
_FULL_WEIGHT = 10_000
MAX_ID_LENGTH = 1024


@dataclass(frozen=True, slots=True)
class Assignment:
    """How the caller came to this variant, as the router's Envoy tells in the metadata."""

    variant: str
    release_id: str
    probability: float
    routing_key: str


@dataclass(frozen=True, slots=True)
class InferCall:
    """Exactly one of `entity_rows` and `vectors` (float32 [N, F]) is set. `entity_ids` are "" where none was given."""

    request_id: str
    prediction_id: str
    as_of_us: int
    entity_ids: tuple[str, ...]
    entity_rows: EntityRows | None
    vectors: NDArray[np.float32] | None
    raw: bool

    def row_id(self, row: int) -> str:
        """The prediction id of a row: the call's own if it has one row, else numbered."""
        return self.prediction_id if len(self.entity_ids) == 1 else f"{self.prediction_id}-{row}"


def read_assignment(metadata: Iterable[tuple[str, str | bytes]], variant: str) -> Assignment:
    """From the call's metadata; a call past the router is of this deployment's own `variant`, for certain."""
    told = {key: value for key, value in metadata if isinstance(value, str)}
    served_as = told.get("x-slipway-variant", variant)
    if served_as not in _VARIANTS:
        raise Invalid(f"metadata x-slipway-variant: expected one of {', '.join(_VARIANTS)}, got {served_as!r}")
    return Assignment(
        variant=served_as,
        release_id=told.get("x-slipway-release", ""),
        probability=_weight(told.get("x-slipway-weight")) / _FULL_WEIGHT,
        routing_key=told.get("x-routing-key", ""),
    )


def _weight(text: str | None) -> int:
    if text is None:
        return _FULL_WEIGHT
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:6]) <= _FULL_WEIGHT):
        raise Invalid(f"metadata x-slipway-weight: expected basis points from 1 to {_FULL_WEIGHT}, got {text!r}")
    return int(text)


class CallReader:
    """Reads calls against one model's contract."""

    def __init__(self, contract: ModelContract, now: Now, max_rows: int) -> None:
        self._now = now
        self._max_rows = max_rows
        self._entity_id = contract.entity_id
        self._columns = tuple(column.name for column in contract.columns)
        self._inputs = tuple(column.name for column in contract.inputs)
        self._specs = {column.name: TensorSpec(column.name, column.datatype) for column in contract.inputs}
        self._specs[INPUT] = TensorSpec(INPUT, "FP32", len(contract.features))

    def read(self, request: v2.ModelInferRequest) -> InferCall:
        """What the request asks for. Raises Invalid, naming what is wrong."""
        if len(request.id) > MAX_ID_LENGTH:
            raise Invalid(f"id: expected at most {MAX_ID_LENGTH} characters, got {len(request.id)}")
        _check_outputs(request)
        as_of_us = _as_of_us(request, self._now)
        decoded = decode(request, self._specs, self._max_rows)
        values = decoded.values
        whole_vector = INPUT in values
        self._check_present(values.keys(), whole_vector)
        return InferCall(
            request_id=request.id,
            prediction_id=request.id or uuid4().hex,
            as_of_us=as_of_us,
            entity_ids=self._entity_ids(decoded),
            entity_rows=None
            if whole_vector
            else EntityRows(tuple(values[name] for name in self._columns), (as_of_us,) * decoded.rows),
            vectors=np.array(values[INPUT], np.float32).reshape(decoded.rows, -1) if whole_vector else None,
            raw=bool(request.raw_input_contents),
        )

    def _check_present(self, given: AbstractSet[str], whole_vector: bool) -> None:
        needed = (INPUT,) if whole_vector else self._inputs
        missing = [name for name in needed if name not in given]
        if missing:
            raise Invalid(f"tensor {missing[0]!r}: missing; expected {', '.join(needed)}, or {INPUT} alone")
        extra = sorted(given - {*needed, self._entity_id})
        if extra:
            raise Invalid(f"tensor {extra[0]!r}: not together with {INPUT}, which is the whole vector")

    def _entity_ids(self, decoded: Decoded) -> tuple[str, ...]:
        given = decoded.values.get(self._entity_id)
        if given is None:
            return ("",) * decoded.rows
        entity_ids = tuple([str(value) for value in given])
        for row, entity_id in enumerate(entity_ids):
            if not 1 <= len(entity_id) <= MAX_ID_LENGTH:
                what = f"expected 1 to {MAX_ID_LENGTH} characters in row {row}, got {len(entity_id)}"
                raise Invalid(f"tensor {self._entity_id!r}: {what}")
        return entity_ids


def _check_outputs(request: v2.ModelInferRequest) -> None:
    unknown = [output.name for output in request.outputs if output.name != OUTPUT]
    if unknown:
        raise Invalid(f"output {unknown[0]!r}: unknown; expected {OUTPUT}")


def _as_of_us(request: v2.ModelInferRequest, now: Now) -> int:
    if "as_of" not in request.parameters:
        return to_us(now())
    parameter = request.parameters["as_of"]
    if parameter.WhichOneof("parameter_choice") != "string_param":
        raise Invalid("parameter as_of: expected a string_param with an RFC 3339 moment")
    try:
        return to_us(parse_rfc3339(parameter.string_param))
    except (ValueError, OverflowError) as error:
        raise Invalid(f"parameter as_of: expected an RFC 3339 moment with offset: {error}") from error
