"""Peers that break HTTP/2, byte by byte; and any bytes at all."""

import asyncio
from collections.abc import Iterator

import pytest
from hpack import Encoder
from hypothesis import given, settings
from hypothesis import strategies as st

from services.chassis.fastlane import Limits, header_blocks
from services.chassis.fastlane import connection as connection_module
from services.chassis.fastlane.frames import HEAD, PREFACE, frame
from services.chassis.fastlane.frames import ErrorCode as Code
from tests.unit.chassis.fastlane.peers import ECHO, HEADERS, HOLD, Server, greeting, message

DATA, HEAD_FRAME, PRIORITY, RST, SETTINGS, PUSH, PING, GOAWAY, WINDOW, MORE = range(10)
TABLE_0 = b"\x20"
END_STREAM, ACK, END_HEADERS, PADDED, WITH_PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20


def block(*fields: tuple[str, str], without: str = "", path: str = ECHO) -> bytes:
    """A block that leaves nothing in a table, as after our SETTINGS."""
    told = [(name, path if name == ":path" else value) for name, value in HEADERS if name != without]
    encoder = Encoder()
    encoder.header_table_size = 0
    return bytes(encoder.encode([*told, *fields], huffman=True))


def opening(stream: int = 1, flags: int = END_HEADERS, path: str = ECHO) -> bytes:
    return frame(HEAD_FRAME, flags, stream, block(path=path))


def call(stream: int = 1, content: bytes = b"hi", path: str = ECHO) -> bytes:
    return opening(stream, path=path) + frame(DATA, END_STREAM, stream, message(content))


