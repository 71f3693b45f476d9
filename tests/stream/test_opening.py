"""Handshakes: that fail, that resume, that are special."""

from __future__ import annotations

import gc
import ssl
import subprocess
import sys
import weakref
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import trio
import trio.testing
import truststore

from tests.support import (
    CA,
    CERT,
    NAME,
    Maker,
    client_context,
    memory_transports,
    must_raise,
    reset,
    server_context,
    shake_hands,
    tcp_transports,
)
from trio_tlsdown import (
    ShutdownOutcome,
    ShutdownPolicy,
    TLSFailedError,
    TLSStream,
    TraceEvent,
    TraceKind,
    TransportBrokenError,
    TruncatedError,
)

MockClock = trio.testing.MockClock


# That fail:


async def test_a_refused_certificate_is_told_to_both_sides(tls: Maker) -> None:
    ours, theirs = await memory_transports()
    suspicious = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # it trusts nobody
    suspicious.maximum_version = client_context(tls.version).maximum_version
    a = TLSStream(ours, suspicious, server_hostname=NAME)
    b = TLSStream(theirs, server_context(tls.version), server_side=True)

    async def refused() -> None:
        # On TLS 1.3 the server hears of it behind its own handshake.
        with pytest.raises(TLSFailedError) as caught:
            await b.receive_some()
        assert "UNKNOWN_CA" in str(caught.value.reason)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(refused)
        with pytest.raises(TLSFailedError, match="certificate verification") as caught:
            await a.do_handshake()
    assert caught.value.reason == "CERTIFICATE_VERIFY_FAILED"
    assert caught.value.during_handshake
    assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)
    assert a.report.outcome is ShutdownOutcome.FAILED
    assert b.report.outcome is ShutdownOutcome.FAILED
    await a.aclose()
    await b.aclose()


async def test_the_wrong_host_name_is_refused(tls: Maker) -> None:
    ours, theirs = await memory_transports()
    a = TLSStream(ours, client_context(tls.version), server_hostname="other.example")
    b = TLSStream(theirs, server_context(tls.version), server_side=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(must_raise, TLSFailedError, b.receive_some)
        with pytest.raises(TLSFailedError, match=r"other\.example"):
            await a.send_all(b"secret")
    await trio.aclose_forcefully(a)
    await trio.aclose_forcefully(b)


async def test_tasks_that_wait_for_a_handshake_that_fails_learn_its_cause(
    tls: Maker,
) -> None:
    ours, theirs = await memory_transports()
    a = TLSStream(ours, client_context(tls.version), server_hostname=NAME)
    causes = []

    async def wait(method: Any, *args: object) -> None:
        with pytest.raises(TLSFailedError) as caught:
            await method(*args)
        causes.append(caught.value.__cause__)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait, a.do_handshake)
        nursery.start_soon(wait, a.do_handshake)
        nursery.start_soon(wait, a.send_all, b"x")
        nursery.start_soon(wait, a.receive_some)
        await trio.testing.wait_all_tasks_blocked()
        await theirs.send_all(b"\x15\x03\x03\x00\x02\x02\x28")  # handshake_failure
    assert len(causes) == 4
    assert len(set(causes)) == 1
    await trio.aclose_forcefully(a)


async def test_tasks_that_wait_learn_what_the_transport_raised_in_the_handshake(
    tls: Maker,
) -> None:
    """An error of no class that Trio knows: whoever shook hands gets it as it is."""
    ours, _ = trio.testing.memory_stream_pair()
    a = TLSStream(ours, client_context(tls.version), server_hostname=NAME)
    fire = trio.Event()
    raised = OSError("the cable is on fire")

    async def burn() -> None:
        await fire.wait()
        raise raised

    ours.send_stream.send_all_hook = burn

    async def shake_hands_first() -> None:
        with pytest.raises(OSError, match="on fire"):
            await a.do_handshake()

    async def wait() -> None:
        with pytest.raises(trio.BrokenResourceError) as caught:
            await a.receive_some()
        assert caught.value.__cause__ is raised

    async with trio.open_nursery() as nursery:
        nursery.start_soon(shake_hands_first)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        fire.set()
    await trio.aclose_forcefully(a)


