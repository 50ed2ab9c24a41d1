"""The one sentence of state: its parts, each good, worth a look, or bad."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from services.contracts.router.v1 import router_pb2
from services.contracts.training.v1 import training_pb2
from services.monitoring.console.platform import SILENT, Platform
from services.monitoring.console.view import View
from services.monitoring.console.words import moment, plural, share


class Level(IntEnum):
    """How a part stands; the worst gives the sentence its colour, shape and word."""

    GOOD = 0
    LOOK = 1
    BAD = 2


SHAPES = {Level.GOOD: ("●", "All is well"), Level.LOOK: ("▲", "Worth a look"), Level.BAD: ("■", "Broken")}


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the sentence and the section of the page that tells more."""

    text: str
    level: Level
    section: str


def sentence(view: View, platform: Platform, model: str) -> list[Part]:
    """The state in words."""
    return [
        *_served(view, platform, model),
        *_release(view, platform),
        *_processes(view, platform),
        *_drift(view),
        *_runs(view),
    ]


def _served(view: View, platform: Platform, model: str) -> Iterator[Part]:
    split = platform.split
    champion = split.champion_version if split is not None else view.champion
    if champion:
        yield Part(f"Serving {model} v{champion} (champion)", Level.GOOD, "models")
    elif view.registry_problem:
        yield Part("The champion is unknown while MLflow does not answer", Level.LOOK, "models")
    else:
        yield Part("No champion yet", Level.GOOD, "models")


def _release(view: View, platform: Platform) -> Iterator[Part]:
    release = view.release
    if platform.split is None:
        yield Part("split unknown, traffic goes as before", Level.LOOK, "release")
    elif release is None:
        yield Part("no release yet", Level.GOOD, "release")
    elif view.releasing:
        paused = release.phase == router_pb2.PHASE_PAUSED
        doing = "paused" if paused else f"holding: {release.waiting_for}" if release.waiting_for else "moving"
        text = f"canary v{release.challenger_version} at {share(release.challenger_weight / 10_000)}, {doing}"
        yield Part(text, Level.LOOK if paused else Level.GOOD, "release")
    elif release.phase != router_pb2.PHASE_SUCCESSFUL:
        phase = router_pb2.Phase.Name(release.phase).removeprefix("PHASE_").lower()
        yield Part(f"last release (v{release.challenger_version}) {phase}", Level.LOOK, "release")
    else:
        yield Part("no release in progress", Level.GOOD, "release")


def _processes(view: View, platform: Platform) -> Iterator[Part]:
    # A deployment without a version to serve has nothing to be ready with.
    idle = {"inference-challenger"} | (set() if view.champion else {"inference-champion"})
    broken = {name: p.problem for name, p in platform.processes.items() if p.problem and name not in idle}
    if not platform.processes:
        yield Part("the processes were not asked yet", Level.LOOK, "flow")
    elif not broken:
        yield Part("all processes ready", Level.GOOD, "flow")
    else:
        yield from _broken(broken)


def _broken(problems: dict[str, str]) -> Iterator[Part]:
    silent = [name for name, problem in problems.items() if problem.startswith(SILENT)]
    if silent:
        yield Part(f"{', '.join(silent)} {'does' if len(silent) == 1 else 'do'} not answer", Level.BAD, "flow")
    for name in problems.keys() - set(silent):
        yield Part(f"{name} waits for {problems[name]}", Level.BAD, "flow")


def _drift(view: View) -> Iterator[Part]:
    if not view.drift:
        if view.champion:
            why = "while MLflow does not answer" if view.registry_problem else "until the champion was asked"
            yield Part(f"drift unknown {why}", Level.GOOD, "drift")
        return
    drifted = sum(feature.drifted for feature in view.drift)
    if drifted:
        yield Part(f"{drifted} of {plural(len(view.drift), 'feature')} drifted", Level.LOOK, "drift")
    else:
        yield Part("no drift", Level.GOOD, "drift")


def _runs(view: View) -> Iterator[Part]:
    running = next((run for run in view.runs if run.state == training_pb2.RUN_STATE_RUNNING), None)
    if running is not None:
        yield Part(f"training: {running.stage or 'starting'}", Level.GOOD, "runs")
    elif view.triggers:
        yield Part(f"last retrain asked for {moment(view.triggers[0].event_time)}", Level.GOOD, "runs")