def frames(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    at = 0
    while at < len(data):
        high, length, kind, flags, stream = HEAD.unpack_from(data, at)
        at += 9 + (high << 16) + length
        yield kind, flags, stream, data[at - length : at]


def goaways(data: bytes) -> list[int]:
    return [int.from_bytes(payload[4:8]) for kind, _, _, payload in frames(data) if kind == GOAWAY]


def resets(data: bytes) -> list[tuple[int, int]]:
    return [(stream, int.from_bytes(payload)) for kind, _, stream, payload in frames(data) if kind == RST]


def greeted(limits: Limits | None = None) -> Server:
    server = Server(limits)
    server.send(greeting())
    server.take()
    return server


LONG = b"\x00\x7f\xff\xff\xff\xff\x7f"
CONNECTION_ERRORS = {
    "no preface": (b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", Code.PROTOCOL_ERROR),
    "first frame not settings": (PREFACE + frame(PING, 0, 0, bytes(8)), Code.PROTOCOL_ERROR),
    "settings of no length": (greeting() + frame(SETTINGS, 0, 0, bytes(5)), Code.FRAME_SIZE_ERROR),
    "settings on a stream": (greeting() + frame(SETTINGS, 0, 1), Code.PROTOCOL_ERROR),
    "settings acknowledged with settings": (greeting() + frame(SETTINGS, ACK, 0, bytes(6)), Code.FRAME_SIZE_ERROR),
    "push neither on nor off": (greeting() + frame(SETTINGS, 0, 0, b"\0\2\0\0\0\2"), Code.PROTOCOL_ERROR),
    "a window too wide": (greeting() + frame(SETTINGS, 0, 0, b"\0\4\x80\0\0\0"), Code.FLOW_CONTROL_ERROR),
    "frames too small": (greeting() + frame(SETTINGS, 0, 0, b"\0\5\0\0\0\1"), Code.PROTOCOL_ERROR),
    "a frame too long": (greeting() + HEAD.pack(0, 16_385, DATA, 0, 1), Code.FRAME_SIZE_ERROR),
    "data of stream 0": (greeting() + frame(DATA, 0, 0, b"x"), Code.PROTOCOL_ERROR),
    "data before headers": (greeting() + frame(DATA, 0, 1, b"x"), Code.PROTOCOL_ERROR),
    "padding beyond the frame": (greeting() + opening() + frame(DATA, PADDED, 1, b"\x09ab"), Code.PROTOCOL_ERROR),
    "padding of nothing": (greeting() + opening() + frame(DATA, PADDED, 1, b""), Code.PROTOCOL_ERROR),
    "headers on stream 0": (greeting() + opening(0), Code.PROTOCOL_ERROR),
    "headers on an even stream": (greeting() + opening(2), Code.PROTOCOL_ERROR),
    "headers that depend on themselves": (
        greeting() + frame(HEAD_FRAME, END_HEADERS | WITH_PRIORITY, 1, b"\0\0\0\1\0" + block()),
        Code.PROTOCOL_ERROR,
    ),
    "headers too short for a priority": (
        greeting() + frame(HEAD_FRAME, END_HEADERS | WITH_PRIORITY, 1, b"\0\0"),
        Code.FRAME_SIZE_ERROR,
    ),
    "a block that refers to our table": (
        greeting() + frame(HEAD_FRAME, END_HEADERS, 1, b"\xbe"),
        Code.COMPRESSION_ERROR,
    ),
    "a block with field 0": (greeting() + frame(HEAD_FRAME, END_HEADERS, 1, b"\x80"), Code.COMPRESSION_ERROR),
    "a block cut in a field": (greeting() + frame(HEAD_FRAME, END_HEADERS, 1, block()[:-1]), Code.COMPRESSION_ERROR),
    "a block that widens the table": (
        greeting() + frame(HEAD_FRAME, END_HEADERS, 1, b"\x3f\xe1\x1f" + block()),
        Code.COMPRESSION_ERROR,
    ),
    "a block with an endless integer": (greeting() + frame(HEAD_FRAME, END_HEADERS, 1, LONG), Code.COMPRESSION_ERROR),
    "a bad block before the acknowledgement": (
        PREFACE + frame(SETTINGS, 0, 0) + frame(HEAD_FRAME, END_HEADERS, 1, b"\xff\xff\xff"),
        Code.COMPRESSION_ERROR,
    ),
    "a block interrupted": (greeting() + opening(flags=0) + frame(PING, 0, 0, bytes(8)), Code.PROTOCOL_ERROR),
    "a block continued elsewhere": (greeting() + opening(flags=0) + frame(MORE, 4, 3), Code.PROTOCOL_ERROR),
    "nothing to continue": (greeting() + frame(MORE, 4, 1), Code.PROTOCOL_ERROR),
    "a block without end": (greeting() + opening(flags=0) + frame(MORE, 0, 1, bytes(9000)) * 2, Code.ENHANCE_YOUR_CALM),
    "priority of nothing": (greeting() + frame(PRIORITY, 0, 0, bytes(5)), Code.PROTOCOL_ERROR),
    "a reset of no length": (greeting() + opening() + frame(RST, 0, 1, b"\0"), Code.FRAME_SIZE_ERROR),
    "a reset of nothing": (greeting() + frame(RST, 0, 1, bytes(4)), Code.PROTOCOL_ERROR),
    "a promise from a client": (greeting() + frame(PUSH, 4, 1, bytes(4)), Code.PROTOCOL_ERROR),
    "a ping on a stream": (greeting() + frame(PING, 0, 1, bytes(8)), Code.PROTOCOL_ERROR),
    "a short ping": (greeting() + frame(PING, 0, 0, bytes(7)), Code.FRAME_SIZE_ERROR),
    "a short farewell": (greeting() + frame(GOAWAY, 0, 0, bytes(7)), Code.PROTOCOL_ERROR),
    "a window widened by 0": (greeting() + frame(WINDOW, 0, 0, bytes(4)), Code.PROTOCOL_ERROR),
    "a window widened badly": (greeting() + frame(WINDOW, 0, 0, bytes(3)), Code.FRAME_SIZE_ERROR),
    "a window of nothing": (greeting() + frame(WINDOW, 0, 5, b"\0\0\0\1"), Code.PROTOCOL_ERROR),
    "a window beyond its bound": (greeting() + frame(WINDOW, 0, 0, b"\x7f\xff\xff\xff"), Code.FLOW_CONTROL_ERROR),
    "more fields than anybody needs": (
        greeting() + frame(HEAD_FRAME, 5, 1, block() + b"\x00\x01a\x01b" * 300),
        Code.ENHANCE_YOUR_CALM,
    ),
    "a flood of malformed headers": (
        greeting() + b"".join(frame(HEAD_FRAME, 5, n, block(without=":path")) for n in range(1, 210, 2)),
        Code.ENHANCE_YOUR_CALM,
    ),
    "a flood on a stream that is over": (greeting() + call() + frame(DATA, 0, 1, b"x") * 103, Code.ENHANCE_YOUR_CALM),
    "a flood of pings": (greeting() + frame(PING, 0, 0, bytes(8)) * 101, Code.ENHANCE_YOUR_CALM),
    "a flood of empty data": (greeting() + opening() + frame(DATA, 0, 1) * 101, Code.ENHANCE_YOUR_CALM),
    "a flood of resets": (
        greeting() + b"".join(opening(n) + frame(RST, 0, n, bytes(4)) for n in range(1, 210, 2)),
        Code.ENHANCE_YOUR_CALM,
    ),
}


@pytest.mark.parametrize("case", CONNECTION_ERRORS)
async def test_a_peer_that_breaks_the_protocol_is_told_and_left(case: str) -> None:
    sent, code = CONNECTION_ERRORS[case]
    server = Server(Limits(idle_frames=100))

    server.send(sent)

    assert server.transport.closed
    assert goaways(server.take()) == [code]


STREAM_ERRORS = {
    "no path": (frame(HEAD_FRAME, 5, 1, block(without=":path")), Code.PROTOCOL_ERROR),
    "a header in capitals": (frame(HEAD_FRAME, 5, 1, block() + b"\x00\x01A\x01b"), Code.PROTOCOL_ERROR),
    "a path twice": (frame(HEAD_FRAME, 5, 1, TABLE_0 + b"\x84" + block()[1:]), Code.PROTOCOL_ERROR),
    "a pseudo-header at the end": (frame(HEAD_FRAME, 5, 1, block(without=":path") + b"\x84"), Code.PROTOCOL_ERROR),
    "a pseudo-header of answers": (frame(HEAD_FRAME, 5, 1, TABLE_0 + b"\x88" + block()[1:]), Code.PROTOCOL_ERROR),
    "a hop-by-hop header": (frame(HEAD_FRAME, 5, 1, block(("connection", "close"))), Code.PROTOCOL_ERROR),
    "data after the end": (call(path=HOLD) + frame(DATA, 0, 1, b"x"), Code.STREAM_CLOSED),
    "headers after the end": (call(path=HOLD) + opening(flags=5), Code.STREAM_CLOSED),
    "trailers that do not end": (opening() + opening(), Code.PROTOCOL_ERROR),
    "a window widened by 0": (call(path=HOLD) + frame(WINDOW, 0, 1, bytes(4)), Code.PROTOCOL_ERROR),
    "a window beyond its bound": (
        call(path=HOLD) + frame(WINDOW, 0, 1, b"\x7f\xff\xff\xff"),
        Code.FLOW_CONTROL_ERROR,
    ),
    "priority of no length": (opening() + frame(PRIORITY, 0, 1, bytes(4)), Code.FRAME_SIZE_ERROR),
    "a priority on itself": (opening() + frame(PRIORITY, 0, 1, b"\0\0\0\1\0"), Code.PROTOCOL_ERROR),
}


@pytest.mark.parametrize("case", STREAM_ERRORS)
async def test_a_stream_that_breaks_the_protocol_ends_alone(case: str) -> None:
    sent, code = STREAM_ERRORS[case]
    server = greeted()

    server.send(sent)
    found = resets(server.take())
    server.send(call(9))

    assert found == [(1, code)]
    assert message(b"hi") in server.take()
    assert 1 not in server.connection._calls


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([(":method", "GET"), *HEADERS[1:]], b"405"),
        ([*HEADERS[:4], ("content-type", "application/json")], b"415"),
        ([*HEADERS[:4], ("content-type", "application/grpc-web")], b"415"),
        (HEADERS[:4], b"415"),
    ],
)
async def test_what_is_no_grpc_call_gets_a_status_of_http(headers: list[tuple[str, str]], status: bytes) -> None:
    server = greeted()
    encoder = Encoder()
    encoder.header_table_size = 0

    server.send(frame(HEAD_FRAME, END_HEADERS | END_STREAM, 1, encoder.encode(headers)))

    [(kind, flags, stream, payload)] = frames(server.take())
    assert (kind, flags, stream, payload[-3:]) == (HEAD_FRAME, END_HEADERS | END_STREAM, 1, status)
    assert not server.connection._calls