@pytest.mark.parametrize(
    "says", [b"220 smtp.example ESMTP\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n"]
)
async def test_a_server_that_speaks_no_tls_is_named_so(tls: Maker, says: bytes) -> None:
    ours, theirs = await memory_transports()
    await theirs.send_all(says)
    a = TLSStream(ours, client_context(tls.version), server_hostname=NAME)
    with pytest.raises(TLSFailedError, match="does not seem to speak TLS") as caught:
        await a.do_handshake()
    assert caught.value.during_handshake
    with pytest.raises(TLSFailedError):
        await a.do_handshake()
    await a.aclose()
    assert a.report.outcome is ShutdownOutcome.FAILED


async def test_a_client_that_speaks_no_tls_is_named_so(tls: Maker) -> None:
    ours, theirs = await memory_transports()
    await theirs.send_all(b"GET / HTTP/1.1\r\n\r\n")
    a = TLSStream(ours, server_context(tls.version), server_side=True)
    with pytest.raises(TLSFailedError, match="does not seem to speak TLS") as caught:
        await a.receive_some()
    assert caught.value.reason == "HTTP_REQUEST"
    await trio.aclose_forcefully(a)


@pytest.mark.parametrize("said_before", [b"", b"\x16\x03"])
async def test_an_end_within_the_handshake_is_a_truncation(
    tls: Maker, said_before: bytes
) -> None:
    ours, theirs = await memory_transports()
    await theirs.send_all(said_before)
    await theirs.aclose()
    a = TLSStream(ours, server_context(tls.version), server_side=True)
    with pytest.raises(TruncatedError) as caught:
        await a.do_handshake()
    assert caught.value.mid_record is bool(said_before)
    assert a.report.outcome is ShutdownOutcome.TRUNCATED
    b = TLSStream(
        ours, server_context(tls.version), server_side=True, https_compatible=True
    )
    with trio.testing.assert_checkpoints():
        assert await b.receive_some() == b""
    assert await b.receive_some() == b""
    assert b.report.outcome is ShutdownOutcome.TRUNCATED
    await a.aclose()


async def test_a_close_notify_instead_of_a_handshake_is_a_truncation(
    tls: Maker,
) -> None:
    """It is not authenticated: anybody could have sent it."""
    ours, theirs = await memory_transports()
    await theirs.send_all(b"\x15\x03\x03\x00\x02\x01\x00")
    a = TLSStream(ours, client_context(tls.version), server_hostname=NAME)
    with pytest.raises(TruncatedError):
        await a.do_handshake()
    assert not a.report.close_notify_received
    await a.aclose()


async def test_a_transport_that_fails_within_the_handshake_breaks_the_stream(
    tls: Maker,
) -> None:
    ours, theirs = await memory_transports()
    a = TLSStream(ours, client_context(tls.version), server_hostname=NAME)
    await theirs.aclose()
    with pytest.raises(TransportBrokenError):
        await a.do_handshake()
    assert a.report.outcome is ShutdownOutcome.RESET
    await a.aclose()


async def test_a_reset_within_the_handshake_is_reported_as_a_reset(tls: Maker) -> None:
    ours, theirs = await tcp_transports()
    a = TLSStream(ours, client_context(tls.version), server_hostname=NAME)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(must_raise, TransportBrokenError, a.do_handshake)
        await theirs.receive_some(1)  # the rest stays unread: RST
        await theirs.aclose()
    assert a.report.outcome is ShutdownOutcome.RESET
    await a.aclose()


async def test_the_alert_of_a_refused_handshake_is_given_up_in_time(
    tls: Maker, autojump_clock: MockClock
) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    policy = ShutdownPolicy(timeout=3)
    context = client_context(tls.version)
    a = TLSStream(ours, context, server_hostname="other.example", policy=policy)
    peer = tls.peer(theirs)

    async def answer_and_take_nothing_more() -> None:
        await peer.receive_ciphertext()
        assert not peer.step_of_handshake()
        ours.send_stream.send_all_hook = trio.sleep_forever
        await peer.send(peer.flight())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer_and_take_nothing_more)
        with pytest.raises(TLSFailedError):
            await a.do_handshake()
    assert trio.current_time() == 3
    await trio.aclose_forcefully(a)


