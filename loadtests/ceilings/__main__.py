"""`python -m loadtests.ceilings`"""

from __future__ import annotations

import typer

from loadtests.ceilings.command import ceilings

if __name__ == "__main__":
    typer.run(ceilings)
