"""Forged records are genuine to OpenSSL, which says of each what it thinks."""

from __future__ import annotations

import re
import ssl
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

import attrs
import pytest
from OpenSSL import SSL

from tests.support import (
    BAD_RECORD,
    CA,
    CERT,
    LAYER_FAILED,
    NAME,
    client_context,
    server_context,
)
from trio_tlsdown.testing import RecordForge, decrypt_record

WARNING, FATAL = 1, 2  # alert levels
CLOSE_NOTIFY = 0
USER_CANCELED = 90

SUITES: Final = {
    "TLS_AES_128_GCM_SHA256": "TLSv1.3",
    "TLS_AES_256_GCM_SHA384": "TLSv1.3",
    "TLS_CHACHA20_POLY1305_SHA256": "TLSv1.3",
    "ECDHE-ECDSA-AES128-GCM-SHA256": "TLSv1.2",
    "ECDHE-ECDSA-AES256-GCM-SHA384": "TLSv1.2",
    "ECDHE-ECDSA-CHACHA20-POLY1305": "TLSv1.2",
}


class Receiver:
    """OpenSSL as it comes."""

    def __init__(self, context: ssl.SSLContext, *, server_side: bool) -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(
            self.incoming,
            self.outgoing,
            server_side=server_side,
            server_hostname=None if server_side else NAME,
        )
        self.received = bytearray()
        self.saw_close_notify = False
        self.error: ssl.SSLError | None = None

    def feed(self, ciphertext: bytes) -> None:
        self.incoming.write(ciphertext)
        while not self.saw_close_notify:
            try:
                data = self.tls.read(2**16)
            except ssl.SSLError as exc:
                self.error = None if isinstance(exc, ssl.SSLWantReadError) else exc
                return
            self.received += data
            self.saw_close_notify = not data


@attrs.frozen
class Session:
    """A forge and, opposite, OpenSSL as it comes."""

    forge: RecordForge
    peer: Receiver

    def shake_hands(self) -> None:
        tried = [self.forge.tls, self.peer.tls]
        while tried:
            for tls in list(tried):
                try:
                    tls.do_handshake()
                except ssl.SSLWantReadError:
                    pass
                else:
                    tried.remove(tls)
                self.carry()

    def carry(self) -> None:
        """What OpenSSL made, both ways."""
        self.forge.feed(self.peer.outgoing.read())
        self.peer.incoming.write(self.forge.output())

    def received(self, record: bytes) -> bytes:
        """What the peer makes of it."""
        self.peer.received.clear()
        self.peer.feed(record)
        return bytes(self.peer.received)

    def reason(self, record: bytes) -> str | None:
        """The error that the peer makes of it."""
        assert self.received(record) == b""
        assert self.peer.error is not None
        assert not self.peer.saw_close_notify
        return self.peer.error.reason


@pytest.fixture
def keylog(tmp_path: Path) -> Path:
    return tmp_path / "keys"


def forge_for(version: str, keylog: Path, *, server_side: bool) -> RecordForge:
    context = server_context(version) if server_side else client_context(version)
    context.keylog_filename = str(keylog)
    return RecordForge(
        context,
        server_side=server_side,
        server_hostname=None if server_side else NAME,
    )


def new_session(version: str, keylog: Path, *, server_side: bool) -> Session:
    context = client_context(version) if server_side else server_context(version)
    return Session(
        forge_for(version, keylog, server_side=server_side),
        Receiver(context, server_side=not server_side),
    )


@pytest.fixture(params=[True, False], ids=["server", "client"])
def session(version: str, keylog: Path, request: pytest.FixtureRequest) -> Session:
    """Of each version, with the forge as each side."""
    session = new_session(version, keylog, server_side=request.param)
    session.shake_hands()
    return session


# What can be forged:


@pytest.mark.parametrize("count", [0, 1, 5])
def test_forged_data_follow_any_number_of_ordinary_records(
    session: Session, count: int
) -> None:
    for number in range(count):
        session.forge.tls.write(b"%d" % number)
        session.peer.tls.write(b"%d" % number)
        if number != 1:  # else two records are carried together
            session.carry()
    session.carry()
    assert session.received(b"") == b"".join(b"%d" % n for n in range(count))
    assert session.received(session.forge.data(b"forged")) == b"forged"
    assert session.received(session.forge.data(b"")) == b""
    assert session.received(session.forge.data(b"x" * 2**14)) == b"x" * 2**14
    assert session.peer.error is None
    # The forge still reads.
    session.peer.tls.write(b"answer")
    session.forge.feed(session.peer.outgoing.read())
    heard = b""
    while not heard.endswith(b"answer"):
        heard += session.forge.tls.read()