async def test_without_any_time_an_alert_that_need_not_wait_is_sent(tls: Maker) -> None:
    ours, theirs = await tcp_transports()
    policy = ShutdownPolicy(timeout=0)
    context = client_context(tls.version)
    a = TLSStream(ours, context, server_hostname="other.example", policy=policy)
    b = TLSStream(theirs, server_context(tls.version), server_side=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(must_raise, TLSFailedError, b.do_handshake)
        with pytest.raises(TLSFailedError):
            await a.do_handshake()
    await a.aclose()
    await b.aclose()


async def test_aclose_raises_the_failure_of_the_handshake_it_began(
    tls: Maker,
) -> None:
    ours, theirs = await memory_transports()
    await theirs.send_all(b"220 clear text\r\n")
    a = TLSStream(ours, client_context(tls.version), server_hostname=NAME)
    with pytest.raises(TLSFailedError):
        await a.aclose()
    with pytest.raises(trio.ClosedResourceError):
        await ours.receive_some()
    await a.aclose()


async def test_aclose_bounds_the_handshake_it_began(
    tls: Maker, autojump_clock: MockClock
) -> None:
    ours, _ = await memory_transports()
    policy = ShutdownPolicy(timeout=3)
    context = client_context(tls.version)
    a = TLSStream(ours, context, server_hostname=NAME, policy=policy)
    await a.aclose()
    assert trio.current_time() == 3
    assert a.report.outcome is ShutdownOutcome.ABORTED


@pytest.mark.parametrize("transport", ["memory", "tcp"])
async def test_aclose_aborts_a_handshake_of_another_task(
    tls: Maker, transport: str
) -> None:
    make = {"memory": memory_transports, "tcp": tcp_transports}[transport]
    ours, theirs = await make()
    a = TLSStream(ours, client_context(tls.version), server_hostname=NAME)

    async def woken() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await a.do_handshake()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(woken)
        nursery.start_soon(woken)
        await trio.testing.wait_all_tasks_blocked()
        await a.aclose()
    assert a.report.outcome is ShutdownOutcome.FAILED
    assert isinstance(a.report.error, TLSFailedError)
    assert "closed by another task" in str(a.report.error)
    await theirs.aclose()


@pytest.mark.parametrize("size", [0, 3, 20])
async def test_https_compatible_takes_no_cut_inside_a_record_for_an_end(
    tls: Maker, size: int
) -> None:
    ours, theirs = await memory_transports()
    stream = TLSStream(
        ours, client_context(tls.version), server_hostname=NAME, https_compatible=True
    )
    assert isinstance(theirs, trio.abc.HalfCloseableStream)
    await theirs.send_all((b"\x16\3\3\1\0" + bytes(256))[:size])
    await theirs.send_eof()
    if size:
        with pytest.raises(TruncatedError):
            await stream.receive_some()
    else:
        assert await stream.receive_some() == b""
    await trio.aclose_forcefully(stream)


# That are special:


async def test_a_session_can_be_resumed(tls: Maker) -> None:
    context, server = client_context(tls.version), server_context(tls.version)
    session: ssl.SSLSession | None = None
    for resumed in (False, True):
        ours, theirs = await memory_transports()
        a = TLSStream(ours, context, server_hostname=NAME)
        b = TLSStream(theirs, server, server_side=True)
        if session is not None:
            a.session = session
        await shake_hands(a, b)
        assert a.session_reused is resumed
        await b.send_all(b"x")
        assert await a.receive_some() == b"x"
        session = a.session
        assert session is not None
        assert session.has_ticket
        async with trio.open_nursery() as nursery:
            nursery.start_soon(a.shutdown)
            nursery.start_soon(b.shutdown)
        await a.aclose()
        await b.aclose()


HttpsClose: TypeAlias = Callable[[TLSStream[Any]], Awaitable[None]]


@pytest.mark.parametrize("close", [TLSStream.aclose, trio.aclose_forcefully])
@pytest.mark.parametrize("tickets", [True, False])
async def test_a_session_that_ended_without_close_notify_can_be_resumed(
    tls: Maker, close: HttpsClose, *, tickets: bool
) -> None:
    """RFC 5246 section 7.2.1 allows that since TLS 1.1; OpenSSL has to be told."""
    context, server = client_context(tls.version), server_context(tls.version)
    if not tickets:
        server.options |= ssl.OP_NO_TICKET  # session ids instead
    session: ssl.SSLSession | None = None
    for resumed in (False, True, True):
        ours, theirs = await memory_transports()
        a = TLSStream(ours, context, server_hostname=NAME, https_compatible=True)
        b = TLSStream(theirs, server, server_side=True, https_compatible=True)
        if session is not None:
            a.session = session
        await shake_hands(a, b)
        assert a.session_reused is resumed
        await b.send_all(b"x")
        assert await a.receive_some() == b"x"
        session = a.session
        await close(a)
        await close(b)
        del a, b  # OpenSSL forgets a session when its connection is freed


async def test_a_session_that_failed_is_not_resumed(tls12: Maker) -> None:
    """RFC 5246 section 7.2.2."""
    server = server_context(tls12.version)
    server.options |= ssl.OP_NO_TICKET
    context = client_context(tls12.version)
    ours, theirs = await memory_transports()
    a = TLSStream(ours, context, server_hostname=NAME)
    b = TLSStream(theirs, server, server_side=True)
    await shake_hands(a, b)
    session = a.session
    await ours.send_all(b"\x17\x03\x03\0\x20" + bytes(32))
    with pytest.raises(TLSFailedError):
        await b.receive_some()
    await trio.aclose_forcefully(a)
    await trio.aclose_forcefully(b)
    del b
    ours, theirs = await memory_transports()
    a = TLSStream(ours, context, server_hostname=NAME)
    b = TLSStream(theirs, server, server_side=True)
    assert session is not None
    a.session = session
    await shake_hands(a, b)
    assert not a.session_reused
    await trio.aclose_forcefully(a)
    await trio.aclose_forcefully(b)


async def test_an_sni_callback_gets_an_sslobject_and_may_change_the_context(
    tls: Maker,
) -> None:
    first, second = server_context(tls.version), server_context(tls.version)
    seen: list[tuple[type, str | None]] = []

    def choose(
        session: ssl.SSLObject, name: str | None, context: ssl.SSLContext
    ) -> None:
        seen.append((type(session), name))
        session.context = second

    first.sni_callback = choose
    ours, theirs = await memory_transports()
    a = TLSStream(ours, client_context(tls.version), server_hostname=NAME)
    b = TLSStream(theirs, first, server_side=True)
    await shake_hands(a, b)
    assert seen == [(ssl.SSLObject, NAME)]
    assert b.context is second
    await trio.aclose_forcefully(a)
    await trio.aclose_forcefully(b)


async def test_client_certificates_are_asked_for_and_seen(tls: Maker) -> None:
    context, server = client_context(tls.version), server_context(tls.version)
    CA.configure_trust(server)
    server.verify_mode = ssl.CERT_REQUIRED
    CERT.configure_cert(context)
    ours, theirs = await memory_transports()
    a = TLSStream(ours, context, server_hostname=NAME)
    b = TLSStream(theirs, server, server_side=True)
    await shake_hands(a, b)
    certificate = b.getpeercert()
    assert certificate is not None
    assert ("DNS", NAME) in certificate["subjectAltName"]
    assert isinstance(b.getpeercert(binary_form=True), bytes)
    await trio.aclose_forcefully(a)
    await trio.aclose_forcefully(b)


async def test_a_missing_client_certificate_is_told_to_the_client(
    tls: Maker,
) -> None:
    server = server_context(tls.version)
    CA.configure_trust(server)
    server.verify_mode = ssl.CERT_REQUIRED
    ours, theirs = await memory_transports()
    a = TLSStream(ours, client_context(tls.version), server_hostname=NAME)
    b = TLSStream(theirs, server, server_side=True)

    async def refused() -> None:
        with pytest.raises(TLSFailedError) as caught:
            await a.receive_some()
        assert caught.value.reason is not None
        assert "ALERT" in caught.value.reason

    async with trio.open_nursery() as nursery:
        nursery.start_soon(refused)
        with pytest.raises(TLSFailedError) as caught:
            await b.do_handshake()
    assert caught.value.reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE"
    await trio.aclose_forcefully(a)
    await trio.aclose_forcefully(b)


@pytest.mark.parametrize("trusted", [True, False])
async def test_a_truststore_context_verifies(
    tls: Maker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, trusted: bool
) -> None:
    if trusted:
        authority = tmp_path / "ca.pem"
        CA.cert_pem.write_to_path(str(authority))
        monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    context = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.maximum_version = client_context(tls.version).maximum_version
    ours, theirs = await memory_transports()
    a = TLSStream(ours, context, server_hostname=NAME)
    peer = tls.peer(theirs)

    async def answer() -> None:
        try:
            await peer.handshake()
        except ssl.SSLError:
            assert not trusted

    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer)
        if not trusted:
            with pytest.raises(TLSFailedError, match="certificate verification"):
                await a.do_handshake()
            return
        await a.do_handshake()
    await peer.send(peer.encrypt(b"trusted") + peer.close_notify())
    assert await a.receive_some() == b"trusted"
    assert (await a.shutdown()).outcome is ShutdownOutcome.COMPLETE
    await a.aclose()


