"""`slipway train` and `slipway runs`: ask TrainingService for a model, and look at its runs."""

from __future__ import annotations

import time
import uuid
from datetime import datetime
from typing import Annotated, Any

import grpc
import typer
from google.protobuf.timestamp_pb2 import Timestamp
from rich.markup import escape

from services.chassis.clock import to_proto
from services.chassis.errors import Invalid, SlipwayError
from services.cli import values
from services.cli.display import coloured, err, facts, measure, moment, number, out, table
from services.cli.failures import FAILED
from services.cli.rpc import TIMEOUT_S, calls
from services.cli.settings import CliSettings, cli_settings
from services.contracts.monitoring.v1 import monitoring_pb2, monitoring_pb2_grpc
from services.contracts.training.v1 import training_pb2 as pb
from services.contracts.training.v1 import training_pb2_grpc as rpc

_LOOK_EVERY_S = 1.0
_IN_PROGRESS = (pb.RUN_STATE_QUEUED, pb.RUN_STATE_RUNNING)

runs_app = typer.Typer(help="Training runs.", invoke_without_command=True)


def train(
    since: Annotated[
        datetime, typer.Option("--from", parser=values.moment, metavar="DATE", help="First prediction moment.")
    ],
    until: Annotated[
        datetime, typer.Option("--to", parser=values.moment, metavar="DATE", help="End; itself not included.")
    ],
    wait: Annotated[bool, typer.Option(help="Follow the run; exit code 0 only if it was registered.")] = False,
    reason: Annotated[str, typer.Option(help="Stands in the run's record.")] = "asked for by hand",
) -> None:
    """Train a model on the rows of a date range; a registered one starts a release.

    Examples: `slipway train --from 2013-01-01 --to 2013-03-01 --wait` · `slipway runs`
    """
    if since >= until:
        raise Invalid(f"--to: {moment(until)} does not lie after --from {moment(since)}")
    settings = cli_settings()
    request = pb.RetrainRequest(
        request_id=f"cli-{uuid.uuid4().hex[:12]}",
        model=settings.recipe.name,
        to=to_proto(until),
        reason=reason,
        requested_by=values.actor(),
        requested_at=_event_time_now(settings),
        **{"from": to_proto(since)},
    )
    with _training(settings) as stub:
        run_id = stub.StartRun(pb.StartRunRequest(request=request), timeout=TIMEOUT_S).run_id
        out().print(f"run {run_id} is queued")
        if not wait:
            out().print(f"`slipway runs show {run_id}` tells how it goes")
            return
        run = _until_ended(stub, run_id)
    _show(run)
    if run.state != pb.RUN_STATE_REGISTERED:
        raise typer.Exit(FAILED)


@runs_app.callback()
def runs(context: typer.Context) -> None:
    """Training runs, newest first."""
    if context.invoked_subcommand is not None:
        return
    with _training(cli_settings()) as stub:
        found = stub.ListRuns(pb.ListRunsRequest(), timeout=TIMEOUT_S).runs
    made = table("run", "state", "stage", "from", "to", "version>", "AUC>", "log loss>", "why")
    for run in found:
        made.add_row(
            run.run_id,
            coloured(_state(run)),
            escape(run.stage),
            moment(getattr(run.request, "from")),
            moment(run.request.to),
            run.model_version,
            number(run.metrics.get("auc")),
            number(run.metrics.get("log_loss")),
            escape(run.request.reason),
        )
    out().print(made if found else "No training run yet. `slipway train --from DATE --to DATE` starts one")


@runs_app.command("show")
def show(run_id: str) -> None:
    """One run: its range, state, metrics and why it ended."""
    with _training(cli_settings()) as stub:
        _show(stub.GetRun(pb.GetRunRequest(run_id=run_id), timeout=TIMEOUT_S).run)


def _training(settings: CliSettings) -> Any:
    return calls("training", settings.training, rpc.TrainingServiceStub)


def _event_time_now(settings: CliSettings) -> Timestamp | None:
    """Monitoring's watermark; not known while monitoring is down, which keeps nobody from training."""
    try:
        with calls("monitoring", settings.monitoring, monitoring_pb2_grpc.MonitoringServiceStub) as stub:
            counts = stub.GetCounts(monitoring_pb2.GetCountsRequest(), timeout=TIMEOUT_S)
    except SlipwayError:
        return None
    return counts.watermark if counts.HasField("watermark") else None


def _until_ended(stub: Any, run_id: str) -> pb.Run:
    """Follows a run. Training may restart meanwhile: it goes on with the run."""
    with err().status("queued") as shown:
        while True:
            run = _look(stub, run_id)
            if run is not None:
                if run.state not in _IN_PROGRESS:
                    return run
                shown.update(f"{_state(run)}: {escape(run.stage)} {escape(run.detail)}")
            time.sleep(_LOOK_EVERY_S)


def _look(stub: Any, run_id: str) -> pb.Run | None:
    try:
        answer: pb.GetRunResponse = stub.GetRun(pb.GetRunRequest(run_id=run_id), timeout=TIMEOUT_S)
    except grpc.RpcError as error:
        if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
            return None
        raise
    return answer.run


def _show(run: pb.Run) -> None:
    request = run.request
    out().print(
        facts(
            [
                ("run", run.run_id),
                ("state", coloured(_state(run))),
                ("stage", escape(f"{run.stage} {run.detail}".strip())),
                ("rows", f"{moment(getattr(request, 'from'))} to {moment(request.to)}"),
                ("why", escape(f"{request.reason} (asked by {request.requested_by})")),
                ("took", f"{moment(run.started_at)} to {moment(run.ended_at)}"),
                ("version", run.model_version or "none"),
                *((escape(name), measure(value)) for name, value in sorted(run.metrics.items())),
            ]
        )
    )


def _state(run: pb.Run) -> str:
    return pb.RunState.Name(run.state).removeprefix("RUN_STATE_").lower()
