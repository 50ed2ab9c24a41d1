"""What the features service refuses: waited for if it may pass, told at once if it is the request."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from services.chassis.errors import Invalid, OutOfRange, SlipwayError, Unavailable
from services.training.features_client import FeaturesClient
from tests.integration.training.parts import T0, Features, serving


@contextmanager
def _client(features: Features) -> Iterator[FeaturesClient]:
    with serving(features):
        client = FeaturesClient(f"127.0.0.1:{features.port}", 10.0)
        try:
            yield client
        finally:
            client.close()


@pytest.mark.parametrize(
    ("code", "words", "cause"),
    [
        (grpc.StatusCode.UNAVAILABLE, "going down", Unavailable),
        (grpc.StatusCode.INTERNAL, "internal error; the server's log has the details", Unavailable),
        (grpc.StatusCode.FAILED_PRECONDITION, "known_by is ahead of the lake", Unavailable),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "8 calls are in progress", Unavailable),
        (grpc.StatusCode.INVALID_ARGUMENT, "no row has a label", Invalid),
        (grpc.StatusCode.OUT_OF_RANGE, "before all that is kept", OutOfRange),
    ],
    ids=lambda value: value.name if isinstance(value, grpc.StatusCode) else "",
)
def test_a_refusal_has_the_services_words_and_a_cause(
    code: grpc.StatusCode, words: str, cause: type[SlipwayError], tmp_path: Path
) -> None:
    with _client(Features(tmp_path, refuses=(code, words))) as client, pytest.raises(cause) as refused:
        client.build_training_set(T0, T0, lambda _: None)

    assert type(refused.value) is cause
    assert str(refused.value).startswith("features service")
    assert words in str(refused.value)


def test_a_feature_service_that_there_is_not_is_the_recipes_error(tmp_path: Path) -> None:
    with _client(Features(tmp_path)) as client, pytest.raises(Invalid, match="there is no 'other_v1'"):
        client.schema("other_v1")
