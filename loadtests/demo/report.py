"""The reckoning as tables on the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rich.console import Console, RenderableType
from rich.table import Table

from loadtests.books.joins import Score
from loadtests.demo.platform import Chronicle
from loadtests.demo.reckoning import Reckoning, Verdict
from services.chassis.clock import from_proto
from services.contracts.router.v1 import router_pb2
from services.contracts.training.v1 import training_pb2

UNKNOWN = "\N{EN DASH}"


def show(console: Console, reckoning: Reckoning, verdicts: Sequence[Verdict]) -> None:
    """All of it, the verdicts last."""
    for part in (
        _versions(reckoning.chronicle),
        _releases(reckoning.chronicle),
        _quality(reckoning.monthly),
        _accounts(reckoning),
        _serving(reckoning),
        _verdicts(verdicts),
    ):
        console.print(part)
        console.print()


def _versions(chronicle: Chronicle) -> RenderableType:
    table = _table("Training runs", "version", "event time", "rows", "AUC", "champion's", "why", "ended")
    for run in chronicle.runs:
        state = training_pb2.RunState.Name(run.state).removeprefix("RUN_STATE_").lower()
        ended = state if run.state == training_pb2.RUN_STATE_REGISTERED else f"{state}: {run.detail}"
        metrics = run.metrics
        table.add_row(
            run.model_version or UNKNOWN,
            f"{from_proto(run.request.requested_at):%Y-%m-%d}",
            f"{metrics['rows']:,.0f}" if "rows" in metrics else UNKNOWN,
            _number(metrics, "auc"),
            _number(metrics, "champion_auc"),
            run.request.reason,
            ended,
        )
    return table


def _releases(chronicle: Chronicle) -> RenderableType:
    table = _table("Releases", "version", "strategy", "began", "ended", "outcome", "why")
    for release in chronicle.releases:
        last = release.transitions[-1] if release.transitions else None
        table.add_row(
            release.challenger_version,
            router_pb2.Strategy.Name(release.strategy).removeprefix("STRATEGY_").lower().replace("_", "-"),
            f"{from_proto(release.started_at):%Y-%m-%d}",
            f"{from_proto(release.ended_at):%Y-%m-%d}" if release.HasField("ended_at") else UNKNOWN,
            router_pb2.Phase.Name(release.phase).removeprefix("PHASE_").lower(),
            last.why if last else UNKNOWN,
        )
    return table


def _quality(monthly: Sequence[Score]) -> RenderableType:
    months = sorted({score.since for score in monthly})
    versions = list(dict.fromkeys(score.version for score in monthly))
    by_place = {(score.since, score.version): score for score in monthly}
    table = _table("AUC (labels) by month of the predicted moment", "month", "positive", *(f"v{v}" for v in versions))
    for month in months:
        here = [by_place[month, version] for version in versions if (month, version) in by_place]
        labels = sum(score.labels for score in here)
        positive = sum(score.labels * score.positive_rate for score in here) / labels
        cells = (by_place.get((month, version)) for version in versions)
        table.add_row(f"{month:%Y-%m}", f"{positive:.1%}", *(_auc(cell) for cell in cells))
    return table


def _accounts(reckoning: Reckoning) -> RenderableType:
    table = _table("The books, each line counted by two sources", "what", "by", "", "by", "", "")
    for account in reckoning.accounts:
        left, right = account.sources
        mark = "[green]=[/]" if account.balanced else f"[red]differs by {account.right - account.left:+,}[/]"
        table.add_row(account.what, left, f"{account.left:,}", right, f"{account.right:,}", mark)
    return table


def _serving(reckoning: Reckoning) -> RenderableType:
    totals, table = reckoning.totals, _table("Serving", "what", "")
    for what, value in _serving_facts(reckoning):
        table.add_row(what, value)
    for version, count in sorted(totals.answered.items()):
        table.add_row(f"answered by {version}", f"{count:,}")
    return table


def _serving_facts(reckoning: Reckoning) -> Iterator[tuple[str, str]]:
    totals = reckoning.totals
    yield "events stored by type", _counted({name: count.distinct for name, count in reckoning.events.lake.items()})
    yield "dead letters", _counted(reckoning.events.dead_letters)
    yield "mixed in by the replay", _counted(totals.mess)
    yield "predictions answered", f"{totals.answered.total():,}"
    p50, p99 = (totals.latencies.quantile_s(share) * 1000 for share in (0.5, 0.99))
    yield "latency at the client, through Envoy", f"p50 {p50:.1f} ms, p99 {p99:.1f} ms"
    yield "labels joined", f"{reckoning.joined.counts.joined:,}"


def _verdicts(verdicts: Iterable[Verdict]) -> RenderableType:
    table = _table("What the demo must show", "", "", "")
    for verdict in verdicts:
        table.add_row("[green]yes[/]" if verdict.holds else "[bold red]NO[/]", verdict.what, verdict.found)
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _number(metrics: object, name: str) -> str:
    values = metrics if isinstance(metrics, dict) else dict(metrics)  # type: ignore[call-overload]
    return f"{values[name]:.4f}" if name in values else UNKNOWN


def _auc(score: Score | None) -> str:
    return UNKNOWN if score is None else f"{score.auc:.3f} ({score.labels:,})"


def _counted(counts: object) -> str:
    pairs = dict(counts).items()  # type: ignore[call-overload]
    return ", ".join(f"{name} {count:,}" for name, count in sorted(pairs)) or "none"
