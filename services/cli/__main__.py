"""`python -m services.cli`: the same as `slipway`."""

from services.cli.main import app

app(prog_name="slipway")