async def test_bytes_may_come_one_by_one() -> None:
    server = Server()

    for octet in greeting() + call() + frame(99, 0, 0, b"unknown kinds are nobody's") + call(3):
        server.send(bytes([octet]))

    told = [payload for kind, _, _, payload in frames(server.take()) if kind == DATA]
    assert told == [message(b"hi")] * 2


async def test_a_block_may_be_continued_and_end_with_trailers() -> None:
    server = greeted()
    whole = block()

    server.send(frame(HEAD_FRAME, 0, 1, whole[:5]) + frame(MORE, 0, 1, whole[5:9]) + frame(MORE, 4, 1, whole[9:]))
    server.send(frame(DATA, 0, 1, message(b"hi")) + frame(HEAD_FRAME, 5, 1, b"\x00\x01a\x01b"))

    assert message(b"hi") in server.take()


async def test_the_first_block_says_that_our_table_is_empty() -> None:
    server = greeted()

    server.send(call() + call(3))

    blocks = [payload for kind, _, _, payload in frames(server.take()) if kind == HEAD_FRAME]
    assert [found[0] == 0x20 for found in blocks] == [True, False, False, False]


async def test_windows_are_given_back_whatever_the_bytes_were() -> None:
    """Parts of messages, padding alone, data of calls that are over: 40 MB pass a window of 16."""
    server = greeted(Limits(idle_frames=10_000))
    server.send(opening(1) + opening(3) + frame(RST, 0, 1, bytes(4)))
    given = {0: 0, 3: 0}
    for _ in range(850):
        server.send(frame(DATA, PADDED, 3, b"\xff" + bytes(255)))
        server.send(
            frame(DATA, 0, 1, bytes(16_000)) + frame(DATA, 0, 3, bytes(16_000)) + frame(DATA, 0, 1, bytes(16_000))
        )
        for kind, _, stream, payload in frames(server.take()):
            assert kind == WINDOW
            given[stream] += int.from_bytes(payload)

    sent = {0: 850 * 48_256, 3: 850 * 16_256}
    assert not server.transport.closed
    assert 0 < sent[0] - given[0] <= 1 << 23
    assert 0 < sent[3] - given[3] <= 1 << 19


