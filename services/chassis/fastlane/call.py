"""One unary call: what its method sees of it, and the stream that it travels on."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING

import grpc

from services.chassis.errors import Invalid
from services.chassis.fastlane.header_blocks import Headers, Malformed

if TYPE_CHECKING:
    from services.chassis.fastlane.connection import Connection


class Call:
    """Belongs to its method from when the whole message is there; that owes it one `answer` or `fail`, now or later."""

    __slots__ = (
        "_connection",
        "_headers",
        "_on_cancel",
        "body",
        "deadline",
        "done",
        "message",
        "method",
        "receive_window",
        "send_window",
        "sending",
        "stream",
        "sweeps",
        "unsent",
    )

    def __init__(
        self, connection: Connection, stream: int, headers: Headers, receive_window: int, send_window: int
    ) -> None:
        self._connection = connection
        self._headers = headers
        self._on_cancel: Callable[[], object] | None = None
        self.stream = stream
        self.method: str = ""
        self.deadline: float | None = None
        """On the monotonic clock, None if the caller waits for ever."""
        self.message: bytes = b""
        """The request, serialized."""
        self.done = False
        """Answered, failed, or given up by the caller: nothing more is owed."""
        # What follows is the connection's: parts of the message, whether more may come, what flow
        # control allows, and how many sweeps have seen it.
        self.body: bytes | bytearray = b""
        self.sending = True
        self.receive_window = receive_window
        self.send_window = send_window
        self.unsent: bytes | memoryview = b""
        self.sweeps = 0

    def metadata(self, name: str) -> str | None:
        """The value of one key, None if it was not sent. Raises Invalid if it is no text."""
        try:
            return self._headers.get(name.encode())
        except Malformed as error:
            raise Invalid(f"metadata {name}: {error}") from error

    def time_left(self) -> float | None:
        """Seconds until the deadline, None if there is none."""
        return None if self.deadline is None else self.deadline - monotonic()

    def answer(self, message: bytes) -> None:
        """Ends the call with its serialized response. Does nothing if the caller has given up."""
        if not self.done:
            self.done = True
            self._connection.send_answer(self, message)

    def fail(self, code: grpc.StatusCode, details: str) -> None:
        """Ends the call with a status. Does nothing if the caller has given up."""
        if not self.done:
            self.done = True
            self._connection.send_status(self, code, details)

    def on_cancel(self, react: Callable[[], object]) -> None:
        """Calls `react` when the caller gives up before an answer; at once if it already has."""
        self._on_cancel = react
        if self.done:
            react()

    def give_up(self) -> None:
        """The connection's: the caller is gone."""
        if not self.done:
            self.done = True
            self.give_up_work()

    def give_up_work(self) -> None:
        """The connection's: nobody waits for the answer."""
        if self._on_cancel is not None:
            self._on_cancel()
