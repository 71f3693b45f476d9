"""The ways to end a TLS connection badly, by name.

Each is a script for one party, run when it has shaken hands and said what it had
to say (but see `Behaviour.in_handshake`). When a script returns, its party reads
on until the transport ends, and then closes it.

Software is named where it was seen to do so, in that version and in the way told;
another version, or another configuration, may do better.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

import attrs
import trio

from ._options import check_type
from ._scripted import ScriptedPeer

Script: TypeAlias = Callable[[ScriptedPeer], Awaitable[None]]

FATAL: Final = 2
WARNING: Final = 1
INTERNAL_ERROR: Final = 80
USER_CANCELED: Final = 90

LATE: Final = 3.0  # seconds: within the timeout of a ShutdownPolicy
DRIP: Final = 0.05  # seconds from drop to drop
DROP: Final = 1  # byte
FLOOD: Final = 2**24  # bytes
CHUNK: Final = 2**14  # bytes
CLEAR_TEXT: Final = b"220 clear text\r\n"


@attrs.frozen
class Behaviour:
    """A way to misbehave."""

    name: str
    script: Script
    in_handshake: bool = False
    """Whether it takes the place of the handshake."""

    @property
    def description(self) -> str:
        """What it does on the wire, and which software does so."""
        return inspect.getdoc(self.script) or ""


BEHAVIOURS: Final[dict[str, Behaviour]] = {}
"""All of them. Parametrise a test over it: iterating gives the names."""


def behaviour(name: str) -> Behaviour:
    """The behaviour of that name.

    Raises:
      TypeError: it is no name.
      ValueError: there is none; the message has those that there are.
    """
    check_type("the name of a behaviour", name, str)
    if name not in BEHAVIOURS:
        raise ValueError(
            f"there is no behaviour {name!r}; there are: {', '.join(BEHAVIOURS)}"
        )
    return BEHAVIOURS[name]


def _after_handshake(script: Script) -> Script:
    BEHAVIOURS[script.__name__] = Behaviour(script.__name__, script)
    return script


def _in_handshake(script: Script) -> Script:
    BEHAVIOURS[script.__name__] = Behaviour(script.__name__, script, in_handshake=True)
    return script


# In the handshake:


@_in_handshake
async def cut_in_handshake(peer: ScriptedPeer) -> None:
    """Sends half of its first flight, then FIN.

    No software is known to do this, but a process that is killed at that moment does.
    """
    await _half_a_flight(peer)
    await peer.cut()


@_in_handshake
async def stall_in_handshake(peer: ScriptedPeer) -> None:
    """Sends half of its first flight, then nothing, and keeps the connection.

    No software is known to do this, but somebody who wants to keep the peer busy can.
    """
    await _half_a_flight(peer)


async def _half_a_flight(peer: ScriptedPeer) -> None:
    if peer.server_side:
        await peer.receive_ciphertext()  # ClientHello
    peer.step_of_handshake()
    flight = peer.flight()
    await peer.send(flight[: len(flight) // 2])


# Without close_notify:


@_after_handshake
async def cut_before_close_notify(peer: ScriptedPeer) -> None:
    """Sends FIN, never a close_notify, and keeps reading.

    ncat 7.93 does this, and nginx 1.22 with ``proxy_half_close``. Others close at once,
    and answer further data with RST: ``SSLSocket.close()`` and urllib of Python 3.11,
    redis-cli 7.0, wget 1.21, ``SSLStream(https_compatible=True)`` of Trio 0.35. An
    attacker can do it too: the truncation attack.
    """
    await peer.cut()


@_after_handshake
async def cut_after_close_notify(peer: ScriptedPeer) -> None:
    """Waits for the peer's close_notify, then sends FIN instead of an answer.

    nginx 1.22, redis-server 7.0 and asyncio of Python 3.10 do this, and Python 3.11's
    ``SSLSocket`` if it is closed at the end of input.
    """
    await peer.hear_close_notify()
    await peer.cut()


@_after_handshake
async def cut_inside_record(peer: ScriptedPeer) -> None:
    """Sends half a record of application data, then FIN.

    No software is known to do this, but a process that is killed while it sends does,
    and an attacker can.
    """
    record = peer.encrypt(bytes(1000))
    await peer.send(record[: len(record) // 2])
    await peer.cut()


@_after_handshake
async def reset_before_close_notify(peer: ScriptedPeer) -> None:
    """Sends RST at once.

    Linux does this for a process that closes with unread input, such as a TLS 1.3
    client that has not read its session tickets (openssl/openssl#7948).
    """
    await peer.reset()


@_after_handshake
async def reset_after_close_notify(peer: ScriptedPeer) -> None:
    """Waits for the peer's close_notify, then sends RST instead of an answer.

    Linux does this for a process that closes when the close_notify has arrived but was
    not read.
    """
    await peer.hear_close_notify()
    await peer.reset()


@_after_handshake
async def never_answer(peer: ScriptedPeer) -> None:
    """Reads the peer's close_notify, sends nothing, and keeps the connection.

    Azure Blob Storage was reported to do this on TLS 1.3, in 2025
    (aio-libs/aiohttp#11091). The clients ncat 7.93 and stunnel 5.68 do, for 3 s at
    least.
    """


# Late, or too much:


@_after_handshake
async def answer_late(peer: ScriptedPeer) -> None:
    """Answers the peer's close_notify after 3 s.

    TLS 1.3 allows this; TLS 1.2 wants the answer at once (RFC 5246 section 7.2.1).
    Apache 2.4, lighttpd 1.4 and HAProxy 2.6 are late when they have a response to
    finish first.
    """
    await peer.hear_close_notify()
    await trio.sleep(LATE)
    await peer.send(peer.close_notify())


@_after_handshake
async def slow_drip(peer: ScriptedPeer) -> None:
    """Sends application data, then close_notify, one byte every 50 ms.

    No software is known to do this, but somebody who wants to keep the peer busy can.
    """
    rest = peer.encrypt(b"drip") + peer.close_notify()
    while rest:
        await peer.send(rest[:DROP])
        await trio.sleep(DRIP)
        rest = rest[DROP:]


@_after_handshake
async def keep_sending_after_close_notify(peer: ScriptedPeer) -> None:
    """Reads the peer's close_notify, sends 160 KiB more, then its own close_notify.

    TLS 1.3 allows this; TLS 1.2 wants the data dropped (RFC 5246 section 7.2.1). On
    both, Go 1.27, rustls 0.20, Node.js 20 and GnuTLS 3.7 do it if their application has
    more to send. When asyncio of Python 3.11 and anyio 4.16 close, this makes them fail
    (APPLICATION_DATA_AFTER_CLOSE_NOTIFY).
    """
    await peer.hear_close_notify()
    for _ in range(10):
        await peer.send(peer.encrypt(bytes(CHUNK)))
    await peer.send(peer.close_notify())


@_after_handshake
async def flood(peer: ScriptedPeer) -> None:
    """Sends 16 MiB without reading, then close_notify.

    Any server does this in the middle of a download that its client has given up.
    """
    for _ in range(FLOOD // CHUNK):
        await peer.send(peer.encrypt(bytes(CHUNK)))
    await peer.send(peer.close_notify())


# Behind its own close_notify:


@_after_handshake
async def close_without_waiting(peer: ScriptedPeer) -> None:
    """Sends close_notify and closes; on TCP, an answer then gets RST.

    TLS allows this, and it is the ending that was seen most often: Go 1.27, rustls 0.20,
    nginx 1.22 and HAProxy 2.6 for HTTP, PostgreSQL 15, curl 7.88, and
    `trio.SSLStream.aclose` of Trio 0.35 do it.
    """
    await peer.send(peer.close_notify())
    await peer.close()


@_after_handshake
async def second_close_notify(peer: ScriptedPeer) -> None:
    """Sends close_notify twice.

    The second must be ignored (RFC 9846 section 6.1). No software is known to do this.
    """
    await peer.send(peer.close_notify() + peer.close_notify())


@_after_handshake
async def data_after_close_notify(peer: ScriptedPeer) -> None:
    """Sends close_notify, then a record of application data.

    The data must be ignored (RFC 9846 section 6.1). No software is known to do this;
    OpenSSL refuses to send it (PROTOCOL_IS_SHUTDOWN).
    """
    await peer.send(peer.close_notify() + peer.encrypt(b"too late"))


@_after_handshake
async def cleartext_after_close_notify(peer: ScriptedPeer) -> None:
    """Sends close_notify, then clear text in the same packet.

    After ``CCC`` in FTP (RFC 4217) a server goes on in clear text, and proftpd 1.3.8
    does not wait for the answer to its close_notify. No software is known to do it in
    the same packet.
    """
    await peer.send(peer.close_notify() + CLEAR_TEXT)


@_after_handshake
async def garbage_after_close_notify(peer: ScriptedPeer) -> None:
    """Sends close_notify, then random bytes.

    They must be ignored (RFC 9846 section 6.1). No software is known to do this.
    """
    await peer.send(peer.close_notify() + os.urandom(100))


# Alerts:


@_after_handshake
async def fatal_alert(peer: ScriptedPeer) -> None:
    """Sends the fatal alert internal_error, then FIN.

    Programs with OpenSSL 3.0 do this with another alert, decode_error, when the
    connection is cut: its s_server, stunnel 5.68, socat 1.7.
    """
    await peer.send(peer.alert(FATAL, INTERNAL_ERROR))
    await peer.cut()


@_after_handshake
async def bad_record(peer: ScriptedPeer) -> None:
    """Sends a record that fails its check.

    No software is known to do this, but an attacker can.
    """
    await peer.send(peer.tampered())


@_after_handshake
async def fatal_close_notify(peer: ScriptedPeer) -> None:
    """Sends close_notify with the level of a fatal alert.

    TLS 1.3 lets a receiver ignore the level (RFC 9846 section 6). In TLS 1.2 it
    counts (RFC 5246 section 7.2): OpenSSL 3.0 treats it as an error. testssl.sh 3.2
    sends one, in clear text, to end its probes.
    """
    await peer.send(peer.close_notify(level=FATAL))


@_after_handshake
async def user_canceled_first(peer: ScriptedPeer) -> None:
    """Sends the alert user_canceled, then close_notify.

    Java (17 and 25) does this on TLS 1.3 if it closes first. GnuTLS was reported to
    treat it as an error in 2022 (openjdk/jdk#7664).
    """
    await peer.send(peer.alert(WARNING, USER_CANCELED) + peer.close_notify())
