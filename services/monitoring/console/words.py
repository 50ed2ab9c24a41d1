"""Numbers and moments as people read them. What is unknown is UNKNOWN, never 0."""

from __future__ import annotations

import math
from datetime import datetime

UNKNOWN = "\N{EN DASH}"


def number(value: float | None, digits: int = 3) -> str:
    """A measure with fixed digits."""
    return UNKNOWN if value is None or math.isnan(value) else f"{value:.{digits}f}"


def count(value: float | None) -> str:
    """A whole number with thousands."""
    return UNKNOWN if value is None else f"{value:,.0f}"


def rate(value: float | None) -> str:
    """Per second; small ones with a digit more."""
    if value is None:
        return UNKNOWN
    return f"{value:,.1f}/s" if value < 10 else f"{value:,.0f}/s"


def share(value: float | None) -> str:
    """A share as per cent."""
    if value is None:
        return UNKNOWN
    digits = 0 if value == 0 or value >= 0.1 else 1
    return f"{100 * value:.{digits}f} %"


def moment(value: datetime | None) -> str:
    """To the minute, UTC."""
    return UNKNOWN if value is None else f"{value:%Y-%m-%d %H:%M}"


def duration(seconds: float | None) -> str:
    """The two coarsest units that matter."""
    if seconds is None:
        return UNKNOWN
    seconds = max(seconds, 0.0)
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def plural(amount: int, noun: str) -> str:
    """`1 version`, `2 versions`."""
    return f"{amount:,} {noun}" + ("" if amount == 1 else "s")
