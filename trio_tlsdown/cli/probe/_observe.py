"""All input and output of the probe: one connection, and what was seen of its end.

Each connection is played as an `Experiment` has it. What a server does with it is
bounded: every wait has a limit, of what it sends only the beginning and the end are
kept, and after a number of bytes nothing more is read.
"""

from __future__ import annotations

import enum
import re
import ssl
from contextlib import suppress
from functools import partial
from typing import Final

import attrs
import trio

from trio_tlsdown import (
    ConnectFailedError,
    HandshakeTimeoutError,
    ShutdownPolicy,
    TLSFailedError,
    TLSStream,
    TraceEvent,
    TraceKind,
    TruncatedError,
)
from trio_tlsdown.cli._record import Record
from trio_tlsdown.cli._tls_words import is_alert, words_of
from trio_tlsdown.testing import decrypt_record

from ._certificate import Certificate, read_certificate
from ._key_log import KeyLog
from ._protocols import PROTOCOLS, Answer, Protocol, Step, named
from ._targets import Target
from ._text_safety import printable
from ._witness import ALERT, Behind, TransportEnd, Witness, what_is_behind

QUIET: Final = 0.2  # seconds in which an idle server is to say nothing
AFTER_ANSWER: Final = 1.0  # seconds, of those that a whole answer leaves for the end
BEHIND: Final = 0.3  # seconds to look what comes behind the two close_notify
SLOW_READER: Final = 0.1  # seconds before the first read
FILLER: Final = 2**15  # bytes, more than a server reads at once
MAX_CLEAR_TEXT: Final = 2**16  # bytes
MAX_BEHIND: Final = 2**12
MAX_IDLE: Final = 2**20
MAX_ANSWER: Final = 2**26
MAX_EVENTS: Final = 200
DRIPS: Final = 10
# The alert close_notify at the level of an error: on TLS 1.2 OpenSSL has no name of it, on
# TLS 1.3 it ignores the level, as it may (RFC 9846 section 6).
UNNAMED: Final = "UNKNOWN_ERROR"
FATAL_CLOSE_NOTIFY: Final = "close_notify as a fatal alert"
FATAL_LEVEL: Final = (ALERT, b"\x02\x00")
# Records of a server's handshake: they are encrypted, too, with keys of their own.
HANDSHAKE_RECORDS: Final = 32


class Experiment(enum.Enum):
    """What we do on one connection. The name is what programs call it."""

    IDLE = "idle"
    """Shake hands, say nothing; send close_notify and wait for the answer."""

    HALF_CLOSE = "half-close"
    """Send a request, then close_notify at once; wait for the answer to both."""

    GOODBYE = "goodbye"
    """Send a request that makes the server end the connection, and wait for that."""

    BAD_REQUEST = "bad-request"
    """Send what is no request, and wait for the end."""

    UNREAD = "unread"
    """Like the goodbye, with more requests behind it, which nobody will read."""

    RESUME = "resume"
    """Resume the session of a connection that ended well. Then cut: FIN only."""

    RESUME_CUT = "resume-cut"
    """Resume the session of a connection that was cut."""


class Ending(enum.Enum):
    """How the server's direction ended. The name is what programs call it."""

    OPEN = "open"
    CLOSE_NOTIFY = "close_notify"
    FIN = "FIN"
    RESET = "reset"
    ALERT = "fatal alert"
    BAD_RECORD = "bad record"
    FLOOD = "flood"


# What leaves a session that was cut, by either side.
CUT: Final = frozenset({Ending.OPEN, Ending.FIN})


class Refusal(enum.Enum):
    """Why there was no TLS session. The name is what programs call it."""

    NO_TCP = "no TCP connection"
    NO_STARTTLS = "no STARTTLS"
    CUT = "cut in the handshake"
    STALLED = "stalled in the handshake"
    VERSION = "not this TLS version"
    TLS = "TLS handshake failed"


class ObserveError(Exception):
    """There was no TLS session."""

    def __init__(self, refusal: Refusal, why: object) -> None:
        super().__init__(printable(str(why)))
        self.refusal = refusal


