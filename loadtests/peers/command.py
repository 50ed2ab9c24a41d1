"""The command: environments, servers, turns, the table."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from deploy.local.probes import Probe
from loadtests.ceilings.command import (
    PARCELS,
    PARCELS_REPO,
    FeatureRepo,
    GeneratorCore,
    Out,
    Plan,
    Rounds,
    Seconds,
    ServerCore,
    SourceName,
    finish,
    own_platform,
)
from loadtests.ceilings.contenders import Cores, Field, reference
from loadtests.ceilings.model import Served, forest, run
from loadtests.ceilings.processes import free_port, started, wait_ready
from loadtests.ceilings.report import Report
from loadtests.ceilings.requests import ask
from loadtests.ceilings.rounds import Contender, Outcome, Server, measure
from loadtests.peers.catalogue import PEERS, Peer, Site
from loadtests.peers.environments import python_of
from loadtests.peers.goals import verdicts
from services.chassis.errors import Invalid, SlipwayError, Unavailable

_WIDTH_WITHOUT_OURS = 17
_READY_S = 120.0
_NAMES = ", ".join(peer.name for peer in PEERS)

Tell = Callable[[str], None]
Only = Annotated[list[str] | None, typer.Option(help=f"One of {_NAMES}; may be given again. Default: all.")]
Ours = Annotated[bool, typer.Option(help="Measure ours in the same run, on a platform of its own.")]


def peers(
    *,
    only: Only = None,
    ours: Ours = True,
    rounds: Rounds = 5,
    seconds: Seconds = 3.0,
    server_core: ServerCore = 0,
    generator_core: GeneratorCore = 1,
    feature_repo: FeatureRepo = PARCELS_REPO,
    source: SourceName = PARCELS,
    out: Out = None,
) -> None:
    """Other model servers with the same model under the same load as ours, in turns.

    Each is installed once by pip into .cache/peers. One that does not start has a row that says why. All run at the
    same time on the same core, and one is asked at a time.
    """
    plan = Plan(
        rounds=rounds,
        seconds=seconds,
        cores=Cores(server_core, generator_core),
        feature_repo=feature_repo.resolve(),
        source=source,
    )
    finish(lambda console: _report(plan, chosen(only or []), console, ours=ours), plan, out or [])


def chosen(names: list[str]) -> list[Peer]:
    """The peers of these names; all for none. Raises Invalid for a name that nobody has."""
    if unknown := set(names) - {peer.name for peer in PEERS}:
        raise Invalid(f"--only {sorted(unknown)[0]}: expected one of {_NAMES}")
    return [peer for peer in PEERS if not names or peer.name in names]


def _report(plan: Plan, who: list[Peer], console: Console, *, ours: bool) -> Report:
    with console.status("starts") as status, tempfile.TemporaryDirectory(prefix="slipway-peers-") as folder:
        outcomes = _measured(plan, who, Path(folder), lambda now: status.update(escape(now)), ours=ours)
    versions = {peer.name: " ".join(peer.requirements) for peer in who}
    return Report("Model servers side by side", plan.facts() | versions, outcomes, verdicts(outcomes) if ours else [])


def _measured(plan: Plan, who: list[Peer], folder: Path, tell: Tell, *, ours: bool) -> list[Outcome]:
    failed: list[Outcome] = []
    pythons = _install(who, failed, tell)
    with ExitStack() as stack:
        model, contenders = stack.enter_context(_ours(plan, tell) if ours else _nobody(folder))
        contenders.insert(0, stack.enter_context(reference(model, plan.cores, folder)))
        for peer, python in pythons:
            tell(f"starts {peer.name}")
            try:
                contenders += stack.enter_context(serving(peer, _site(python, folder / peer.name, model), plan.cores))
            except SlipwayError as error:
                failed.append(Outcome(peer.name, 1, failed=str(error)))
        return [*measure(contenders, plan.rounds, plan.seconds, tell), *failed]


def _install(who: list[Peer], failed: list[Outcome], tell: Tell) -> list[tuple[Peer, Path]]:
    pythons = []
    for peer in who:
        tell(f"installs {peer.name}")
        try:
            pythons.append((peer, python_of(peer.name, peer.requirements)))
        except SlipwayError as error:
            failed.append(Outcome(peer.name, 1, failed=str(error)))
    return pythons


@contextmanager
def _ours(plan: Plan, tell: Tell) -> Iterator[tuple[Served, list[Contender]]]:
    with own_platform(plan, tell) as platform:
        field = Field(platform, plan.cores)
        yield platform.model, [*field.vectors(), *field.rest()]


@contextmanager
def _nobody(folder: Path) -> Iterator[tuple[Served, list[Contender]]]:
    """Only the model."""
    model = Served("model", folder / "model.onnx", _WIDTH_WITHOUT_OURS)
    model.onnx.write_bytes(forest(model.width))
    yield model, []


def _site(python: Path, folder: Path, model: Served) -> Site:
    folder.mkdir()
    return Site(python, folder, model, free_port(), free_port())


@contextmanager
def serving(peer: Peer, site: Site, cores: Cores) -> Iterator[list[Server]]:
    """The peer as a process, once it answers; each way to ask it. Raises Unavailable with its last lines."""
    start = peer.start(site)
    expected = run(site.model.onnx.read_bytes(), site.vector)
    environment = site.environment | dict(start.environment)
    with started(peer.name, start.command, environment=environment, core=cores.server, folder=site.folder) as process:
        ways = [
            Server(
                way.name,
                way.call,
                way.read,
                expected,
                (process.pid,),
                shape=way.shape,
                generator_core=cores.generator,
            )
            for way in start.ways
        ]
        wait_ready(peer.name, process, _answers(ways), _READY_S, site.folder)
        yield ways


def _answers(ways: list[Server]) -> Probe:
    """Ready when each way gives any answer; whether it is the right one is seen later."""

    def probe() -> str | None:
        for way in ways:
            try:
                ask(way.call, within_s=1.0)
            except Unavailable as error:
                return str(error)
        return None

    return probe
