"""The `slipway` command: one module for each noun, put together here."""

from __future__ import annotations

import typer

from services.cli import batch_predict, dlq, logs, models, others, platform, predict, quality, release, training
from services.cli.failures import OneLineErrors

_SHOW_HELP = {"help_option_names": ["-h", "--help"]}
_TO_ANOTHER = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}

app = typer.Typer(
    cls=OneLineErrors,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_show_locals=False,
    context_settings=_SHOW_HELP,
    help="Machine-learning models in production on this machine: start the platform, feed it, train, release, watch.",
)

_PLATFORM, _LOOP, _LOOK = "The platform", "The loop by hand", "Look"

app.command("up", rich_help_panel=_PLATFORM)(platform.up)
app.command("down", rich_help_panel=_PLATFORM)(platform.down)
app.command("status", rich_help_panel=_PLATFORM)(platform.status)
app.command("logs", rich_help_panel=_PLATFORM)(logs.logs)

app.command("demo", rich_help_panel=_LOOP, context_settings=_TO_ANOTHER)(others.demo)
app.command("replay", rich_help_panel=_LOOP, context_settings=_TO_ANOTHER)(others.replay)
app.command("train", rich_help_panel=_LOOP)(training.train)
app.add_typer(release.app, name="release", rich_help_panel=_LOOP)
app.command("predict", rich_help_panel=_LOOP)(predict.predict)
app.command("batch-predict", rich_help_panel=_LOOP)(batch_predict.batch_predict)
app.add_typer(dlq.app, name="dlq", rich_help_panel=_LOOP)

app.add_typer(training.runs_app, name="runs", rich_help_panel=_LOOK)
app.add_typer(models.app, name="models", rich_help_panel=_LOOK)
app.command("quality", rich_help_panel=_LOOK)(quality.quality)
app.command("counts", rich_help_panel=_LOOK)(quality.counts)
