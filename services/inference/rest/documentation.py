"""What /docs and /openapi.json tell of bodies and paths that the framework does not see."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

JSON, CSV = "application/json", "text/csv"

_PARAMETERS = {"type": "object", "example": {"as_of": "2026-05-04T12:00:00Z"}}
_TENSOR = {
    "type": "object",
    "required": ["name", "datatype", "shape"],
    "properties": {
        "name": {"type": "string"},
        "datatype": {"type": "string", "example": "FP32"},
        "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
        "parameters": {"type": "object", "example": {"binary_data_size": 12}},
        "data": {"type": "array", "items": {}, "description": "Flat in row-major order, or nested as the shape says."},
    },
}
_OUTPUT = {
    "type": "object",
    "required": ["name"],
    "properties": {"name": {"type": "string"}, "parameters": {"type": "object", "example": {"binary_data": True}}},
}
_INFER = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "id": {"type": "string", "description": "Echoed; the prediction's id."},
        "parameters": _PARAMETERS,
        "inputs": {"type": "array", "items": _TENSOR},
        "outputs": {"type": "array", "items": _OUTPUT},
    },
}
INSTANCES = {
    "type": "object",
    "required": ["instances"],
    "properties": {
        "instances": {
            "type": "array",
            "items": {"oneOf": [{"type": "object"}, {"type": "array", "items": {"type": "number", "nullable": True}}]},
            "description": "Each an object of the model's inputs by name, or the whole vector.",
        },
        "parameters": _PARAMETERS,
    },
}
TABLE = {"type": "string", "description": "Rows of the whole vector, or a header of input names and rows."}


def described(*path_parameters: str, **content: dict[str, Any]) -> dict[str, Any]:
    """An operation's path parameters, and its body's schema by content type (`json`, `csv`)."""
    text = {"in": "path", "required": True, "schema": {"type": "string"}}
    operation: dict[str, Any] = {"parameters": [{"name": name} | text for name in path_parameters]}
    if content:
        by_type = {{"json": JSON, "csv": CSV}[kind]: {"schema": schema} for kind, schema in content.items()}
        operation["requestBody"] = {"required": True, "content": by_type}
    return operation


def describe_infer(app: FastAPI, path: str, *path_parameters: str) -> None:
    """Adds the infer call at `path`, which the application itself does not route. Call it after the last route."""
    app.openapi()["paths"][path] = {
        "post": {
            "summary": "Predict",
            "tags": ["model"],
            **described(*path_parameters, json=_INFER),
            "responses": {"200": {"description": "The answer, in JSON or with binary data after it"}},
        }
    }
