"""Events into windowed features: kept fresh online, the same offline."""

import os

# Feast's import asks for metrics in files, as of one of several workers. Ours live in one process: prometheus_client
# comes first and takes its plain mode, and nobody finds the request afterwards.
import prometheus_client  # noqa: F401

_ASKED_FOR = {"PROMETHEUS_MULTIPROC_DIR", "PROMETHEUS_MULTIPROCESS_DIR"} - set(os.environ)

import feast  # noqa: E402, F401

for _name in _ASKED_FOR:
    os.environ.pop(_name, None)
