"""Each peer's own virtual environment under .cache/peers: made once, and again when its requirements change."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from deploy.local.home import REPOSITORY
from services.chassis.errors import Unavailable

FOLDER = REPOSITORY / ".cache" / "peers"
_STAMP = "requirements.txt"


def python_of(name: str, requirements: Sequence[str], folder: Path = FOLDER, interpreter: str = sys.executable) -> Path:
    """The interpreter of an environment that has them. Raises Unavailable with pip's words if it cannot be made."""
    home = folder / name
    python, stamp, wanted = home / "bin" / "python", home / _STAMP, "\n".join(requirements)
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    shutil.rmtree(home, ignore_errors=True)
    _run(name, [interpreter, "-m", "venv", str(home)])
    _run(name, [str(python), "-m", "pip", "install", "--quiet", *requirements])
    stamp.write_text(wanted)
    return python


def _run(name: str, command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unavailable(f"the environment of {name} could not be made: {(done.stderr or done.stdout)[-800:]}")
