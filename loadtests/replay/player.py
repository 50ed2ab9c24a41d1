"""The replay: plays upstream into Kafka and the client against Envoy, as far as each call of `run` says."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from datetime import datetime
from types import TracebackType
from typing import Any, Self

from loadtests.replay.answers import AnswerFile
from loadtests.replay.asking import Asking
from loadtests.replay.client import PredictionClient, WatermarkClient
from loadtests.replay.mess import Mess
from loadtests.replay.plan import Pause, Plan, Tell
from loadtests.replay.position import Cursor, Position, PositionFile
from loadtests.replay.questions import Asker
from loadtests.replay.run import Run
from loadtests.replay.sender import Sender
from loadtests.replay.topic import UpstreamTopic
from loadtests.replay.totals import Totals
from loadtests.upstream import on_grid
from services.chassis.clock import rfc3339
from services.chassis.errors import Invalid
from services.problem import load_event_types, load_recipe


class Replay:
    """`with Replay(plan) as replay: totals = replay.run(until, …)`, as often as one likes.

    Each run goes on where the last one ended, also in another process after a SIGKILL. Nothing is sent twice: the
    position file says where to look, the topic itself what is there. Questions that were answered in the last second
    before a SIGKILL are asked again and counted once; their id is the same, so downstream they are one prediction.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._begins = on_grid(plan.begins or plan.source.begins)
        self._recipe = load_recipe(plan.feature_repo)
        self._event_types = load_event_types(plan.feature_repo)
        self._file = PositionFile(
            plan.state,
            {
                "model": self._recipe.name,
                "begins": rfc3339(self._begins),
                "mess_share": plan.mess_share,
                "mess_seed": plan.mess_seed,
            },
        )
        self._runner = asyncio.Runner()
        self._stack = AsyncExitStack()

    def __enter__(self) -> Self:
        """Raises Unavailable if Kafka does not answer, Invalid if the position is another replay's."""
        try:
            self._runner.run(self._open())
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._close()

    @property
    def totals(self) -> Totals:
        """The books so far."""
        return self._sender.totals

    @property
    def reached(self) -> datetime:
        """Event time until which everything was sent."""
        return self._sender.reached

    def run(
        self, until: datetime, *, predict: bool = True, pause: Pause | None = None, tell: Tell | None = None
    ) -> Totals:
        """Plays until the event time `until` (raised to the grid of 5 minutes); returns once all of it is over.

        That is: everything is in the topic, the features' watermark is there, and each question about an earlier moment
        than `until` is answered or failed. With `predict` false they are skipped. While `pause` says True nothing is
        sent; questions that are due are still asked. Raises Unavailable if Kafka takes no more or no model ever served.
        """
        if predict and self._plan.features is None:
            raise Invalid("predictions need the features' watermark; give the address of FeaturesService")
        run = Run(
            self._plan,
            sender=self._sender,
            asking=self._asking,
            save=self._save,
            begins=self._begins,
            until=on_grid(until),
            predict=predict,
            pause=pause,
            tell=tell,
        )
        self._runner.run(run.play())
        return self.totals

    async def _open(self) -> None:
        plan, stack = self._plan, self._stack
        topic = await asyncio.to_thread(UpstreamTopic, plan.kafka)
        stack.callback(topic.close)
        position = self._file.read()
        if position is None:
            position = Position(Cursor(self._begins), await asyncio.to_thread(topic.end))
            self._file.write(position)
        mess = Mess(self._event_types, plan.mess_share, plan.mess_seed)
        asker = Asker(self._recipe, self._event_types)
        self._sender = Sender(plan.source, mess, asker, topic, begins=self._begins, position=position)
        self._asking = await self._open_asking(position)
        self._asking.add(await asyncio.to_thread(self._sender.resume))

    async def _open_asking(self, position: Position) -> Asking:
        plan, stack = self._plan, self._stack
        client = PredictionClient(
            plan.inference, self._recipe.name, connections=plan.connections, patience_s=plan.patience_s
        )
        stack.push_async_callback(client.close)
        watermark: Any = _nobody_knows
        if plan.features is not None:
            features = WatermarkClient(plan.features, patience_s=plan.patience_s)
            stack.push_async_callback(features.close)
            watermark = features.watermark
        answers = None
        self._answers_bytes = position.answers_bytes
        if plan.answers is not None:
            answers = AnswerFile(plan.answers, position.answers_bytes)
            stack.callback(answers.close)
        return Asking(client=client, watermark=watermark, totals=position.totals, answers=answers)

    def _close(self) -> None:
        try:
            self._runner.run(self._stack.aclose())
        finally:
            self._runner.close()

    async def _save(self) -> None:
        """The position as of now. Raises Unavailable if Kafka did not take what was sent."""
        await asyncio.to_thread(self._sender.flush)
        sender = self._sender
        known_open, answers_bytes = self._asking.snapshot()
        if answers_bytes is None:
            answers_bytes = self._answers_bytes
        self._file.write(Position(sender.cursor, sender.offset, sender.totals, known_open, answers_bytes))


async def _nobody_knows() -> datetime | None:
    return None
