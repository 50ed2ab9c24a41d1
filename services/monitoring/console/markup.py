"""The page's words and tables as HTML: pure functions of the view. Everything told by others is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from services.chassis.clock import from_proto
from services.contracts.router.v1 import router_pb2
from services.contracts.training.v1 import training_pb2
from services.monitoring.console.charts import sparkline
from services.monitoring.console.platform import Platform
from services.monitoring.console.state import SHAPES, Level, Part
from services.monitoring.console.stations import Station, data_health
from services.monitoring.console.view import View
from services.monitoring.console.words import UNKNOWN, count, moment, number, plural, share
from services.monitoring.mlflow_client import Version
from services.monitoring.quality_book import Group
from services.monitoring.triggers import in_words
from services.problem import ModelRecipe


def sentence(parts: Sequence[Part]) -> str:
    """The state in one sentence, its level first as shape and word."""
    level = max((part.level for part in parts), default=Level.LOOK)
    shape, word = SHAPES[level]
    links = " · ".join(
        f'<a class="part {part.level.name.lower()}" href="#{part.section}">{_marked(part)}</a>' for part in parts
    )
    return (
        f'<p class="sentence"><span class="badge {level.name.lower()}" role="status">{shape} {word}</span> {links}</p>'
    )


def clocks(view: View) -> str:
    """Event time beside the wall clock: a replay's differ."""
    reached = f"{moment(view.watermark)} UTC" if view.watermark else f"{UNKNOWN} (no label event was read yet)"
    return f"<span>event time <b>{reached}</b></span><span>page as of {view.at:%H:%M:%S} UTC</span>"


def flow(stations: Sequence[Station]) -> str:
    """The four stations in a row; a broken one says so in its head."""
    return '<ol class="flow">' + "".join(_station(station) for station in stations) + "</ol>"


def release(view: View) -> str:
    """The release in progress or the last one: what it is, what it waits for, how its arms do."""
    current = view.release
    if current is None:
        return _empty(
            "No release yet. The first registered version is released by itself; "
            "start one by hand with <code>slipway release start</code>."
        )
    phase = _word(router_pb2.Phase.Name(current.phase), "PHASE_")
    strategy = _word(router_pb2.Strategy.Name(current.strategy), "STRATEGY_")
    before = f"v{escape(current.champion_version)}" if current.champion_version else "nothing"
    head = (
        f"<p><b>{strategy}</b> of v{escape(current.challenger_version)} over {before}: <b>{phase}</b>, "
        f"challenger gets {share(current.challenger_weight / 10_000)}"
        + (f", started by {escape(current.started_by)}" if current.started_by else "")
        + "</p>"
    )
    waits = f"<p class='waits'>Waits for: {escape(current.waiting_for)}</p>" if current.waiting_for else ""
    why = f"<p class='quiet'>{escape(_last_why(current))}</p>"
    return head + waits + why + _arms(view.arms)


def models(view: View, model: str) -> str:
    """Every registered version with its stage, newest first."""
    if not view.versions:
        why = view.registry_problem or ("No version yet. Train one: <code>slipway train</code>")
        return _empty(why if not view.registry_problem else escape(why))
    rows = (
        (
            f"v{escape(version.version)}",
            stage(version, view.releases),
            escape(", ".join(version.aliases)) or UNKNOWN,
            _trained_on(version),
            moment(version.created_at),
            f"<code>{escape(version.tags.get('slipway.onnx_sha256', UNKNOWN)[:12])}</code>",
        )
        for version in view.versions
    )
    heads = ("version", "stage", "aliases", "trained on (event time)", "registered (wall clock)", "ONNX SHA-256")
    return _table(heads, rows, f"Versions of {model}")


def stage(version: Version, releases: Iterable[router_pb2.Release]) -> str:
    """Staging, Production or Archived, from the aliases and the releases."""
    if "champion" in version.aliases:
        return "Production"
    if "challenger" in version.aliases:
        return "Staging"
    served = any(release.challenger_version == version.version for release in releases)
    return "Archived" if served else "None"


def releases(view: View) -> str:
    """The history: what, when, why, how it ended."""
    if not view.releases:
        return _empty("No release yet. Start one: <code>slipway release start</code>")
    rows = (
        (
            f"v{escape(r.champion_version) or UNKNOWN} → v{escape(r.challenger_version)}",
            _word(router_pb2.Strategy.Name(r.strategy), "STRATEGY_"),
            _word(router_pb2.Phase.Name(r.phase), "PHASE_"),
            _stamp(r, "started_at"),
            _stamp(r, "ended_at"),
            escape(_last_why(r)) or UNKNOWN,
        )
        for r in view.releases
    )
    return _table(("versions", "strategy", "phase", "started", "ended", "why"), rows, "Releases, newest first")


def drift(view: View, recipe: ModelRecipe) -> str:
    """What drift means here, and where a retrain stands."""
    rules = recipe.retrain
    if not view.drift and view.registry_problem:
        return _empty(f"Drift is measured against what MLflow holds of the champion: {escape(view.registry_problem)}")
    if not view.drift:
        return _empty(
            "Drift compares what the champion is asked with what it was trained on. It shows once a champion "
            "with a training reference has answered predictions."
        )
    drifted = sum(feature.drifted for feature in view.drift)
    rows = max(feature.rows for feature in view.drift)
    text = (
        f"<p><b>{drifted} of {plural(len(view.drift), 'feature')}</b> past PSI {rules.psi_threshold:g} over the last "
        f"{in_words(rules.window)} (n = {rows:,} predictions of v{escape(view.champion or UNKNOWN)}). "
        f"A retrain is asked for when {share(rules.drifted_features)} of them are, or when log loss is "
        f"{rules.log_loss_increase:g} above the hold-out's.</p>"
    )
    return text + _verdict(view)


