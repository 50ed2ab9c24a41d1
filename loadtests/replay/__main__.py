"""`python -m loadtests.replay`"""

from __future__ import annotations

import typer

from loadtests.replay.command import replay

if __name__ == "__main__":
    typer.run(replay)
