"""How far the stream has come: kept in the online store beside what it speaks of, so that the two cannot disagree."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Self

from services.features.definitions import WindowedView
from services.features.state import StateLayout


@dataclass(frozen=True, slots=True)
class Position:
    """In one partition: the next offset, and the last watermark that was read (microseconds; None: none yet)."""

    offset: int
    watermark_us: int | None


@dataclass(frozen=True, slots=True)
class Progress:
    """`positions` by `<topic>/<partition>`; `watermark_us` is the published one.

    The watermark is that of the slowest partition. It never falls: while a new partition has told none it stays.
    """

    views: Mapping[str, int]
    """The fingerprint of each view's states."""
    positions: Mapping[str, Position]
    watermark_us: int | None

    def after(self, positions: Mapping[str, Position]) -> Self:
        """Once everything before the positions is in the states. Positions of all partitions."""
        told = [position.watermark_us for position in positions.values()]
        slowest = None if None in told else min((each for each in told if each is not None), default=None)
        known = [each for each in (self.watermark_us, slowest) if each is not None]
        return type(self)(self.views, positions, max(known, default=None))

    def changed(self, views: Mapping[str, int]) -> list[str]:
        """Names of the views whose states do not hold everything before the positions."""
        return sorted(name for name, fingerprint in views.items() if self.views.get(name) != fingerprint)

    def of(self, views: Mapping[str, int]) -> Self:
        """From here on for these views only: another one that comes back has missed something."""
        return replace(self, views=views)

    def at(self, partition: str) -> Position:
        """The position in a partition; the beginning of one that is new."""
        return self.positions.get(partition, Position(0, None))

    def encode(self) -> bytes:
        """As JSON."""
        positions = {name: [each.offset, each.watermark_us] for name, each in self.positions.items()}
        return json.dumps({"views": self.views, "positions": positions, "watermark_us": self.watermark_us}).encode()

    @classmethod
    def decode(cls, text: bytes) -> Self:
        """From `encode`."""
        found = json.loads(text)
        positions = {name: Position(*each) for name, each in found["positions"].items()}
        return cls(found["views"], positions, found["watermark_us"])


def fingerprints(views: Iterable[WindowedView]) -> dict[str, int]:
    """Of the states that these views keep; one that changes makes the states of before useless."""
    return {view.name: StateLayout(view).fingerprint for view in views}
