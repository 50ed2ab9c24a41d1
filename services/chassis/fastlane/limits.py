"""How much a peer may ask for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of each connection; beyond them calls are refused or the connection ends, with the reason."""

    message_bytes: int = 16 * 1024 * 1024
    """One request message, also after it was inflated."""
    buffered_bytes: int = 64 * 1024 * 1024
    """Parts of messages whose rest has not come."""
    concurrent_calls: int = 1024
    """Calls that came and are not answered."""
    header_bytes: int = 16 * 1024
    """One header block, compressed."""
    headers: int = 256
    """Fields of one header block."""
    message_s: float = 10.0
    """How long a message may take from its headers to its end, if the caller has no earlier deadline."""
    preface_s: float = 10.0
    """How long a new connection may take to say that it speaks HTTP/2."""
    idle_frames: int = 10_000
    """Frames of ten seconds that carry no call forward (pings, settings, empty data), and calls that were reset."""
