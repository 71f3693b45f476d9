"""The engine alone: bytes in, bytes out, no I/O.

Each test keeps a fact about OpenSSL that the engine rests on. The naive way is
shown to fail where it is short to show.
"""

from __future__ import annotations

import contextlib
import ssl
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, strategies as st

from tests.core.session import session, step
from tests.support import BAD_RECORD, NAME, VERSIONS, client_context, server_context
from trio_tlsdown import ShutdownOutcome
from trio_tlsdown._core.engine import MAX_BIO_WRITE, MAX_RECORD, Engine
from trio_tlsdown._core.state import ConnectionState, Event, Receiving, Sending

sides = pytest.mark.parametrize("server_side", [False, True])


# Our close_notify:


@sides
def test_half_close_sends_an_alert_and_leaves_receiving_alone(
    version: str, *, server_side: bool
) -> None:
    made = session(version, server_side=server_side)
    made.engine.encrypt_close_notify()
    assert made.state.sending is Sending.ENCRYPTED
    assert made.hear() == b"|"
    made.engine.feed(made.say(b"still here"))
    assert made.engine.take(100) == b"still here"
    made.engine.feed(made.say_goodbye())
    assert made.state.receiving is Receiving.CLOSED


def test_openssl_alone_loses_the_session_when_it_shuts_down_with_data_pending(
    version: str,
) -> None:
    """Why feed() decrypts everything at once: SSL_shutdown reads by itself."""
    made = session(version)
    naive = made.engine.ssl_object
    incoming = made.say(b"precious")
    made.engine._incoming.write(incoming)
    with pytest.raises(ssl.SSLError, match="APPLICATION_DATA_AFTER_CLOSE_NOTIFY"):
        naive.unwrap()
    with pytest.raises(ssl.SSLError):
        naive.read(100)


@given(data=st.data(), version=st.sampled_from(sorted(VERSIONS)))
def test_half_close_is_lossless_wherever_the_ciphertext_is_cut(
    data: st.DataObject, version: str
) -> None:
    made = session(version)
    messages = data.draw(
        st.lists(st.binary(min_size=1, max_size=300), max_size=6), label="messages"
    )
    ciphertext = b"".join(made.say(message) for message in messages)
    ciphertext += made.say_goodbye()
    half_close_at = data.draw(
        st.integers(0, len(ciphertext)), label="bytes that arrive before send_eof()"
    )
    cuts = data.draw(st.sets(st.integers(1, len(ciphertext) - 1)), label="cuts")
    edges = sorted({0, half_close_at, len(ciphertext), *cuts})

    received = b""
    for start, end in [*pairwise(edges), (len(ciphertext), len(ciphertext))]:
        if start == half_close_at:
            made.engine.encrypt_close_notify()
        if start < end:
            made.engine.feed(ciphertext[start:end])
        received += made.engine.take(data.draw(st.integers(1, 400), label="read"))
    received += made.engine.take(2**20)

    assert received == b"".join(messages)
    assert made.engine.error is None
    assert made.state.receiving is Receiving.CLOSED
    assert made.hear() == b"|"


def test_a_second_half_close_adds_nothing(version: str) -> None:
    made = session(version)
    made.engine.encrypt_close_notify()
    size = made.engine.output.pending
    made.engine.encrypt_close_notify()
    assert made.engine.output.pending == size


def test_our_close_notify_can_answer_the_peers(version: str) -> None:
    made = session(version)
    made.engine.feed(made.say_goodbye())
    made.engine.encrypt_close_notify()
    assert made.hear() == b"|"
    assert made.state.first == "peer"


# Receiving:


def test_one_feed_decrypts_every_record_that_is_there(version: str) -> None:
    made = session(version)
    made.engine.feed(b"".join(made.say(bytes([n]) * MAX_RECORD) for n in range(4)))
    assert made.engine.unread == 4 * MAX_RECORD
    assert made.engine.take(10) == bytes(10)
    assert made.engine.take(MAX_RECORD) == bytes(MAX_RECORD - 10) + b"\1" * 10
    assert made.engine.unread == 3 * MAX_RECORD - 10
    assert len(made.engine.take(2**20)) == 3 * MAX_RECORD - 10
    assert made.engine.take(1) == b""


class Watched:
    """The buffer that OpenSSL reads from, and the most that was in it."""

    def __init__(self, bio: ssl.MemoryBIO) -> None:
        self.bio = bio
        self.most = 0

    def write(self, data: bytes) -> None:
        self.bio.write(data)
        self.most = max(self.most, self.bio.pending)

    @property
    def pending(self) -> int:
        return self.bio.pending


def test_much_ciphertext_does_not_make_openssls_buffer_grow(version: str) -> None:
    """It would never shrink again."""
    it = session(version)
    watched = it.engine._incoming = Watched(it.engine._incoming)  # type: ignore[assignment]
    it.engine.feed(it.say(bytes(2**20)))
    assert watched.most <= MAX_BIO_WRITE + MAX_RECORD
    assert it.engine.take(2**21) == bytes(2**20)


