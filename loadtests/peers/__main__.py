"""`python -m loadtests.peers`"""

from __future__ import annotations

import typer

from loadtests.peers.command import peers

if __name__ == "__main__":
    typer.run(peers)
