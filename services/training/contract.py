"""`contract.json`: what the model asks of a request and of the features service."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from services.problem import ModelRecipe


@dataclass(frozen=True, slots=True)
class Column:
    """A join key or request field; `datatype` is the Open Inference one."""

    name: str
    datatype: str


@dataclass(frozen=True, slots=True)
class FeatureSchema:
    """What a feature service needs, and gives: `features` in the order of the vector."""

    join_keys: tuple[Column, ...]
    request_fields: tuple[Column, ...]
    features: tuple[str, ...]


def contract(recipe: ModelRecipe, schema: FeatureSchema) -> dict[str, Any]:
    """As inference reads it."""
    return {
        "model": recipe.name,
        "feature_service": recipe.feature_service,
        "entity_id": recipe.label.entity_id,
        "join_keys": [asdict(column) for column in schema.join_keys],
        "request_fields": [asdict(column) for column in schema.request_fields],
        "features": list(schema.features),
    }
