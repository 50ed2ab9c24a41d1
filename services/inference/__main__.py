"""`python -m services.inference`"""

from __future__ import annotations

import asyncio

from services.chassis.lifecycle import Lifecycle
from services.chassis.logging import configure
from services.inference.app import serve
from services.inference.settings import InferenceSettings


def main() -> None:
    """Serves until SIGTERM."""
    settings = InferenceSettings()  # type: ignore[call-arg]
    configure(f"inference-{settings.variant}", settings.log_level, settings.log_format)
    lifecycle = Lifecycle()
    lifecycle.not_ready("grpc", "starting")
    lifecycle.install_signal_handlers()
    with lifecycle.ops_server(settings.host, settings.ops_port):
        asyncio.run(serve(settings, lifecycle))


if __name__ == "__main__":
    main()