async def test_a_connections_window_that_is_overrun_ends_it() -> None:
    server = greeted()
    server.connection._inbox.window = 5
    server.send(opening(path=HOLD) + frame(DATA, 0, 1, bytes(6)))

    assert goaways(server.take()) == [Code.FLOW_CONTROL_ERROR]


async def test_a_streams_window_that_is_overrun_ends_the_stream() -> None:
    server = greeted()
    server.send(opening(path=HOLD))
    server.connection._calls[1].receive_window = 5

    server.send(frame(DATA, 0, 1, bytes(6)))

    assert resets(server.take()) == [(1, Code.FLOW_CONTROL_ERROR)]


async def test_answers_share_the_connections_window_and_go_on_when_it_widens() -> None:
    """Of 65,535 bytes the first answer takes 60,005; the second gets what is left, and the rest later."""
    server = greeted()
    server.send(opening(1) + b"".join(frame(DATA, 0, 1, part) for part in parts(60_000)) + frame(DATA, END_STREAM, 1))
    server.send(opening(3) + b"".join(frame(DATA, 0, 3, part) for part in parts(60_000)) + frame(DATA, END_STREAM, 3))
    assert data_of(server.take()) == {1: 60_005, 3: 5_530}

    server.send(frame(WINDOW, 0, 3, (100_000).to_bytes(4)))
    assert data_of(server.take()) == {}
    server.send(frame(WINDOW, 0, 0, (1).to_bytes(4)))
    assert data_of(server.take()) == {3: 1}
    server.send(frame(WINDOW, 0, 0, (100_000).to_bytes(4)))

    assert data_of(server.take()) == {3: 60_005 - 5_531}
    assert not server.connection._calls


