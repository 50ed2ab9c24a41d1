"""gRPC health under the model's name: SERVING while a version of it is loaded."""

from __future__ import annotations

from grpc_health.v1 import health_pb2
from grpc_health.v1.health import aio as health_aio


class ModelHealth:
    """`servicer` answers for the model beside what the server says of its services."""

    def __init__(self, model: str) -> None:
        self._model = model
        self.servicer = health_aio.HealthServicer()

    async def announce(self, serves: bool) -> None:
        """Whether a version serves; until it was told, the name is unknown."""
        status = health_pb2.HealthCheckResponse.SERVING if serves else health_pb2.HealthCheckResponse.NOT_SERVING
        await self.servicer.set(self._model, status)
