"""The command: starts the platform, plays, reckons, tells."""

from __future__ import annotations

import shutil
import time
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console

from deploy.local import supervise
from deploy.local.ports import address
from deploy.local.processes import Platform, local_platform
from loadtests.demo.pictures import draw
from loadtests.demo.platform import platform_client
from loadtests.demo.reckoning import Verdict, reckon, verdicts
from loadtests.demo.report import show
from loadtests.demo.story import Story, Times
from loadtests.flights import flights
from loadtests.replay import Plan, Replay
from loadtests.replay.display import progress_bar
from services.chassis.errors import Conflict, SlipwayError
from services.chassis.settings import KafkaSettings
from services.cli.platform import down, up
from services.problem import load_recipe

FIRST_MODEL = datetime(2013, 5, 1, tzinfo=UTC)
LATE = (datetime(2013, 9, 1, tzinfo=UTC), datetime(2014, 1, 1, tzinfo=UTC))
MIN_AUC = 0.76
_MESS_SHARE, _MESS_SEED = 0.002, 13
_FAILED, _INTERRUPTED = 1, 130


def demo(
    exit_after: Annotated[bool, typer.Option("--exit", help="Stop everything after the summary.")] = False,
    fresh: Annotated[bool, typer.Option(help="Throw away what an earlier playing left.")] = False,
    speed: Annotated[float | None, typer.Option(min=1, help="Event time per real time. Default: flat out.")] = None,
    mess: Annotated[float, typer.Option(min=0, max=1, help="Share of events with something bad.")] = _MESS_SHARE,
) -> None:
    """Plays the flights of 2013 through the whole loop: trains on the first months, serves the rest, retrains on drift.

    Prints and draws what happened, and ends with 1 if the books do not balance or the loop did not close.
    """
    console, platform = Console(), local_platform()
    try:
        if fresh:
            _throw_away(platform)
        up(detach=True)
        good = _play(platform, speed, mess, console)
    except KeyboardInterrupt:
        console.print("Interrupted. `slipway demo` goes on from here.")
        down()
        raise typer.Exit(_INTERRUPTED) from None
    except SlipwayError as error:
        Console(stderr=True).print(f"[bold red]error:[/] {error}", highlight=False)
        raise typer.Exit(_FAILED) from error
    finally:
        if exit_after:
            down()
    if not exit_after:
        console.print(
            f"The platform stays up: console http://{address(platform.ports.monitoring_http)}, "
            f"MLflow http://{address(platform.ports.mlflow)}. `slipway down` stops it."
        )
    if not good:
        raise typer.Exit(_FAILED)


def _throw_away(platform: Platform) -> None:
    if supervise.manager_pid(platform) is not None:
        raise Conflict("the platform is running; `slipway down` stops it, then --fresh may throw its data away")
    shutil.rmtree(platform.home.root, ignore_errors=True)


def _play(platform: Platform, speed: float | None, mess: float, console: Console) -> bool:
    """Whether everything that must hold does."""
    source, recipe, began = flights(), load_recipe(platform.feature_repo), time.monotonic()
    plan = Plan(
        source=source,
        feature_repo=platform.feature_repo,
        state=platform.home.root / "demo" / "position.json",
        kafka=KafkaSettings(bootstrap_servers=address(platform.ports.kafka)),
        features=address(platform.ports.features_grpc),
        inference=address(platform.ports.envoy),
        speed=speed,
        mess_share=mess,
        mess_seed=_MESS_SEED,
    )
    with (
        platform_client(platform.ports) as client,
        Replay(plan) as replay,
        progress_bar(console, source.begins, source.ends) as tell,
    ):
        story = Story(
            recipe=recipe,
            replay=replay,
            platform=client,
            times=Times(source.begins, FIRST_MODEL, source.ends),
            say=lambda text: console.print(f"[dim]{time.monotonic() - began:6.0f} s[/]  {text}", highlight=False),
            tell=tell,
        )
        totals = story.play()
        reached = replay.reached
    with platform_client(platform.ports) as client, console.status("reading the books"):
        reckoning = reckon(platform, client, totals, reached, LATE)
    judged: list[Verdict] = list(verdicts(reckoning, MIN_AUC))
    show(console, reckoning, judged)
    picture = draw(reckoning, platform.home.root / "demo" / "year.png")
    console.print(f"Drawn: {picture}. It took {time.monotonic() - began:.0f} s.", highlight=False)
    return all(verdict.holds for verdict in judged)
