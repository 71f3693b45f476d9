"""Clients over any transport, and streams of other code, in a `TLSNursery`."""

from __future__ import annotations

import math
import socket
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import pytest
import trio
import trio.testing

from tests.servers import HOST, nothing_left, port_of, serving
from tests.stream.test_linger import SMALL, narrow_transports
from tests.support import (
    NAME,
    TRANSPORTS,
    Maker,
    client_context,
    memory_transports,
    must_raise,
    server_context,
    shake_hands,
    tcp_transports,
)
from trio_tlsdown import (
    HandshakeTimeoutError,
    ShutdownOutcome,
    ShutdownPolicy,
    TLSFailedError,
    TLSNursery,
    TLSStream,
    TruncatedError,
    open_tls_nursery,
)
from trio_tlsdown._serving.nursery import SWEEP_AT_LEAST
from trio_tlsdown.testing import Cancellation, RoguePeer, cancel_everywhere, echo

ABORTED = ShutdownOutcome.ABORTED
COMPLETE = ShutdownOutcome.COMPLETE
FAILED = ShutdownOutcome.FAILED


async def serve(transport: trio.abc.Stream, version: str) -> None:
    """An echo over any transport, which ends well."""
    stream = TLSStream(transport, server_context(version), server_side=True)
    with suppress(trio.BrokenResourceError):
        async with stream:
            async for data in stream:
                await stream.send_all(data)
            await stream.shutdown()


@asynccontextmanager
async def served(version: str, kind: str) -> AsyncIterator[trio.abc.Stream]:
    ours, theirs = await TRANSPORTS[kind]()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, theirs, version)
        yield ours


# Transports of others:


@pytest.mark.parametrize("kind", TRANSPORTS)
async def test_a_client_over_any_transport_ends_with_the_nursery(
    kind: str, tls: Maker
) -> None:
    async with nothing_left(), served(tls.version, kind) as transport:
        async with open_tls_nursery() as nursery:
            stream = await nursery.start_tls(
                transport, client_context(tls.version), server_hostname=NAME
            )
            assert stream.transport_stream is transport
            await stream.send_all(b"hello")
            assert await stream.receive_some() == b"hello"
            assert nursery.tally == {}
        assert nursery.tally == {COMPLETE: 1}
        assert stream.report.outcome is COMPLETE


