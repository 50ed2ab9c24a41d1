"""A question by keys: which, as bytes, and the vector that the features service gives for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
from numpy.typing import NDArray

from loadtests.ceilings.requests import KEY
from loadtests.journeys import Schema, questions, read_vectors, vectors_request
from loadtests.replay.client import CHANNEL, METADATA, ROUTING_KEY, RequestForm
from loadtests.replay.questions import Question
from loadtests.upstream import Source
from services.chassis.clock import from_proto
from services.contracts.features.v1 import features_pb2, features_pb2_grpc
from services.contracts.open_inference.v2 import grpc_predict_v2_pb2 as v2
from services.problem import load_recipe

_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Asked:
    """What the features service needs and gives, a question, and its answer as float32 [1, features]."""

    schema: Schema
    question: Question
    vector: NDArray[np.float32]


def ask_features(address: str, feature_repo: Path, source: Source) -> Asked:
    """The source's first question as of the features' present moment, so that what it names has a history."""
    feature_service = load_recipe(feature_repo).feature_service
    with grpc.insecure_channel(address, options=CHANNEL) as channel:
        stub = features_pb2_grpc.FeaturesServiceStub(channel)  # type: ignore[no-untyped-call]
        schema = stub.GetFeatureServiceSchema(
            features_pb2.GetFeatureServiceSchemaRequest(feature_service=feature_service), timeout=_TIMEOUT_S
        )
        answer = stub.GetWatermark(features_pb2.GetWatermarkRequest(), timeout=_TIMEOUT_S)
        (question,) = questions(source, feature_repo, 1, from_proto(answer.watermark))
        found = stub.GetVectors(vectors_request(feature_service, schema, [question]), timeout=_TIMEOUT_S)
    return Asked(schema, question, read_vectors(found, schema))


def request(address: str, model: str, question: Question) -> bytes:
    """The question as ModelInfer, in the form that the served model takes."""
    with grpc.insecure_channel(address, options=CHANNEL) as channel:
        describe = channel.unary_unary(
            METADATA, v2.ModelMetadataRequest.SerializeToString, v2.ModelMetadataResponse.FromString
        )
        metadata = describe(v2.ModelMetadataRequest(name=model), timeout=_TIMEOUT_S, metadata=((ROUTING_KEY, KEY),))
    return RequestForm(metadata).fill(question)