async def test_answers_in_one_piece_pay_the_connections_window_too() -> None:
    server = greeted()
    server.send(b"".join(call(stream, bytes(8_000)) for stream in range(1, 21, 2)))
    assert sum(data_of(server.take()).values()) == 65_535

    server.send(frame(WINDOW, 0, 0, (100_000).to_bytes(4)))

    assert sum(data_of(server.take()).values()) == 10 * 8_005 - 65_535
    assert not server.connection._calls


async def test_a_blocked_answer_of_a_caller_that_is_gone_is_not_sent() -> None:
    server = greeted()
    server.connection._outbox._window = 0
    server.send(call(1))
    server.take()

    server.send(frame(RST, 0, 1, bytes(4)) + frame(WINDOW, 0, 0, (100).to_bytes(4)))

    assert server.take() == b""


def parts(size: int) -> list[bytes]:
    whole = message(bytes(size))
    return [whole[at : at + 16_000] for at in range(0, len(whole), 16_000)]


def data_of(written: bytes) -> dict[int, int]:
    found: dict[int, int] = {}
    for kind, _, stream, payload in frames(written):
        if kind == DATA:
            found[stream] = found.get(stream, 0) + len(payload)
    return found


async def test_settings_are_acknowledged_before_they_are_used() -> None:
    server = greeted()
    server.send(frame(SETTINGS, 0, 0, b"\0\4\0\0\0\0"))
    assert list(frames(server.take())) == [(SETTINGS, ACK, 0, b"")]
    server.send(call())
    assert data_of(server.take()) == {}

    server.send(frame(SETTINGS, 0, 0, b"\0\4\0\0\0\3" + b"\0\4\0\0\0\5"))

    assert [(kind, payload) for kind, _, _, payload in frames(server.take())] == [
        (SETTINGS, b""),
        (DATA, message(b"hi")[:5]),
    ]


async def test_a_ping_is_answered_with_its_own_bytes() -> None:
    server = greeted()

    server.send(frame(PING, 0, 0, b"12345678"))

    assert list(frames(server.take())) == [(PING, ACK, 0, b"12345678")]


async def test_a_ping_that_nobody_sent_drains_nothing() -> None:
    server = greeted()

    server.send(frame(PING, ACK, 0, b"draining") + call())

    assert message(b"hi") in server.take()


async def test_after_a_farewell_of_the_peer_its_calls_are_answered_and_all_ends() -> None:
    server = greeted()
    server.send(call(path=HOLD) + frame(GOAWAY, 0, 0, bytes(8)))
    assert not server.transport.closed

    server.held[0].answer(b"")
    for _ in range(3):
        await asyncio.sleep(0)

    assert server.transport.closed
    assert data_of(server.take()) == {1: 5}


async def test_work_never_excuses_a_flood_of_resets() -> None:
    server = greeted(Limits(idle_frames=100))

    for stream in range(1, 400, 2):
        server.send(call(stream, path=HOLD) + frame(RST, 0, stream, bytes(4)))

    assert goaways(server.take()) == [Code.ENHANCE_YOUR_CALM]


async def test_calls_that_come_to_their_end_excuse_as_many_other_frames() -> None:
    server = greeted(Limits(idle_frames=100))

    for stream in range(1, 400, 2):
        server.send(frame(PING, 0, 0, bytes(8)) + call(stream))

    assert not server.transport.closed


