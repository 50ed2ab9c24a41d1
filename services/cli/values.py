"""What people type on the command line, as values."""

from __future__ import annotations

import getpass
from datetime import UTC, datetime

import typer

from services.chassis.clock import parse_rfc3339

_FULL_WEIGHT = 10_000


def moment(text: str) -> datetime:
    """A date (midnight UTC) or an RFC 3339 moment."""
    try:
        if len(text) == len("2013-01-01"):
            return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
        return parse_rfc3339(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r}: expected 2013-01-31 or 2013-01-31T12:00:00Z") from error


def basis_points(text: str) -> int:
    """A share of traffic, `0.25` or `25%`, as basis points."""
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = -1
    if not 0 <= share <= 1:
        raise typer.BadParameter(f"{text!r}: expected a share such as 0.25 or 25%")
    return round(share * _FULL_WEIGHT)


def assignments(pairs: list[str]) -> dict[str, str]:
    """`name=value` arguments by name."""
    found: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise typer.BadParameter(f"{pair!r}: expected name=value")
        if name in found:
            raise typer.BadParameter(f"{name!r} is given twice")
        found[name] = value
    return found


def actor() -> str:
    """Who asks: it stands in the records."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unnamed"
