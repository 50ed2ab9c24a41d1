"""Calls over the fast lane, by another implementation of HTTP/2."""

import asyncio
import ssl
import subprocess
import zlib
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote

import grpc
import h2.errors
import pytest

from services.chassis.errors import Invalid
from services.chassis.fastlane import Call, Limits, fastlane_server
from services.chassis.fastlane import connection as connection_module
from tests.unit.chassis.fastlane.peers import HOLD, Client, Server, message


async def test_a_call_is_answered_with_its_status() -> None:
    client = Client(Server())

    stream = client.call(message(b"hello"))
    client.exchange()

    answer = client.answers[stream]
    assert answer.body == message(b"hello")
    assert answer.headers == {":status": "200", "content-type": "application/grpc"}
    assert answer.trailers == {"grpc-status": "0"}


async def test_what_comes_in_one_read_is_one_batch_and_one_write() -> None:
    client = Client(server := Server())

    streams = [client.call(message(bytes([n]))) for n in range(10)]
    server.send(client.h2.data_to_send())

    assert server.batches == [10]
    assert len(server.transport.written) == 1
    client.see()
    assert [client.answers[stream].body for stream in streams] == [message(bytes([n])) for n in range(10)]


async def test_before_and_after_the_settings_are_acknowledged_headers_read_the_same() -> None:
    """First blocks may lean on the peer's table, later ones may not."""
    seen: list[dict[str, str | None]] = []

    def look(calls: Sequence[Call]) -> None:
        for call in calls:
            seen.append({name: call.metadata(name) for name in ("x-a", "x-long", "x-none")})
            call.answer(b"")

    client = Client(Server(Look=look))
    extra = [("x-a", "one"), ("x-long", "é" * 300)]
    for _ in range(3):
        client.call(message(b""), "/test.Test/Look", extra)
        client.exchange()

    assert seen == [{"x-a": "one", "x-long": "é" * 300, "x-none": None}] * 3


async def test_a_message_may_come_in_parts_and_padded() -> None:
    client = Client(Server())
    stream = client.call(message(b"x" * 100)[:3], end=False)
    client.h2.send_data(stream, message(b"x" * 100)[3:50], pad_length=20)
    client.exchange()
    client.h2.send_data(stream, message(b"x" * 100)[50:], end_stream=True)
    client.exchange()

    assert client.answers[stream].body == message(b"x" * 100)


async def test_large_messages_pass_both_windows_both_ways() -> None:
    client = Client(Server())
    content = bytes(range(256)) * 12_000

    stream = client.call(message(content))
    client.exchange()

    assert client.answers[stream].body == message(content)
    assert client.answers[stream].status == "0"


async def test_an_answer_waits_for_the_peers_window() -> None:
    client = Client(server := Server(), window=10)
    stream = client.call(message(b"y" * 30))
    client.exchange()
    assert client.answers[stream].body == message(b"y" * 30)[:10]
    assert client.answers[stream].status is None

    client.h2.increment_flow_control_window(10, stream)
    client.exchange()
    assert len(client.answers[stream].body) == 20
    client.h2.increment_flow_control_window(100, stream)
    client.exchange()

    assert client.answers[stream].body == message(b"y" * 30)
    assert client.answers[stream].status == "0"
    assert not server.connection._calls


async def test_a_small_window_of_the_peer_holds_back_one_call_alone() -> None:
    client = Client(Server(), window=10)
    held = client.call(message(b"y" * 30))
    small = client.call(message(b"ok"))
    client.exchange()

    assert client.answers[small].status == "0"
    assert client.answers[held].status is None


async def test_a_deadline_is_told_in_seconds() -> None:
    client = Client(server := Server())
    client.call(message(b""), HOLD, [("grpc-timeout", "1500m")])
    client.call(message(b""), HOLD)
    client.exchange()

    timed, endless = server.held
    assert 1.0 < (timed.time_left() or 0) <= 1.5
    assert endless.time_left() is None


async def test_metadata_that_is_no_text_is_the_callers_mistake() -> None:
    client = Client(server := Server())
    client.call(message(b""), HOLD, [("x-good", "fine"), ("x-bad", "a\x01b")])
    client.exchange()

    [call] = server.held
    assert call.metadata("x-good") == "fine"
    with pytest.raises(Invalid, match="x-bad"):
        call.metadata("x-bad")


async def test_a_caller_that_gives_up_is_told_to_the_method() -> None:
    client = Client(server := Server())
    stream = client.call(message(b""), HOLD)
    client.exchange()
    [call] = server.held
    given_up: list[bool] = []
    call.on_cancel(lambda: given_up.append(True))

    client.h2.reset_stream(stream, h2.errors.ErrorCodes.CANCEL)
    client.exchange()
    call.answer(b"too late")

    assert (call.done, given_up) == (True, [True])
    assert server.take() == b""


