"""How a rogue peer is used; not what each of them does to a stream."""

from __future__ import annotations

import socket
import ssl
from functools import partial
from typing import Any, cast

import pytest
import trio
import trio.testing

from tests.cuts import is_cut, strict
from tests.support import descriptors
from trio_tlsdown import (
    ShutdownOutcome,
    ShutdownPolicy,
    TLSFailedError,
    TLSStream,
    TruncatedError,
)
from trio_tlsdown.testing import (
    BEHAVIOURS,
    NAME,
    MemoryTransport,
    RoguePeer,
    ScriptedPeer,
    client_context,
    connect_rogue,
    memory_transports,
    serve_rogue,
)


@pytest.fixture(params=["memory", "tcp"])
def transport(request: pytest.FixtureRequest) -> Any:
    return request.param


# Names:


@pytest.mark.parametrize("name", BEHAVIOURS)
def test_the_docstring_says_what_it_does_and_who_does_so(name: str) -> None:
    description = BEHAVIOURS[name].description
    summary, _, rest = description.partition("\n\n")
    assert summary.endswith(".")
    assert "\n" not in summary
    assert rest.strip()


async def test_a_name_that_there_is_not_is_told_with_those_there_are(
    nursery: trio.Nursery,
) -> None:
    one, _ = memory_transports()
    before = descriptors()
    for call in (
        partial(connect_rogue, nursery, "cut"),
        partial(connect_rogue, nursery, "cut", transport="tcp"),
        partial(serve_rogue, "cut"),
    ):
        with pytest.raises(ValueError, match="no behaviour 'cut'; there are: cut_in"):
            await call()
    with pytest.raises(ValueError, match=f"{', '.join(BEHAVIOURS)}$"):
        RoguePeer("cut", one)
    assert descriptors() <= before


async def test_a_version_that_there_is_not_is_told_before_anything_is_open(
    nursery: trio.Nursery, transport: Any
) -> None:
    before = descriptors()
    with pytest.raises(ValueError, match="version must be"):
        await connect_rogue(nursery, "flood", transport=transport, version="TLSv1")
    with pytest.raises(ValueError, match="version must be"):
        await serve_rogue("flood", version="TLSv1")
    assert descriptors() <= before


@pytest.mark.parametrize(
    ("kind", "options", "error"),
    [
        (ValueError, {"transport": "udp"}, "transport must be one of memory, tcp, not"),
        (TypeError, {"transport": None}, "transport must be one of memory, tcp, not"),
        (TypeError, {"name": BEHAVIOURS["flood"]}, "name of a behaviour must be str"),
        (TypeError, {"name": ["flood"]}, "the name of a behaviour must be str"),
        (TypeError, {"nursery": None}, "nursery must be Nursery, not None"),
        (TypeError, {"server_side": "client"}, "server_side must be bool, not 'cl"),
        (TypeError, {"hears": "help"}, "hears must be int, not 'help'"),
        (TypeError, {"hears": True}, "hears must be int, not True"),
        (ValueError, {"hears": -1}, "hears must be >= 0 bytes, not -1"),
        (TypeError, {"says": "answer"}, "says must be bytes, not 'answer'"),
    ],
)
async def test_a_wrong_argument_is_told_and_leaves_nothing_open(
    nursery: trio.Nursery,
    kind: type[Exception],
    options: dict[str, Any],
    error: str,
) -> None:
    before = descriptors()
    arguments: dict[str, Any] = {"nursery": nursery, "name": "flood"}
    arguments |= {"transport": "tcp"} | options
    with pytest.raises(kind, match=error):
        await connect_rogue(**arguments)
    assert not nursery.child_tasks
    assert descriptors() <= before


async def test_a_rogue_server_tells_at_once_what_is_wrong() -> None:
    """And not its first client, by taking the test down."""
    wrong: Any = "answer"
    with pytest.raises(TypeError, match="says must be bytes, not 'answer'"):
        await serve_rogue("flood", says=wrong)


def test_a_peer_without_a_transport_is_told() -> None:
    wrong: Any = ("localhost", 443)
    with pytest.raises(TypeError, match="transport must be Stream, not"):
        RoguePeer("flood", wrong)


def test_the_repr_of_a_rogue_names_its_behaviour() -> None:
    peer = RoguePeer("flood", memory_transports()[0], server_side=False)
    assert repr(peer) == "<RoguePeer, the client, who does flood>"


# Connecting:


