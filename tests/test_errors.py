"""The exceptions: they travel to other processes, and take any cause."""

from __future__ import annotations

import copy
import errno
import pickle
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio
from hypothesis import given, strategies as st

import trio_tlsdown
from tests.servers import HOST, until
from tests.support import (
    CA,
    NAME,
    Maker,
    client_context,
    memory_transports,
    server_context,
)
from trio_tlsdown import (
    ConnectFailedError,
    HalfCloseUnsupportedError,
    HandshakeTimeoutError,
    ListenFailedError,
    PeerState,
    ShutdownOutcome,
    ShutdownReport,
    TLSDownError,
    TLSFailedError,
    TLSStream,
    TransportBrokenError,
    TruncatedError,
    UnreadDataError,
    open_tls_nursery,
    open_tls_over_tcp_stream,
    testing,
)


def refused() -> ssl.SSLError:
    """What OpenSSL raises, made by OpenSSL."""
    incoming = ssl.MemoryBIO()
    incoming.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    session = client_context().wrap_bio(
        incoming, ssl.MemoryBIO(), server_hostname="localhost"
    )
    with pytest.raises(ssl.SSLError) as caught:
        session.do_handshake()
    return caught.value


def gone() -> trio.BrokenResourceError:
    error = trio.BrokenResourceError("socket connection broken: [Errno 104] ...")
    error.__cause__ = ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")
    return error


EXAMPLES = [
    TLSDownError("something"),
    ConnectFailedError(b"h", 1, ConnectionRefusedError(errno.ECONNREFUSED, "refused")),
    ConnectFailedError("h", 1, socket.gaierror(socket.EAI_NONAME, "no such name")),
    HalfCloseUnsupportedError("TLSv1.2"),
    HandshakeTimeoutError(3.0),
    ListenFailedError(None, 1, OSError(errno.EADDRINUSE, "in use")),
    TLSFailedError(refused(), during_handshake=True, server_side=False),
    TLSFailedError(None, during_handshake=False),
    TransportBrokenError(gone()),
    TruncatedError(mid_record=True),
    UnreadDataError(5),
]
EXAMPLES[-1].add_note("while testing")
EXAMPLES[-2].host, EXAMPLES[-2].port = "localhost", 8443


def pickled(protocol: int) -> Callable[[Any], Any]:
    return lambda thing: pickle.loads(pickle.dumps(thing, protocol))  # noqa: S301


WAYS = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle 0": pickled(0),
    "pickle": pickled(pickle.HIGHEST_PROTOCOL),
}


@pytest.fixture(params=WAYS)
def travelled(request: pytest.FixtureRequest) -> Callable[[Any], Any]:
    return WAYS[request.param]


def is_same(a: BaseException | None, b: BaseException | None) -> bool:
    if a is None or b is None:
        return a is b
    return (
        type(a) is type(b)
        and str(a) == str(b)
        and a.args == b.args
        and vars(a) == vars(b)
        and getattr(a, "errno", None) == getattr(b, "errno", None)
        and is_same(a.__cause__, b.__cause__)
    )


def test_the_examples_have_each_exception_class_of_ours() -> None:
    public = {
        thing
        for thing in vars(trio_tlsdown).values()
        if isinstance(thing, type) and issubclass(thing, BaseException)
    }
    assert {type(example) for example in EXAMPLES} == public


@pytest.mark.parametrize("error", EXAMPLES, ids=map(str, EXAMPLES))
def test_an_exception_survives_pickling_whole(
    error: TLSDownError, travelled: Callable[[Any], Any]
) -> None:
    there = travelled(error)
    assert there is not error
    assert is_same(there, error)


def test_a_group_of_our_exceptions_and_a_report_survive_pickling(
    travelled: Callable[[Any], Any],
) -> None:
    group = travelled(ExceptionGroup("two", EXAMPLES[:2]))
    assert all(map(is_same, group.exceptions, EXAMPLES))
    report = ShutdownReport(
        outcome=ShutdownOutcome.TRUNCATED,
        close_notify_sent=True,
        close_notify_received=False,
        first="local",
        discarded=3,
        elapsed=0.5,
        error=TruncatedError(mid_record=False),
    )
    there = travelled(report)
    assert is_same(there.error, report.error)
    assert str(there) == str(report)