@attrs.frozen(kw_only=True)
class Observation:
    """What was seen on one connection. Times are seconds since the handshake."""

    experiment: Experiment
    seconds: float
    """How long it took, from TCP's handshake on."""

    resumed: bool = False
    session_kept: bool = False
    """Whether it left a session, which the next of these may resume."""

    ours: float | None = None
    """When our close_notify left."""

    theirs: float | None = None
    """When the server's close_notify came."""

    ending: Ending = Ending.OPEN
    ended: float | None = None
    """When the server's direction of TLS ended, however that was."""

    mid_record: bool = False
    """Whether the end was inside a record."""

    alert: str | None = None
    """OpenSSL's reason, if TLS failed; or that its close_notify was a fatal alert."""

    data_before: int = 0
    """Bytes of application data that came before our close_notify had left."""

    data_after: int = 0
    """Likewise, afterwards."""

    whole: bool = False
    """Whether the answer came to its end, as its protocol tells."""

    odd_alerts: int = 0
    """How many records came that look like alerts, before the close_notify."""

    drips: bool = False
    """Whether what came, came a few bytes at a time."""

    behind: Behind = Behind.NOTHING
    """What came behind the server's close_notify."""

    tcp: TransportEnd = TransportEnd.OPEN
    """How TCP ended in the server's direction."""

    tcp_ended: float | None = None

    events: tuple[TraceEvent, ...] = attrs.field(default=(), repr=False)
    began: float = 0.0
    """Seconds on Trio's clock, for `events`."""


@attrs.frozen(kw_only=True)
class Limits:
    """Seconds that a server may take."""

    handshake: float = 10.0
    """For TCP, STARTTLS and the handshake."""

    answer: float = 5.0
    """For an answer, and for an end."""


