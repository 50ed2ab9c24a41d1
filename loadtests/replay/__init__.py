"""Plays upstream and the client: events into Kafka in the order in which they became known, and a prediction asked for
each spine event as of the recipe's moment. It knows no problem; a `Source` and a feature repository state it."""

from loadtests.replay.plan import Plan, Progress
from loadtests.replay.player import Replay
from loadtests.replay.totals import Totals

__all__ = ["Plan", "Progress", "Replay", "Totals"]
