"""The trial of a version: what a model may not do to the process that serves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from services.inference.refusal import Check, Refused
from services.inference.trial import LIMITS, TrialLimits, prove
from tests.support.tiny_models import logistic_onnx, onnx_of
from tests.unit.inference.fakes import make_artifacts
from tests.unit.inference.hostile import HOSTILE

_MIB = 1024 * 1024


def endless_onnx() -> bytes:
    """A loop that goes round for centuries and then says 0."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Identity", ["sum"], ["sum_"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("sum", TensorProto.FLOAT, ["N"]),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("sum_", TensorProto.FLOAT, ["N"]),
        ],
    )
    nodes = [
        helper.make_node("ReduceMean", ["features"], ["mean"], axes=[1], keepdims=0),
        helper.make_node("Loop", ["times", "yes", "mean"], ["probability"], body=body),
    ]
    constants = [
        numpy_helper.from_array(np.array(2**62, np.int64), "times"),
        numpy_helper.from_array(np.array(True), "yes"),
    ]
    return onnx_of(nodes, constants)


def greedy_onnx() -> bytes:
    """A few bytes that ask for 32 GiB of ones."""
    nodes = [
        helper.make_node("ConstantOfShape", ["shape"], ["ones"]),
        helper.make_node("ReduceSum", ["ones"], ["total"], keepdims=0),
        helper.make_node("ReduceMean", ["features"], ["mean"], axes=[1], keepdims=0),
        helper.make_node("Mul", ["mean", "total"], ["probability"]),
    ]
    return onnx_of(nodes, [numpy_helper.from_array(np.array([2**33], np.int64), "shape")])


async def refusal(onnx: bytes, limits: TrialLimits = LIMITS) -> Refused:
    with pytest.raises(Refused) as refused:
        await prove(make_artifacts(onnx), onnx, limits)
    return refused.value


async def test_a_good_version_passes() -> None:
    onnx = logistic_onnx()

    await prove(make_artifacts(onnx), onnx)


async def test_what_it_fails_there_is_told_here() -> None:
    hostile = HOSTILE["no answer"]
    assert isinstance(hostile.onnx, bytes)

    refused = await refusal(hostile.onnx)

    assert refused.check is Check.WARM_UP and hostile.reason in str(refused)


async def test_what_never_answers_is_given_up() -> None:
    refused = await refusal(endless_onnx(), replace(LIMITS, wall_s=1.5))

    assert (refused.check, str(refused)) == (Check.TRIAL, "model.onnx does not answer in its trial within 1.5 s")


async def test_what_computes_without_end_is_ended() -> None:
    refused = await refusal(endless_onnx(), replace(LIMITS, cpu_s=1))

    assert str(refused) == "model.onnx computes for 1 s in its trial without an answer"


async def test_what_asks_for_all_the_memory_does_not_get_it() -> None:
    refused = await refusal(greedy_onnx())

    assert refused.check is Check.WARM_UP and "Failed to allocate memory" in str(refused)


async def test_what_ends_its_process_does_not_end_ours() -> None:
    """No model at hand crashes this runtime; in a process without any room it ends as if one did."""
    onnx = logistic_onnx()

    refused = await refusal(onnx, replace(LIMITS, room_bytes=-100 * _MIB))

    assert refused.check is Check.TRIAL
