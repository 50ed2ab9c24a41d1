"""`slipway models`: the registered versions, where each stands and what it was made from."""

from __future__ import annotations

import typer
from rich.markup import escape

from services.chassis.errors import NotFound, SlipwayError
from services.cli.display import coloured, facts, measure, moment, out, table
from services.cli.mlflow import Mlflow, Version
from services.cli.release import all_releases, phase
from services.cli.settings import CliSettings, cli_settings
from services.contracts.router.v1 import router_pb2

ONNX_TAG, FROM_TAG, TO_TAG = "slipway.onnx_sha256", "slipway.from", "slipway.to"
_SERVED = ("champion", "challenger")
_SHORT = 12

app = typer.Typer(help="Registered versions of the model.", invoke_without_command=True)


@app.callback()
def models(context: typer.Context) -> None:
    """Every version, newest first: its stage, its last release, its training range."""
    if context.invoked_subcommand is not None:
        return
    settings = cli_settings()
    versions = Mlflow(settings.mlflow).versions(settings.recipe.name)
    releases = _last_releases(settings)
    made = table("version>", "stage", "last release", "trained from", "to", "ONNX", "registered")
    for version in versions:
        made.add_row(
            version.version,
            coloured(stage(version, releases.get(version.version))),
            coloured(_last_phase(releases.get(version.version))),
            escape(version.tags.get(FROM_TAG, "")),
            escape(version.tags.get(TO_TAG, "")),
            escape(version.tags.get(ONNX_TAG, "")[:_SHORT]),
            moment(version.created_at),
        )
    none = f"{settings.recipe.name} has no version yet. `slipway train --from DATE --to DATE` makes one"
    out().print(made if versions else none)


@app.command("show")
def show(version: str) -> None:
    """One version: aliases, tags, hold-out metrics, and where its run is in MLflow."""
    settings = cli_settings()
    mlflow = Mlflow(settings.mlflow)
    known = {each.version: each for each in mlflow.versions(settings.recipe.name)}
    found = known.get(version)
    if found is None:
        raise NotFound(f"{settings.recipe.name} has no version {version!r}; it has {', '.join(known) or 'none'}")
    metrics = mlflow.metrics(found.run_id) if found.run_id else {}
    out().print(
        facts(
            [
                ("version", found.version),
                ("stage", coloured(stage(found, _last_releases(settings).get(found.version)))),
                ("aliases", escape(", ".join(found.aliases) or "none")),
                ("registered", moment(found.created_at)),
                ("run", f"{settings.mlflow}/#/runs/{found.run_id}"),
                *((escape(name), escape(value)) for name, value in sorted(found.tags.items())),
                *((escape(name), measure(value)) for name, value in sorted(metrics.items())),
            ]
        )
    )


def stage(version: Version, last: router_pb2.Release | None) -> str:
    """`champion` or `challenger` by alias, `archived` after a release that ended, else `registered`."""
    served = [alias for alias in _SERVED if alias in version.aliases]
    if served:
        return " + ".join(served)
    return "archived" if last is not None and last.HasField("ended_at") else "registered"


def _last_releases(settings: CliSettings) -> dict[str, router_pb2.Release]:
    """By version; none while the router is down: versions are worth showing without them."""
    try:
        releases = all_releases(settings)
    except SlipwayError:
        return {}
    return {release.challenger_version: release for release in reversed(releases)}


def _last_phase(release: router_pb2.Release | None) -> str:
    return "" if release is None else phase(release.phase)
