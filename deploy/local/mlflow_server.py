"""MLflow's server in one process: `python -m deploy.local.mlflow_server <folder> <port>`.

`mlflow server` starts uvicorn as a child that outlives its killed parent and keeps the port, and eight job runners that
nobody here uses. This is what it does besides, with MLflow's own names for it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import uvicorn
from mlflow.environment_variables import MLFLOW_SERVER_ENABLE_JOB_EXECUTION
from mlflow.server import constants
from mlflow.server.handlers import initialize_backend_stores

from deploy.local.ports import LOOPBACK

_PROXIED = "mlflow-artifacts:/"


def serve(folder: Path, port: int) -> None:
    """Until SIGTERM: a SQLite store and proxied artifacts in `folder`, which must exist."""
    store = f"sqlite:///{folder / 'mlflow.sqlite'}"
    os.environ |= {
        MLFLOW_SERVER_ENABLE_JOB_EXECUTION.name: "false",
        constants.BACKEND_STORE_URI_ENV_VAR: store,
        constants.REGISTRY_STORE_URI_ENV_VAR: store,
        constants.ARTIFACT_ROOT_ENV_VAR: _PROXIED,
        constants.ARTIFACTS_DESTINATION_ENV_VAR: str(folder / "artifacts"),
        constants.SERVE_ARTIFACTS_ENV_VAR: "true",
    }
    initialize_backend_stores(store, store, _PROXIED)
    uvicorn.run("mlflow.server.fastapi_app:app", host=LOOPBACK, port=port, log_level="warning")


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2]))