@pytest.mark.parametrize("server_side", [True, False], ids=["server", "client"])
async def test_a_rogue_hears_and_says_what_it_was_told_before_it_misbehaves(
    nursery: trio.Nursery, version: str, transport: Any, server_side: bool
) -> None:
    connection = await connect_rogue(
        nursery,
        "cut_before_close_notify",
        server_side=server_side,
        transport=transport,
        hears=4,
        says=b"answer",
        version=version,
    )
    async with connection as stream:
        assert stream.server_side is not server_side
        await stream.send_all(b"help")
        assert await stream.receive_some() == b"answer"
        assert stream.version() == version
        with pytest.raises(TruncatedError):
            await stream.receive_some()
    assert connection.peer.received == b"help"


async def test_a_rogue_says_nothing_before_it_has_heard_enough(
    nursery: trio.Nursery,
) -> None:
    connection = await connect_rogue(
        nursery, "close_without_waiting", hears=4, says=b"answer"
    )
    async with connection as stream:
        await stream.send_all(b"que")
        await trio.testing.wait_all_tasks_blocked()
        assert not connection.peer.close_notify_sent
        await stream.send_all(b"s")
        assert await stream.receive_some(6) == b"answer"
        await trio.testing.wait_all_tasks_blocked()
        assert connection.peer.close_notify_sent


async def test_the_transport_is_that_asked_for(nursery: trio.Nursery) -> None:
    async with await connect_rogue(nursery, "never_answer") as stream:
        assert isinstance(stream.transport_stream, MemoryTransport)
    async with await connect_rogue(nursery, "never_answer", transport="tcp") as stream:
        assert isinstance(stream.transport_stream, trio.SocketStream)


