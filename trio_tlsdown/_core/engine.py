"""One TLS session without I/O: bytes in, bytes out, and how it ended.

`trio.SSLStream` drives its `ssl.SSLObject` in a way that can lose what it holds when a
call fails or is cancelled: plaintext, ciphertext taken out of its buffer, an unflushed
fatal alert, and, after the first error, everything still unread. Here

- *plaintext* stays in a buffer until `take`, with no ``await`` in between;
- *ciphertext* stays in `output` until the transport can send it, and leaves from there
  in order, so nothing is overtaken or skipped;
- *endings* are events of the `ConnectionState`, and the first error is kept.
"""

from __future__ import annotations

import ssl
from collections import deque
from contextlib import suppress
from typing import Final

from trio_tlsdown._util import without_frames

from .state import ConnectionState, Event, Receiving, Sending

# The most plaintext in one record: RFC 9846 section 5.1. Reads of this size leave no
# decrypted bytes inside OpenSSL.
MAX_RECORD: Final = 2**14

# The most ciphertext written to OpenSSL's buffer at once. Each connection has one, and
# it never shrinks.
MAX_BIO_WRITE: Final = 2**16

# Smaller pieces of plaintext are joined while they wait.
MIN_CHUNK: Final = 2**12


def is_close_notify(error: BaseException, version: str | None) -> bool:
    """Whether reading failed so for the peer's close_notify; the transport is open."""
    # It shows as ZeroReturn once ours was sent. Since OpenSSL 3.2 it shows as an EOF
    # without a reason after user_canceled, as Java sends it:
    # https://github.com/openssl/openssl/issues/25254. An EOF with a reason is a failure.
    return isinstance(error, ssl.SSLZeroReturnError) or (
        isinstance(error, ssl.SSLEOFError) and not error.reason and version == "TLSv1.3"
    )