async def test_a_client_over_a_unix_socket(tls: Maker, tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    listening = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    await listening.bind(path)
    listening.listen(1)
    async with trio.SocketListener(listening) as listener:
        async with trio.open_nursery() as tasks, open_tls_nursery() as nursery:
            transport = await trio.open_unix_socket(path)
            tasks.start_soon(serve, await listener.accept(), tls.version)
            stream = await nursery.start_tls(
                transport, client_context(tls.version), server_hostname=NAME
            )
            await stream.send_all(b"hello")
            assert await stream.receive_some() == b"hello"
        assert nursery.tally == {COMPLETE: 1}


async def proxy(stream: Any) -> None:
    """CONNECT, as an HTTPS proxy does it."""
    request = b""
    while b"\r\n\r\n" not in request:
        request += await stream.receive_some()
    port = int(request.split()[1].rpartition(b":")[2])
    upstream = await trio.open_tcp_stream(HOST, port)
    async with upstream, trio.open_nursery() as nursery:
        await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\n")

        async def pump(source: Any, target: Any) -> None:
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                while data := await source.receive_some():
                    await target.send_all(data)
            nursery.cancel_scope.cancel()

        nursery.start_soon(pump, stream, upstream)
        nursery.start_soon(pump, upstream, stream)


@pytest.mark.parametrize("by", ["the nursery", "the user"])
async def test_tls_in_tls_through_a_proxy_ends_well_both_times(
    by: str, tls: Maker
) -> None:
    async with serving(tls.version, proxy) as (nursery, between):
        target = await nursery.start_server(
            echo, 0, server_context(tls.version), host=HOST
        )
        context = client_context(tls.version)
        async with open_tls_nursery() as clients:
            outer = await clients.connect(HOST, port_of(between), ssl_context=context)
            await outer.send_all(b"CONNECT x:%d HTTP/1.1\r\n\r\n" % port_of(target))
            answer = b""
            while not answer.endswith(b"\r\n\r\n"):
                answer += await outer.receive_some()
            inner = await clients.start_tls(outer, context, server_hostname=NAME)
            await inner.send_all(b"hello")
            assert await inner.receive_some() == b"hello"
            if by == "the user":
                await inner.shutdown()
                await inner.aclose()
        assert inner.report.outcome is COMPLETE
        assert outer.report.outcome in {COMPLETE, ShutdownOutcome.SENT}
        assert sum(clients.tally.values()) == 2


async def test_a_stream_that_was_closed_is_counted_whatever_its_transport(
    tls: Maker,
) -> None:
    async with served(tls.version, "memory") as transport:
        async with open_tls_nursery() as nursery:
            stream = await nursery.start_tls(
                transport, client_context(tls.version), server_hostname=NAME
            )
            await stream.shutdown()
            assert nursery.tally == {}
            await stream.aclose()
            assert nursery.tally == {COMPLETE: 1}


async def test_a_stream_whose_transport_refuses_to_be_closed_is_kept_to_the_end(
    tls: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served(tls.version, "memory") as transport:
        async with open_tls_nursery() as nursery:
            stream = await nursery.start_tls(
                transport, client_context(tls.version), server_hostname=NAME
            )
            monkeypatch.setattr(transport, "aclose", AsyncMock(side_effect=KeyError))
            with pytest.raises(KeyError):
                await stream.aclose()
            assert nursery.tally == {}
            monkeypatch.undo()
        assert sum(nursery.tally.values()) == 1
        await transport.aclose()


@pytest.mark.parametrize("kind", ["memory", "tcp"])
async def test_a_handshake_that_fails_closes_the_transport(
    kind: str, tls: Maker
) -> None:
    async with served(tls.version, kind) as transport:
        async with open_tls_nursery() as nursery:
            with pytest.raises(TLSFailedError, match="mismatch"):
                await nursery.start_tls(
                    transport, client_context(tls.version), server_hostname="wrong.name"
                )
            with pytest.raises(trio.ClosedResourceError):
                await transport.receive_some()
        assert nursery.tally == {FAILED: 1}


async def test_a_transport_that_ends_in_the_handshake_is_closed() -> None:
    ours, theirs = await memory_transports()
    await theirs.aclose()
    async with open_tls_nursery() as nursery:
        with pytest.raises((TruncatedError, trio.BrokenResourceError)):
            await nursery.start_tls(ours, client_context(), server_hostname=NAME)
        with pytest.raises(trio.ClosedResourceError):
            await ours.receive_some()


async def test_a_handshake_over_any_transport_is_bounded(
    autojump_clock: trio.testing.MockClock,
) -> None:
    ours, _ = await memory_transports()
    async with open_tls_nursery() as nursery:
        with pytest.raises(HandshakeTimeoutError, match="7 s"):
            await nursery.start_tls(
                ours, client_context(), server_hostname=NAME, handshake_timeout=7
            )
        with pytest.raises(trio.ClosedResourceError):
            await ours.receive_some()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"server_hostname": None}, ValueError, "server_hostname is required"),
        ({"server_hostname": "a b"}, ValueError, "a name or an address"),
        ({"server_hostname": "x" * 300}, ValueError, "300 bytes"),
        ({"server_hostname": 7}, TypeError, "server_hostname"),
        ({"handshake_timeout": -1}, ValueError, "handshake_timeout"),
        ({"handshake_timeout": "1"}, TypeError, "handshake_timeout"),
        ({"handshake_timeout": math.nan}, ValueError, "handshake_timeout"),
        ({"ssl_context": server_context()}, ssl.SSLError, "for servers"),
        ({"ssl_context": "TLS"}, TypeError, "ssl_context"),
        ({"session": "session"}, TypeError, "session"),
        ({"transport": "tcp"}, TypeError, "transport_stream"),
    ],
)
async def test_a_wrong_argument_is_told_and_the_transport_left_alone(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    ours, theirs = await memory_transports()
    arguments = {"transport": ours, "server_hostname": NAME, **options}
    async with open_tls_nursery() as nursery:
        with pytest.raises(error, match=message):
            await nursery.start_tls(**arguments)
        assert nursery.tally == {}
    await theirs.send_all(b"still open")
    assert await ours.receive_some() == b"still open"
    with pytest.raises(RuntimeError, match="over"):
        await nursery.start_tls(ours, client_context(), server_hostname=NAME)


async def test_wherever_start_tls_is_cancelled_the_transport_is_closed(
    tls: Maker,
) -> None:
    async def scenario(cancellation: Cancellation) -> None:
        ours, theirs = await memory_transports()
        async with trio.open_nursery() as tasks:
            tasks.start_soon(serve, theirs, tls.version)
            async with open_tls_nursery() as nursery:
                with cancellation:
                    await nursery.start_tls(
                        ours, client_context(tls.version), server_hostname=NAME
                    )
                if cancellation.cancelled:
                    with pytest.raises(trio.ClosedResourceError):
                        await ours.receive_some()
            expected = FAILED if cancellation.cancelled else COMPLETE
            assert nursery.tally == {expected: 1}

    await cancel_everywhere(scenario)


# Streams of other code:


def fail() -> None:
    raise ValueError


def of_kind(kind: type[Any], transport: trio.abc.Stream, version: str) -> Any:
    return kind(transport, client_context(version), server_hostname=NAME)


KINDS = pytest.mark.parametrize("kind", [TLSStream, trio.SSLStream])


@KINDS
@pytest.mark.parametrize("transport", ["memory", "tcp"])
async def test_a_stream_that_was_adopted_ends_with_the_nursery(
    kind: type[Any], transport: str, tls: Maker
) -> None:
    async with nothing_left(), served(tls.version, transport) as ours:
        stream = of_kind(kind, ours, tls.version)
        async with open_tls_nursery() as nursery:
            nursery.adopt(stream)
            await stream.send_all(b"hello")
            assert await stream.receive_some() == b"hello"
            assert nursery.tally == {}
        assert nursery.tally == {COMPLETE: 1}
        with pytest.raises(trio.ClosedResourceError):
            await ours.receive_some()


@KINDS
async def test_one_that_has_not_shaken_hands_does_so_then(
    kind: type[Any], tls: Maker
) -> None:
    async with served(tls.version, "memory") as ours:
        async with open_tls_nursery() as nursery:
            nursery.adopt(of_kind(kind, ours, tls.version))
        assert nursery.tally == {COMPLETE: 1}


@KINDS
async def test_an_exception_aborts_it_and_resets_tcp(
    kind: type[Any], tls: Maker
) -> None:
    ours, theirs = await tcp_transports()
    peer = TLSStream(theirs, server_context(tls.version), server_side=True)
    stream = of_kind(kind, ours, tls.version)
    await shake_hands(peer, stream)
    with suppress(ExceptionGroup):
        async with open_tls_nursery() as nursery:
            nursery.adopt(stream)
            fail()
    assert nursery.tally == {ABORTED: 1}
    with pytest.raises(trio.BrokenResourceError):
        await peer.receive_some()
    assert peer.report.outcome is ShutdownOutcome.RESET
    await trio.aclose_forcefully(peer)


@KINDS
async def test_an_abort_before_the_handshake_is_a_fin(
    kind: type[Any], tls: Maker
) -> None:
    ours, theirs = await tcp_transports()
    with suppress(ExceptionGroup):
        async with open_tls_nursery() as nursery:
            nursery.adopt(of_kind(kind, ours, tls.version))
            fail()
    assert nursery.tally == {ABORTED: 1}
    assert await theirs.receive_some() == b""
    await theirs.aclose()


async def test_a_policy_may_forbid_the_reset_of_an_sslstream(tls: Maker) -> None:
    ours, theirs = await tcp_transports()
    peer = TLSStream(theirs, server_context(tls.version), server_side=True)
    stream = of_kind(trio.SSLStream, ours, tls.version)
    await shake_hands(peer, stream)
    with suppress(ExceptionGroup):
        async with open_tls_nursery(ShutdownPolicy(reset_on_abort=False)) as nursery:
            nursery.adopt(stream)
            fail()
    with pytest.raises(TruncatedError):
        await peer.receive_some()
    await trio.aclose_forcefully(peer)


async def test_an_sslstream_that_was_closed_counts_as_aborted(tls: Maker) -> None:
    """It may have ended well; but nobody has seen that."""
    async with served(tls.version, "tcp") as ours:
        async with open_tls_nursery() as nursery:
            stream = of_kind(trio.SSLStream, ours, tls.version)
            nursery.adopt(stream)
            await stream.send_all(b"hello")
            await stream.aclose()
            assert nursery.tally == {ABORTED: 1}


async def test_an_sslstream_in_memory_that_was_closed_is_counted_at_the_end(
    tls: Maker,
) -> None:
    async with served(tls.version, "memory") as ours:
        async with open_tls_nursery() as nursery:
            stream = of_kind(trio.SSLStream, ours, tls.version)
            nursery.adopt(stream)
            await stream.send_all(b"hello")
            await stream.aclose()
            assert nursery.tally == {}
        assert nursery.tally == {ABORTED: 1}


async def test_an_sslstream_that_was_unwrapped_is_complete_and_not_ours_any_more(
    tls: Maker,
) -> None:
    async with served(tls.version, "tcp") as ours:
        async with open_tls_nursery() as nursery:
            stream = of_kind(trio.SSLStream, ours, tls.version)
            nursery.adopt(stream)
            await stream.send_all(b"hello")
            assert await stream.receive_some() == b"hello"
            transport, _ = await stream.unwrap()
            assert nursery.tally == {COMPLETE: 1}
        assert transport.socket.fileno() != -1
        await transport.aclose()


async def test_an_sslstream_that_is_being_read_is_aborted(tls: Maker) -> None:
    async with served(tls.version, "tcp") as ours, trio.open_nursery() as tasks:
        stream = of_kind(trio.SSLStream, ours, tls.version)
        await stream.do_handshake()
        async with open_tls_nursery() as nursery:
            nursery.adopt(stream)
            tasks.start_soon(must_raise, trio.ClosedResourceError, stream.receive_some)
            await trio.testing.wait_all_tasks_blocked()
        assert nursery.tally == {ABORTED: 1}


async def test_what_an_sslstream_has_sent_is_not_destroyed_by_closing(
    tls: Maker,
) -> None:
    """The peer reads slowly, and never answers our close_notify."""
    ours, theirs = await tcp_transports()
    stream = of_kind(trio.SSLStream, ours, tls.version)
    peer = TLSStream(theirs, server_context(tls.version), server_side=True)
    received = 0

    async def be_slow() -> None:
        nonlocal received
        await peer.do_handshake()
        await peer.send_all(bytes(2**18))  # most of it stays unread
        await trio.sleep(0.3)
        async for data in peer:
            received += len(data)
        await trio.aclose_forcefully(peer)

    async with trio.open_nursery() as tasks:
        tasks.start_soon(be_slow)
        policy = ShutdownPolicy(max_unread=0, linger_timeout=1)
        async with open_tls_nursery(policy) as nursery:
            nursery.adopt(stream)
            await stream.send_all(bytes(2**15))
    assert received == 2**15
    assert nursery.tally == {ABORTED: 1}


async def tally_of_lingering(
    version: str, meanwhile: Callable[[Any, TLSStream[Any]], Awaitable[object]]
) -> Counter[ShutdownOutcome]:
    """Have a nursery end an SSLStream whose peer reads nothing, and call *meanwhile*."""
    theirs, ours = await narrow_transports(SMALL)
    stream = of_kind(trio.SSLStream, ours, version)
    peer = TLSStream(theirs, server_context(version), server_side=True)

    async def wait_and_call() -> None:
        await peer.do_handshake()
        await trio.sleep(1)
        await meanwhile(stream, peer)

    async with trio.open_nursery() as tasks:
        tasks.start_soon(wait_and_call)
        policy = ShutdownPolicy(timeout=0, linger_timeout=60)
        async with open_tls_nursery(policy) as nursery:
            nursery.adopt(stream)
            await stream.send_all(bytes(SMALL))
    await peer.aclose()
    return nursery.tally


@pytest.mark.parametrize(
    "use",
    [
        lambda stream: stream.receive_some(),
        lambda stream: stream.wait_send_all_might_not_block(),
    ],
    ids=["receive", "wait"],
)
async def test_whoever_uses_an_sslstream_that_lingers_is_told_and_disturbs_nothing(
    use: Callable[[Any], Awaitable[object]],
    tls: Maker,
    autojump_clock: trio.testing.MockClock,
) -> None:
    received = 0

    async def be_slow(stream: Any, peer: TLSStream[Any]) -> None:
        nonlocal received
        with pytest.raises(trio.ClosedResourceError):
            await use(stream)
        await trio.sleep(1)
        assert stream.transport_stream.socket.fileno() != -1
        async for data in peer:
            received += len(data)
        await peer.aclose()

    assert await tally_of_lingering(tls.version, be_slow) == {ABORTED: 1}
    assert received == SMALL


async def test_closing_an_sslstream_that_lingers_closes_it_at_once(
    tls: Maker, autojump_clock: trio.testing.MockClock
) -> None:
    async def close(stream: Any, _: TLSStream[Any]) -> None:
        await stream.aclose()

    assert await tally_of_lingering(tls.version, close) == {ABORTED: 1}
    assert trio.current_time() < 2


async def test_one_sslstream_over_another_ends_first(tls: Maker) -> None:
    heard: list[bytes] = []

    async def serve_both(transport: trio.abc.Stream) -> None:
        outer = TLSStream(transport, server_context(tls.version), server_side=True)
        inner = TLSStream(outer, server_context(tls.version), server_side=True)
        async with inner:
            heard.extend([data async for data in inner])
            await inner.shutdown()

    ours, theirs = await tcp_transports()
    async with trio.open_nursery() as tasks:
        tasks.start_soon(serve_both, theirs)
        async with open_tls_nursery() as nursery:
            outer = of_kind(trio.SSLStream, ours, tls.version)
            inner = of_kind(trio.SSLStream, outer, tls.version)
            for stream in (outer, inner):
                nursery.adopt(stream)
            await inner.send_all(b"hello")
    assert heard == [b"hello"]  # and then the end, or receiving would have failed
    assert nursery.tally[COMPLETE] == 1


async def test_what_a_transport_raises_when_it_is_closed_is_raised(
    tls: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served(tls.version, "memory") as ours:
        monkeypatch.setattr(ours, "aclose", AsyncMock(side_effect=OSError))
        stream = of_kind(trio.SSLStream, ours, tls.version)
        with pytest.RaisesGroup(pytest.RaisesGroup(OSError)):
            async with open_tls_nursery() as nursery:
                nursery.adopt(stream)
        assert nursery.tally == {COMPLETE: 1}
        monkeypatch.undo()
        await ours.aclose()


async def test_a_transport_that_raises_leaves_no_other_stream_open(
    tls13: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        served(tls13.version, "memory") as ours,
        served(tls13.version, "memory") as other,
    ):

        async def fail() -> None:
            raise OSError("cannot be closed")

        monkeypatch.setattr(ours, "aclose", fail)
        nurseries: list[TLSNursery] = []

        async def connect_both() -> None:
            async with open_tls_nursery() as nursery:
                nurseries.append(nursery)
                for transport in (ours, other):
                    await nursery.start_tls(
                        transport, client_context(tls13.version), server_hostname=NAME
                    )
                nursery.cancel_scope.cancel()

        with pytest.RaisesGroup(
            pytest.RaisesExc(OSError, match="cannot be closed"), flatten_subgroups=True
        ):
            await connect_both()
        assert nurseries[0].tally == {ABORTED: 2}
        with pytest.raises(trio.ClosedResourceError):
            await other.send_all(b"x")
        monkeypatch.undo()
        await ours.aclose()


async def test_more_sslstreams_than_are_swept_at_once(tls13: Maker) -> None:
    count = SWEEP_AT_LEAST + 2
    async with open_tls_nursery() as nursery:
        for _ in range(count):
            ours, theirs = await tcp_transports()
            stream = of_kind(trio.SSLStream, ours, tls13.version)
            nursery.adopt(stream)
            await ours.aclose()
            await theirs.aclose()
        assert nursery.tally == {ABORTED: count}


@KINDS
async def test_a_stream_cannot_be_adopted_twice(kind: type[Any], tls: Maker) -> None:
    async with (
        served(tls.version, "memory") as ours,
        served(tls.version, "memory") as other,
    ):
        stream = of_kind(kind, ours, tls.version)
        async with open_tls_nursery() as nursery:
            nursery.adopt(stream)
            with pytest.raises(ValueError, match="already"):
                nursery.adopt(stream)
            client = await nursery.start_tls(
                other, client_context(tls.version), server_hostname=NAME
            )
            with pytest.raises(ValueError, match="already"):
                nursery.adopt(client)
        assert nursery.tally == {COMPLETE: 2}


@KINDS
async def test_a_closed_stream_is_not_adopted(kind: type[Any], tls: Maker) -> None:
    ours, theirs = await tcp_transports()
    stream = of_kind(kind, ours, tls.version)
    await trio.aclose_forcefully(stream)
    async with open_tls_nursery() as nursery:
        with pytest.raises(trio.ClosedResourceError, match="was closed"):
            nursery.adopt(stream)
    await theirs.aclose()
    assert nursery.tally == {}
    with pytest.raises(RuntimeError, match="over"):
        nursery.adopt(stream)


async def test_what_is_no_tls_stream_is_not_adopted() -> None:
    ours, theirs = await tcp_transports()
    async with ours, theirs, open_tls_nursery() as nursery:
        with pytest.raises(TypeError, match="SSLStream"):
            nursery.adopt(ours)  # type: ignore[arg-type]


@pytest.mark.parametrize("behaviour", ["never_answer", "flood", "slow_drip"])
async def test_a_peer_that_misbehaves_keeps_the_nursery_for_its_policy_only(
    behaviour: str, tls: Maker, autojump_clock: trio.testing.MockClock
) -> None:
    async with trio.open_nursery() as tasks:
        ours, theirs = await memory_transports()
        peer = RoguePeer(behaviour, theirs, version=tls.version)
        tasks.start_soon(peer.run)
        stream = trio.SSLStream(ours, _unverified(tls.version), server_hostname=NAME)
        policy = ShutdownPolicy(timeout=2, linger_timeout=1, max_unread=2**16)
        began = trio.current_time()
        async with open_tls_nursery(policy) as nursery:
            nursery.adopt(stream)
            await stream.do_handshake()
        assert trio.current_time() - began <= 3.01
        assert sum(nursery.tally.values()) == 1
        tasks.cancel_scope.cancel()


def _unverified(version: str) -> ssl.SSLContext:
    context = client_context(version)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@KINDS
async def test_wherever_leaving_is_cancelled_what_was_adopted_is_closed(
    kind: type[Any], tls: Maker
) -> None:
    async def scenario(cancellation: Cancellation) -> None:
        ours, theirs = await memory_transports()
        async with trio.open_nursery() as tasks:
            tasks.start_soon(serve, theirs, tls.version)
            stream = of_kind(kind, ours, tls.version)
            await stream.do_handshake()
            with cancellation:
                async with open_tls_nursery() as nursery:
                    nursery.adopt(stream)
            with pytest.raises(trio.ClosedResourceError):
                await ours.receive_some()
        [outcome] = nursery.tally
        assert outcome in {COMPLETE, ABORTED, ShutdownOutcome.SENT}

    await cancel_everywhere(scenario)