@attrs.define
class Conversation:
    """One server, spoken to in one way: connects, and observes."""

    target: Target
    protocol: Protocol
    server_name: str
    limits: Limits
    keep_events: bool = False
    key_log: KeyLog | None = None
    """To tell the level of a close_notify on TLS 1.3."""

    resumes: bool = True
    """Whether to look whether sessions can be resumed."""

    address: tuple[str, int] | None = None
    """Where it was found first: all connections go there."""

    banner: str | None = None
    """What the server says of itself."""

    cipher: str | None = None
    certificate: Certificate | None = None
    said: bytes = b""
    """The last that it said in clear text."""

    step: Step | None = None
    """The step towards TLS to which it said that."""

    session: ssl.SSLSession | None = None
    """Resumes a connection that ended well."""

    cut_session: ssl.SSLSession | None = None
    """Resumes a connection that was cut, by either side."""

    async def observe(
        self, experiment: Experiment, context: ssl.SSLContext
    ) -> Observation:
        """Play an experiment on a new connection.

        Cancellation:
          The connection is closed.

        Raises:
          ObserveError: there was no TLS session.
        """
        began = trio.current_time()
        transport = await self._connect()
        try:
            seen = await self._observe(experiment, context, transport, began)
        finally:
            await trio.aclose_forcefully(transport)  # noqa: ASYNC102  (no wait)
        # On TLS 1.3 a client has shaken hands before its certificate is looked at.
        if seen.alert is not None and ABOUT_CERTIFICATE.search(seen.alert):
            why = f"it refused our client certificate, or wants one: {seen.alert}"
            raise ObserveError(Refusal.TLS, f"{why} (see --cert)")
        return seen

    def session_for(self, experiment: Experiment) -> ssl.SSLSession | None:
        """What the experiment resumes; None if it resumes none, or there is none."""
        sessions = {
            Experiment.RESUME: self.session,
            Experiment.RESUME_CUT: self.cut_session,
        }
        return sessions.get(experiment)

    async def _connect(self) -> trio.SocketStream:
        host, port = self.address or (self.target.host, self.target.port)
        try:
            with trio.fail_after(self.limits.handshake):
                transport = await trio.open_tcp_stream(host, port)
        except trio.TooSlowError as exc:
            why = f"no connection in {self.limits.handshake:g} s"
            raise ObserveError(Refusal.NO_TCP, why) from exc
        except (OSError, UnicodeError) as exc:
            raise ObserveError(Refusal.NO_TCP, _reason_of(host, port, exc)) from exc
        with suppress(OSError):  # it has gone already
            # The same one each time, of those that the name may have.
            self.address = transport.socket.getpeername()[:2]
        return transport

    async def _observe(
        self,
        experiment: Experiment,
        context: ssl.SSLContext,
        transport: trio.SocketStream,
        began: float,
    ) -> Observation:
        witness, record = Witness(transport), Record()
        stream = TLSStream(
            witness,
            context,
            server_hostname=self.server_name,
            policy=ShutdownPolicy(timeout=1.0, linger_timeout=0.0),
            # A stream that is traced refers to itself: it waits for the collector.
            trace=partial(_note, record) if self.keep_events else None,
        )
        try:
            if session := self.session_for(experiment):
                stream.session = session
            await self._shake_hands(stream, witness)
            handshaken = trio.current_time()
            return await _Play(
                self, experiment, stream, witness, record, began, handshaken
            ).run()
        finally:
            # It tells OpenSSL that the session may be resumed.
            await trio.aclose_forcefully(stream)  # noqa: ASYNC102  (no wait)

    async def _shake_hands(self, stream: TLSStream[Witness], witness: Witness) -> None:
        deadline = trio.current_time() + self.limits.handshake
        with trio.move_on_at(deadline) as clear:
            await self._start_tls(witness)
        if clear.cancelled_caught:
            raise self._no_starttls()
        try:
            with trio.fail_at(deadline):
                await stream.do_handshake()
        except trio.TooSlowError as exc:
            limit = HandshakeTimeoutError(self.limits.handshake)
            raise ObserveError(Refusal.STALLED, limit) from exc
        except TLSFailedError as exc:
            raise ObserveError(_refusal_of(exc), words_of(exc)) from exc
        except trio.BrokenResourceError as exc:
            raise ObserveError(Refusal.CUT, exc) from exc
        self.cipher = (stream.cipher() or (None,))[0]
        if self.certificate is None:
            with suppress(ValueError):  # a fatal alert has come along
                certificate = stream.getpeercert(binary_form=True)
                self.certificate = read_certificate(certificate)

    async def _start_tls(self, witness: Witness) -> None:
        try:
            for step in self.protocol.steps:
                self.said, self.step = b"", step
                await witness.send_all(self.named(step.send))
                while not re.search(step.done, self.said, re.DOTALL):
                    room = MAX_CLEAR_TEXT - len(self.said)
                    data = await witness.receive_uncounted(room) if room else b""
                    self.said += data
                    if not data:
                        raise self._no_starttls()
                if not re.search(step.agreed, self.said):
                    raise self._no_starttls()
                self.note_banner(self.said)
        except trio.BrokenResourceError as exc:
            raise self._no_starttls() from exc

    def _no_starttls(self) -> ObserveError:
        if self.said:
            why = f"the server said {self.said!r}"
        elif self.step is not None and self.step.send:
            why = "the server did not answer"
        else:
            why = "the server sent no greeting"
        implicit = f"{self.protocol.name}s"
        if (
            not self.said
            and self.step in self.protocol.steps[:1]
            and (implicit in PROTOCOLS)
        ):
            why += f"; if TLS starts at once there, use --protocol {implicit}"
        return ObserveError(Refusal.NO_STARTTLS, f"no STARTTLS: {why}")

    def named(self, message: bytes) -> bytes:
        """Put the server's name into a message."""
        return named(message, self.server_name, self.target.port)

    def note_banner(self, said: bytes) -> None:
        """Keep what the server says first, as what it says of itself."""
        if self.banner is None and said:
            self.banner = printable(self.protocol.banner_of(said))


def _note(record: Record, event: TraceEvent) -> None:
    if not event.size:  # what of the bytes is application data, `_Play` knows
        record.add(event)


# What OpenSSL says if the server does not speak the only version that we offer.
OTHER_VERSION: Final = frozenset(
    {"TLSV1_ALERT_PROTOCOL_VERSION", "UNSUPPORTED_PROTOCOL", "NO_PROTOCOLS_AVAILABLE"}
)
ABOUT_CERTIFICATE: Final = re.compile("ALERT.*(?:CERTIFICATE|UNKNOWN_CA|ACCESS_DENIED)")


def _refusal_of(error: TLSFailedError) -> Refusal:
    return Refusal.VERSION if error.reason in OTHER_VERSION else Refusal.TLS


def _reason_of(host: str, port: int, error: OSError | UnicodeError) -> object:
    if isinstance(error, UnicodeError):
        return f"no host can have this name: {error}"
    return ConnectFailedError(host, port, error)