class Engine:
    """One TLS session.

    Args:
      context: The user's context. It is never changed.
      state: Receives the events of the session.
      server_side: Whether this is the server's end.
      server_hostname: For a client: the server's name.

    Attributes:
      output: Pending ciphertext.
      unread: Bytes of plaintext that were not taken yet.
      delivered: Whether any were taken.
      error: What broke the session.
      ssl_object: OpenSSL's session.
    """

    __slots__ = (
        "_incoming",
        "_plaintext",
        "_state",
        "_tickets",
        "_version",
        "delivered",
        "error",
        "output",
        "ssl_object",
        "unread",
    )

    def __init__(
        self,
        context: ssl.SSLContext,
        state: ConnectionState,
        *,
        server_side: bool,
        server_hostname: str | bytes | None,
    ) -> None:
        self._incoming = ssl.MemoryBIO()
        self.output = ssl.MemoryBIO()
        self.ssl_object = context.wrap_bio(
            self._incoming,
            self.output,
            server_side=server_side,
            server_hostname=server_hostname,
        )
        self.error: ssl.SSLError | None = None
        self.unread = 0
        self.delivered = False
        self._state = state
        self._plaintext: deque[bytes | memoryview] = deque()
        self._tickets = b""
        self._version: str | None = None

    # Opening:

    def do_handshake(self) -> None:
        """Advance the handshake with the bytes fed so far."""
        if (
            self._state.sending is not Sending.HANDSHAKING
            or self._state.receiving is not Receiving.HANDSHAKING
        ):
            return
        try:
            self.ssl_object.do_handshake()
        except ssl.SSLWantReadError:
            return
        except ssl.SSLZeroReturnError:
            # close_notify instead of a handshake: nothing was authenticated.
            self._state.process_event(Event.TRUNCATED)
            return
        except Exception as exc:  # noqa: BLE001 - _fail() raises what is not of ssl
            self._fail(exc)
            return
        self._state.process_event(Event.HANDSHAKE_DONE)
        # Kept, because OpenSSL returns None in the middle of a session ticket.
        self._version = self.ssl_object.version()
        tls13 = self._version == "TLSv1.3"
        if self.server_side and tls13:
            # OpenSSL produces session tickets at once. Sent now, they could deadlock
            # with a client that never reads, or make its close a reset that destroys
            # its last bytes. They are held back until the next output of any kind:
            # https://github.com/python-trio/trio/issues/819
            self._tickets = self.output.read()
        # Data may have arrived with the peer's last flight. On TLS 1.2 a message may even
        # share its record, which OpenSSL has already taken out of the buffer.
        if self._incoming.pending or not tls13:
            self._read_records()
        self._release_tickets()

    @property
    def server_side(self) -> bool:
        """Whether this is the server's end."""
        return self.ssl_object.server_side

    def version(self) -> str | None:
        """The version that was negotiated; None before the handshake."""
        return self._version

    # Receiving:

    def feed(self, ciphertext: bytes | bytearray | memoryview) -> None:
        """Decrypt received bytes; ``b""`` is the end of the transport.

        OpenSSL is never told of that end. It would produce a fatal alert and break
        sending, or with OP_IGNORE_UNEXPECTED_EOF take the cut for a close_notify.
        """
        if not ciphertext:
            self._state.process_event_if_legal(Event.TRUNCATED)
        elif len(ciphertext) <= MAX_BIO_WRITE:
            self._take_in(ciphertext)
        else:
            view = memoryview(ciphertext)
            for start in range(0, len(view), MAX_BIO_WRITE):
                self._take_in(view[start : start + MAX_BIO_WRITE])

    def take(self, max_bytes: int) -> bytes:
        """Return up to *max_bytes* of plaintext; ``b""`` if there is none."""
        self.delivered = True
        if max_bytes >= self.unread:
            self.unread = 0
            if len(self._plaintext) == 1:
                return bytes(self._plaintext.pop())
            everything = b"".join(self._plaintext)
            self._plaintext.clear()
            return everything
        taken: list[bytes | memoryview] = []
        room = max_bytes
        self.unread -= room
        while room:
            chunk = self._plaintext.popleft()
            if len(chunk) > room:
                # A view, so that many small reads of a record do not each copy its
                # rest.
                view = memoryview(chunk)
                self._plaintext.appendleft(view[room:])
                chunk = view[:room]
            taken.append(chunk)
            room -= len(chunk)
        return b"".join(taken)

    def trailing(self) -> bytes:
        """Return what follows the peer's close_notify, in clear text."""
        return self._incoming.read()

    # Sending:

    def encrypt(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt *data* and queue it; do nothing if sending has ended.

        Raises:
          ssl.SSLWantReadError: the peer renegotiates (TLS 1.2), or part of a message
            such as a session ticket has arrived (TLS 1.3). Flush, feed what follows,
            then call again with the same data.
        """
        if not self._state.can_send:
            return
        try:
            self.ssl_object.write(data)
        except ssl.SSLWantReadError:
            raise
        except Exception as exc:  # noqa: BLE001 - _fail() raises what is not of ssl
            self._fail(exc)
        if self._tickets:
            self._release_tickets()

    def encrypt_close_notify(self) -> None:
        """Queue our close_notify; do nothing if sending has ended.

        Raises:
          ssl.SSLWantReadError: as for `encrypt`.
        """
        if self._state.sending is not Sending.OPEN:
            return
        try:
            # SSL_shutdown reads, and discards what it reads: application data would be
            # lost and every later read fail. It finds none, because feed() has
            # decrypted everything but part of a record. For the same reason its return
            # does not mean that the peer's alert was received.
            self.ssl_object.unwrap()
        except ssl.SSLWantReadError:
            pass
        except Exception as exc:
            if getattr(exc, "reason", None) != "SHUTDOWN_WHILE_IN_INIT":
                self._fail(exc)
                return
            self._continue_handshake()
            if self.error is None:
                raise ssl.SSLWantReadError(
                    ssl.SSL_ERROR_WANT_READ, "a handshake has to go on first"
                ) from exc
            return
        self._state.process_event(Event.CLOSE_NOTIFY_ENCRYPTED)
        self._release_tickets()

    def _continue_handshake(self) -> None:
        # A renegotiation waits for the peer; but the request of
        # verify_client_post_handshake() is not even output yet.
        try:
            # Bypasses SSLContext.sslobject_class, as reading and writing do.
            ssl.SSLObject.do_handshake(self.ssl_object)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as exc:
            self._fail(exc)

    # Ending:

    def end_session(self) -> None:
        """Keep the session resumable although no close_notify was exchanged.

        OpenSSL drops the session of a connection that is freed without SSL_shutdown,
        but since TLS 1.1 a missing close_notify does not forbid resumption: RFC 5246
        section 7.2.1. Nothing is sent.
        """
        with suppress(Exception):  # fails in a renegotiation: then it is dropped
            self.ssl_object.unwrap()
        self.output.read()

    # Parts:

    def _take_in(self, ciphertext: bytes | bytearray | memoryview) -> None:
        self._incoming.write(ciphertext)
        if not self._state.handshaken:
            self.do_handshake()
        elif self._state.sending is Sending.OPEN:
            self._read_records()
            if self._tickets:
                self._release_tickets()  # an answer to a KeyUpdate is output as well
        else:
            # Nothing may follow our close_notify, not even such an answer: the peer
            # could take it for clear text. RFC 9846 section 6.1.
            due = self.output.read()
            self._read_records()
            if self.output.pending:
                self.output.read()
            if due:
                self.output.write(due)

    def _read_records(self) -> None:
        # What follows the peer's close_notify is ignored: RFC 9846 section 6.1.
        incoming, read = self._incoming, self.ssl_object.read
        while self._state.can_receive:
            try:
                chunk = read(MAX_RECORD)
            except ssl.SSLWantReadError:
                return
            except Exception as exc:  # noqa: BLE001 - _fail() raises what is not of ssl
                if not is_close_notify(exc, self.version()):
                    self._fail(exc)
                    return
                chunk = b""
            if len(chunk) >= MIN_CHUNK:
                self._plaintext.append(chunk)
                self.unread += len(chunk)
            elif chunk:
                self._keep(chunk)
            else:
                self._state.process_event(Event.CLOSE_NOTIFY_RECEIVED)
            if not incoming.pending:
                return

    def _keep(self, chunk: bytes) -> None:
        self.unread += len(chunk)
        # A peer that sends one byte per record must not cost an object per byte.
        if self._plaintext and len(self._plaintext[-1]) + len(chunk) <= MIN_CHUNK:
            chunk = bytes(self._plaintext.pop()) + chunk
        self._plaintext.append(chunk)

    def _fail(self, error: Exception) -> None:
        # From now on OpenSSL reports EOF: a bad MAC would look like a truncation. So the
        # first error is kept. Callers check the state, so there is no second one.
        if isinstance(error, ssl.SSLError):
            self.error = without_frames(error)
        else:
            self.error = ssl.SSLError(f"a hook of ssl_context raised {error!r}")
        self._state.process_event(Event.FAILED)
        self._release_tickets()
        if not isinstance(error, ssl.SSLError):
            # A bug in the user's class, and the user must see it. What the call did
            # before that is lost, so the session must not end as if complete.
            raise error

    def _release_tickets(self) -> None:
        if self._tickets and self.output.pending:
            self.output.write(self._tickets + self.output.read())
            self._tickets = b""
