"""Between the wire and what the service knows."""

from __future__ import annotations

from datetime import datetime

from services.chassis.clock import from_proto, to_proto
from services.chassis.errors import Invalid
from services.contracts.training.v1 import training_pb2 as pb
from services.training.runs import Run, RunRequest, RunState

_STATES = {
    RunState.QUEUED: pb.RUN_STATE_QUEUED,
    RunState.RUNNING: pb.RUN_STATE_RUNNING,
    RunState.REGISTERED: pb.RUN_STATE_REGISTERED,
    RunState.REFUSED: pb.RUN_STATE_REFUSED,
    RunState.ERROR: pb.RUN_STATE_ERROR,
}


def request_from_proto(request: pb.RetrainRequest) -> RunRequest:
    """Raises Invalid if the range is not told or a time is none."""
    for field in ("from", "to"):
        if not request.HasField(field):
            raise Invalid(f"{field}: not set; training needs the range of its rows")
    return RunRequest(
        request_id=request.request_id,
        model=request.model,
        begin=_moment(request, "from"),
        end=_moment(request, "to"),
        reason=request.reason,
        requested_by=request.requested_by,
        requested_at=_moment(request, "requested_at") if request.HasField("requested_at") else None,
    )


def run_to_proto(run: Run) -> pb.Run:
    """As on the wire."""
    told = pb.Run(
        run_id=run.run_id,
        request=_request_to_proto(run.request),
        state=_STATES[run.state],
        stage=run.stage,
        detail=run.detail,
        mlflow_run_id=run.mlflow_run_id,
        model_version=run.model_version,
        onnx_sha256=run.onnx_sha256,
        metrics=dict(run.metrics),
    )
    if run.started_at is not None:
        told.started_at.CopyFrom(to_proto(run.started_at))
    if run.ended_at is not None:
        told.ended_at.CopyFrom(to_proto(run.ended_at))
    return told


def to_record(run: Run) -> bytes:
    """The value of a record on training.runs.v1."""
    return pb.RunRecord(run=run_to_proto(run)).SerializeToString()


def _moment(request: pb.RetrainRequest, field: str) -> datetime:
    try:
        return from_proto(getattr(request, field))
    except ValueError as error:
        raise Invalid(f"{field}: {error}") from error


def _request_to_proto(request: RunRequest) -> pb.RetrainRequest:
    told = pb.RetrainRequest(
        request_id=request.request_id,
        model=request.model,
        to=to_proto(request.end),
        reason=request.reason,
        requested_by=request.requested_by,
    )
    # `from` is a word of Python.
    getattr(told, "from").CopyFrom(to_proto(request.begin))
    if request.requested_at is not None:
        told.requested_at.CopyFrom(to_proto(request.requested_at))
    return told