async def test_a_lost_connection_gives_up_its_calls() -> None:
    client = Client(server := Server())
    client.call(message(b""), HOLD)
    client.exchange()

    server.connection.connection_lost(None)

    assert server.held[0].done


async def test_details_of_an_error_survive_the_wire() -> None:
    client = Client(server := Server())
    stream = client.call(message(b""), HOLD)
    client.exchange()

    server.held[0].fail(grpc.StatusCode.INVALID_ARGUMENT, "100 % wrong:\né")
    server.connection._flush()
    client.see()

    answer = client.answers[stream]
    assert (answer.status, answer.message) == ("3", "100 %25 wrong:%0A%C3%A9")


async def test_a_method_that_fails_says_so_and_harms_no_other() -> None:
    def broken(calls: Sequence[Call]) -> None:
        calls[0].answer(b"first")
        raise RuntimeError("secret")

    client = Client(Server(Broken=broken))
    first = client.call(message(b""), "/test.Test/Broken")
    second = client.call(message(b""), "/test.Test/Broken")
    echo = client.call(message(b"fine"))
    client.exchange()

    assert client.answers[first].status == "0"
    assert client.answers[second].status == "13"
    assert "secret" not in (client.answers[second].message or "")
    assert client.answers[echo].body == message(b"fine")


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_packed_messages_are_unpacked(encoding: str) -> None:
    packer = zlib.compressobj(wbits=31 if encoding == "gzip" else 15)
    packed = packer.compress(b"z" * 1000) + packer.flush()
    client = Client(Server())

    stream = client.call(message(packed, flag=1), extra=[("grpc-encoding", encoding)])
    client.exchange()

    assert client.answers[stream].body == message(b"z" * 1000)


BOMB = zlib.compress(b"\x00" * 2_000_000)
REFUSED = {
    "no message": (b"", "grpc-encoding", "identity", "13", "ended before its message"),
    "half a message": (message(b"hello")[:-1], "x", "y", "13", "one message of 5 bytes, got 4"),
    "two messages": (message(b"a") * 2, "x", "y", "13", "one message of 1 bytes, got 7"),
    "an unknown flag": (message(b"a", flag=2), "x", "y", "13", "flag"),
    "packed, but how": (message(b"a", flag=1), "x", "y", "13", "grpc-encoding"),
    "an unknown packing": (message(b"a", flag=1), "grpc-encoding", "snappy", "12", "'snappy'"),
    "packed badly": (message(b"a", flag=1), "grpc-encoding", "gzip", "13", "does not inflate"),
    "packed and cut": (message(zlib.compress(b"abc" * 9)[:-3], flag=1), "grpc-encoding", "deflate", "13", "ends early"),
    "a bomb": (message(BOMB, flag=1), "grpc-encoding", "deflate", "8", "at most 1000000 bytes"),
    "a wrong timeout": (message(b"a"), "grpc-timeout", "soon", "13", "'soon' is no timeout"),
    "too long": (message(b"a" * 1_000_001), "x", "y", "8", "at most 1000000 bytes, got 1000001"),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_what_is_no_unary_call_ends_with_a_status_that_says_why(case: str) -> None:
    body, name, value, status, why = REFUSED[case]
    client = Client(server := Server(Limits(message_bytes=1_000_000)))

    stream = client.call(body, extra=[(name, value)]) if case != "too long" else _begin(client, body)
    client.exchange()

    assert client.answers[stream].status == status
    assert why in (client.answers[stream].message or "")
    after = client.call(message(b"still here"))
    client.exchange()
    assert client.answers[after].body == message(b"still here")
    assert not server.connection._calls


def _begin(client: Client, body: bytes) -> int:
    """The server need not see the rest."""
    return client.call(body[:100], end=False)


async def test_a_method_that_is_not_here_is_unimplemented() -> None:
    client = Client(Server())

    stream = client.call(message(b""), "/test.Test/None")
    client.exchange()

    assert client.answers[stream].status == "12"
    assert "/test.Test/None" in (client.answers[stream].message or "")


async def test_too_many_calls_at_once_are_refused_and_may_be_tried_again() -> None:
    client = Client(server := Server(Limits(concurrent_calls=2)))
    client.h2.remote_settings.update({3: 100})
    client.h2.remote_settings.acknowledge()
    streams = [client.call(message(b""), HOLD) for _ in range(3)]
    client.exchange()

    assert len(server.held) == 2
    assert client.answers[streams[2]].reset == h2.errors.ErrorCodes.REFUSED_STREAM


async def test_half_sent_messages_are_bounded_together() -> None:
    """The largest makes room: behind a proxy it need not be the newcomer's fault."""
    client = Client(server := Server(Limits(buffered_bytes=40_000)))
    streams = [client.call(message(b"x" * 30_000)[:size], end=False) for size in (12_000, 16_000, 14_000)]
    client.exchange()

    assert [client.answers[stream].status for stream in streams] == [None, "8", None]
    assert server.connection._inbox.buffered == 26_000


async def test_details_of_any_length_fit_into_a_frame() -> None:
    client = Client(server := Server())
    for details in ("é" * 5000, "😀" * 5000, "%" * 5000, "a" * 5000):
        stream = client.call(message(b""), HOLD)
        client.exchange()
        server.held.pop().fail(grpc.StatusCode.INVALID_ARGUMENT, details)
        server.connection._flush()
        client.see()

        told = unquote(client.answers[stream].message or "", errors="strict")
        assert details.startswith(told.removesuffix("...")) and len(told) > 200

    stream = client.call(message(b""), "/" + "é" * 1000)
    client.exchange()
    assert client.answers[stream].status == "12"


async def test_what_unpacks_to_much_is_handed_over_bit_by_bit() -> None:
    packed = zlib.compress(b"\x00" * 600_000)
    client = Client(server := Server(Limits(message_bytes=1_000_000)))
    for _ in range(6):
        client.call(message(packed, flag=1), extra=[("grpc-encoding", "deflate")])
    server.send(client.h2.data_to_send())

    assert server.batches == [2, 2, 2]


async def test_an_endless_caller_is_ended_by_its_deadline_and_by_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "_SWEEP_S", 0.01)
    client = Client(server := Server(Limits(message_s=20)))
    dawdling = client.call(message(b"abc")[:6], end=False)
    late = client.call(message(b""), HOLD, [("grpc-timeout", "1m")])
    held = client.call(message(b""), HOLD)
    client.exchange()
    given_up: list[bool] = []
    server.held[0].on_cancel(lambda: given_up.append(True))

    async with asyncio.timeout(5):
        while client.answers[dawdling].status is None:
            await asyncio.sleep(0.01)
            client.see()

    assert (client.answers[dawdling].status, client.answers[late].status) == ("4", "4")
    assert client.answers[held].status is None
    assert given_up == [True]
    server.connection.connection_lost(None)


