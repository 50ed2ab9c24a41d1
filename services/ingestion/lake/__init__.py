"""The event lake: one Delta table for each event type, each event in it once."""
