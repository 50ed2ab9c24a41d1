"""A version of a registered model, with its contract and the digest of its bytes."""

from __future__ import annotations

import hashlib

from pydantic import BaseModel, ConfigDict

from services.inference.contract import ModelContract


class ModelVersion(BaseModel):
    """A version of a registered model. `onnx_sha256` is "" if the version has no such tag."""

    model_config = ConfigDict(frozen=True)

    model: str
    version: str
    run_id: str
    onnx_sha256: str


class Artifacts(BaseModel):
    """A version with its contract. The ONNX bytes go beside it, by their digest."""

    model_config = ConfigDict(frozen=True)

    version: ModelVersion
    contract: ModelContract


def sha256(content: bytes) -> str:
    """The digest in lower-case hex."""
    return hashlib.sha256(content).hexdigest()
