"""Sticky by a pure function; the integration test shows that Envoy computes the same."""

from hypothesis import given
from hypothesis import strategies as st

from services.router.assignment import CHALLENGER, CHAMPION, variant

KEYS = st.text(max_size=40)
WEIGHTS = st.integers(0, 10_000)


@given(KEYS, WEIGHTS, WEIGHTS)
def test_raising_the_weight_moves_no_key_back(key: str, one: int, other: int) -> None:
    low, high = sorted([one, other])

    if variant("v2-abc", key, low) == CHALLENGER:
        assert variant("v2-abc", key, high) == CHALLENGER


@given(KEYS)
def test_the_ends_are_everybody_and_nobody(key: str) -> None:
    assert variant("v2-abc", key, 0) == CHAMPION
    assert variant("v2-abc", key, 10_000) == CHALLENGER


def test_known_answers() -> None:
    """Fixed for ever: records of past releases are recomputed with this."""
    challengers = [i for i in range(12) if variant("v2-abc", f"user-{i}", 2500) == CHALLENGER]

    assert challengers == [2, 10, 11]


def test_each_release_draws_its_users_anew() -> None:
    keys = [f"user-{i}" for i in range(2000)]
    both = sum(variant("v2-abc", key, 5000) == variant("v3-def", key, 5000) == CHALLENGER for key in keys)

    assert 400 < both < 600
