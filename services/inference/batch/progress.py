"""What a run tells of itself: a log line for each step. `slipway batch-predict` draws its bar from them."""

from __future__ import annotations

from services.chassis.logging import get_logger


class Progress:
    """Counts are of slices, except `rows`."""

    def begins(self, model: str, version: str, *, done: int, of: int) -> None:
        """`done`: what an earlier run had scored."""
        get_logger().info("batch_begins", model=model, version=version, done=done, of=of)

    def stage(self, words: str) -> None:
        """What is being done now, for people."""
        get_logger().info("batch_stage", stage=words)

    def scored(self, *, done: int, of: int, rows: int) -> None:
        """Another slice. `rows`: scored by this run so far."""
        get_logger().info("batch_scored", done=done, of=of, rows=rows)

    def ends(self, out: str, *, rows: int, version: str, new: bool) -> None:
        """All of it is at `out`; not `new`: it had been there already."""
        get_logger().info("batch_ends", out=out, rows=rows, version=version, new=new)

    def fails(self, error: str) -> None:
        """What was scored stays for the next run."""
        get_logger().error("batch_fails", error=error)
