"""`python -m loadtests.demo`, also `slipway demo`."""

import os

import typer

from loadtests.demo.command import demo

if __name__ == "__main__":
    app = typer.Typer(add_completion=False)
    app.command(name="demo")(demo)
    app(prog_name=os.environ.get("SLIPWAY_SHOWN_AS", "python -m loadtests.demo"))
