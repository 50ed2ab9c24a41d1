"""A version is tried in a process of its own first: there it may crash, hang or ask for all the memory."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass

from services.chassis.errors import Unavailable
from services.inference.artifacts import Artifacts
from services.inference.refusal import Check, Refused
from services.inference.trial_process import REFUSED_CODE

_MODULE = "services.inference.trial_process"
_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class TrialLimits:
    """What a version may take to load and to answer a few rows, beside the process that it runs in."""

    wall_s: float = 60.0
    cpu_s: int = 20
    room_bytes: int = 256 * _MIB
    room_per_byte: int = 4
    """More memory for each byte of the file."""

    def room(self, size: int) -> int:
        """In bytes, for a file of that size."""
        return self.room_bytes + self.room_per_byte * size


LIMITS = TrialLimits()


async def prove(artifacts: Artifacts, onnx: bytes, limits: TrialLimits = LIMITS) -> None:
    """Returns if the version loads and answers there. Raises Refused if not, Unavailable if no process can be had."""
    try:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", _MODULE, str(limits.room(len(onnx))), str(limits.cpu_s)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
        )
    except OSError as error:
        raise Unavailable(f"a version cannot be tried: {error}") from error
    question = artifacts.model_dump_json().encode() + b"\n" + onnx
    try:
        told, _ = await asyncio.wait_for(process.communicate(question), limits.wall_s)
    except TimeoutError as error:
        raise Refused(Check.TRIAL, f"model.onnx does not answer in its trial within {limits.wall_s:g} s") from error
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        code = await process.wait()
    _judge(code, told.decode(errors="replace"), limits)


def _judge(code: int, told: str, limits: TrialLimits) -> None:
    if code == REFUSED_CODE:
        check, _, why = told.partition("\n")
        raise Refused(Check(check), why)
    if code == -signal.SIGXCPU:
        raise Refused(Check.TRIAL, f"model.onnx computes for {limits.cpu_s} s in its trial without an answer")
    if code:
        how = signal.Signals(-code).name if code < 0 else f"code {code}"
        raise Refused(Check.TRIAL, f"model.onnx ends the process of its trial with {how}")