async def test_tls_works_inside_tls(tls: Maker) -> None:
    outer_a, outer_b = await tls.pair()
    a, b = tls.wrap((outer_a, outer_b))
    await shake_hands(a, b)
    await a.send_all(b"twice secret")
    assert await b.receive_some() == b"twice secret"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(a.shutdown)
        assert await b.receive_some() == b""
        await b.shutdown()
    assert a.report.outcome is ShutdownOutcome.COMPLETE
    outcomes = [outer_a.report.outcome]
    await a.aclose()
    outcomes.append(outer_a.report.outcome)
    assert outcomes == [ShutdownOutcome.OPEN, ShutdownOutcome.SENT]
    assert await outer_b.receive_some() == b""
    await b.aclose()


async def test_the_users_context_is_used_as_it_is(tls: Maker) -> None:
    context = client_context(tls.version)
    before = context.options
    ours, _ = await memory_transports()
    a = TLSStream(ours, context, server_hostname=NAME)
    assert a.context is context
    assert context.options == before


async def test_the_facts_of_a_session_are_typed_properties(tls: Maker) -> None:
    a, b = tls.wrap(await memory_transports())
    for ask in (
        lambda: a.session_reused,
        a.getpeercert,
        a.selected_alpn_protocol,
        a.selected_npn_protocol,
        a.cipher,
        a.shared_ciphers,
        a.compression,
        a.get_channel_binding,
        a.version,
    ):
        with pytest.raises(trio.NeedHandshakeError, match="do_handshake"):
            ask()
    await shake_hands(a, b)
    assert a.version() == tls.version
    assert a.selected_alpn_protocol() is None
    cipher = a.cipher()
    assert cipher is not None
    assert b.shared_ciphers()
    assert a.compression() is None
    assert a.get_channel_binding() == b.get_channel_binding()
    assert (a.server_side, b.server_side) == (False, True)
    assert (a.server_hostname, b.server_hostname) == (NAME, None)
    await b.send_all(b"12345")
    await a.receive_some(2)
    assert a.pending() == 3
    await trio.aclose_forcefully(a)
    await trio.aclose_forcefully(b)


