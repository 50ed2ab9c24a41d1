"""What one ModelInfer call asks for: rows, a moment, ids, and how it came here."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import count
from os import urandom
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from services.chassis.clock import Now, parse_rfc3339, to_us
from services.chassis.errors import Invalid
from services.contracts.open_inference.v2 import grpc_predict_v2_pb2 as v2
from services.inference.contract import ModelContract
from services.inference.feature_client import EntityRows
from services.inference.loaded_model import INPUT, OUTPUT
from services.inference.tensors import Decoded, TensorSpec, decode, decode_alone

_VARIANTS = ("champion", "challenger")
_FULL_WEIGHT = 10_000
_WEIGHT = re.compile("[1-9][0-9]{0,4}")
MAX_ID_LENGTH = 1024

Column = Sequence[str | int | float]

Told = Callable[[str], str | None]
"""The call's metadata by key, None for what was not sent."""
# Triton's, which change what comes back or where; others, like binary_data, ask for what is given anyway.
_OTHER_OUTPUTS = ("classification", "shared_memory_region")


@dataclass(frozen=True, slots=True)
class Assignment:
    """How the caller came to this variant, as the router's Envoy tells in the metadata."""

    variant: str
    release_id: str
    probability: float
    routing_key: str


class InferCall(NamedTuple):
    """Exactly one of `entity_rows` and `vectors` (float32 [N, F]) is set. `entity_ids` are "" where none was given.

    A tuple, since one is made for every call: a frozen dataclass takes three times as long.
    """

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


def read_assignment(told: Told, variant: str) -> Assignment:
    """From the call's metadata; a call past the router is of this deployment's own `variant`, for certain."""
    served_as = told("x-slipway-variant") or variant
    if served_as not in _VARIANTS:
        raise Invalid(f"metadata x-slipway-variant: expected one of {', '.join(_VARIANTS)}, got {served_as!r}")
    return Assignment(
        variant=served_as,
        release_id=told("x-slipway-release") or "",
        probability=_weight(told("x-slipway-weight")) / _FULL_WEIGHT,
        routing_key=told("x-routing-key") or "",
    )


def _weight(text: str | None) -> int:
    if text is None:
        return _FULL_WEIGHT
    if not _WEIGHT.fullmatch(text) or int(text) > _FULL_WEIGHT:
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
        self._specs[INPUT] = self._vector = TensorSpec(INPUT, "FP32", len(contract.features))
        self._id_prefix = urandom(8).hex()
        self._id_numbers = count()

    def read(self, request: v2.ModelInferRequest) -> InferCall:
        """What the request asks for. Raises Invalid, naming what is wrong."""
        request_id = request.id
        if len(request_id) > MAX_ID_LENGTH:
            raise Invalid(f"id: expected at most {MAX_ID_LENGTH} characters, got {len(request_id)}")
        if request.outputs:
            _check_outputs(request)
        as_of_us = _as_of_us(request, self._now)
        prediction_id = request_id or f"{self._id_prefix}{next(self._id_numbers):016x}"
        vectors = decode_alone(request, self._vector, self._max_rows)
        if vectors is not None:
            return InferCall(request_id, prediction_id, as_of_us, ("",) * len(vectors), None, vectors, True)
        return self._read_tensors(request, request_id, prediction_id, as_of_us)

    def _read_tensors(
        self, request: v2.ModelInferRequest, request_id: str, prediction_id: str, as_of_us: int
    ) -> InferCall:
        decoded = decode(request, self._specs, self._max_rows)
        values = decoded.values
        whole_vector = INPUT in values
        self._check_present(values.keys(), whole_vector)
        return InferCall(
            request_id=request_id,
            prediction_id=prediction_id,
            as_of_us=as_of_us,
            entity_ids=self._entity_ids(decoded),
            entity_rows=None
            if whole_vector
            else EntityRows(tuple(cast("Column", values[name]) for name in self._columns), (as_of_us,) * decoded.rows),
            vectors=cast("NDArray[np.float32]", values[INPUT]) if whole_vector else None,
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
    for output in request.outputs:
        if output.name != OUTPUT:
            raise Invalid(f"output {output.name!r}: unknown; expected {OUTPUT}")
        for name in _OTHER_OUTPUTS:
            if name in output.parameters:
                raise Invalid(f"output {OUTPUT!r}: parameter {name} is not offered; the tensor comes in the answer")


def _as_of_us(request: v2.ModelInferRequest, now: Now) -> int:
    parameters = request.parameters
    if "as_of" not in parameters:
        return to_us(now())
    parameter = parameters["as_of"]
    if parameter.WhichOneof("parameter_choice") != "string_param":
        raise Invalid("parameter as_of: expected a string_param with an RFC 3339 moment")
    try:
        return to_us(parse_rfc3339(parameter.string_param))
    except (ValueError, OverflowError) as error:
        raise Invalid(f"parameter as_of: expected an RFC 3339 moment with offset: {error}") from error
