"""`python -m services.inference`; with `serve`, as SageMaker starts a container, HTTP is on its port."""

from __future__ import annotations

import argparse

import uvloop

from services.chassis.lifecycle import Lifecycle
from services.chassis.logging import configure
from services.inference.app import serve
from services.inference.rest.clouds import CloudSettings
from services.inference.settings import InferenceSettings


def main() -> None:
    """Serves until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m services.inference", description=__doc__)
    parser.add_argument("serve", nargs="?", choices=("serve",), help="SageMaker's word")
    clouds = CloudSettings(sagemaker_serves=parser.parse_args().serve is not None)
    settings = InferenceSettings()  # type: ignore[call-arg]
    configure(f"inference-{settings.variant}", settings.log_level, settings.log_format)
    lifecycle = Lifecycle()
    for part in ("grpc", "http"):
        lifecycle.not_ready(part, "starting")
    lifecycle.install_signal_handlers()
    with lifecycle.ops_server(settings.host, settings.ops_port):
        uvloop.run(serve(settings, lifecycle, clouds))


if __name__ == "__main__":
    main()
