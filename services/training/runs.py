"""A training run: what was asked for, how far it is, how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from services.chassis.errors import Invalid, NotFound


class RunState(StrEnum):
    """As on the wire."""

    QUEUED = "queued"
    RUNNING = "running"
    REGISTERED = "registered"
    REFUSED = "refused"
    """The gate or the parity check said no: trained and logged, not registered."""
    ERROR = "error"
    """It could not be carried out."""


class Stage(StrEnum):
    """What a run goes through, in this order."""

    DATASET = "dataset"
    VALIDATE = "validate"
    SPLIT = "split"
    TUNE = "tune"
    FIT = "fit"
    EVALUATE = "evaluate"
    GATE = "gate"
    EXPORT = "export"
    REGISTER = "register"


@dataclass(frozen=True, slots=True)
class RunRequest:
    """Rows whose prediction moment lies in [begin, end). `requested_at` is event time, None if it was not told."""

    request_id: str
    model: str
    begin: datetime
    end: datetime
    reason: str = ""
    requested_by: str = ""
    requested_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """`detail` says what is being done; at the end it is the reason of the end. Times are wall clock."""

    run_id: str
    request: RunRequest
    state: RunState = RunState.QUEUED
    stage: str = ""
    detail: str = ""
    mlflow_run_id: str = ""
    model_version: str = ""
    onnx_sha256: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    started_at: datetime | None = None
    ended_at: datetime | None = None
    attempts: int = 0
    """How often it was started; more than once only after a crash."""


def check_request(request: RunRequest, model: str) -> None:
    """Raises NotFound if another model is asked for, Invalid if the request has no id or no range."""
    if request.model != model:
        raise NotFound(f"model: {request.model!r} is not trained here, only {model!r}")
    if not request.request_id:
        raise Invalid("request_id: empty; each request needs an id of its own")
    if request.begin >= request.end:
        raise Invalid(f"from, to: {request.begin:%Y-%m-%dT%H:%M:%SZ} is not before {request.end:%Y-%m-%dT%H:%M:%SZ}")
