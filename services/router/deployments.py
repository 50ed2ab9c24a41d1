"""The two deployments of inference: whether one serves a given version."""

from __future__ import annotations

import grpc

from services.contracts.open_inference.v2 import grpc_predict_v2_pb2 as pb
from services.contracts.open_inference.v2 import grpc_predict_v2_pb2_grpc as rpc

# In the trailing metadata of ModelReady: why the version is not served.
_DETAIL = "x-slipway-detail"
_TIMEOUT_S = 2.0


class Deployment:
    """One deployment behind its gRPC channel."""

    def __init__(self, channel: grpc.aio.Channel, model: str) -> None:
        self._stub = rpc.GRPCInferenceServiceStub(channel)  # type: ignore[no-untyped-call]
        self._model = model

    async def not_loaded(self, version: str) -> str:
        """Why it does not serve `version`; "" if it does."""
        request = pb.ModelReadyRequest(name=self._model, version=version)
        call = self._stub.ModelReady(request, timeout=_TIMEOUT_S)
        try:
            answer = await call
        except grpc.aio.AioRpcError as error:
            return f"{error.code().name} {error.details()}"
        if answer.ready:
            return ""
        told = dict(await call.trailing_metadata())
        return str(told.get(_DETAIL, "it serves another one"))
