"""The command: environments, servers, turns, the table."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
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
from loadtests.peers.stock import STOCK, stock_parts
from services.chassis.errors import Invalid, SlipwayError, Unavailable

_WIDTH_WITHOUT_OURS = 17
_READY_S = 120.0
_NAMES = ", ".join(peer.name for peer in PEERS)

Tell = Callable[[str], None]
Only = Annotated[list[str] | None, typer.Option(help=f"One of {_NAMES}; may be given again. Default: all.")]
Ours = Annotated[bool, typer.Option(help="Measure ours in the same run, on a platform of its own.")]
Stock = Annotated[bool, typer.Option(help="Also calls by keys: ours against MLServer with feast serve (needs ours).")]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Who takes part beside the reference."""

    peers: list[Peer]
    ours: bool
    stock: bool


def peers(
    *,
    only: Only = None,
    ours: Ours = True,
    stock: Stock = True,
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
    finish(lambda console: _report(plan, Wanted(chosen(only or []), ours, ours and stock), console), plan, out or [])


def chosen(names: list[str]) -> list[Peer]:
    """The peers of these names; all for none. Raises Invalid for a name that nobody has."""
    if unknown := set(names) - {peer.name for peer in PEERS}:
        raise Invalid(f"--only {sorted(unknown)[0]}: expected one of {_NAMES}")
    return [peer for peer in PEERS if not names or peer.name in names]


def _report(plan: Plan, wanted: Wanted, console: Console) -> Report:
    with console.status("starts") as status, tempfile.TemporaryDirectory(prefix="slipway-peers-") as folder:
        outcomes = _measured(plan, wanted, Path(folder), lambda now: status.update(escape(now)))
    versions = {peer.name: " ".join(peer.requirements) for peer in wanted.peers}
    facts = plan.facts() | versions | ({"feast": version("feast")} if wanted.stock else {})
    return Report("Model servers side by side", facts, outcomes, verdicts(outcomes) if wanted.ours else [])


def _measured(plan: Plan, wanted: Wanted, folder: Path, tell: Tell) -> list[Outcome]:
    failed: list[Outcome] = []
    pythons = _install(wanted.peers, failed, tell)
    with ExitStack() as stack:
        platform = stack.enter_context(own_platform(plan, tell)) if wanted.ours else None
        model = platform.model if platform else _model(folder)
        contenders: list[Contender] = [stack.enter_context(reference(model, plan.cores, folder))]
        if platform:
            field = Field(platform, plan.cores)
            contenders += [*field.vectors(), *field.rest(), *(field.entities() if wanted.stock else ())]
        for peer, python in pythons:
            tell(f"starts {peer.name}")
            with _told(peer.name, failed):
                contenders += stack.enter_context(serving(peer, _site(python, folder / peer.name, model), plan.cores))
        if platform and wanted.stock:
            tell("starts the stock parts")
            with _told(STOCK, failed):
                contenders.append(stack.enter_context(stock_parts(platform, plan.cores, folder / "stock")))
        return [*measure(contenders, plan.rounds, plan.seconds, tell), *failed]


@contextmanager
def _told(name: str, failed: list[Outcome]) -> Iterator[None]:
    """One that cannot take part is a row, not the end."""
    try:
        yield
    except SlipwayError as error:
        failed.append(Outcome(name, 1, failed=str(error)))


def _install(who: list[Peer], failed: list[Outcome], tell: Tell) -> list[tuple[Peer, Path]]:
    pythons = []
    for peer in who:
        tell(f"installs {peer.name}")
        with _told(peer.name, failed):
            pythons.append((peer, python_of(peer.name, peer.requirements)))
    return pythons


def _model(folder: Path) -> Served:
    """For peers without ours."""
    model = Served("model", folder / "model.onnx", _WIDTH_WITHOUT_OURS)
    model.onnx.write_bytes(forest(model.width))
    return model


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
                {peer.name: process.pid},
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
