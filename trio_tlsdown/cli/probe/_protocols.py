"""What to say in each application protocol: to get TLS, an answer, and an end.

STARTTLS: RFC 3207 (SMTP), RFC 2595 (IMAP, POP3), RFC 4217 (FTP), RFC 4511 section
4.14 (LDAP), RFC 6120 section 5 (XMPP), and PostgreSQL's SSLRequest.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, TypeAlias

import attrs

HEAD: Final = 2**14  # bytes
TAIL: Final = 2**10


@attrs.define
class Answer:
    """What is kept of an answer: enough to see whether it is whole."""

    head: bytes = b""
    tail: bytes = b""
    size: int = 0
    ended: bool = False
    """Whether a close_notify came behind it."""

    def add(self, data: bytes) -> None:
        """Add what came."""
        self.head += data[: HEAD - len(self.head)]
        self.tail = (self.tail + data[-TAIL:])[-TAIL:]
        self.size += len(data)


IsWhole: TypeAlias = Callable[[Answer], bool]

# A regular expression for what the server says, and one for what it has to be.
LINES: Final = rb"(?:\A|\n)\d{3}(?: [^\r\n]*)?\r?\n\Z"  # FTP, SMTP: the last line
POP3_LINE: Final = rb"\A[^\r\n]*\r?\n\Z"


@attrs.frozen
class Step:
    """One exchange in clear text, before TLS."""

    send: bytes
    """``{host}`` in it is the server's name."""

    done: bytes
    """Matches what the server has said when it is complete."""

    agreed: bytes
    """Matches it if the server agrees."""


@attrs.frozen(kw_only=True)
class Protocol:
    """What to say in an application protocol."""

    name: str
    port: int
    steps: tuple[Step, ...] = ()
    """What comes before TLS, which begins at once if there is nothing."""

    greeting: bytes | None = None
    """Matches what the server says first, behind the handshake."""

    request: bytes = b""
    """Asks for an answer; the connection stays."""

    goodbye: bytes = b""
    """Asks for an answer, and the server has to end the connection behind it."""

    bad_request: bytes = b""
    """What no server of this protocol understands."""

    filler: bytes = b""
    """More requests of the same kind, which a server that ends will leave unread."""

    is_whole: IsWhole = lambda answer: answer.ended
    alpn: tuple[str, ...] = ()
    banner: bytes | None = None
    """Finds in what the server says first what it says of itself."""

    def banner_of(self, said: bytes) -> bytes:
        """What the server says of itself, or nothing."""
        found = None if self.banner is None else re.search(self.banner, said)
        return found[1] if found else b""


def named(message: bytes, host: str, port: int) -> bytes:
    """Put the server's name into a message, and as HTTP has it: RFC 9110 section 7.2."""
    name = host.encode("idna")
    authority = b"[%b]" % name if ":" in host else name
    if port != HTTPS:
        authority += b":%d" % port
    return message.replace(b"{host}", name).replace(b"{authority}", authority)


# HTTP:

HTTPS: Final = 443
CHUNKS_END: Final = b"0\r\n\r\n"


def _http_is_whole(answer: Answer) -> bool:
    """RFC 9112 section 6.3, for the answer to a GET."""
    start, gap, _ = answer.head.partition(b"\r\n\r\n")
    if not gap:
        return False
    if re.match(rb"HTTP/1\.\d (?:204|304)\b", start):
        return True
    if re.search(rb"(?im)^transfer-encoding:.*\bchunked\s*$", start):
        return answer.tail.endswith(CHUNKS_END)
    if length := re.search(rb"(?im)^content-length:[ \t]*(\d{1,15})\s*$", start):
        return answer.size >= len(start) + len(gap) + int(length[1])
    return answer.ended


def http(path: str = "/") -> Protocol:
    """HTTP/1.1, asking for *path*."""
    get = b"GET " + path.encode("ascii") + b" HTTP/1.1\r\nHost: {authority}\r\n"
    get += b"User-Agent: trio-tlsdown-probe\r\nAccept: */*\r\n"
    return Protocol(
        name="http",
        port=HTTPS,
        request=get + b"\r\n",
        goodbye=get + b"Connection: close\r\n\r\n",
        bad_request=b"\x01 is no request\r\n\r\n",
        filler=get + b"\r\n",
        is_whole=_http_is_whole,
        alpn=("http/1.1",),
        banner=rb"(?im)^server:[ \t]*([^\r\n]*)",
    )


def raw(send: bytes) -> Protocol:
    """Any protocol: *send* is all that is said, and the answer ends with close_notify."""
    return Protocol(name="raw", port=HTTPS, request=send, goodbye=send, filler=send)


# Line by line:


def _ends_with(pattern: bytes) -> IsWhole:
    found = re.compile(pattern)
    return lambda answer: found.search(answer.tail) is not None


def _lines(
    name: str,
    port: int,
    *steps: Step,
    request: bytes,
    goodbye: bytes,
    done: bytes,
    greeting: bytes | None = None,
) -> Protocol:
    return Protocol(
        name=name,
        port=port,
        steps=steps,
        greeting=greeting,
        request=request,
        goodbye=goodbye,
        bad_request=b"\x01 is no request\r\n",
        filler=request,
        is_whole=_ends_with(done),
        banner=rb"\A([^\r\n]*)",
    )