# The trace:


async def test_the_trace_tells_what_happened_in_order(
    tls: Maker, autojump_clock: MockClock
) -> None:
    events: list[TraceEvent] = []
    a, b = await tls.pair(client={"trace": events.append})
    opening = [event.kind for event in events]
    assert opening.count(TraceKind.HANDSHAKE_DONE) == 1
    assert TraceKind.BYTES_SENT in opening
    assert {event.side for event in events} == {"client"}
    events.clear()

    await trio.sleep(10)
    started = trio.current_time()
    await a.shutdown(wait=False)
    await b.receive_some()
    await trio.aclose_forcefully(b)
    with pytest.raises(TruncatedError):
        await a.receive_some()
    await a.aclose()
    assert [event.kind for event in events] == [
        TraceKind.BYTES_SENT,
        TraceKind.CLOSE_NOTIFY_SENT,
        TraceKind.FIN_RECEIVED,
        TraceKind.TRANSPORT_CLOSED,
    ]
    assert {event.time for event in events} == {started}
    assert events[0].size > 0
    assert {event.size for event in events[1:]} == {0}


async def test_an_end_that_comes_with_the_handshake_is_told_behind_it(
    tls: Maker,
) -> None:
    """Both may come in one piece."""
    events: list[TraceEvent] = []
    ours, theirs = await memory_transports()
    server_side = tls.version == "TLSv1.3"  # it gets the last flight
    context = server_context if server_side else client_context
    stream = TLSStream(
        ours,
        context(tls.version),
        server_side=server_side,
        server_hostname=None if server_side else NAME,
        trace=events.append,
    )
    peer = tls.peer(theirs, server_side=not server_side)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.do_handshake)
        while not peer.step_of_handshake():
            await peer.send(peer.flight())
            await peer.receive_ciphertext()
        await peer.send(peer.flight() + peer.close_notify())
        assert await stream.receive_some() == b""
        peer.forget_key_log()
    kinds = [event.kind for event in events]
    done = kinds.index(TraceKind.HANDSHAKE_DONE)
    assert done < kinds.index(TraceKind.CLOSE_NOTIFY_RECEIVED)
    await trio.aclose_forcefully(stream)


