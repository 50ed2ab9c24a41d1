"""`session.run` and nothing around it: how many rows a second one core can score at all.

`python -m loadtests.ceilings.in_process MODEL.onnx ROWS SECONDS` prints the runs a second and the CPU-µs of one.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from loadtests.ceilings.model import INPUT, OUTPUT, session, vectors

_BETWEEN_LOOKS = 20


def repeat(onnx: bytes, rows: int, seconds: float) -> tuple[float, float]:
    """Runs of `rows` rows each, for so long: how many a second, and what one took of the processor, microseconds."""
    model = session(onnx)
    batch = vectors(rows, model.get_inputs()[0].shape[1])
    model.run([OUTPUT], {INPUT: batch})
    runs, began, cpu_began = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - began < seconds or not runs:
        for _ in range(_BETWEEN_LOOKS):
            model.run([OUTPUT], {INPUT: batch})
        runs += _BETWEEN_LOOKS
    return runs / (time.perf_counter() - began), (time.process_time() - cpu_began) * 1e6 / runs


if __name__ == "__main__":
    print(*repeat(Path(sys.argv[1]).read_bytes(), int(sys.argv[2]), float(sys.argv[3])))  # noqa: T201
