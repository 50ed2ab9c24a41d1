"""Rows as clouds send them (`instances`, CSV) as a call of the Open Inference Protocol."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

from services.chassis.errors import Invalid
from services.contracts.open_inference.v2 import grpc_predict_v2_pb2 as v2
from services.inference.contract import ModelContract
from services.inference.loaded_model import INPUT, LoadedModel
from services.inference.rest.elements import kind_of, to_raw
from services.inference.rest.open_inference import JsonBody, Parameters, put_parameters, read_json

_VECTOR_DATATYPE = "FP32"
_UNKNOWN = ("", "nan")


class _Instances(JsonBody):
    instances: list[Any] = Field(min_length=1)
    parameters: Parameters = Field(default_factory=dict)


def read_instances(model: LoadedModel, body: bytes) -> v2.ModelInferRequest:
    """`{"instances": [...], "parameters": {...}}`; an instance is an object of inputs by name, or the whole vector.

    Raises Invalid, naming the instance or the input.
    """
    asked = read_json(_Instances, body)
    rows = [{INPUT: each} if isinstance(each, list) else each for each in asked.instances]
    names = _names(rows[0])
    columns: dict[str, list[Any]] = {name: [] for name in names}
    for at, row in enumerate(rows):
        if not isinstance(row, dict) or set(row) != set(names):
            what = f"an object of {', '.join(sorted(names))} as in instance 0" if at else "an object or a list"
            raise Invalid(f"instances.{at}: expected {what}, got {repr(asked.instances[at])[:80]}")
        for name, value in row.items():
            columns[name].append(value)
    request = _request(model, columns)
    put_parameters(request.parameters, asked.parameters, "parameter")
    return request


def _names(row: Any) -> list[str]:
    return list(row) if isinstance(row, dict) else []


def read_csv(model: LoadedModel, body: bytes) -> v2.ModelInferRequest:
    """Rows of the whole vector, or below a header row of input names. An empty cell is a number that is not known.

    A first row that is not all numbers is a header. Raises Invalid, naming the row or the input.
    """
    try:
        rows = [row for row in csv.reader(io.StringIO(body.decode("utf-8-sig"), newline=""), strict=True) if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise Invalid(f"body: expected CSV in UTF-8: {error}") from error
    if not rows:
        raise Invalid("body: expected at least one row of CSV, got none")
    if all(map(_is_number, rows[0])):
        return _request(model, {INPUT: [[_number(cell, INPUT) for cell in row] for row in rows]})
    header, *below = rows
    _check_header(header, below)
    datatypes = _datatypes(model.contract)
    columns = {name: _column(name, datatypes, [row[at] for row in below]) for at, name in enumerate(header)}
    return _request(model, columns)


def _check_header(header: Sequence[str], below: Sequence[Sequence[str]]) -> None:
    twice = next((name for name in header if header.count(name) > 1), None)
    if twice is not None:
        raise Invalid(f"header: expected each input once, got {twice[:80]!r} twice")
    for at, row in enumerate(below):
        if len(row) != len(header):
            raise Invalid(f"row {at} below the header: expected {len(header)} cells, got {len(row)}")


def _datatypes(contract: ModelContract) -> Mapping[str, str]:
    return {column.name: column.datatype for column in contract.inputs} | {INPUT: _VECTOR_DATATYPE}


def _request(model: LoadedModel, columns: Mapping[str, Sequence[Any]]) -> v2.ModelInferRequest:
    datatypes = _datatypes(model.contract)
    request = v2.ModelInferRequest(model_name=model.name)
    for name, values in columns.items():
        datatype, shape = _datatype(name, datatypes), [len(values)]
        if name == INPUT:
            shape.append(len(model.contract.features))
            _check_vectors(values, shape[1])
        request.inputs.add(name=name, datatype=datatype, shape=shape)
        request.raw_input_contents.append(to_raw(name, datatype, shape, values))
    return request


def _datatype(name: str, datatypes: Mapping[str, str]) -> str:
    if name not in datatypes:
        raise Invalid(f"input {name[:80]!r}: unknown; expected {', '.join(datatypes)}")
    return datatypes[name]


def _check_vectors(vectors: Sequence[Any], width: int) -> None:
    for at, vector in enumerate(vectors):
        if not isinstance(vector, list) or len(vector) != width:
            got = len(vector) if isinstance(vector, list) else repr(vector)[:80]
            raise Invalid(f"row {at}: expected a vector of {width} numbers, got {got}")


def _column(name: str, datatypes: Mapping[str, str], cells: Sequence[str]) -> list[Any]:
    if name == INPUT:
        raise Invalid(f"header: {INPUT!r} is the whole vector; send its rows without a header")
    kind = kind_of(name, _datatype(name, datatypes))
    if kind == "S":
        return list(cells)
    read = _number if kind == "f" else _whole_number
    return [read(cell, name) for cell in cells]


def _number(cell: str, name: str) -> float | None:
    if cell.strip().lower() in _UNKNOWN:
        return None
    try:
        return float(cell)
    except ValueError:
        raise Invalid(f"input {name!r}: expected a number, got {cell[:80]!r}") from None


def _whole_number(cell: str, name: str) -> int:
    try:
        return int(cell)
    except ValueError:
        raise Invalid(f"input {name!r}: expected a whole number, got {cell[:80]!r}") from None


def _is_number(cell: str) -> bool:
    try:
        _number(cell, "")
    except Invalid:
        return False
    return True
