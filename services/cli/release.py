"""`slipway release`: start, watch and steer releases through RouterService."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.markup import escape

from services.cli import values
from services.cli.display import coloured, facts, moment, out, share, table
from services.cli.rpc import TIMEOUT_S, calls
from services.cli.settings import CliSettings, cli_settings
from services.contracts.router.v1 import router_pb2 as pb
from services.contracts.router.v1 import router_pb2_grpc as rpc

app = typer.Typer(
    no_args_is_help=True,
    help="Move traffic to a version. RELEASE is the one in progress unless it is given.",
)

ReleaseId = Annotated[str, typer.Argument(metavar="[RELEASE]", show_default=False)]
Why = Annotated[str, typer.Option(help="Stands in the release's record.")]


class Strategy(StrEnum):
    """`auto`: canary if there is a champion, else blue-green."""

    AUTO = "auto"
    CANARY = "canary"
    BLUE_GREEN = "blue-green"


_STRATEGIES = {
    Strategy.AUTO: pb.STRATEGY_UNSPECIFIED,
    Strategy.CANARY: pb.STRATEGY_CANARY,
    Strategy.BLUE_GREEN: pb.STRATEGY_BLUE_GREEN,
}


@app.command()
def start(
    version: Annotated[str, typer.Argument(help="Default: the version with the alias challenger.")] = "",
    strategy: Annotated[Strategy, typer.Option(help="auto: canary if there is a champion.")] = Strategy.AUTO,
    why: Why = "",
) -> None:
    """Start a release of a version. Example: `slipway release start 3 --strategy canary`"""
    settings = cli_settings()
    request = pb.StartReleaseRequest(
        model=settings.recipe.name,
        version=version,
        strategy=_STRATEGIES[strategy],
        actor=values.actor(),
        reason=why,
    )
    with _router(settings) as stub:
        _show(stub.StartRelease(request, timeout=TIMEOUT_S).release)


@app.command()
def status(release_id: ReleaseId = "") -> None:
    """What is served now, and one release with every change and why."""
    with _router(cli_settings()) as stub:
        split = stub.GetSplit(pb.GetSplitRequest(), timeout=TIMEOUT_S)
        _show_split(split)
        if release_id or split.release_id or stub.ListReleases(pb.ListReleasesRequest(), timeout=TIMEOUT_S).releases:
            out().print()
            _show(stub.GetRelease(pb.GetReleaseRequest(release_id=release_id), timeout=TIMEOUT_S).release)


@app.command("list")
def list_() -> None:
    """Every release, newest first."""
    releases = all_releases(cli_settings())
    made = table("release", "version>", "strategy", "phase", "share>", "started", "ended", "last change")
    for release in releases:
        made.add_row(
            release.release_id,
            f"{release.champion_version or 'none'} → {release.challenger_version}",
            _strategy(release.strategy),
            coloured(phase(release.phase)),
            share(release.challenger_weight),
            moment(release.started_at),
            moment(release.ended_at),
            escape(release.transitions[-1].why if release.transitions else ""),
        )
    out().print(made if releases else "No release yet. A training run that is registered starts one")


@app.command()
def promote(release_id: ReleaseId = "", why: Why = "") -> None:
    """End it with the challenger as the new champion."""
    _steer("PromoteRelease", pb.PromoteReleaseRequest(release_id=release_id, actor=values.actor(), why=why))


@app.command()
def abort(release_id: ReleaseId = "", why: Why = "") -> None:
    """End it with the champion as before."""
    _steer("AbortRelease", pb.AbortReleaseRequest(release_id=release_id, actor=values.actor(), why=why))


@app.command()
def pause(release_id: ReleaseId = "", why: Why = "") -> None:
    """Stop the steps; the weights stay."""
    _steer("PauseRelease", pb.PauseReleaseRequest(release_id=release_id, actor=values.actor(), why=why))


@app.command()
def resume(release_id: ReleaseId = "", why: Why = "") -> None:
    """Go on with the steps."""
    _steer("ResumeRelease", pb.ResumeReleaseRequest(release_id=release_id, actor=values.actor(), why=why))


@app.command()
def weight(
    challenger: Annotated[
        int, typer.Argument(parser=values.basis_points, metavar="SHARE", help="Of the challenger: 0.25 or 25%.")
    ],
    release_id: ReleaseId = "",
    why: Why = "",
) -> None:
    """Set the challenger's share by hand; the steps pause. Example: `slipway release weight 25%`"""
    request = pb.SetWeightRequest(release_id=release_id, challenger_weight=challenger, actor=values.actor(), why=why)
    _steer("SetWeight", request)


def all_releases(settings: CliSettings) -> list[pb.Release]:
    """Newest first."""
    with _router(settings) as stub:
        return list(stub.ListReleases(pb.ListReleasesRequest(), timeout=TIMEOUT_S).releases)


def phase(value: pb.Phase) -> str:
    """In words."""
    return pb.Phase.Name(value).removeprefix("PHASE_").lower()


def _router(settings: CliSettings) -> Any:
    return calls("router", settings.router, rpc.RouterServiceStub)


def _steer(method: str, request: Any) -> None:
    with _router(cli_settings()) as stub:
        _show(getattr(stub, method)(request, timeout=TIMEOUT_S).release)


def _show_split(split: pb.GetSplitResponse) -> None:
    challenger = split.challenger_version or "none"
    weights = f"{challenger} ({share(split.challenger_weight)})" if split.release_id else challenger
    out().print(
        facts(
            [
                ("model", escape(split.model)),
                ("champion", split.champion_version or "none yet"),
                ("challenger", weights),
                ("Envoy", "has taken this over" if split.applied else "has not taken this over yet"),
            ]
        )
    )


def _show(release: pb.Release) -> None:
    out().print(
        facts(
            [
                ("release", release.release_id),
                ("versions", f"{release.champion_version or 'none'} → {release.challenger_version}"),
                ("strategy", _strategy(release.strategy)),
                ("phase", coloured(phase(release.phase))),
                ("share", share(release.challenger_weight)),
                ("waits for", escape(release.waiting_for) or "nothing"),
                ("started", escape(f"{moment(release.started_at)} by {release.started_by}: {release.reason}")),
            ]
        )
    )
    made = table("event time", "phase", "share>", "who", "why")
    for change in release.transitions:
        made.add_row(
            moment(change.event_time),
            coloured(phase(change.phase)),
            share(change.challenger_weight),
            escape(change.actor),
            escape(change.why),
        )
    out().print(made)


def _strategy(value: pb.Strategy) -> str:
    return next((ours.value for ours, theirs in _STRATEGIES.items() if theirs == value), str(value))