async def failed_handshake(tls: Maker) -> TLSStream[Any]:
    ours, theirs = await memory_transports()
    stream = TLSStream(ours, server_context(tls.version), server_side=True)
    await theirs.send_all(b"GET / HTTP/1.0\r\n\r\n")
    with pytest.raises(TLSFailedError):
        await stream.do_handshake()
    return stream


async def bad_record(tls: Maker) -> TLSStream[Any]:
    async with tls.client_and_bare_server() as (stream, peer):
        await peer.send(peer.tampered())
        with pytest.raises(TLSFailedError):
            await stream.receive_some()
    return stream


async def reset_transport(tls: Maker) -> TLSStream[Any]:
    a, b = await tls.pair("tcp")
    reset(b)
    await b.transport_stream.aclose()
    with pytest.raises(TransportBrokenError):
        await a.receive_some()
    return a


async def unwrapping_a_cut(tls: Maker) -> TLSStream[Any]:
    async with tls.client_and_bare_server() as (stream, peer):
        await peer.transport.aclose()
        with pytest.raises(TruncatedError):
            await stream.unwrap()
    return stream


@pytest.mark.parametrize(
    "fail", [failed_handshake, bad_record, reset_transport, unwrapping_a_cut]
)
async def test_a_stream_that_failed_does_not_wait_for_the_garbage_collector(
    tls: Maker, fail: Callable[[Maker], Awaitable[TLSStream[Any]]]
) -> None:
    gc.collect()
    gc.disable()
    try:
        stream = await fail(tls)
        await trio.aclose_forcefully(stream)
        session = weakref.ref(stream._engine.ssl_object)
        del stream
        await trio.lowlevel.checkpoint()
        assert session() is None
    finally:
        gc.enable()


async def test_the_trace_tells_of_resets_failures_and_giving_up(
    tls: Maker, autojump_clock: MockClock
) -> None:
    events: list[TraceEvent] = []
    async with tls.server_and_bare_client(trace=events.append) as (a, peer):
        await a.shutdown()
        assert events[-1].kind is TraceKind.CANCELLED
        bad = bytearray(peer.encrypt(b"evil"))
        bad[-1] ^= 1
        await peer.send(bytes(bad))
        await a.shutdown()
    kinds = [event.kind for event in events]
    assert TraceKind.TLS_FAILED in kinds
    assert kinds[-1] is TraceKind.TRANSPORT_CLOSED
    assert {event.side for event in events} == {"server"}

    events.clear()
    async with tls.client_and_bare_server(trace=events.append) as (a, peer):
        await peer.transport.aclose()
        with pytest.raises(TransportBrokenError):
            await a.send_all(b"x")
    assert TraceKind.RESET_RECEIVED in [event.kind for event in events]


# Odds and ends:


def test_a_report_can_be_asked_for_after_the_run(tls: Maker) -> None:
    async def begin_to_end() -> TLSStream[Any]:
        a, b = await tls.pair()
        await a.send_eof(allow_tls12=True)
        await trio.aclose_forcefully(b)
        return a

    stream = trio.run(begin_to_end, clock=MockClock())
    assert stream.report.outcome is ShutdownOutcome.SENT
    assert stream.report.elapsed == 0


def test_importing_costs_nothing_but_trio_and_attrs() -> None:
    code = (
        "import sys, trio_tlsdown; "
        "sys.exit(any(name in sys.modules for name in "
        "('trustme', 'pytest', 'click', 'rich', 'cryptography')))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)  # noqa: S603


async def test_a_client_that_checks_no_name_needs_none(tls: Maker) -> None:
    context = client_context(tls.version)
    context.check_hostname = False
    ours, theirs = await memory_transports()
    async with trio.open_nursery() as nursery:
        server = TLSStream(theirs, server_context(tls.version), server_side=True)
        nursery.start_soon(server.do_handshake)
        client = TLSStream(ours, context)
        await client.do_handshake()
    await trio.aclose_forcefully(client)
    await trio.aclose_forcefully(server)
