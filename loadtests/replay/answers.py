"""The answers, one JSON object a line, so that two replays can be compared."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import IO

from loadtests.replay.client import Answer
from loadtests.replay.questions import Question
from services.chassis.clock import rfc3339


class AnswerFile:
    """Appends; begins with the `kept` first bytes of what is there, which is what the position knows of."""

    def __init__(self, path: Path, kept: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: IO[bytes] = path.open("ab")
        self._file.truncate(kept)

    def add(self, question: Question, answer: Answer) -> None:
        line = {
            "entity_id": question.entity_id,
            "as_of": rfc3339(question.as_of),
            "probability": answer.probability,
            "model_version": answer.version,
            "variant": answer.variant,
        }
        self._file.write(json.dumps(line).encode() + b"\n")

    def sync(self) -> int:
        """Makes it durable; its length in bytes."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return os.fstat(self._file.fileno()).st_size

    def close(self) -> None:
        self._file.close()
