"""`python -m services.inference.trial_process`: one version, loaded and asked, where it can do no harm.

Imports little, since it runs for every new version.
"""

from __future__ import annotations

import os
import resource
import sys
from contextlib import suppress
from pathlib import Path

from services.inference.artifacts import Artifacts
from services.inference.loaded_model import load
from services.inference.refusal import Check, Refused

REFUSED_CODE = 3
_MIB = 1024 * 1024


def main() -> None:
    """Reads the artifacts as a line of JSON and the model after it; says the failed check and why."""
    room_bytes, cpu_s = int(sys.argv[1]), int(sys.argv[2])
    header = sys.stdin.buffer.readline()
    onnx = sys.stdin.buffer.read()
    _confine(room_bytes, cpu_s)
    try:
        load(Artifacts.model_validate_json(header), onnx)
    except Refused as error:
        refused = error
    except MemoryError:
        refused = Refused(Check.TRIAL, f"model.onnx needs more than {room_bytes // _MIB} MiB to load and to answer")
    else:
        return
    sys.stdout.write(f"{refused.check}\n{refused}")
    sys.exit(REFUSED_CODE)


def _confine(room_bytes: int, cpu_s: int) -> None:
    """From here on: so much more memory, so much computing, no file written; and the first to go if memory is short."""
    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (in_use + room_bytes, in_use + room_bytes))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    os.nice(10)


if __name__ == "__main__":
    main()