def test_user_canceled_changes_nothing(session: Session) -> None:
    assert session.received(session.forge.alert(WARNING, USER_CANCELED)) == b""
    assert session.received(session.forge.data(b"still here")) == b"still here"
    assert session.peer.error is None
    assert not session.peer.saw_close_notify


def test_close_notify_after_user_canceled_looks_like_a_cut(keylog: Path) -> None:
    """To OpenSSL, in TLS 1.3. Since 3.2 also if the level is warning.

    https://github.com/openssl/openssl/issues/25254
    """
    session = new_session("TLSv1.3", keylog, server_side=True)
    session.shake_hands()
    session.received(session.forge.alert(WARNING, USER_CANCELED))
    session.received(session.forge.alert(FATAL, CLOSE_NOTIFY))
    assert isinstance(session.peer.error, ssl.SSLEOFError)
    assert not session.peer.saw_close_notify


def test_a_close_notify_of_level_fatal_is_an_end_on_tls13_only(
    session: Session, version: str
) -> None:
    """In TLS 1.3 the level says nothing: RFC 9846 section 6."""
    record = session.forge.alert(FATAL, CLOSE_NOTIFY)
    if version == "TLSv1.3":
        assert session.received(record) == b""
        assert session.peer.saw_close_notify
    else:
        assert not session.reason(record)  # OpenSSL has no name for that


@pytest.mark.parametrize(
    ("description", "reason"),
    [
        (10, "SSLV3_ALERT_UNEXPECTED_MESSAGE"),
        (20, "SSLV3_ALERT_BAD_RECORD_MAC"),
        (
            ssl.AlertDescription.ALERT_DESCRIPTION_INTERNAL_ERROR,
            "TLSV1_ALERT_INTERNAL_ERROR",
        ),
    ],
)
def test_a_forged_fatal_alert_is_received_as_one(
    session: Session, description: int, reason: str
) -> None:
    assert session.reason(session.forge.alert(FATAL, description)) == reason


def test_openssl_does_not_look_at_what_follows_close_notify(session: Session) -> None:
    assert session.received(session.forge.alert(WARNING, CLOSE_NOTIFY)) == b""
    assert session.peer.saw_close_notify
    late = session.forge.alert(WARNING, CLOSE_NOTIFY) + session.forge.data(b"late")
    session.peer.incoming.write(late)
    assert session.peer.tls.read() == b""
    assert session.peer.incoming.pending == len(late)


def test_openssl_may_have_sent_the_first_close_notify(session: Session) -> None:
    with pytest.raises(ssl.SSLWantReadError):
        session.forge.tls.unwrap()
    close_notify = session.forge.output()
    late = session.forge.data(b"late")
    assert session.received(close_notify + late) == b""
    assert session.peer.saw_close_notify
    assert session.peer.incoming.pending == len(late)


def test_a_tampered_record_is_refused(session: Session) -> None:
    reason = session.reason(session.forge.tampered())
    assert reason in BAD_RECORD


def test_a_record_that_holds_too_much_is_refused(session: Session) -> None:
    record = session.forge.data(b"x" * (2**14 + 1))
    assert session.reason(record) in {"DATA_LENGTH_TOO_LONG", LAYER_FAILED}


def test_a_record_of_unknown_content_type_is_refused(
    session: Session, version: str
) -> None:
    reason = session.reason(session.forge.record(99, b"?"))
    if version == "TLSv1.2":
        assert reason == "UNEXPECTED_RECORD"
    else:
        assert reason in {"BAD_RECORD_TYPE", LAYER_FAILED}


def test_new_keys_are_for_tls13_only(session: Session, version: str) -> None:
    if version == "TLSv1.2":
        with pytest.raises(RuntimeError, match="no KeyUpdate"):
            session.forge.key_update()
        return
    assert session.received(session.forge.data(b"old") + session.forge.key_update())
    assert session.received(session.forge.data(b"new")) == b"new"
    assert session.peer.error is None


# Every suite; only with pyOpenSSL can one of TLS 1.3 be chosen. It brings an
# OpenSSL of its own.


def shake_hands_with(forge: RecordForge, suite: str) -> SSL.Connection:
    context = SSL.Context(SSL.TLS_METHOD)
    if suite.startswith("TLS_"):
        context.set_tls13_ciphersuites(suite.encode())
    else:
        context.set_cipher_list(suite.encode())
    CERT.configure_cert(context)
    CA.configure_trust(context)
    peer = SSL.Connection(context, None)
    if forge.tls.server_side:
        peer.set_connect_state()
    else:
        peer.set_accept_state()
    tried: list[ssl.SSLObject | SSL.Connection] = [forge.tls, peer]
    while tried:
        for side in list(tried):
            try:
                side.do_handshake()
            except (ssl.SSLWantReadError, SSL.WantReadError):
                pass
            else:
                tried.remove(side)
            carry(forge, peer)
    assert peer.get_cipher_name() == suite
    return peer