async def test_windows_that_are_widened_for_an_answer_are_no_flood() -> None:
    server = greeted(Limits(idle_frames=100))
    server.connection._outbox._window = 0
    server.send(call(1, bytes(1000)))

    for _ in range(1005):
        server.send(frame(WINDOW, 0, 0, (1).to_bytes(4)))

    assert not server.transport.closed
    assert not server.connection._calls


async def test_a_memory_of_blocks_names_and_shapes_is_bounded() -> None:
    server = greeted()
    for n in range(1, 6000, 2):
        server.send(frame(HEAD_FRAME, 5, n, block((f"x-{n}", "v"))))

    assert len(server.connection._blocks._blocks) <= 16
    assert len(header_blocks._names) <= 1024
    assert len(header_blocks._shapes) <= 256


async def test_a_draining_server_forgives_what_comes_late() -> None:
    server = greeted()
    server.send(call(1, path=HOLD))
    server.connection.drain()
    server.send(frame(PING, ACK, 0, b"draining"))
    server.take()

    server.send(opening(3) + frame(DATA, 0, 3, b"x") + frame(RST, 0, 3, bytes(4)) + frame(WINDOW, 0, 3, b"\0\0\0\1"))
    server.held[0].answer(b"")
    await asyncio.sleep(0)

    assert data_of(server.take()) == {1: 5}


async def test_a_drained_connection_takes_no_new_call_and_ends_after_its_last() -> None:
    server = greeted()
    server.send(call(1, path=HOLD))
    server.connection.drain()
    await asyncio.sleep(0)
    told = list(frames(server.take()))
    assert [kind for kind, *_ in told] == [GOAWAY, PING]

    server.send(call(3, path=HOLD) + frame(PING, ACK, 0, told[1][3]) + call(5, path=HOLD))
    assert [held.stream for held in server.held] == [1, 3]
    assert [payload[:4] for kind, *_, payload in frames(server.take()) if kind == GOAWAY] == [b"\0\0\0\3"]
    for held in server.held:
        held.answer(b"")
    for _ in range(3):
        await asyncio.sleep(0)

    assert server.transport.closed


async def test_what_is_no_flood_over_a_longer_time_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "_SWEEP_S", 0.01)
    monkeypatch.setattr(connection_module, "_FLOOD_SWEEPS", 1)
    server = greeted(Limits(idle_frames=100))
    server.send(frame(PING, 0, 0, bytes(8)) * 90)

    async with asyncio.timeout(5):
        while server.connection._floods.idle_frames:  # noqa: ASYNC110  nothing else tells of a sweep
            await asyncio.sleep(0.01)
    server.send(frame(PING, 0, 0, bytes(8)) * 90)

    assert not server.transport.closed
    server.connection.connection_lost(None)


async def test_a_connection_that_says_nothing_is_left() -> None:
    server = Server(Limits(preface_s=0.0))

    await asyncio.sleep(0.01)

    assert server.transport.closed


@given(cuts=st.lists(st.integers(0, 400), max_size=8), data=st.data())
@settings(max_examples=300, deadline=None)
def test_any_bytes_leave_a_server_that_answers_or_has_said_farewell(cuts: list[int], data: st.DataObject) -> None:
    """Frames with random octets changed, in random parts: no exception, nothing kept of what is over."""
    sent = bytearray(greeting() + call() + call(3, path=HOLD) + frame(WINDOW, 0, 3, b"\0\0\0\1") + call(5))
    for at in data.draw(st.lists(st.integers(0, len(sent) - 1), max_size=4)):
        sent[at] = data.draw(st.integers(0, 255))

    async def play() -> None:
        server = Server()
        at = 0
        for cut in sorted(cuts):
            server.send(bytes(sent[at:cut]))
            at = max(at, cut)
        server.send(bytes(sent[at:]))
        written = server.take()
        list(frames(written))
        assert server.transport.closed == bool(goaways(written))
        server.connection.connection_lost(None)
        assert all(held.done for held in server.held)

    asyncio.run(play())