SMTP: Final = {"request": b"NOOP\r\n", "goodbye": b"QUIT\r\n", "done": LINES}
FTP: Final = SMTP
POP3: Final = {"request": b"NOOP\r\n", "goodbye": b"QUIT\r\n", "done": POP3_LINE}
IMAP: Final = {
    "request": b"p1 NOOP\r\n",
    "goodbye": b"p2 LOGOUT\r\n",
    "done": rb"(?:\A|\n)(?:p\d|\*) (?:OK|BAD|NO)[^\r\n]*\r?\n\Z",
}
IMAP_GREETING: Final = rb"\A\*[^\r\n]*\r?\n\Z"


# LDAP: messages in BER, RFC 4511 sections 4.2, 4.3 and 4.14.

LDAP_START_TLS: Final = (
    b"\x30\x1d\x02\x01\x01\x77\x18\x80\x16" + b"1.3.6.1.4.1.1466.20037"
)
LDAP_BIND: Final = b"\x30\x0c\x02\x01\x02\x60\x07\x02\x01\x03\x04\x00\x80\x00"
LDAP_UNBIND: Final = b"\x30\x05\x02\x01\x03\x42\x00"


def _ldap_is_whole(answer: Answer) -> bool:
    head = answer.head
    # Short messages only: the length is in one byte (or in those that it counts).
    if len(head) < 2 or head[1] < 0x80:
        return len(head) >= 2 and len(head) >= 2 + head[1]
    size = head[1] & 0x7F
    return len(head) >= 2 + size + int.from_bytes(head[2 : 2 + size], "big")


def _ldap(name: str, port: int, *steps: Step) -> Protocol:
    return Protocol(
        name=name,
        port=port,
        steps=steps,
        request=LDAP_BIND,
        goodbye=LDAP_UNBIND,
        bad_request=b"\xff" * 16,
        filler=LDAP_BIND,
        is_whole=_ldap_is_whole,
    )


# PostgreSQL: a length, then a code.


def _postgres_message(code: int, body: bytes = b"") -> bytes:
    return (8 + len(body)).to_bytes(4, "big") + code.to_bytes(4, "big") + body


POSTGRES_START: Final = _postgres_message(
    196608, b"user\0trio-tlsdown-probe\0database\0postgres\0\0"
)
POSTGRES_TERMINATE: Final = b"X\0\0\0\x04"


def _postgres_is_whole(answer: Answer) -> bool:
    head = answer.head
    return len(head) >= 5 and len(head) > int.from_bytes(head[1:5], "big")


# XMPP:

XMPP_OPEN: Final = (
    b"<?xml version='1.0'?><stream:stream to='{host}' version='1.0' "
    b"xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"
)

PROTOCOLS: Final[dict[str, Protocol]] = {
    each.name: each
    for each in (
        http(),
        raw(b""),
        _lines(
            "smtp",
            25,
            Step(b"", LINES, rb"\A220"),
            Step(b"EHLO probe.invalid\r\n", LINES, rb"\A250"),
            Step(b"STARTTLS\r\n", LINES, rb"\A220"),
            **SMTP,
        ),
        _lines("smtps", 465, greeting=LINES, **SMTP),
        _lines(
            "imap",
            143,
            Step(b"", IMAP_GREETING, rb"\A\* (?:OK|PREAUTH)"),
            Step(b"p0 STARTTLS\r\n", rb"(?:\A|\n)p0 [^\r\n]*\r?\n\Z", rb"p0 OK"),
            **IMAP,
        ),
        _lines("imaps", 993, greeting=IMAP_GREETING, **IMAP),
        _lines(
            "pop3",
            110,
            Step(b"", POP3_LINE, rb"\A\+OK"),
            Step(b"STLS\r\n", POP3_LINE, rb"\A\+OK"),
            **POP3,
        ),
        _lines("pop3s", 995, greeting=POP3_LINE, **POP3),
        _lines(
            "ftp",
            21,
            Step(b"", LINES, rb"\A220"),
            Step(b"AUTH TLS\r\n", LINES, rb"\A234"),
            **FTP,
        ),
        _lines("ftps", 990, greeting=LINES, **FTP),
        _ldap("ldap", 389, Step(LDAP_START_TLS, rb"\A\x30.{9,}\Z", rb"\x0a\x01\x00")),
        _ldap("ldaps", 636),
        Protocol(
            name="postgres",
            port=5432,
            steps=(Step(_postgres_message(80877103), rb"\A.", rb"\AS\Z"),),
            request=POSTGRES_START,
            goodbye=POSTGRES_START + POSTGRES_TERMINATE,
            bad_request=_postgres_message(0x7FFF0001),
            filler=POSTGRES_TERMINATE,
            is_whole=_postgres_is_whole,
        ),
        Protocol(
            name="xmpp",
            port=5222,
            steps=(
                Step(XMPP_OPEN, rb"</stream:features>\s*\Z", rb"<starttls\b"),
                Step(
                    b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
                    rb">\s*\Z",
                    rb"\A\s*<proceed\b",
                ),
            ),
            request=XMPP_OPEN,
            goodbye=XMPP_OPEN + b"</stream:stream>",
            bad_request=b"<is-no-request<",
            filler=b"<message/>",
            is_whole=_ends_with(rb"</stream:(?:features|stream)>\s*\Z"),
        ),
    )
}
