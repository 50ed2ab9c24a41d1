"""The command: what is started, what is measured, what is shown."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from deploy.local.home import REPOSITORY, Home
from deploy.local.ports import local_ports
from deploy.local.processes import Platform
from loadtests.ceilings import machine
from loadtests.ceilings.contenders import Cores, Field, reference
from loadtests.ceilings.cores import check_cores
from loadtests.ceilings.goals import verdicts
from loadtests.ceilings.h2load import require
from loadtests.ceilings.platform import REAL, STAND_INS, Running, running
from loadtests.ceilings.report import Report, check_format
from loadtests.ceilings.rounds import Contender, Outcome, measure
from loadtests.replay.command import load_source
from services.chassis.errors import SlipwayError
from services.problem import load_recipe

PARCELS = "tests.problems.parcels.upstream:two_days"
PARCELS_REPO = REPOSITORY / "tests" / "problems" / "parcels" / "feature_repo"
_FAILED = 1

Rounds = Annotated[int, typer.Option(min=1, help="Of each; medians are shown.")]
Seconds = Annotated[float, typer.Option(min=0.2, help="Of one round of each.")]
ServerCore = Annotated[int, typer.Option(help="Core of what is measured.")]
GeneratorCore = Annotated[int, typer.Option(help="Core of h2load, and of Kafka, MLflow and the like.")]
FeatureRepo = Annotated[Path, typer.Option(envvar="SLIPWAY_FEATURE_REPO", help="The problem.")]
SourceName = Annotated[str, typer.Option(help="module:function that returns the problem's events.")]
Out = Annotated[list[Path] | None, typer.Option(help="Write it to a file, .md or .json; may be given again.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is run: how often, how long, where, on which problem."""

    rounds: int
    seconds: float
    cores: Cores
    feature_repo: Path
    source: str

    def check(self) -> None:
        """Raises Unavailable if this machine cannot do it."""
        require()
        if self.cores.server is not None and self.cores.generator is not None:
            check_cores(self.cores.server, self.cores.generator)

    def facts(self) -> dict[str, str]:
        """For those who read the numbers."""
        return {
            **machine.describe(),
            "pinned": f"what is measured to core {self.cores.server}, h2load and all else to {self.cores.generator}",
            "rounds": f"{self.rounds} of {self.seconds:g} s each, in turns; medians",
            "replies": "before and after checked against onnxruntime; under load each had the checked one's bytes",
        }


def ceilings(
    *,
    rounds: Rounds = 5,
    seconds: Seconds = 3.0,
    server_core: ServerCore = 0,
    generator_core: GeneratorCore = 1,
    feature_repo: FeatureRepo = PARCELS_REPO,
    source: SourceName = PARCELS,
    out: Out = None,
) -> None:
    """What a prediction costs, and how many a second one core gives.

    Starts a platform of its own on the ports of SLIPWAY_PORT_OFFSET, measures in turns, and removes it again. Ends with
    1 if a server failed; a missed target is shown, not an error.
    """
    plan = Plan(
        rounds=rounds,
        seconds=seconds,
        cores=Cores(server_core, generator_core),
        feature_repo=feature_repo.resolve(),
        source=source,
    )
    finish(lambda console: _report(plan, console), plan, out or [])


def finish(make: Callable[[Console], Report], plan: Plan, out: Sequence[Path]) -> None:
    """Makes the report, shows and writes it. Exits with 1 if it could not be made, or a server failed."""
    console = Console()
    try:
        for path in out:
            check_format(path)
        plan.check()
        report = make(console)
    except SlipwayError as error:
        Console(stderr=True).print(str(error), style="red", highlight=False, markup=False)
        raise typer.Exit(_FAILED) from error
    report.show(console)
    for path in out:
        report.write(path)
    if any(outcome.failed for outcome in report.outcomes):
        raise typer.Exit(_FAILED)


@contextmanager
def own_platform(plan: Plan, tell: Callable[[str], None]) -> Iterator[Running]:
    """A platform in a folder of its own, on the ports of SLIPWAY_PORT_OFFSET."""
    with tempfile.TemporaryDirectory(prefix="slipway-ceilings-") as folder:
        platform = Platform(Home(Path(folder) / "home"), local_ports(), plan.feature_repo)
        source, cores = load_source(plan.source), plan.cores
        with running(platform, source, server_core=cores.server, other_core=cores.generator, tell=tell) as started:
            yield started


def _report(plan: Plan, console: Console) -> Report:
    with console.status("starts") as status:
        outcomes = _measured(plan, lambda now: status.update(escape(now)))
    parts = {"real parts": REAL, "stand-ins": STAND_INS, "problem": load_recipe(plan.feature_repo).name}
    return Report("What a prediction costs", plan.facts() | parts, outcomes, verdicts(outcomes))


def _measured(plan: Plan, tell: Callable[[str], None]) -> list[Outcome]:
    with own_platform(plan, tell) as platform:
        field = Field(platform, plan.cores)
        with (
            reference(platform.model, plan.cores, platform.platform.home.logs) as plain,
            field.envoy_without_fast_lane() as without,
        ):
            everyone: list[Contender] = [
                plain,
                *field.vectors(),
                *without,
                *field.rest(),
                *field.hundred(),
                *field.entities(),
            ]
            return measure(everyone, plan.rounds, plan.seconds, tell)
