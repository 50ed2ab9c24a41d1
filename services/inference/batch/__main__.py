"""`python -m services.inference.batch --model champion --from … --to … --out …`: one run, then it ends."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydantic import ValidationError

from services.chassis.clock import parse_rfc3339
from services.chassis.errors import Invalid, SlipwayError
from services.chassis.logging import configure
from services.inference.batch.app import run
from services.inference.batch.order import Order, file_order, range_order
from services.inference.batch.progress import Progress
from services.inference.settings import InferenceSettings

_FAILED, _INTERRUPTED = 1, 130
_DATE = len("2013-01-01")
_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}


def main(arguments: Sequence[str]) -> int:
    """The exit code: 0 it is written, 1 it failed, 130 interrupted. Wrong arguments end it with 2."""
    parser = _parser()
    given = parser.parse_args(arguments)
    try:
        settings = InferenceSettings()  # type: ignore[call-arg]
    except ValidationError as error:
        first = error.errors()[0]
        parser.error(f"SLIPWAY_{'__'.join(map(str, first['loc'])).upper()}: {first['msg']}")
    configure("inference-batch", settings.log_level, settings.log_format)
    progress = Progress()
    try:
        run(settings, _order(given), progress)
    except SlipwayError as error:
        progress.fails(str(error))
        return _FAILED
    except KeyboardInterrupt:
        return _INTERRUPTED
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m services.inference.batch", description=__doc__)
    parser.add_argument("--model", default="champion", help="alias or number of the version (default: champion)")
    parser.add_argument("--from", dest="since", type=_moment, metavar="MOMENT", help="first prediction moment")
    parser.add_argument("--to", dest="until", type=_moment, metavar="MOMENT", help="end; itself not included")
    parser.add_argument("--slice", metavar="7d", help="built and scored at a time: 12h, 7d (default)")
    parser.add_argument("--in", dest="rows", metavar="PATH", help="instead of a range: Parquet, or a Delta table")
    parser.add_argument("--out", required=True, metavar="PATH", help="a file that ends in .parquet, else a Delta table")
    parser.add_argument("--work", type=Path, metavar="DIR", help="for what is scored so far (default: beside --out)")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace the output, and what another run into it left"
    )
    return parser


def _order(given: argparse.Namespace) -> Order:
    into = {"model": given.model, "out": given.out, "work": given.work, "overwrite": given.overwrite}
    if given.rows is None and given.since is not None and given.until is not None:
        return range_order(given.since, given.until, _duration(given.slice), **into)
    if given.rows is not None and given.since is given.until is given.slice is None:
        return file_order(given.rows, **into)
    raise Invalid("give the rows: either --from and --to (and --slice), or --in")


def _moment(text: str) -> datetime:
    try:
        if len(text) == _DATE:
            return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
        return parse_rfc3339(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: expected 2013-01-31 or 2013-01-31T12:00:00Z") from error


def _duration(text: str | None) -> timedelta | None:
    if text is None:
        return None
    number, unit = text[:-1], _UNITS.get(text[-1:])
    if unit is None or not (number.isascii() and number.isdigit() and int(number[:6]) > 0):
        raise Invalid(f"--slice: {text!r}: expected a number of minutes, hours or days: 90m, 12h, 7d")
    return int(number) * unit


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
