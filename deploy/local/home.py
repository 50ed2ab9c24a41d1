"""Where a local platform keeps its data: `SLIPWAY_HOME`, by default `.slipway/` in the repository."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
KAFKA_JARS = REPOSITORY / ".cache" / "kafka"


@dataclass(frozen=True, slots=True)
class Home:
    """The folders and files of one platform. A second start finds its data here again."""

    root: Path

    @property
    def kafka(self) -> Path:
        return self.root / "kafka"

    @property
    def redis(self) -> Path:
        return self.root / "redis"

    @property
    def mlflow(self) -> Path:
        return self.root / "mlflow"

    @property
    def lake(self) -> Path:
        return self.root / "lake"

    @property
    def registry(self) -> Path:
        """Feast's registry file."""
        return self.root / "feast" / "registry.db"

    @property
    def training_sets(self) -> Path:
        return self.root / "training-sets"

    @property
    def run(self) -> Path:
        """Rendered configuration, the manager's socket and pid file."""
        return self.root / "run"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    def state(self, process: str) -> Path:
        """A process's own folder."""
        return self.root / process

    def database(self, process: str) -> str:
        """SQLAlchemy URL of a process's SQLite file."""
        return f"sqlite:///{self.state(process) / 'state.sqlite'}"

    def make(self, processes: list[str]) -> None:
        """Creates every folder."""
        own = [self.state(process) for process in processes]
        for folder in (self.run, self.logs, self.lake, self.registry.parent, self.training_sets, *own):
            folder.mkdir(parents=True, exist_ok=True)


def local_home() -> Home:
    """`SLIPWAY_HOME`, else `.slipway/` in the repository."""
    return Home(Path(os.environ.get("SLIPWAY_HOME", REPOSITORY / ".slipway")).resolve())


def local_feature_repo() -> Path:
    """`SLIPWAY_FEATURE_REPO`, else the repository's own."""
    return Path(os.environ.get("SLIPWAY_FEATURE_REPO", REPOSITORY / "feature_repo")).resolve()