def test_an_error_behind_good_records_costs_none_of_them_and_stays(
    version: str,
) -> None:
    """OpenSSL would say EOF from the second read on: a bad MAC looked truncated."""
    made = session(version)
    good, bad = made.say(b"good"), bytearray(made.say(b"evil"))
    bad[-1] ^= 1
    made.engine.feed(good + bad + made.say(b"unreachable"))
    assert made.engine.take(100) == b"good"
    assert made.engine.error is not None
    assert made.engine.error.reason in BAD_RECORD
    made.engine.feed(b"")
    assert made.state.outcome is ShutdownOutcome.FAILED
    made.to_peer.write(made.engine.output.read())
    with pytest.raises(ssl.SSLError, match="ALERT_BAD_RECORD_MAC"):
        made.peer.read(100)


def test_what_openssl_refuses_to_write_is_a_failure(version: str) -> None:
    made = session(version)
    with contextlib.suppress(ssl.SSLWantReadError):
        made.engine.ssl_object.unwrap()  # behind the engine's back
    made.engine.encrypt(b"too late")
    assert made.engine.error is not None
    assert made.engine.error.reason == "PROTOCOL_IS_SHUTDOWN"
    assert made.state.outcome is ShutdownOutcome.FAILED


def test_a_shutdown_that_openssl_refuses_is_a_failure(version: str) -> None:
    made = session(version)
    made.engine._incoming.write(made.say(b"not decrypted first"))
    made.engine.encrypt_close_notify()
    assert made.engine.error is not None
    assert made.engine.error.reason == "APPLICATION_DATA_AFTER_CLOSE_NOTIFY"
    assert made.state.outcome is ShutdownOutcome.FAILED


@pytest.mark.parametrize("ignore_eof", [False, True])
@pytest.mark.parametrize("keep", [0, 3, 20])
def test_the_end_of_the_transport_is_a_truncation_and_leaves_sending_alone(
    version: str, *, ignore_eof: bool, keep: int
) -> None:
    made = session(version, ignore_eof=ignore_eof)
    made.engine.feed(made.say(b"all I had"))
    if keep:
        made.engine.feed(made.say(b"and more")[:keep])
    made.engine.feed(b"")
    assert made.engine.take(100) == b"all I had"
    assert made.state.receiving is Receiving.TRUNCATED
    assert made.state.sending is Sending.OPEN
    made.engine.encrypt(b"can you hear me?")
    made.engine.encrypt_close_notify()
    assert made.hear() == b"can you hear me?|"


@pytest.mark.skipif(
    not hasattr(ssl, "OP_IGNORE_UNEXPECTED_EOF"), reason="OpenSSL before 3.0"
)
def test_openssl_alone_takes_a_truncation_for_the_end_if_the_context_says_so(
    version: str,
) -> None:
    """Why the engine never tells OpenSSL of the end."""
    made = session(version, ignore_eof=True)
    made.engine._incoming.write_eof()
    assert made.engine.ssl_object.read(100) == b""


def test_what_follows_the_peers_close_notify_is_not_decrypted(version: str) -> None:
    made = session(version)
    clear_text = b"220 clear text" * 10_000
    made.engine.feed(made.say(b"last") + made.say_goodbye() + clear_text)
    assert made.engine.take(100) == b"last"
    assert made.state.receiving is Receiving.CLOSED
    assert made.engine.trailing() == clear_text


def test_the_end_after_the_peers_close_notify_is_no_truncation(version: str) -> None:
    made = session(version)
    made.engine.feed(made.say_goodbye())
    made.engine.feed(b"")
    assert made.state.receiving is Receiving.CLOSED


# Opening:


def test_a_tls13_server_holds_its_tickets_back_until_it_has_to_say_something() -> None:
    made = session("TLSv1.3", server_side=True)
    assert made.hear() == b""
    assert made.peer.session is not None
    assert not made.peer.session.has_ticket
    made.engine.encrypt(b"hello")
    assert made.hear() == b"hello"
    assert made.peer.session.has_ticket


def test_tickets_go_ahead_of_a_close_notify() -> None:
    """Behind it, or without them, the client could not decrypt it."""
    made = session("TLSv1.3", server_side=True)
    made.engine.encrypt_close_notify()
    assert made.hear() == b"|"


def test_tickets_go_ahead_of_a_fatal_alert() -> None:
    made = session("TLSv1.3", server_side=True)
    bad = bytearray(made.say(b"evil"))
    bad[-1] ^= 1
    made.engine.feed(bad)
    made.to_peer.write(made.engine.output.read())
    with pytest.raises(ssl.SSLError, match="ALERT_BAD_RECORD_MAC"):
        made.peer.read(100)


def test_data_that_came_along_with_the_last_flight_are_there_at_once() -> None:
    client, server = client_context("TLSv1.3"), server_context("TLSv1.3")
    state = ConnectionState(lambda event: None)
    engine = Engine(server, state, server_side=True, server_hostname=None)
    to_peer, from_peer = ssl.MemoryBIO(), ssl.MemoryBIO()
    peer = client.wrap_bio(to_peer, from_peer, server_hostname=NAME)
    assert not step(peer.do_handshake)
    engine.feed(from_peer.read())
    to_peer.write(engine.output.read())
    assert step(peer.do_handshake)
    peer.write(b"early bird")
    engine.feed(from_peer.read())
    assert state.handshaken
    assert engine.take(100) == b"early bird"