def features(view: View, platform: Platform) -> str:
    """Freshness and what is missing now, feature by feature."""
    rows_served, missing, stale = data_health(platform)
    head = (
        f"<p>Since the deployments started: {count(rows_served)} rows answered, {count(missing)} values missing, "
        f"{count(stale)} values stale.</p>"
    )
    if not view.drift:
        return head + _empty("Feature by feature it shows once a champion with a training reference was asked.")
    rows = (
        (
            escape(feature.feature),
            f"{feature.psi:.3f}",
            "▲ drifted" if feature.drifted else "● steady",
            share(feature.missing_share),
            count(feature.rows),
        )
        for feature in sorted(view.drift, key=lambda feature: -feature.psi)
    )
    return head + _table(
        ("feature", "PSI", "state", "missing", "n"), rows, "Features over the last window, worst first"
    )


def runs(view: View) -> str:
    """Training runs and who asked for them."""
    if not view.runs:
        return _empty("No training run yet. Start one: <code>slipway train</code>")
    rows = (
        (
            escape(run.run_id[:12]),
            _word(training_pb2.RunState.Name(run.state), "RUN_STATE_"),
            escape(run.stage) or UNKNOWN,
            f"v{escape(run.model_version)}" if run.model_version else UNKNOWN,
            _hold_out(run),
            escape(run.request.requested_by) or UNKNOWN,
            escape(run.request.reason or run.detail) or UNKNOWN,
        )
        for run in view.runs
    )
    heads = ("run", "state", "stage", "version", "hold-out", "asked by", "why")
    return _table(heads, rows, "Training runs, newest first")


def _marked(part: Part) -> str:
    shape = "" if part.level is Level.GOOD else f"{SHAPES[part.level][0]} "
    return shape + escape(part.text)


def _station(station: Station) -> str:
    facts = "".join(f"<div><dt>{escape(what)}</dt><dd>{escape(value)}</dd></div>" for what, value in station.facts)
    state = "bad" if station.problem else "good"
    problem = f"<p class='problem'>■ {escape(station.problem)}</p>" if station.problem else ""
    return (
        f"<li class='station {state}'><h3>{escape(station.name)}</h3>"
        f"<p class='quiet'>{escape(station.says)}</p>{problem}"
        f"<p class='rate'>{escape(station.rate)}</p>"
        f"{sparkline(station.trend, f'{station.name} per second over ten minutes')}<dl>{facts}</dl></li>"
    )


def _arms(arms: Sequence[Group]) -> str:
    if not arms:
        return "<p class='quiet'>No prediction of this release was recorded yet.</p>"
    rows = (
        (
            f"<span class='{escape(arm.variant)}'>■</span> {escape(arm.variant)} v{escape(arm.version)}",
            count(arm.predictions),
            count(arm.scored.labels),
            _with_margin(arm.scored.log_loss, arm.scored.log_loss_se),
            _with_margin(arm.scored.auc, arm.scored.auc_se),
            number(arm.scored.calibration_error),
        )
        for arm in arms
    )
    heads = ("arm", "predictions", "labels", "log loss, nats", "AUC", "calibration error")
    return _table(heads, rows, "Within this release (± 1.96 standard errors)")


def _with_margin(value: float | None, error: float | None) -> str:
    if value is None:
        return UNKNOWN
    return f"{value:.3f} ± {1.96 * error:.3f}" if error is not None else f"{value:.3f}"


def _verdict(view: View) -> str:
    if view.triggers:
        last = view.triggers[0]
        told = f"<p>Last retrain asked for at {moment(last.event_time)} (event time): {escape(last.reason)}.</p>"
    else:
        told = "<p>No retrain was asked for yet.</p>"
    verdict = view.verdict
    if verdict is not None and verdict.kind and verdict.held_by:
        told += f"<p>▲ {escape(verdict.reason)}; held by: {escape(verdict.held_by)}.</p>"
    return told


def _trained_on(version: Version) -> str:
    begin, end = version.tags.get("slipway.from", ""), version.tags.get("slipway.to", "")
    return f"{escape(begin[:10])} to {escape(end[:10])}" if begin and end else UNKNOWN


def _hold_out(run: training_pb2.Run) -> str:
    auc, loss = run.metrics.get("auc"), run.metrics.get("log_loss")
    return f"AUC {auc:.3f}, log loss {loss:.3f}" if auc is not None and loss is not None else UNKNOWN


def _last_why(release: router_pb2.Release) -> str:
    return next((t.why for t in reversed(release.transitions) if t.why), release.reason)


def _stamp(release: router_pb2.Release, name: str) -> str:
    return moment(from_proto(getattr(release, name))) if release.HasField(name) else UNKNOWN


def _word(name: str, prefix: str) -> str:
    return name.removeprefix(prefix).lower().replace("_", "-")


def _empty(html: str) -> str:
    return f"<p class='empty'>{html}</p>"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], caption: str) -> str:
    """Cells are HTML already."""
    head = "".join(f"<th scope='col'>{escape(text)}</th>" for text in heads)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return (
        f"<div class='wide' tabindex='0'><table><caption>{escape(caption)}</caption>"
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )
