"""`slipway dlq`: list dead letters, look at one, send them again (mended or as they are)."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from services.chassis.errors import Invalid, NotFound
from services.cli import dead_letters
from services.cli.dead_letters import DeadLetter
from services.cli.display import facts, out, table
from services.cli.settings import cli_settings
from services.topics import UPSTREAM

_SHOWN_OF_DETAIL = 100

app = typer.Typer(help="Events that ingestion refused: nothing vanishes.", no_args_is_help=True)

Reason = Annotated[str, typer.Option(help="Only this reason: malformed, envelope, unknown_type, schema, expectation.")]


@app.command("list")
def list_(
    reason: Reason = "",
    limit: Annotated[int, typer.Option("--limit", "-n", min=0, help="The newest that are shown.")] = 20,
) -> None:
    """Counts by reason, and the newest."""
    letters = dead_letters.read_all(cli_settings().kafka)
    if not letters:
        out().print("No dead letter.")
        return
    counts = table("reason", "count>")
    for name, count in Counter(letter.reason for letter in letters).most_common():
        counts.add_row(escape(name), f"{count:,}")
    out().print(counts)
    newest = table("place>", "reason", "failed at", "came from", "detail")
    chosen = _of_reason(letters, reason)
    for letter in chosen[len(chosen) - min(limit, len(chosen)) :]:
        detail = letter.told.get("detail", "")[:_SHOWN_OF_DETAIL]
        newest.add_row(
            letter.place,
            escape(letter.reason),
            escape(letter.told.get("failed-at", "")),
            escape(letter.came_from),
            escape(detail),
        )
    out().print()
    out().print(newest)


@app.command()
def show(
    place: Annotated[str, typer.Argument(metavar="PARTITION:OFFSET", help="As `dlq list` shows it.")],
    raw: Annotated[bool, typer.Option(help="Only the original bytes, to be edited.")] = False,
) -> None:
    """One dead letter: its bytes, why it was refused and where it came from.

    To mend one: `slipway dlq show 0:17 --raw > event.json`, edit it, `slipway dlq replay 0:17 --file event.json`
    """
    letter = dead_letters.find(dead_letters.read_all(cli_settings().kafka), place)
    if raw:
        sys.stdout.buffer.write(letter.value)
        sys.stdout.buffer.flush()
        return
    key = "none" if letter.key is None else repr(letter.key)
    told = [(name.replace("-", " "), escape(value)) for name, value in letter.told.items()]
    out().print(facts([("place", letter.place), ("key", escape(key)), *told]))
    out().print()
    out().print(escape(letter.value.decode(errors="backslashreplace")), soft_wrap=True)


@app.command()
def replay(
    places: Annotated[list[str] | None, typer.Argument(metavar="[PARTITION:OFFSET]...")] = None,
    reason: Reason = "",
    file: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Send these bytes in its place.")
    ] = None,
) -> None:
    """Send dead letters to upstream's topic again, under their own keys. Ids keep an event from counting twice.

    Examples: `slipway dlq replay 0:17 --file event.json` · `slipway dlq replay --reason unknown_type`
    """
    if not places and not reason:
        raise Invalid("name dead letters (partition:offset), or all of one --reason")
    if file is not None and (reason or len(places or ()) != 1):
        raise Invalid("--file: stands in the place of exactly one dead letter")
    kafka = cli_settings().kafka
    letters = dead_letters.read_all(kafka)
    chosen = [dead_letters.find(letters, place) for place in places or ()] or _of_reason(letters, reason)
    if not chosen:
        raise NotFound(f"no dead letter of reason {reason!r}")
    values = [file.read_bytes()] if file is not None else [letter.value for letter in chosen]
    keys = [letter.key for letter in chosen]
    dead_letters.send_again(kafka, list(zip(keys, values, strict=True)))
    out().print(f"{len(chosen)} sent to {UPSTREAM}; what is still wrong comes back as a new dead letter")


def _of_reason(letters: list[DeadLetter], reason: str) -> list[DeadLetter]:
    return [letter for letter in letters if reason in ("", letter.reason)]
