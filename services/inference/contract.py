"""`contract.json`: what a model asks of a request and of the features service."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.contracts.features.v1 import features_pb2
from services.inference.refusal import Check, Refused

_DATATYPES = {
    features_pb2.DATA_TYPE_STRING: "BYTES",
    features_pb2.DATA_TYPE_TIMESTAMP: "BYTES",
    features_pb2.DATA_TYPE_INT64: "INT64",
    features_pb2.DATA_TYPE_DOUBLE: "FP64",
}


class ColumnContract(BaseModel):
    """A join key or request field; `datatype` is the Open Inference one."""

    model_config = ConfigDict(frozen=True)

    name: str = Field(min_length=1)
    datatype: Literal["BYTES", "INT64", "FP64"]


class ModelContract(BaseModel):
    """A version's contract, as training wrote it. Unknown keys are left for newer readers."""

    model_config = ConfigDict(frozen=True)

    model: str
    feature_service: str = Field(min_length=1)
    entity_id: str = Field(min_length=1)
    join_keys: tuple[ColumnContract, ...]
    request_fields: tuple[ColumnContract, ...]
    features: tuple[str, ...] = Field(min_length=1)

    @cached_property
    def columns(self) -> tuple[ColumnContract, ...]:
        """What features asks for: join keys, then the request fields that are not among them."""
        keys = {column.name for column in self.join_keys}
        return (*self.join_keys, *(column for column in self.request_fields if column.name not in keys))

    @cached_property
    def inputs(self) -> tuple[ColumnContract, ...]:
        """The tensors of an entity call: the entity id (BYTES unless it is a column), then the columns."""
        if any(column.name == self.entity_id for column in self.columns):
            return self.columns
        return (ColumnContract(name=self.entity_id, datatype="BYTES"), *self.columns)


def parse_contract(raw: bytes, model: str) -> ModelContract:
    """The contract of a version of `model`. Raises Refused if it is malformed or another model's."""
    try:
        contract = ModelContract.model_validate_json(raw)
    except ValidationError as error:
        raise Refused(Check.CONTRACT, f"contract.json: {error}") from error
    if contract.model != model:
        raise Refused(Check.CONTRACT, f"contract.json is of model {contract.model!r}, expected {model!r}")
    return contract


def check_schema(contract: ModelContract, schema: features_pb2.GetFeatureServiceSchemaResponse) -> None:
    """Raises Refused unless the features service asks for and gives exactly what the model was trained on."""
    if tuple(schema.features) != contract.features:
        raise Refused(Check.CONTRACT, _features_differ(contract, tuple(schema.features)))
    _same_columns("join keys", contract.join_keys, schema.join_keys)
    _same_columns("request fields", contract.request_fields, schema.request_fields)


def _features_differ(contract: ModelContract, served: tuple[str, ...]) -> str:
    pairs = zip(contract.features, served, strict=False)
    at = next((i for i, (ours, theirs) in enumerate(pairs) if ours != theirs), min(len(contract.features), len(served)))
    ours, theirs = contract.features[at : at + 1], served[at : at + 1]
    return (
        f"feature service {contract.feature_service!r} gives {len(served)} features, the model was trained on "
        f"{len(contract.features)}; they differ at position {at}: model {ours}, features service {theirs}. "
        "Train a version on the present definitions"
    )


def _same_columns(what: str, ours: Sequence[ColumnContract], theirs: Sequence[features_pb2.Field]) -> None:
    """The order of columns does not matter: they go by name."""
    expected = sorted((column.name, column.datatype) for column in ours)
    got = sorted((field.name, _DATATYPES.get(field.data_type, "unknown")) for field in theirs)
    if expected != got:
        raise Refused(
            Check.CONTRACT, f"{what}: the model was trained with {expected}, the features service asks for {got}"
        )