def test_a_cause_that_is_not_the_systems_stays_at_home(
    travelled: Callable[[Any], Any],
) -> None:
    """It may hold what cannot be pickled, and so it is in Python with every cause."""
    lost = trio.BrokenResourceError("the tunnel is down")
    lost.__cause__ = RuntimeError(threading.Lock())
    error = TransportBrokenError(lost)
    there = travelled(error)
    assert str(there) == str(error)
    assert there.__cause__ is None


def test_what_guards_for_a_stream_without_half_close_catches_its_refusal() -> None:
    """As hypercorn does, which knows of trio.SSLStream only."""
    with pytest.raises(AttributeError):
        raise HalfCloseUnsupportedError("TLSv1.2")
    assert issubclass(HalfCloseUnsupportedError, RuntimeError)


# Any ssl.SSLError will do:


class Dumb(ssl.SSLError):
    def __str__(self) -> str:
        raise ValueError("I cannot tell")


class Told(ssl.SSLError):
    def __init__(self, host: str) -> None:
        super().__init__()
        self.host = host

    def __str__(self) -> str:
        return f"the pin of {self.host} differs"


class Unspeakable:
    def __str__(self) -> str:
        raise ValueError("nor can I")

    __repr__ = __str__


class Odd(ssl.SSLCertVerificationError):
    reason: Any = b"no name"
    verify_code: Any = bytearray()  # cannot be looked up
    verify_message: Any = b"no text"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ssl.SSLError("the pin differs"), "the pin differs"),
        (ssl.SSLError(1, "the pin differs"), "the pin differs"),
        (ssl.SSLError("the pin", "differs", "here"), "differs"),
        (ssl.SSLError(1, 2), "1, 2"),
        (ssl.SSLError("two", Unspeakable()), "SSLError"),
        (ssl.SSLError(), "SSLError"),
        (Told("example.org"), "the pin of example.org differs"),
        (Dumb("the pin differs"), "Dumb"),
        (
            ssl.SSLCertVerificationError("not pinned"),
            "certificate verification: not pinned",
        ),
        (Odd("not pinned"), "certificate verification: not pinned"),
        (
            ssl.SSLCertVerificationError(),
            "certificate verification: SSLCertVerificationError",
        ),
    ],
)
@pytest.mark.parametrize("server_side", [True, False, None])
def test_an_ssl_error_that_python_code_raised_is_a_tls_failure(
    error: ssl.SSLError, words: str, server_side: bool | None
) -> None:
    failed = TLSFailedError(error, during_handshake=True, server_side=server_side)
    assert failed.reason is None
    assert failed.__cause__ is error
    with pytest.raises(TLSFailedError, match=f"^the TLS handshake failed: {words}$"):
        raise failed


@given(
    st.lists(
        st.one_of(st.none(), st.integers(), st.text(), st.binary(), st.lists(st.none()))
    ),
    st.sampled_from(
        [ssl.SSLError, ssl.SSLCertVerificationError, ssl.SSLZeroReturnError, Odd]
    ),
)
def test_a_tls_failure_has_a_message_whatever_the_arguments_of_its_ssl_error(
    args: list[Any], kind: type[ssl.SSLError]
) -> None:
    failed = TLSFailedError(kind(*args), during_handshake=False)
    assert str(failed).startswith("TLS failed: ")


async def test_a_certificate_pin_checked_in_python_fails_the_handshake(
    tls: Maker,
) -> None:
    class Pinned(ssl.SSLObject):
        def do_handshake(self) -> None:
            super().do_handshake()
            raise ssl.SSLCertVerificationError("the certificate is not pinned")

    ours, theirs = await memory_transports()
    context = client_context(tls.version)
    context.sslobject_class = Pinned
    client = TLSStream(ours, context, server_hostname=NAME)
    server = TLSStream(theirs, server_context(tls.version), server_side=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.do_handshake)
        with pytest.raises(TLSFailedError, match="not pinned"):
            await client.do_handshake()
    assert client.report.outcome is ShutdownOutcome.FAILED
    assert "not pinned" in str(client.report.error)
    await client.aclose()
    await trio.aclose_forcefully(server)