@attrs.define
class _Play:
    """One experiment, on a connection that has shaken hands."""

    conversation: Conversation
    experiment: Experiment
    stream: TLSStream[Witness]
    witness: Witness
    record: Record
    began: float
    handshaken: float
    answer: Answer = attrs.field(factory=Answer)
    ending: Ending = Ending.OPEN
    ended: float | None = None
    ours: float | None = None
    alert: str | None = None
    mid_record: bool = False
    data_before: int = 0
    behind: bytes = b""
    session_kept: bool = False

    async def run(self) -> Observation:
        protocol = self.conversation.protocol
        limit = self.conversation.limits.answer
        with trio.move_on_after(limit):
            await self._speak(protocol)
        if self.experiment is not Experiment.RESUME:
            await self._receive_to_end(limit)
            await self._close()
        self._keep_session()
        return self._observation()

    # What we say:

    async def _speak(self, protocol: Protocol) -> None:
        if protocol.greeting:
            await self._receive_greeting(protocol.greeting)
        named = self.conversation.named
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            match self.experiment:
                case Experiment.IDLE:
                    await self._receive_for(QUIET)
                    if self.ended is None:
                        await self._half_close()
                case Experiment.HALF_CLOSE:
                    await self._send(named(protocol.request))
                    await self._half_close()
                case Experiment.GOODBYE:
                    await self._send(named(protocol.goodbye))
                case Experiment.BAD_REQUEST:
                    await self._send(protocol.bad_request)
                case Experiment.UNREAD:
                    filler = named(protocol.filler)
                    filler *= FILLER // len(filler) + 1
                    await self._send(named(protocol.goodbye) + filler)
                    await trio.sleep(SLOW_READER)
                case Experiment.RESUME:
                    await self._get_session(named(protocol.request))
                case _:  # RESUME_CUT
                    await self._half_close()

    async def _send(self, data: bytes) -> None:
        await self.stream.send_all(data)
        self._note_data(trio.current_time(), TraceKind.BYTES_SENT, len(data))

    async def _half_close(self) -> None:
        self.data_before = self.answer.size
        await self.stream.send_eof(allow_tls12=True)
        self.ours = trio.current_time()

    async def _get_session(self, request: bytes) -> None:
        await self._receive_for(QUIET)
        self._keep_session()
        if self.conversation.cut_session is None and self.ended is None and request:
            # Some servers send the tickets of TLS 1.3 along with the first answer.
            await self._send(request)
            await self._receive_for(QUIET)

    # What we hear:

    async def _receive_greeting(self, done: bytes) -> None:
        with trio.move_on_after(self.conversation.limits.answer):
            while self.ended is None and not re.search(done, self.answer.tail):
                await self._receive()
        self.conversation.note_banner(self.answer.head)
        self.answer = Answer()

    async def _receive_for(self, seconds: float) -> None:
        with trio.move_on_after(seconds):
            while self.ended is None:
                await self._receive()

    async def _receive_to_end(self, limit: float) -> None:
        with trio.move_on_after(limit) as scope:
            while self.ended is None:
                await self._receive()
                if self._is_whole() and self.experiment is not Experiment.HALF_CLOSE:
                    # It has said all: a server that ends does so now.
                    scope.deadline = min(
                        scope.deadline, trio.current_time() + AFTER_ANSWER
                    )

    async def _receive(self) -> None:
        try:
            data = await self.stream.receive_some()
        except TruncatedError as exc:
            self._end(Ending.FIN)
            self.mid_record = bool(exc.mid_record)
        except TLSFailedError as exc:
            self._failed(exc.reason or "")
        except trio.BrokenResourceError:
            self._end(Ending.RESET)
        else:
            if not data:
                self.answer.ended = True
                self._end(Ending.CLOSE_NOTIFY)
                return
            self.answer.add(data)
            # Not now: a close_notify that came along with it was traced before.
            came = self.witness.received_at
            self._note_data(came, TraceKind.BYTES_RECEIVED, len(data))
            idle = self.experiment in (Experiment.IDLE, Experiment.RESUME_CUT)
            if self.answer.size > (MAX_IDLE if idle else MAX_ANSWER):
                self._end(Ending.FLOOD)

    def _note_data(self, time: float, kind: TraceKind, size: int) -> None:
        # It can come in any number of pieces; of all else there is little.
        if self.conversation.keep_events and len(self.record.events) < MAX_EVENTS:
            self.record.add(TraceEvent(time, "client", kind, size))

    def _failed(self, reason: str) -> None:
        if reason == UNNAMED and self.witness.alerts:
            self.alert = FATAL_CLOSE_NOTIFY
        else:
            self.alert = printable(reason)
        alerted = self.alert == FATAL_CLOSE_NOTIFY or is_alert(reason)
        self._end(Ending.ALERT if alerted else Ending.BAD_RECORD)

    def _end(self, ending: Ending) -> None:
        self.ending, self.ended = ending, trio.current_time()

    def _is_whole(self) -> bool:
        return self.conversation.protocol.is_whole(self.answer)

    # How it ends:

    async def _close(self) -> None:
        """Answer the close_notify, and see what is behind it."""
        if self.ending is not Ending.CLOSE_NOTIFY:
            return
        if self.ours is None:
            self.data_before = self.answer.size
            # Before we have answered: does it wait for that?
            await self._receive_behind(QUIET)
        with suppress(trio.BrokenResourceError):
            _, trailing = await self.stream.unwrap()
            self.ours = self.ours or trio.current_time()
            self.behind = trailing[:MAX_BEHIND] + self.behind
            await self._receive_behind(BEHIND)

    def _keep_session(self) -> None:
        talk = self.conversation
        ended_well = self.ending is Ending.CLOSE_NOTIFY
        was_cut = self.ending in CUT
        wanted = (ended_well and talk.session is None) or (
            was_cut and talk.cut_session is None
        )
        if not (talk.resumes and wanted):
            return
        session = self.stream.session
        # TLS 1.3 resumes by tickets only; TLS 1.2 also by the session's name.
        by_name = self.stream.version() != "TLSv1.3"
        if session is None or not (session.has_ticket or (by_name and session.id)):
            return
        self.session_kept = True
        if ended_well:
            talk.session = session
        else:
            talk.cut_session = session

    async def _receive_behind(self, seconds: float) -> None:
        with trio.move_on_after(seconds), suppress(trio.BrokenResourceError):
            while self.witness.end is TransportEnd.OPEN:
                data = await self.witness.receive_uncounted(MAX_BEHIND)
                self.behind += data[: MAX_BEHIND - len(self.behind)]
                if len(self.behind) == MAX_BEHIND:
                    return

    def _observation(self) -> Observation:
        behind = what_is_behind(self.behind)
        ended_well = self.ending is Ending.CLOSE_NOTIFY
        if self._is_fatal():
            self.alert = FATAL_CLOSE_NOTIFY
        if self.ours is None:
            self.data_before = self.answer.size
        if self.answer.head and self.conversation.protocol.name == "http":
            self.conversation.note_banner(self.answer.head)
        return Observation(
            experiment=self.experiment,
            seconds=trio.current_time() - self.began,
            resumed=bool(self.stream.session_reused),
            session_kept=self.session_kept,
            ours=self._since(self.ours),
            theirs=self._since(self.ended) if ended_well else None,
            ending=self.ending,
            ended=self._since(self.ended),
            mid_record=self.mid_record,
            alert=self.alert,
            data_before=self.data_before,
            data_after=self.answer.size - self.data_before,
            whole=self._is_whole(),
            odd_alerts=max(
                0, self.witness.alerts - ended_well - (behind is Behind.ALERT)
            ),
            drips=self.witness.drips >= DRIPS,
            behind=behind,
            tcp=self.witness.end,
            tcp_ended=self._since(self.witness.ended_at),
            events=self._events() if self.conversation.keep_events else (),
            began=self.began,
        )

    def _is_fatal(self) -> bool:
        """Whether its close_notify, the last alert, had the level of a fatal alert."""
        log, cipher = self.conversation.key_log, self.conversation.cipher
        secret = log.take(self.witness.client_random) if log else None
        if secret is None or cipher is None or self.ending is not Ending.CLOSE_NOTIFY:
            return False
        record, number = self.witness.last_alert
        numbers = range(max(0, number - HANDSHAKE_RECORDS), number + 1)
        with suppress(RuntimeError):  # a cipher suite that nobody has by default
            inner = decrypt_record(
                record, cipher=cipher, secret=secret, numbers=numbers
            )
            return inner == FATAL_LEVEL
        return False  # pragma: no cover - likewise

    def _since(self, time: float | None) -> float | None:
        return None if time is None else time - self.handshaken

    def _events(self) -> tuple[TraceEvent, ...]:
        left_out = (TraceKind.UNWRAPPED, TraceKind.FIN_RECEIVED)
        events = [e for e in self.record.events if e.kind not in left_out]
        if self.witness.end is TransportEnd.FIN and self.witness.ended_at is not None:
            events.append(
                TraceEvent(self.witness.ended_at, "client", TraceKind.FIN_RECEIVED)
            )
        return tuple(sorted(events, key=lambda event: event.time))
