"""`session.run` and nothing around it: how many rows a second one core can score at all.

`python -m loadtests.ceilings.in_process MODEL.onnx ROWS SECONDS` prints the rows a second.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from loadtests.ceilings.model import INPUT, OUTPUT, session, vectors

_BETWEEN_LOOKS = 20


def rows_per_second(onnx: bytes, rows: int, seconds: float) -> float:
    """Runs of `rows` rows each, for so long."""
    model = session(onnx)
    batch = vectors(rows, model.get_inputs()[0].shape[1])
    model.run([OUTPUT], {INPUT: batch})
    runs, began = 0, time.perf_counter()
    while (took := time.perf_counter() - began) < seconds or not runs:
        for _ in range(_BETWEEN_LOOKS):
            model.run([OUTPUT], {INPUT: batch})
        runs += _BETWEEN_LOOKS
    return runs * rows / took


if __name__ == "__main__":
    print(rows_per_second(Path(sys.argv[1]).read_bytes(), int(sys.argv[2]), float(sys.argv[3])))  # noqa: T201
