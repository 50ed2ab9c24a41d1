"""What Locust's users ask of one platform: loaded when the first of them needs it, the same for all."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray

from deploy.local.home import local_feature_repo
from loadtests.ceilings.requests import vector_request
from loadtests.journeys import questions, read_vectors, vectors_request
from loadtests.replay.client import CHANNEL, METADATA, RequestForm
from loadtests.replay.command import load_source
from loadtests.replay.questions import Question
from loadtests.upstream import Source
from services.chassis.clock import from_proto
from services.contracts.features.v1 import features_pb2, features_pb2_grpc
from services.contracts.open_inference.v2 import grpc_predict_v2_pb2 as v2
from services.problem import ModelRecipe, load_recipe

_TIMEOUT_S = 10.0


class Asked:
    """Questions about `load/…` entities as of the features' present moment, and the vectors that they have by then."""

    sample = 500
    """Questions, and events, at most."""

    def __init__(self, inference: str, features: str, source: str) -> None:
        """`inference` and `features` are `host:port`, `source` is `module:function`."""
        self.inference = grpc.insecure_channel(inference, options=CHANNEL)
        self._features = features_pb2_grpc.FeaturesServiceStub(grpc.insecure_channel(features, options=CHANNEL))  # type: ignore[no-untyped-call]
        self._source = source

    @property
    def model(self) -> str:
        """Its name."""
        return self._recipe.name

    @cached_property
    def source(self) -> Source:
        """The problem's events."""
        return load_source(self._source)

    @cached_property
    def entity_requests(self) -> list[tuple[str, bytes]]:
        """Routing keys and ModelInfer of one row by its keys."""
        call: Any = self.inference.unary_unary(
            METADATA, v2.ModelMetadataRequest.SerializeToString, v2.ModelMetadataResponse.FromString
        )
        form = RequestForm(call(v2.ModelMetadataRequest(name=self.model), timeout=_TIMEOUT_S))
        return [(question.entity_id, form.fill(question)) for question in self._questions]

    @cached_property
    def vectors(self) -> NDArray[np.float32]:
        """What the features service knows of the questions, float32 [rows, features]."""
        service = self._recipe.feature_service
        ask = features_pb2.GetFeatureServiceSchemaRequest(feature_service=service)
        schema = self._features.GetFeatureServiceSchema(ask, timeout=_TIMEOUT_S)
        answer = self._features.GetVectors(vectors_request(service, schema, self._questions), timeout=_TIMEOUT_S)
        return read_vectors(answer, schema)

    @cached_property
    def vector_requests(self) -> list[tuple[str, bytes]]:
        """Routing keys and ModelInfer of one row by its vector."""
        return [
            (question.entity_id, vector_request(self.model, self.vectors[row : row + 1]))
            for row, question in enumerate(self._questions)
        ]

    @cached_property
    def _questions(self) -> list[Question]:
        answer = self._features.GetWatermark(features_pb2.GetWatermarkRequest(), timeout=_TIMEOUT_S)
        as_of = from_proto(answer.watermark) if answer.HasField("watermark") else None
        return questions(self.source, local_feature_repo(), self.sample, as_of)

    @cached_property
    def _recipe(self) -> ModelRecipe:
        return load_recipe(local_feature_repo())