async def test_the_stream_is_as_asked_for(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    connection = await connect_rogue(
        nursery,
        "never_answer",
        policy=ShutdownPolicy(timeout=77),
        https_compatible=True,
        context=client_context(version="TLSv1.2"),
    )
    async with connection as stream:
        await stream.do_handshake()
        assert stream.https_compatible
        assert stream.version() == "TLSv1.2"
        began = trio.current_time()
        await stream.shutdown()
        assert trio.current_time() - began == pytest.approx(77)


async def test_the_block_ends_when_the_peer_has_seen_all(
    nursery: trio.Nursery, version: str, transport: Any
) -> None:
    connection = await connect_rogue(
        nursery,
        "never_answer",
        transport=transport,
        version=version,
        server_side=False,  # no session tickets, which would make a reset of it
    )
    async with connection as stream:
        await stream.send_all(b"last words")
    assert connection.peer.received == b"last words"
    assert connection.peer.close_notify_received
    assert connection.peer.transport_end == "FIN"


async def test_the_block_aborts_when_it_is_left_by_an_error(
    nursery: trio.Nursery, transport: Any
) -> None:
    connection = await connect_rogue(nursery, "never_answer", transport=transport)
    with pytest.raises(ArithmeticError):  # noqa: PT012
        async with connection as stream:
            await stream.do_handshake()
            raise ArithmeticError
    assert not connection.peer.close_notify_received
    assert connection.peer.transport_end is not None


async def test_the_block_does_not_wait_for_the_habit(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    async with await connect_rogue(nursery, "answer_late") as stream:
        await stream.shutdown(wait=False)
        await trio.testing.wait_all_tasks_blocked()  # until it sleeps
        began = trio.current_time()
    assert trio.current_time() == began


async def test_the_block_can_be_left_when_all_is_cancelled() -> None:
    """The peer, too: it says that it has finished all the same."""
    with trio.fail_after(4):  # less than what bounds the block
        async with trio.open_nursery() as nursery:
            connection = await connect_rogue(nursery, "never_answer")
            async with connection as stream:
                await stream.do_handshake()
                nursery.cancel_scope.cancel()
                await trio.lowlevel.checkpoint()
    with pytest.raises(trio.ClosedResourceError):
        await connection.peer.transport.receive_some()


async def test_a_stream_that_was_unwrapped_leaves_its_transport_open(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    began = trio.current_time()
    connection = await connect_rogue(nursery, "second_close_notify")
    async with connection as stream:
        assert await stream.receive_some() == b""
        transport, _ = await stream.unwrap()
    assert trio.current_time() == began, "it waited for an end that was not to come"
    await transport.send_all(b"clear text")
    await transport.aclose()
    await connection.peer.finish()
    assert connection.peer.transport_end == "FIN"
    assert stream.report.outcome is ShutdownOutcome.COMPLETE


@pytest.mark.parametrize("name", BEHAVIOURS)
async def test_every_peer_closes_when_the_other_end_has_gone(
    name: str,
    version: str,
    transport: Any,
    autojump_clock: trio.testing.MockClock,
) -> None:
    before = descriptors()
    async with trio.open_nursery() as nursery:
        connection = await connect_rogue(
            nursery, name, transport=transport, version=version
        )
        await trio.aclose_forcefully(connection.stream)
    with pytest.raises(trio.ClosedResourceError):
        await connection.peer.transport.receive_some()
    assert descriptors() <= before


async def test_finish_ends_the_habit_and_reads_on(nursery: trio.Nursery) -> None:
    connection = await connect_rogue(nursery, "answer_late")
    stream, peer = connection.stream, connection.peer
    await stream.send_all(b"one")
    async with trio.open_nursery() as inner:
        inner.start_soon(peer.finish)
        await trio.testing.wait_all_tasks_blocked()
        await stream.send_all(b"two")
        await stream.aclose()
    assert peer.received == b"onetwo"
    assert not peer.close_notify_sent


# Serving:


async def test_a_plain_sslstream_can_be_the_client_of_a_rogue(
    nursery: trio.Nursery, version: str
) -> None:
    host, port = cast(
        "tuple[str, int]",
        await nursery.start(
            partial(
                serve_rogue,
                "cut_before_close_notify",
                hears=4,
                says=b"answer",
                version=version,
            )
        ),
    )
    for _ in range(2):
        transport = await trio.open_tcp_stream(host, port)
        context = strict(client_context())
        stream = trio.SSLStream(transport, context, server_hostname=NAME)
        await stream.send_all(b"help")
        assert await stream.receive_some() == b"answer"
        with pytest.raises(trio.BrokenResourceError) as caught:
            await stream.receive_some()
        assert is_cut(caught.value.__cause__)
        await trio.aclose_forcefully(stream)


async def test_a_blocking_socket_can_be_the_client_of_a_rogue(
    nursery: trio.Nursery, version: str
) -> None:
    address = await nursery.start(
        partial(
            serve_rogue,
            "close_without_waiting",
            hears=4,
            says=b"answer",
            version=version,
        )
    )

    def client() -> list[bytes]:
        with socket.create_connection(address, timeout=10) as plain:
            with client_context().wrap_socket(plain, server_hostname=NAME) as tls:
                tls.sendall(b"help")
                return [tls.recv(100), tls.recv(100)]

    assert await trio.to_thread.run_sync(client) == [b"answer", b""]


async def test_a_rogue_server_serves_at_the_address_it_is_given(
    nursery: trio.Nursery,
) -> None:
    host, port = await nursery.start(partial(serve_rogue, "never_answer", host="::1"))
    assert host == "::1"
    transport = await trio.open_tcp_stream(host, port)
    stream = TLSStream(transport, client_context(), server_hostname=NAME)
    async with stream:
        await stream.do_handshake()
    with pytest.raises(OSError, match="in use"):
        await serve_rogue("never_answer", host=host, port=port)


async def test_a_client_that_offers_cbc_only_is_refused_and_the_server_goes_on(
    nursery: trio.Nursery,
) -> None:
    name = "second_close_notify"
    host, port = await nursery.start(partial(serve_rogue, name, version="TLSv1.2"))
    old, good = client_context(version="TLSv1.2"), client_context(version="TLSv1.2")
    old.set_ciphers("ECDHE-ECDSA-AES256-SHA384")

    async def meet(context: ssl.SSLContext) -> None:
        transport = await trio.open_tcp_stream(host, port)
        async with TLSStream(transport, context, server_hostname=NAME) as stream:
            assert await stream.receive_some() == b""

    with pytest.raises(TLSFailedError, match="HANDSHAKE_FAILURE"):
        await meet(old)
    await meet(good)


async def test_a_client_that_renegotiates_is_not_heard_and_the_server_goes_on(
    nursery: trio.Nursery,
) -> None:
    name = "keep_sending_after_close_notify"
    host, port = await nursery.start(partial(serve_rogue, name, version="TLSv1.2"))
    hello = b"\x03\x03" + bytes(32) + b"\0" + b"\0\2\xc0\x2f" + b"\1\0"
    for message in (hello, b""):
        transport = await trio.open_tcp_stream(host, port)
        peer = ScriptedPeer(transport, server_side=False, version="TLSv1.2")
        await peer.handshake()
        if message:
            await peer.send(peer.handshake_message(1, message))
        await peer.send(peer.close_notify())
        await peer.hear_close_notify()
        assert len(peer.received) == 160 * 2**10
        await peer.close()