def carry(forge: RecordForge, peer: SSL.Connection) -> None:
    if data := forge.output():
        peer.bio_write(data)
    with suppress(SSL.WantReadError):  # there is nothing
        forge.feed(peer.bio_read(2**16))


@pytest.mark.parametrize("server_side", [True, False], ids=["server", "client"])
@pytest.mark.parametrize("suite", list(SUITES))
def test_records_can_be_forged_with_every_cipher_suite(
    suite: str, keylog: Path, *, server_side: bool
) -> None:
    forge = forge_for(SUITES[suite], keylog, server_side=server_side)
    peer = shake_hands_with(forge, suite)
    forge.tls.write(b"ordinary")
    carry(forge, peer)
    for data in (b"forged", b"x" * 1000):
        peer.bio_write(forge.data(data))
    assert peer.recv(100) == b"ordinary"
    assert peer.recv(100) == b"forged"
    assert peer.recv(1000) == b"x" * 1000
    peer.bio_write(forge.alert(WARNING, CLOSE_NOTIFY))
    with pytest.raises(SSL.ZeroReturnError):
        peer.recv(100)


@pytest.mark.parametrize("suite", list(SUITES))
def test_every_cipher_suite_notices_tampering(suite: str, keylog: Path) -> None:
    forge = forge_for(SUITES[suite], keylog, server_side=True)
    peer = shake_hands_with(forge, suite)
    peer.bio_write(forge.tampered())
    with pytest.raises(SSL.Error, match="bad record mac"):
        peer.recv(100)


# What cannot:


def test_openssl_cannot_send_after_the_forge(session: Session) -> None:
    session.forge.tls.write(b"first")
    with pytest.raises(RuntimeError, match="has output"):
        session.forge.data(b"overtakes")
    assert session.received(session.forge.output()) == b"first"
    assert session.received(session.forge.data(b"second")) == b"second"
    assert session.forge.output() == b""
    session.forge.tls.write(b"out of step")
    with pytest.raises(RuntimeError, match="cannot send any more"):
        session.forge.output()
    # Such as a refusal to renegotiate: it is not sent.
    assert session.received(session.forge.data(b"third")) == b"third"


def test_there_are_no_keys_before_the_handshake_is_done(
    version: str, keylog: Path
) -> None:
    session = new_session(version, keylog, server_side=True)
    with pytest.raises(RuntimeError, match="handshake has not finished"):
        session.forge.data(b"early")
    session.shake_hands()
    assert session.received(session.forge.data(b"in time")) == b"in time"


def test_the_forge_goes_on_after_openssl_failed(session: Session) -> None:
    """Its alert is the last that it can send."""
    session.forge.feed(b"\x17\x03\x03\x00\x20" + bytes(32))
    with pytest.raises(ssl.SSLError):
        session.forge.tls.read()
    alert = session.forge.output()
    assert alert
    assert session.forge.data(b"more")
    assert session.reason(alert) == "SSLV3_ALERT_BAD_RECORD_MAC"


def test_an_unsupported_suite_is_named(keylog: Path) -> None:
    name = "ECDHE-ECDSA-AES128-SHA256"
    forge = forge_for("TLSv1.2", keylog, server_side=True)
    shake_hands_with(forge, name)
    with pytest.raises(RuntimeError, match=f"suite {name} cannot be forged"):
        forge.data(b"x")


@pytest.mark.parametrize(
    "suite", [suite for suite, version in SUITES.items() if version == "TLSv1.3"]
)
def test_a_record_can_be_read_with_the_secret_from_a_key_log(
    suite: str, keylog: Path
) -> None:
    forge = forge_for("TLSv1.3", keylog, server_side=True)
    shake_hands_with(forge, suite)
    [secret] = re.findall(r"SERVER_TRAFFIC_SECRET_0 \w+ (\w+)", keylog.read_text())
    read = partial(decrypt_record, cipher=suite, secret=bytes.fromhex(secret))
    forge.data(b"first")
    alert = forge.alert(FATAL, CLOSE_NOTIFY)
    numbers = range(10)  # OpenSSL has sent tickets
    assert read(alert, numbers=numbers) == (21, bytes([FATAL, CLOSE_NOTIFY]))
    assert read(forge.data(b"\0"), numbers=numbers) == (23, b"\0")
    assert read(alert, numbers=[0]) is None
    assert read(b"", numbers=numbers) is None


def test_a_key_log_must_be_written(session: Session, keylog: Path) -> None:
    with pytest.raises(TypeError, match="context must be SSLContext, not 3"):
        RecordForge(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="keylog_filename must be set"):
        RecordForge(client_context(), server_hostname=NAME)
    keylog.write_text("# not this session\n", "ascii")
    with pytest.raises(RuntimeError, match=r"has no .* of this session"):
        session.forge.data(b"x")
