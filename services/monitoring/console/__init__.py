"""The console: one page for people, on what the other modules know."""