def test_an_end_in_the_handshake_is_one_however_much_follows(version: str) -> None:
    state = ConnectionState(lambda event: None)
    engine = Engine(
        client_context(version), state, server_side=False, server_hostname=NAME
    )
    engine.do_handshake()
    close_notify = b"\x15\x03\x03\x00\x02\x01\x00"  # RFC 9846 sections 5.1 and 6
    engine.feed(close_notify * (2 * MAX_BIO_WRITE // len(close_notify)))
    assert state.receiving is Receiving.TRUNCATED
    assert engine.error is None


def test_a_handshake_that_was_given_up_goes_no_further(version: str) -> None:
    """Another task may close the stream while a flight of the peer is on its way up."""
    state = ConnectionState(lambda event: None)
    engine = Engine(
        client_context(version), state, server_side=False, server_hostname=NAME
    )
    engine.do_handshake()
    engine.output.read()
    state.process_event_if_legal(Event.SENDING_BROKEN)
    engine.feed(b"whatever it is")
    assert engine.error is None
    assert not engine.output.pending


def test_the_users_context_is_not_changed(version: str) -> None:
    context = client_context(version)
    before = (context.options, context.verify_mode, context.check_hostname)
    Engine(
        context,
        ConnectionState(lambda event: None),
        server_side=False,
        server_hostname=NAME,
    )
    assert (context.options, context.verify_mode, context.check_hostname) == before


class EndsWithEOF(ssl.SSLObject):
    """As OpenSSL 3.2 shows a close_notify behind user_canceled, or a failure."""

    reason: str | None = None

    def read(self, *_: Any) -> Any:
        error = ssl.SSLEOFError(ssl.SSL_ERROR_EOF, "EOF occurred")
        error.reason = self.reason  # type: ignore[assignment]
        raise error


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        (None, Receiving.CLOSED),
        ("UNEXPECTED_EOF_WHILE_READING", Receiving.FAILED),
    ],
)
def test_an_eof_is_a_close_notify_only_if_openssl_gives_no_reason(
    reason: str | None, expected: Receiving
) -> None:
    made = session("TLSv1.3")
    ended = made.engine.ssl_object
    ended.__class__ = type("Ended", (EndsWithEOF,), {"reason": reason})
    made.engine.feed(made.say(b"x"))
    assert made.state.receiving is expected


def test_on_tls12_an_eof_of_openssl_is_a_failure() -> None:
    made = session("TLSv1.2")
    made.engine.ssl_object.__class__ = EndsWithEOF
    made.engine.feed(made.say(b"x"))
    assert made.state.receiving is Receiving.FAILED


def test_small_records_are_joined_to_chunks_of_4_kib(version: str) -> None:
    made = session(version)
    for size in (3000, 1500, 2596, 1):
        made.engine.feed(made.say(bytes(size)))
    assert [len(chunk) for chunk in made.engine._plaintext] == [3000, 4096, 1]


def test_nothing_is_kept_of_a_chunk_that_was_taken(version: str) -> None:
    made = session(version)
    for _ in range(2):
        made.engine.feed(made.say(bytes(5000)))
    assert len(made.engine.take(5000)) == 5000
    assert [len(chunk) for chunk in made.engine._plaintext] == [5000]


def test_openssl_gets_64_kib_at_a_time(version: str) -> None:
    """Its buffer never shrinks."""
    made = session(version)
    data = b"".join(made.say(bytes(16_000)) for _ in range(10))
    incoming, sizes = made.engine._incoming, list[int]()

    class Counting:
        pending = 0

        def write(self, ciphertext: memoryview) -> None:
            sizes.append(len(ciphertext))
            incoming.write(ciphertext)

    counting: Any = Counting()
    made.engine._incoming = counting
    made.engine.feed(data)
    assert sizes[:-1] == [2**16] * (len(data) // 2**16)
    assert sum(sizes) == len(data)


def test_small_pieces_are_joined_up_to_4_kib(version: str) -> None:
    made = session(version)
    for _ in range(5000):
        made.engine.feed(made.say(b"xy"))
    assert {len(chunk) for chunk in list(made.engine._plaintext)[:-1]} == {2**12}


def test_what_a_class_of_the_users_raises_in_unwrap_is_seen() -> None:
    class Broken(ssl.SSLObject):
        def unwrap(self) -> Any:
            raise ZeroDivisionError

    context = client_context()
    context.sslobject_class = Broken
    state = ConnectionState(lambda event: None)
    engine = Engine(context, state, server_side=False, server_hostname=NAME)
    state.process_event(Event.HANDSHAKE_DONE)
    with pytest.raises(ZeroDivisionError):
        engine.encrypt_close_notify()
    assert state.failed
