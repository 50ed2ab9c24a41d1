"""`slipway quality` and `slipway counts`: how the models do, by MonitoringService."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import typer

from services.chassis.clock import to_proto
from services.chassis.errors import Invalid
from services.cli import values
from services.cli.display import coloured, facts, moment, number, out, table
from services.cli.rpc import TIMEOUT_S, calls
from services.cli.settings import CliSettings, cli_settings
from services.contracts.monitoring.v1 import monitoring_pb2 as pb
from services.contracts.monitoring.v1 import monitoring_pb2_grpc as rpc

_DAY_S = 86_400


def quality(
    since: Annotated[datetime | None, typer.Option("--from", parser=values.moment, metavar="DATE")] = None,
    until: Annotated[datetime | None, typer.Option("--to", parser=values.moment, metavar="DATE")] = None,
    window_days: Annotated[float, typer.Option(min=0, help="Length of a window; 0: one for all.")] = 7,
    versions: Annotated[list[str] | None, typer.Option("--version", help="Only this version; repeatable.")] = None,
    release_id: Annotated[str, typer.Option("--release", help="Only predictions of this release.")] = "",
) -> None:
    """Quality of each version once the labels are known, in windows of event time.

    Examples: `slipway quality` · `slipway quality --from 2013-06-01 --window-days 1 --version 3`
    """
    if since is not None and until is not None and since >= until:
        raise Invalid(f"--to: {moment(until)} does not lie after --from {moment(since)}")
    settings = cli_settings()
    request = pb.GetQualityRequest(
        model=settings.recipe.name,
        versions=versions or [],
        release_id=release_id,
        window_s=round(window_days * _DAY_S),
        to=None if until is None else to_proto(until),
    )
    if since is not None:
        getattr(request, "from").CopyFrom(to_proto(since))  # `from` is a word of Python's
    with _monitoring(settings) as stub:
        answer = stub.GetQuality(request, timeout=TIMEOUT_S)
    made = table(
        "from",
        "to",
        "version>",
        "variant",
        "predictions>",
        "labels>",
        "positive>",
        "AUC>",
        "log loss>",
        "Brier>",
        "ECE>",
    )
    for window in answer.windows:
        made.add_row(
            moment(getattr(window, "from")),
            moment(window.to),
            window.model_version,
            coloured(window.variant),
            f"{window.predictions:,}",
            f"{window.labels:,}",
            number(window.positive_rate if window.labels else None, 3),
            *(number(_optional(window, name)) for name in ("auc", "log_loss", "brier", "calibration_error")),
        )
    out().print(made if answer.windows else "No prediction in this range yet.")
    out().print(f"event time now: {moment(answer.watermark)}")


def counts() -> None:
    """Where every prediction stands: recorded = joined + void + pending + expired."""
    with _monitoring(cli_settings()) as stub:
        answer = stub.GetCounts(pb.GetCountsRequest(), timeout=TIMEOUT_S)
    names = ("recorded", "joined", "void", "pending", "expired", "duplicate_predictions", "duplicate_labels")
    out().print(
        facts(
            [
                *((name.replace("_", " "), f"{getattr(answer, name):>12,}") for name in names),
                ("event time now", moment(answer.watermark)),
            ]
        )
    )


def _monitoring(settings: CliSettings) -> Any:
    return calls("monitoring", settings.monitoring, rpc.MonitoringServiceStub)


def _optional(message: Any, name: str) -> float | None:
    return float(getattr(message, name)) if message.HasField(name) else None
