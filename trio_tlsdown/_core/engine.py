"""One TLS session without I/O: bytes in, bytes out, and how it ended.

What `trio.SSLStream` does with an `ssl.SSLObject` can lose what it has in hand when a
call fails or is cancelled: plaintext, ciphertext it had taken out of its buffer, the
fatal alert it did not flush, and, after the first error, everything that is left to
read. Here

- *plaintext* stays in a buffer until `take`, when no ``await`` can come in
  between;
- *ciphertext* stays in `output` until the wire has its turn to send, and is
  sent from there in order, so nothing overtakes and nothing is skipped;
- *endings* go to the `ConnectionState`, and the first error is kept.
"""

from __future__ import annotations

import ssl
from collections import deque
from contextlib import suppress
from typing import Final

from trio_tlsdown._util import without_frames

from .state import ConnectionState, Event, Receiving, Sending

# The most plaintext that one record holds: RFC 9846 section 5.1. Reading in this
# size leaves no decrypted bytes inside OpenSSL.
MAX_RECORD: Final = 2**14

# Most ciphertext given to OpenSSL at once: its buffer grows to this size, never
# shrinks, and each idle connection has one.
MAX_BIO_WRITE: Final = 2**16

# Smaller pieces of plaintext are put together while they wait.
MIN_CHUNK: Final = 2**12