async def test_an_answer_that_nobody_takes_is_given_up_at_its_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "_SWEEP_S", 0.01)
    client = Client(server := Server(), window=10)
    stream = client.call(message(b"y" * 30), extra=[("grpc-timeout", "1m")])
    client.exchange()

    async with asyncio.timeout(5):
        while client.answers[stream].reset is None:
            await asyncio.sleep(0.01)
            client.see()

    assert not server.connection._calls
    assert not server.connection._outbox._blocked
    server.connection.connection_lost(None)


async def test_a_caller_that_still_sends_is_told_that_it_need_not() -> None:
    client = Client(Server())
    stream = client.call(message(b"abc")[:6], "/test.Test/None", end=False)
    client.exchange()

    assert client.answers[stream].status == "12"
    assert client.answers[stream].reset == h2.errors.ErrorCodes.NO_ERROR


@pytest.fixture
def certified(tmp_path: Path) -> tuple[Path, Path]:
    """A key and a certificate of localhost."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subject = ("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", *subject]
    subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    return key, certificate


async def test_over_tls_only_http2_is_spoken(certified: tuple[Path, Path]) -> None:
    key, certificate = certified
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)

    def echo(calls: Sequence[Call]) -> None:
        for call in calls:
            call.answer(call.message)

    async with fastlane_server("127.0.0.1:0", {"/test.Test/Echo": echo}, tls=context, grace_s=1.0) as port:
        credentials = grpc.ssl_channel_credentials(certificate.read_bytes())
        async with grpc.aio.secure_channel(f"localhost:{port}", credentials) as channel:
            assert await channel.unary_unary("/test.Test/Echo")(b"over tls", timeout=5) == b"over tls"
        strange = ssl.create_default_context(cafile=str(certificate))
        strange.set_alpn_protocols(["http/1.1"])
        with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
            await first_byte(port, strange)


async def first_byte(port: int, context: ssl.SSLContext) -> bytes:
    reader, _ = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
    return await reader.readexactly(1)


async def test_a_peer_that_does_not_read_is_not_read() -> None:
    server = Server()

    server.connection.pause_writing()
    assert not server.transport.reading
    server.connection.resume_writing()

    assert server.transport.reading
