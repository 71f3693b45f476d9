"""A peer that says any sequence of records, and what it means by RFC 9846 section 6."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

import attrs
import trio
import trio.testing

from tests.support import Maker
from trio_tlsdown import (
    ShutdownOutcome,
    TLSFailedError,
    TransportBrokenError,
    TruncatedError,
)
from trio_tlsdown.testing import (
    FaultyStream,
    Rechunk,
    ScriptedPeer,
    memory_transports,
)
from trio_tlsdown.testing._transports import reset

# Alerts: RFC 9846 section 6.
USER_CANCELED: Final = 90
INTERNAL_ERROR: Final = 80
HELLO_REQUEST: Final = 0

WHAT_IS_NO_END: Final = [
    "data",
    "empty record",
    "KeyUpdate",
    "KeyUpdate, and ours",
    "user_canceled",
]
ENDS_OF_TLS: Final = ["close_notify", "fatal alert", "changed record"]


@attrs.frozen
class Meaning:
    """What a receiver has to take from a sequence of records and their end."""

    data: bytes
    end: ShutdownOutcome


@attrs.frozen
class Monologue:
    """A peer that says *records*, then ends; a stream that listens."""

    version: str
    server_side: bool
    """Of the stream."""

    records: list[tuple[str, int]]
    """What, and of how many bytes."""

    end: str
    piece: int
    """Bytes of ciphertext that the stream gets at once."""

    calls: list[str]
    """What another task of the stream does meanwhile."""

    def meaning(self) -> Meaning:
        data = b""
        for number, (what, size) in enumerate(self.records):
            match what:
                case "data":
                    data += bytes([number]) * size
                case "close_notify":
                    # Whatever comes behind it is ignored.
                    return Meaning(data, ShutdownOutcome.COMPLETE)
                case "fatal alert" | "changed record":
                    return Meaning(data, ShutdownOutcome.FAILED)
                case _:
                    pass
        if self.end == "reset":
            return Meaning(data, ShutdownOutcome.RESET)
        return Meaning(data, ShutdownOutcome.TRUNCATED)

    def play(self) -> None:
        trio.run(self._play, clock=trio.testing.MockClock(autojump_threshold=0))

    async def _play(self) -> None:
        maker = Maker(self.version)
        ours, theirs = memory_transports()
        pieces = FaultyStream(ours, [Rechunk("receive", size=self.piece)])
        transports = (theirs, pieces) if self.server_side else (pieces, theirs)
        stream = maker.wrap(transports)[self.server_side]
        peer = maker.peer(theirs, server_side=not self.server_side)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.do_handshake)
            nursery.start_soon(peer.handshake)
        meaning = self.meaning()
        got = bytearray()
        error: trio.BrokenResourceError | None = None
        # A send may be the first to meet what broke the transport.
        broken = meaning.end
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._speak, peer)
            for call in self.calls:
                with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                    if call == "send":
                        await stream.send_all(b"ours")
                    elif call == "send_eof":
                        await stream.send_eof(allow_tls12=True)
                    else:
                        stream.peer_state_nowait()
                if stream.report.outcome is ShutdownOutcome.RESET:
                    broken = ShutdownOutcome.RESET
            try:
                async for data in stream:
                    got += data
            except trio.BrokenResourceError as exc:
                error = exc
        assert got == meaning.data
        report = await stream.shutdown()
        heard_end = meaning.end is ShutdownOutcome.COMPLETE
        assert report.close_notify_received is report.peer_data_complete is heard_end
        match meaning.end:
            case ShutdownOutcome.COMPLETE:
                # It has closed; whether ours still left, the transport knows.
                assert error is None
                assert report.outcome in {
                    ShutdownOutcome.COMPLETE,
                    ShutdownOutcome.RESET,
                }
            case ShutdownOutcome.FAILED:
                assert isinstance(error, TLSFailedError)
                assert report.outcome is broken
            case ShutdownOutcome.RESET:
                assert isinstance(error, TransportBrokenError)
                assert report.outcome is broken
            case _:
                assert isinstance(error, TruncatedError)
                assert error.mid_record is (self.end == "FIN in a record")
                assert report.outcome is broken
        await trio.aclose_forcefully(stream)

    async def _speak(self, peer: ScriptedPeer) -> None:
        spoken = b""
        for number, (what, size) in enumerate(self.records):
            spoken += self._record(peer, what, bytes([number]) * size)
        if self.end == "FIN in a record":
            spoken += peer.encrypt(b"cut")[:-1]
        await peer.send(spoken)
        if self.end == "reset":
            await trio.testing.wait_all_tasks_blocked()
            await reset(peer.transport)
        else:
            await peer.transport.aclose()

    def _record(self, peer: ScriptedPeer, what: str, data: bytes) -> bytes:
        match what:
            case "data":
                return peer.encrypt(data)
            case "empty record":
                return peer.record(23, b"")
            case "user_canceled":
                return peer.alert(1, USER_CANCELED)
            case "close_notify":
                return peer.close_notify()
            case "fatal alert":
                return peer.alert(2, INTERNAL_ERROR)
            case "changed record":
                return peer.tampered()
            case _ if self.version != "TLSv1.3":
                return b""
            case _:
                return peer.key_update(asks_for_ours="ours" in what)
