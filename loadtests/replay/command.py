"""The command: options become a plan; a progress bar, and the books at the end."""

from __future__ import annotations

import importlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from deploy.local.home import Home, local_feature_repo, local_home
from deploy.local.ports import address, local_ports
from loadtests.replay.display import books, progress_bar
from loadtests.replay.mess import HOLD
from loadtests.replay.plan import Plan
from loadtests.replay.player import Replay
from loadtests.upstream import Source
from services.chassis.clock import parse_rfc3339
from services.chassis.errors import Invalid, SlipwayError
from services.chassis.settings import KafkaSettings

FLIGHTS = "loadtests.flights:flights"
_INTERRUPTED, _UNAVAILABLE, _INVALID = 130, 1, 2


def replay(
    *,
    begins: Annotated[
        str | None, typer.Option("--from", help="Leave out what was known by then: a date or RFC 3339, UTC.")
    ] = None,
    until: Annotated[str | None, typer.Option("--to", help="Event time to play until; default: all of it.")] = None,
    speed: Annotated[
        float | None, typer.Option(min=0.001, help="Event time per real time; 1 is live. Default: flat out.")
    ] = None,
    mess: Annotated[float, typer.Option(min=0, max=1, help="Share of events with something bad about them.")] = 0.0,
    mess_seed: Annotated[int, typer.Option(help="Another seed, another mess.")] = 0,
    predict: Annotated[bool, typer.Option(help="Ask for the predictions.")] = True,
    wait: Annotated[bool, typer.Option(help="Keep pace with the features. If not, nothing is asked either.")] = True,
    answers: Annotated[Path | None, typer.Option(help="Write the answers here, one JSON object a line.")] = None,
    home: Annotated[Path | None, typer.Option(help="The platform's folder; default: SLIPWAY_HOME.")] = None,
    state: Annotated[Path | None, typer.Option(help="Position file; default: replay/position.json in home.")] = None,
    kafka: Annotated[
        str | None, typer.Option(envvar="SLIPWAY_KAFKA__BOOTSTRAP_SERVERS", help="host:port; default: the laptop's.")
    ] = None,
    features: Annotated[str | None, typer.Option(envvar="SLIPWAY_FEATURES", help="FeaturesService.")] = None,
    inference: Annotated[str | None, typer.Option(help="Envoy; default: the laptop's.")] = None,
    source: Annotated[str, typer.Option(help="module:function that returns the source of events.")] = FLIGHTS,
) -> None:
    """Plays upstream and the client against the local platform. Run again, it goes on where it was."""
    folder = local_home() if home is None else Home(home.resolve())
    ports = local_ports()
    try:
        events = load_source(source)
        plan = Plan(
            source=events,
            feature_repo=local_feature_repo(),
            state=state or folder.state("replay") / "position.json",
            kafka=KafkaSettings(bootstrap_servers=kafka or address(ports.kafka)),
            features=(features or address(ports.features_grpc)) if wait else None,
            inference=inference or address(ports.envoy),
            begins=None if begins is None else read_moment(begins),
            speed=speed,
            mess_share=mess,
            mess_seed=mess_seed,
            answers=answers,
        )
        _play(plan, events.ends + HOLD if until is None else read_moment(until), predict=predict and wait)
    except KeyboardInterrupt:
        Console(stderr=True).print("Stopped; the same command goes on from here.")
        raise typer.Exit(_INTERRUPTED) from None
    except SlipwayError as error:
        Console(stderr=True).print(str(error), style="red", highlight=False)
        raise typer.Exit(_INVALID if isinstance(error, Invalid) else _UNAVAILABLE) from error


def load_source(name: str) -> Source:
    """What `module:function` returns. Raises Invalid if there is no such function."""
    module, _, function = name.partition(":")
    try:
        made: Source = getattr(importlib.import_module(module), function)()
    except (ImportError, AttributeError, ValueError) as error:
        raise Invalid(f"--source {name}: expected module:function that returns a source of events: {error}") from error
    return made


def read_moment(text: str) -> datetime:
    """A date, or RFC 3339. Raises Invalid."""
    try:
        return parse_rfc3339(text) if "T" in text else datetime.fromisoformat(text).replace(tzinfo=UTC)
    except ValueError as error:
        raise Invalid(f"{text!r}: expected a date such as 2013-01-31 or an RFC 3339 moment with offset") from error


def _play(plan: Plan, until: datetime, *, predict: bool) -> None:
    console = Console()
    with Replay(plan) as player:
        with progress_bar(console, player.reached, until) as tell:
            totals = player.run(until, predict=predict, tell=tell)
        console.print(books(totals))
