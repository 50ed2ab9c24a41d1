"""Elements of a tensor as JSON values, and as the raw little-endian bytes of the protocol."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import chain
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.chassis.errors import Invalid

_DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype("?"),
    **{f"INT{8 * size}": np.dtype(f"<i{size}") for size in (1, 2, 4, 8)},
    **{f"UINT{8 * size}": np.dtype(f"<u{size}") for size in (1, 2, 4, 8)},
    **{f"FP{8 * size}": np.dtype(f"<f{size}") for size in (2, 4, 8)},
}
_BYTES = "BYTES"
# What elements may be in JSON, by numpy's letter for their kind. null is a number that is not known.
_TYPES: dict[str, frozenset[type]] = {
    "S": frozenset({str}),
    "b": frozenset({bool}),
    "i": frozenset({int}),
    "u": frozenset({int}),
    "f": frozenset({int, float, type(None)}),
}
_IN_WORDS = {"S": "text", "b": "true or false", "i": "whole numbers", "u": "whole numbers", "f": "numbers or null"}


def kind_of(name: str, datatype: str) -> str:
    """b(ool), i(nteger), u(nsigned), f(loat) or S(tring). Raises Invalid for a datatype that JSON cannot bring."""
    if datatype == _BYTES:
        return "S"
    if datatype not in _DTYPES:
        known = ", ".join((*_DTYPES, _BYTES))
        raise Invalid(f"tensor {name!r}: expected one of the datatypes {known}, got {datatype!r}")
    return _DTYPES[datatype].kind


def raw_size(datatype: str, shape: Sequence[int]) -> int | None:
    """How many bytes the raw elements have; None where that is not fixed."""
    return prod(shape) * _DTYPES[datatype].itemsize if datatype in _DTYPES else None


def to_raw(name: str, datatype: str, shape: Sequence[int], data: Sequence[Any]) -> bytes:
    """Raw bytes of JSON values, flat or nested as `shape` says. null in a tensor of floats is NaN.

    Raises Invalid, naming the tensor, what was expected and what came.
    """
    kind = kind_of(name, datatype)
    elements = _flat(name, shape, data)
    if len(elements) != prod(shape):
        what = f"{prod(shape)} elements in data for shape {list(shape)}, got {len(elements)}"
        raise Invalid(f"tensor {name!r}: expected {what}")
    if not set(map(type, elements)) <= _TYPES[kind]:
        at = next(at for at, element in enumerate(elements) if type(element) not in _TYPES[kind])
        raise Invalid(f"tensor {name!r}: expected {_IN_WORDS[kind]} in data, got {_shown(elements[at])}")
    return _texts(elements) if kind == "S" else _numbers(name, datatype, elements)


def from_raw(datatype: str, raw: bytes) -> list[Any]:
    """The numbers of raw bytes, flat."""
    numbers: list[Any] = np.frombuffer(raw, _DTYPES[datatype]).tolist()
    return numbers


def _flat(name: str, shape: Sequence[int], data: Sequence[Any]) -> Sequence[Any]:
    if not data or not isinstance(data[0], list):
        return data
    sizes, inner = [len(data)], data
    while inner and isinstance(inner[0], list):
        sizes.append(len(inner[0]))
        if not all(isinstance(each, list) and len(each) == sizes[-1] for each in inner):
            raise Invalid(f"tensor {name!r}: expected data flat or nested as shape {list(shape)}, got ragged lists")
        inner = list(chain.from_iterable(inner))
    if sizes != list(shape):
        raise Invalid(f"tensor {name!r}: expected data flat or nested as shape {list(shape)}, got lists of {sizes}")
    return inner


def _texts(elements: Sequence[str]) -> bytes:
    """Each element: 4 bytes of little-endian length, then the content."""
    contents = [element.encode() for element in elements]
    return b"".join([part for content in contents for part in (struct.pack("<I", len(content)), content)])


def _numbers(name: str, datatype: str, elements: Sequence[Any]) -> bytes:
    dtype = _DTYPES[datatype]
    try:
        # What is too large for a float becomes infinite.
        with np.errstate(over="ignore"):
            found: NDArray[Any] = np.array(elements, dtype)
    except OverflowError:
        raise Invalid(f"tensor {name!r}: expected numbers that {datatype} holds in data, got larger ones") from None
    if dtype.kind == "f" and not np.isfinite(found).all():
        _check_only_null(name, datatype, elements, found)
    return found.tobytes()


def _check_only_null(name: str, datatype: str, elements: Sequence[Any], found: NDArray[Any]) -> None:
    for at in np.flatnonzero(~np.isfinite(found)).tolist():
        if elements[at] is not None:
            what = f"finite numbers that {datatype} holds, or null for a missing one, in data"
            raise Invalid(f"tensor {name!r}: expected {what}, got {_shown(elements[at])}")


def _shown(value: object) -> str:
    """For a message: not longer than a line."""
    return repr(value)[:80]
