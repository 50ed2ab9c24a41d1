"""A virtual environment of its own with a stock Open Inference client, made once in `.cache/stock-client`."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

PACKAGE = "tritonclient[grpc,http]==2.73.0"

_ROOT = Path(__file__).resolve().parents[2]
_SCRIPT, _HTTP_SCRIPT = (Path(__file__).with_name(name) for name in ("stock_client.py", "stock_http_client.py"))


def stock_client_python(folder: Path = _ROOT / ".cache" / "stock-client") -> Path:
    """The interpreter of that environment. The first call installs it, which needs a package index."""
    python = folder / "bin" / "python"
    done = folder / "installed"
    if not done.exists() or done.read_text() != PACKAGE:
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", PACKAGE], check=True)
        done.write_text(PACKAGE)
    return python


def ask_with_stock_client(address: str, model: str, inputs: dict[str, Any], **options: Any) -> dict[str, Any]:
    """What `stock_client.py` prints: `server`, `model`, `ready`, `outputs` and `parameters`.

    `inputs`: for each tensor `{"datatype", "data"}`, data a list (nested for more than one dimension).
    `options`: `parameters`, `headers` (dicts of text), `request_id`, `whole` (also the other ways to call).
    """
    return _run(_SCRIPT, {"address": address, "model": model, "inputs": inputs, **options})


def ask_with_stock_http_client(address: str, model: str, inputs: dict[str, Any], version: str) -> dict[str, Any]:
    """What `stock_http_client.py` prints: `probabilities` by way, and what the server tells of itself."""
    return _run(_HTTP_SCRIPT, {"address": address, "model": model, "inputs": inputs, "version": version})


def _run(script: Path, question: dict[str, Any]) -> dict[str, Any]:
    done = subprocess.run(
        [str(stock_client_python()), str(script)],
        input=json.dumps(question),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if done.returncode:
        raise AssertionError(f"the stock client failed: {done.stderr}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer
