"""`slipway demo` and `slipway replay`: programs of loadtests/, with their own options."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from typing import NoReturn

import typer

from deploy.local.home import REPOSITORY
from services.chassis.errors import NotFound


def demo(context: typer.Context) -> None:
    """Play the bundled problem through the whole loop; `slipway demo --help` lists its options."""
    _become("loadtests.demo", context.args)


def replay(context: typer.Context) -> None:
    """Play upstream: events in the order in which they became known; `slipway replay --help` lists its options."""
    _become("loadtests.replay", context.args)


def module_environment() -> dict[str, str]:
    """This process's, in which Python finds the repository's modules from everywhere."""
    paths = [str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths)}


def _become(module: str, arguments: list[str]) -> NoReturn:
    """This process becomes `python -m <module>`, so that signals and the terminal are its own."""
    if find_spec(module) is None:
        raise NotFound(f"{module} is not here; `slipway` needs the repository's loadtests/ folder")
    os.execve(sys.executable, [sys.executable, "-m", module, *arguments], module_environment())  # noqa: S606  no shell is what we want