@pytest.mark.parametrize("method", ["do_handshake", "read", "write", "unwrap"])
async def test_a_mistake_in_python_code_of_the_context_is_raised_and_is_no_end(
    tls: Maker, method: str
) -> None:
    """What it has done before is lost, so nobody may take this for a clean end."""
    broken = False

    class Mistaken(ssl.SSLObject):
        pass

    def fail(self: ssl.SSLObject, *args: Any) -> Any:
        if not broken or method != "unwrap":
            getattr(ssl.SSLObject, method)(self, *args)
        assert broken  # until then it raises, to be called again
        raise KeyError("a mistake")

    setattr(Mistaken, method, fail)
    ours, theirs = await memory_transports()
    context = client_context(tls.version)
    context.sslobject_class = Mistaken
    client = TLSStream(ours, context, server_hostname=NAME)
    server = TLSStream(theirs, server_context(tls.version), server_side=True)

    async def call() -> None:
        match method:
            case "do_handshake":
                await client.do_handshake()
            case "read":
                await client.receive_some()
            case "write":
                await client.send_all(b"data")
            case _:
                await client.shutdown()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.do_handshake)
        if method != "do_handshake":
            await client.do_handshake()
        broken = True
        if method == "read":
            nursery.start_soon(server.send_all, b"data")
        if method == "unwrap":
            nursery.start_soon(server.shutdown)
        with pytest.raises(KeyError, match="a mistake"):
            await call()
        nursery.cancel_scope.cancel()
    assert client.report.outcome is ShutdownOutcome.FAILED
    assert "a hook of ssl_context raised KeyError" in str(client.report.error)
    await client.aclose()
    await trio.aclose_forcefully(server)


# Where:


@asynccontextmanager
async def connected(
    version: str, handler: Callable[[Any], Awaitable[object]], **options: Any
) -> AsyncIterator[TLSStream[trio.SocketStream]]:
    """A client that `TLSNursery.connect` made, until its server is told to end."""
    async with open_tls_nursery() as tls:
        server = await tls.start_server(
            handler,
            0,
            testing.server_context(version=version, ca=CA, **options),
            host=HOST,
        )
        port = server.addresses[0][1]
        context = client_context(version)
        yield await tls.connect(HOST, port, ssl_context=context)


def is_at(error: TLSDownError, stream: TLSStream[trio.SocketStream]) -> bool:
    port = stream.transport_stream.socket.getpeername()[1]
    return (error.host, error.port) == (HOST, port) and str(error).startswith(
        f"{HOST}:{port}: "
    )


async def test_a_client_that_is_refused_behind_its_handshake_learns_by_whom(
    tls13: Maker,
) -> None:
    """On TLS 1.3 the server sees the client's certificate when the client is done."""
    async with connected(
        tls13.version, testing.echo, client_certificate=True
    ) as client:
        with pytest.raises(
            TLSFailedError, match="requires a client certificate"
        ) as caught:
            await client.receive_some()
        assert is_at(caught.value, client)
        assert not caught.value.during_handshake
        assert isinstance(client.report.error, TLSFailedError)
        assert is_at(client.report.error, client)


@pytest.mark.parametrize("helper", [True, False])
async def test_a_connection_that_is_cut_says_to_whom_it_was(
    tls: Maker, *, helper: bool
) -> None:
    context = client_context(tls.version)
    async with trio.open_nursery() as rogues, open_tls_nursery() as nursery:
        serve = partial(testing.serve_rogue, version=tls.version, ca=CA)
        host, port = await rogues.start(serve, "cut_before_close_notify")
        open_stream = open_tls_over_tcp_stream if helper else nursery.connect
        async with await open_stream(host, port, ssl_context=context) as client:
            with pytest.raises(TruncatedError) as caught:
                await client.receive_some()
            assert is_at(caught.value, client)
            assert isinstance(client.report.error, TruncatedError)
            assert is_at(client.report.error, client)
        rogues.cancel_scope.cancel()


async def test_misuse_says_of_which_connection(tls: Maker) -> None:
    async with connected(tls.version, testing.echo) as client:
        await client.send_all(b"unread")
        await until(lambda: client.peer_state_nowait() is PeerState.DATA_WAITING)
        with pytest.raises(UnreadDataError) as caught:
            await client.unwrap()
        assert is_at(caught.value, client)


async def test_the_refusal_of_half_close_says_of_which_connection(
    tls12: Maker,
) -> None:
    async with connected(tls12.version, testing.echo) as client:
        with pytest.raises(HalfCloseUnsupportedError) as caught:
            await client.send_eof()
        assert is_at(caught.value, client)