class Engine:
    """One TLS session.

    Args:
      context: The user's context. It is never changed.
      state: Told how the session goes.
      server_side: Whether this is the server's end.
      server_hostname: The server's name, for a client.

    Attributes:
      output: Ciphertext that is due.
      unread: Bytes of plaintext that wait to be taken.
      error: What broke the session.
      ssl_object: The session as OpenSSL has it.
    """

    __slots__ = (
        "_incoming",
        "_plaintext",
        "_state",
        "_tickets",
        "_version",
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
        self._state = state
        self._plaintext: deque[bytes | memoryview] = deque()
        self._tickets = b""
        self._version: str | None = None

    # Opening:

    def do_handshake(self) -> None:
        """Take the handshake as far as it goes with what was fed."""
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
            # A close_notify instead of a handshake: nothing was authenticated.
            self._state.process_event(Event.TRUNCATED)
            return
        except Exception as exc:  # noqa: BLE001 - _fail() raises what is not of ssl
            self._fail(exc)
            return
        self._state.process_event(Event.HANDSHAKE_DONE)
        # OpenSSL does not tell in the middle of a session ticket.
        self._version = self.ssl_object.version()
        if self.server_side and self.version() == "TLSv1.3":
            # OpenSSL sends session tickets at once. A client that only sends and
            # never reads would then deadlock with us, or get a reset instead of
            # its last bytes. They wait for the next output of any kind:
            # https://github.com/python-trio/trio/issues/819
            self._tickets = self.output.read()
        # Data may have come along with the peer's last flight. On TLS 1.2 a message may
        # even be in the same record, which OpenSSL has taken out of the buffer already.
        if self._incoming.pending or self._version != "TLSv1.3":
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
        """Decrypt what was received; ``b""`` is the end of the transport.

        OpenSSL is never told of that end: it would put a fatal alert out and
        break the session for sending, and with OP_IGNORE_UNEXPECTED_EOF take
        the cut for a close_notify.
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
        """Up to *max_bytes* of what was decrypted; ``b""`` if there is nothing."""
        if max_bytes >= self.unread:
            everything = b"".join(self._plaintext)
            self._plaintext.clear()
            self.unread = 0
            return everything
        taken: list[bytes | memoryview] = []
        room = max_bytes
        self.unread -= room
        while room:
            chunk = self._plaintext.popleft()
            if len(chunk) > room:
                # A view: many small reads of one record must not copy its rest
                # each time.
                view = memoryview(chunk)
                self._plaintext.appendleft(view[room:])
                chunk = view[:room]
            taken.append(chunk)
            room -= len(chunk)
        return bytes(taken[0]) if len(taken) == 1 else b"".join(taken)

    def trailing(self) -> bytes:
        """What came behind the peer's close_notify, in clear text."""
        return self._incoming.read()

    # Sending:

    def encrypt(self, data: bytes | bytearray | memoryview) -> None:
        """Make *data* due, unless it is too late.

        Raises:
          ssl.SSLWantReadError: the peer renegotiates (TLS 1.2), or a part of a
            message such as a session ticket has come (TLS 1.3). Send what is due,
            feed what follows, then call again with the same data.
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
        """Make our close_notify due, unless it is already, or too late.

        Raises:
          ssl.SSLWantReadError: as of `encrypt`.
        """
        if self._state.sending is not Sending.OPEN:
            return
        try:
            # SSL_shutdown reads, and eats what it reads: application data would
            # be lost and every later read fail. It finds none, because feed()
            # has decrypted all there was, and keeps a part of a record. So a
            # return does not mean that the peer's alert was received, either.
            self.ssl_object.unwrap()
        except ssl.SSLWantReadError:
            pass
        except Exception as exc:
            if getattr(exc, "reason", None) == "SHUTDOWN_WHILE_IN_INIT":
                raise ssl.SSLWantReadError(
                    ssl.SSL_ERROR_WANT_READ, "the peer has more to say first"
                ) from exc
            self._fail(exc)
            return
        self._state.process_event(Event.CLOSE_NOTIFY_ENCRYPTED)
        self._release_tickets()

    # Ending:

    def end_session(self) -> None:
        """Let the session be resumed although no close_notify was exchanged.

        OpenSSL forgets the session of a connection that is freed without
        SSL_shutdown, at either end. But since TLS 1.1 a missing close_notify does
        not forbid resumption: RFC 5246 section 7.2.1. Nothing is sent.
        """
        with suppress(Exception):  # in a renegotiation, say: then it is forgotten
            self.ssl_object.unwrap()
        self.output.read()

    # Parts:

    def _take_in(self, ciphertext: bytes | bytearray | memoryview) -> None:
        self._incoming.write(ciphertext)
        if not self._state.handshaken:
            self.do_handshake()
        elif self._state.sending is Sending.OPEN:
            self._read_records()
            self._release_tickets()  # an answer to a KeyUpdate is output, too
        else:
            # Nothing follows our close_notify, not even such an answer: to
            # the peer it could be clear text. RFC 9846 section 6.1.
            due = self.output.read()
            self._read_records()
            if self.output.pending:
                self.output.read()
            if due:
                self.output.write(due)

    def _read_records(self) -> None:
        # What follows the peer's close_notify is not for us: RFC 9846
        # section 6.1.
        incoming, read = self._incoming, self.ssl_object.read
        while self._state.can_receive:
            try:
                chunk = read(MAX_RECORD)
            except ssl.SSLWantReadError:
                return
            except Exception as exc:  # noqa: BLE001 - _fail() raises what is not of ssl
                if not self._is_close_notify(exc):
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

    def _is_close_notify(self, error: Exception) -> bool:
        # ZeroReturn is how it shows once ours was sent; since OpenSSL 3.2 an EOF
        # without a reason, if user_canceled came before it, as from Java:
        # https://github.com/openssl/openssl/issues/25254. OpenSSL is never told
        # that the transport ended. An EOF with a reason is a failure.
        return isinstance(error, ssl.SSLZeroReturnError) or (
            isinstance(error, ssl.SSLEOFError)
            and not error.reason
            and self.version() == "TLSv1.3"
        )

    def _keep(self, chunk: bytes) -> None:
        self.unread += len(chunk)
        # A peer that sends one byte a record must not cost an object a byte.
        if self._plaintext and len(self._plaintext[-1]) + len(chunk) <= MIN_CHUNK:
            chunk = bytes(self._plaintext.pop()) + chunk
        self._plaintext.append(chunk)

    def _fail(self, error: Exception) -> None:
        # OpenSSL remembers only that something failed, and says EOF from then
        # on: a bad MAC would look like a truncation. The first error stays.
        # Each caller looks at the state first, so there is no second.
        if isinstance(error, ssl.SSLError):
            self.error = without_frames(error)
        else:
            self.error = ssl.SSLError(f"ssl_context.sslobject_class raised {error!r}")
        self._state.process_event(Event.FAILED)
        self._release_tickets()
        if not isinstance(error, ssl.SSLError):
            # A mistake in the user's class, and the user's to see. What the call has
            # done before is lost: this must not end as if it were whole.
            raise error

    def _release_tickets(self) -> None:
        if self._tickets and self.output.pending:
            self.output.write(self._tickets + self.output.read())
            self._tickets = b""
