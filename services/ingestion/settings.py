"""What the two processes are told: SLIPWAY_* environment variables."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from services.chassis.settings import ServiceSettings, WithFeatureRepo


class AcceptSettings(WithFeatureRepo, ServiceSettings):
    """SLIPWAY_* of `python -m services.ingestion accept`."""

    grpc_port: int = Field(default=9101, ge=0, le=65535)
    """Port of IngestionService."""
    http_port: int = Field(default=8101, ge=0, le=65535)
    """Port of the HTTP edge and its /docs."""
    ops_port: int = Field(default=9201, ge=0, le=65535)
    """Port of /metrics, /live and /ready."""
    availability: Literal["clock", "recordedtime"] = "clock"
    """Where available_at comes from: our clock, or upstream's `recordedtime` (replays, backfills, trusted sources)."""
    max_event_bytes: int = Field(default=1024 * 1024, gt=0)
    """A larger CloudEvent is refused."""
    idle_watermark_s: float = Field(default=1.0, gt=0)
    """With availability "clock": how often the watermark moves while nothing comes, seconds."""


class LakeSettings(WithFeatureRepo, ServiceSettings):
    """SLIPWAY_* of `python -m services.ingestion lake`."""

    ops_port: int = Field(default=9202, ge=0, le=65535)
    """Port of /metrics, /live and /ready."""
    lake: str = Field(default=".slipway/lake", min_length=1)
    """Folder or URI of the Delta tables; an object store's credentials come from its own variables (AWS_*)."""
    flush_s: float = Field(default=2.0, gt=0)
    """The shortest time between two commits of a table, seconds."""
    flush_rows: int = Field(default=20_000, gt=0)
    """Waiting rows, of all types together, that are committed without waiting any longer."""
    flush_share: float = Field(default=0.03, gt=0, le=1)
    """The largest share of the time that goes into commits; under load they become fewer and larger."""
    max_known_ids: int = Field(default=1_000_000, gt=0)
    """Event ids kept in memory to tell duplicates; the days used last stay, others are read again when needed."""
