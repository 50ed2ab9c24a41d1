"""Which SLIPWAY_* variables each service takes: by its settings classes, and by what its README says."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel
from pydantic_settings import BaseSettings

from services.chassis.settings import ServiceSettings
from tests.support.process import REPOSITORY

PREFIX = "SLIPWAY_"
SERVICES_FOLDER = REPOSITORY / "services"
WITH_SETTINGS = sorted(
    path.parent.name for path in SERVICES_FOLDER.glob("*/settings.py") if path.parent.name != "chassis"
)

_CODE = re.compile(r"`([^`]+)`")
_NAME = re.compile(r"(?:SLIPWAY_|_)?[A-Z][A-Z0-9]*(?:__?[A-Z0-9]+)*")


def classes(service: str) -> list[type[BaseSettings]]:
    """The settings classes that a service declares: one for each of its processes."""
    module = importlib.import_module(f"services.{service}.settings")
    declared = [kind for _, kind in inspect.getmembers(module, inspect.isclass) if kind.__module__ == module.__name__]
    return [kind for kind in declared if issubclass(kind, BaseSettings)]


def taken(service: str) -> set[str]:
    """Every variable that it takes."""
    return {name for kind in classes(service) for name in _variables(kind)}


def own(service: str) -> set[str]:
    """Those that it does not share with every service."""
    return taken(service) - set(_variables(ServiceSettings))


def told(readme: Path) -> set[str]:
    """The variables that a README's section "Settings" names; `_MORE` and `MORE` stand for `SLIPWAY_MORE`."""
    section = re.search(r"^## Settings\n(.*?)(?=^## |\Z)", readme.read_text(), re.MULTILINE | re.DOTALL)
    if section is None:
        return set()
    spans = _CODE.findall(_without_later_columns(section[1]))
    return {PREFIX + span.removeprefix(PREFIX).removeprefix("_") for span in spans if _NAME.fullmatch(span)}


def _without_later_columns(section: str) -> str:
    """Of a table only the first column names variables."""
    lines = section.splitlines()
    return "\n".join(line.split("|")[1] if line.startswith("|") else line for line in lines)


def _variables(kind: type[BaseModel], prefix: str = PREFIX) -> Iterator[str]:
    for name, field in kind.model_fields.items():
        inner = field.annotation
        if inspect.isclass(inner) and issubclass(inner, BaseModel):
            yield from _variables(inner, f"{prefix}{name.upper()}__")
        else:
            yield f"{prefix}{name.upper()}"


LOCAL = {"SLIPWAY_PORT_OFFSET", "SLIPWAY_HOME"}
"""Read by deploy/local, so of no service."""
