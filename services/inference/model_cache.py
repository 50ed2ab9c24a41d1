"""Models on disk by digest, and which version was served last: what a restart needs while MLflow is down."""

from __future__ import annotations

import os
import re
from pathlib import Path
from tempfile import NamedTemporaryFile

from pydantic import ValidationError

from services.chassis.logging import get_logger
from services.inference.artifacts import Artifacts, sha256

_FILES_KEPT = 16
# What comes from a tag must not name a path.
_DIGEST = re.compile(r"[0-9a-f]{64}")


class ModelCache:
    """A folder that several deployments may share: files are named by content and written in one move."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def onnx(self, digest: str) -> bytes | None:
        """The bytes of that digest, or None if they are not here (or not whole)."""
        if not _DIGEST.fullmatch(digest):
            return None
        try:
            content = self._onnx_path(digest).read_bytes()
        except OSError:
            return None
        return content if sha256(content) == digest else None

    def keep_onnx(self, content: bytes) -> None:
        """Keeps the bytes under their digest. Raises OSError if the disk refuses."""
        self._write(self._onnx_path(sha256(content)), content)

    def last_served(self, model: str, variant: str) -> Artifacts | None:
        """What this deployment served last, or None if it never did (or the note is unreadable)."""
        return self._note(self._note_path(model, variant))

    def _note(self, path: Path) -> Artifacts | None:
        try:
            return Artifacts.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            get_logger().warning("cached_model_unreadable", path=str(path), error=str(error))
            return None

    def note_served(self, variant: str, artifacts: Artifacts) -> None:
        """Notes what is served now. Raises OSError if the disk refuses."""
        path = self._note_path(artifacts.version.model, variant)
        self._write(path, artifacts.model_dump_json(indent=1).encode())

    def forget_old(self, kept: int = _FILES_KEPT) -> None:
        """Deletes the oldest models beyond `kept`, never one that is noted as served. Raises OSError if it cannot."""
        noted = {note.version.onnx_sha256 for path in self._folder.glob("*.json") if (note := self._note(path))}
        files = sorted(self._folder.glob("*.onnx"), key=lambda path: path.stat().st_mtime, reverse=True)
        for path in files[kept:]:
            if path.stem not in noted:
                path.unlink(missing_ok=True)

    def _onnx_path(self, digest: str) -> Path:
        return self._folder / f"{digest}.onnx"

    def _note_path(self, model: str, variant: str) -> Path:
        # A model's name may hold any character, a file's may not.
        return self._folder / f"{sha256(model.encode())[:16]}.{variant}.json"

    def _write(self, path: Path, content: bytes) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=self._folder, delete=False) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(file.name).replace(path)
