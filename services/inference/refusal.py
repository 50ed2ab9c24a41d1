"""Why a version may not serve."""

from __future__ import annotations

from enum import StrEnum

from services.chassis.errors import Invalid


class Check(StrEnum):
    """What a version must pass, in this order; metrics count refusals by it."""

    ARTIFACT = "artifact"
    """It is there, where serving can read it, and no larger than allowed."""
    CONTRACT = "contract"
    """`contract.json` is one, of this model, and asks for what the features service gives."""
    DIGEST = "digest"
    """The bytes are those that the version's tag names."""
    STRUCTURE = "structure"
    """An ONNX file that is whole in itself: standard operators of known opsets, no other file, no function."""
    TRIAL = "trial"
    """In a process of its own it loads and answers in time and within its memory."""
    SIGNATURE = "signature"
    """It takes the features and gives probabilities."""
    WARM_UP = "warm_up"
    """Its answers are probabilities, also for rows of nothing but gaps."""


class Refused(Invalid):
    """A version failed a check. The text names what is wrong, what was expected and what came."""

    def __init__(self, check: Check, why: str) -> None:
        super().__init__(why)
        self.check = check
