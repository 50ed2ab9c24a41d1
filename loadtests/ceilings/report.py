"""What a run showed: for the terminal, as Markdown, as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from loadtests.ceilings.goals import Verdict
from loadtests.ceilings.rounds import Outcome
from services.chassis.errors import Invalid

_COLUMNS = ("", "calls/s", "least, most", "CPU-µs a call", "of a core", "p50 µs", "p99 µs", "of which CPU-µs")
_COLOUR = {True: "green", False: "red", None: "yellow"}


@dataclass(frozen=True, slots=True)
class Report:
    """`facts` say how and where; medians over the rounds."""

    title: str
    facts: Mapping[str, str]
    outcomes: Sequence[Outcome]
    verdicts: Sequence[Verdict] = ()

    def show(self, console: Console) -> None:
        """As tables."""
        table = Table(*_COLUMNS, title=self.title)
        for outcome in self.outcomes:
            table.add_row(*map(escape, _cells(outcome)))
        console.print(table)
        if self.verdicts:
            goals = Table("work", "goal", "measured", "reached", title="Targets")
            for each in self.verdicts:
                cells = map(escape, (each.work, each.goal, each.measured))
                goals.add_row(*cells, f"[{_COLOUR[each.reached]}]{each.word}[/]")
            console.print(goals)
        for name, value in self._notes():
            console.print(f"{name}: {value}", highlight=False, markup=False)

    def write(self, path: Path) -> None:
        """By its suffix, `.md` or `.json`. Raises Invalid for another."""
        path.write_text(_FORMATS[check_format(path)](self))

    def markdown(self) -> str:
        """With every number of the terminal's."""
        lines = [f"# {self.title}", "", *_markdown_table(_COLUMNS, map(_cells, self.outcomes)), ""]
        if self.verdicts:
            cells = ((each.work, each.goal, each.measured, each.word) for each in self.verdicts)
            lines += [*_markdown_table(("work", "goal", "measured", "reached"), cells), ""]
        return "\n".join([*lines, *(f"- {name}: {value}" for name, value in self._notes()), ""])

    def _notes(self) -> Iterator[tuple[str, str]]:
        yield from self.facts.items()
        for outcome in self.outcomes:
            if outcome.failed:
                yield f"{outcome.name} failed", outcome.failed

    def json(self) -> str:
        """With every sample."""
        return json.dumps(asdict(self), indent=2) + "\n"


_FORMATS = {".md": Report.markdown, ".json": Report.json}


def check_format(path: Path) -> str:
    """The suffix. Raises Invalid if it names no format, so that a run does not end in vain."""
    if path.suffix not in _FORMATS:
        raise Invalid(f"--out {path}: expected a name that ends in .md or .json")
    return path.suffix


def _cells(outcome: Outcome) -> tuple[str, ...]:
    if outcome.failed:
        return (outcome.name, "failed", *("",) * (len(_COLUMNS) - 2))
    spread, busy = outcome.spread("per_second"), outcome.median("busy")
    return (
        outcome.name,
        _number(outcome.median("per_second")),
        "" if spread is None else f"{spread[0]:,.0f}, {spread[1]:,.0f}",
        _number(outcome.median("cpu_us")),
        "" if busy is None else f"{busy:.0%}",
        _number(outcome.median("p50_us")),
        _number(outcome.median("p99_us")),
        _parts(outcome.parts_us()),
    )


def _parts(parts_us: Mapping[str, float]) -> str:
    """Empty for one process, which has all of it."""
    return ", ".join(f"{name} {_number(cost)}" for name, cost in parts_us.items()) if len(parts_us) > 1 else ""


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def _markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [
        f"| {' | '.join(header)} |",
        f"|{'---|' * len(header)}",
        *(f"| {' | '.join(cell.replace('|', chr(92) + '|').replace(chr(10), ' ') for cell in row)} |" for row in rows),
    ]
