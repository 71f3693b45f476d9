"""All situations with one peer, played by one lab under one capture."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import attrs
import pytest
import trio

from tests.support import NAME, client_context, server_context
from trio_tlsdown import ShutdownReport, TLSStream, TraceEvent

from .capture import Connections, Packet, Ports, witness
from .endings import Ending, as_told
from .lab import Lab, open_lab
from .peer import Key
from .programs import unavailable
from .signs import Sign, alerts, on_the_wire
from .situations import HELLO, SITUATIONS, Ours, Seen

BUDGET: Final = 90  # seconds for all of them; it takes a few
LIMIT: Final = 10  # seconds for one

UNSEEN: Final = "not captured"
"""In place of the alerts, where there was no capture."""


@attrs.frozen
class Run:
    """One connection that has ended."""

    seen: Seen

    before: ShutdownReport
    """Before we closed, unless we had closed already."""

    after: ShutdownReport
    """After we had closed."""

    trace: Sequence[TraceEvent]

    our_port: int
    its_port: int

    said: Sequence[str]
    """What the lab answered."""


@attrs.define
class Runs:
    """All connections with one peer."""

    peer_version: str = ""
    of: dict[Key, Run | BaseException] = attrs.field(factory=dict)
    packets: dict[Key, list[Packet]] = attrs.field(factory=dict)
    no_witness: str = ""
    """Why there is no capture."""

    def __getitem__(self, key: Key) -> Run:
        run = self.of[key]
        if isinstance(run, BaseException):
            raise run
        return run

    def require_witness(self) -> None:
        """Skip the test if there is no capture."""
        if self.no_witness:
            unavailable(self.no_witness)

    def wire(self, key: Key) -> list[Sign]:
        """What the capture shows."""
        return on_the_wire(self.packets[key], self[key].our_port)

    def ending(self, key: Key) -> Ending:
        """How it ended, according to us, the peer and the capture."""
        run = self[key]
        return attrs.evolve(
            as_told(run.after, run.seen.by_it),
            received=run.seen.received,
            whole=run.seen.whole,
            closes=run.seen.closes,
            crossed=alerts(self.wire(key)) if key in self.packets else UNSEEN,
        )


@attrs.define(eq=False)
class Player:
    """Plays one situation after the other with a lab."""

    lab: Lab
    listener: trio.SocketListener
    secrets: Path
    """Where the key log goes."""

    deadline: float = attrs.field(factory=lambda: trio.current_time() + BUDGET)

    @property
    def our_port(self) -> int:
        port: int = self.listener.socket.getsockname()[1]
        return port

    async def play_all(self, keys: Iterable[Key], runs: Runs) -> dict[Key, Ports]:
        """Play these, and return the ports of those that were played to the end."""
        played = {}
        for key in keys:
            try:
                run = await self._play(key)
            except Exception as error:  # noqa: BLE001 (its own test raises it)
                runs.of[key] = error
                await self.lab.settles()
            else:
                runs.of[key] = run
                ports = (run.our_port, run.its_port)
                played[key] = ports[::-1] if key.role == "client" else ports
        return played

    async def _play(self, key: Key) -> Run:
        with trio.fail_at(min(self.deadline, trio.current_time() + LIMIT)):
            said = len(self.lab.said)
            trace: list[TraceEvent] = []
            async with self.connection(key, trace) as stream:
                _, our_port = stream.transport_stream.socket.getsockname()
                _, its_port = stream.transport_stream.socket.getpeername()
                ours = Ours(stream)
                # Each greets the other. So nobody closes with unread session tickets:
                # its kernel would send a RST.
                await ours.sends(len(HELLO))
                await self.lab.receives(len(HELLO))
                await self.lab.sends(len(HELLO))
                await ours.receives(len(HELLO))
                seen = await SITUATIONS[key.situation].play(ours, self.lab)
                before = stream.report
                await stream.aclose()
        return Run(
            seen=seen,
            before=before,
            after=stream.report,
            trace=trace,
            our_port=our_port,
            its_port=its_port,
            said=self.lab.said[said:],
        )

    @asynccontextmanager
    async def connection(
        self, key: Key, trace: list[TraceEvent]
    ) -> AsyncIterator[TLSStream[trio.SocketStream]]:
        we_serve = key.role == "client"
        context = (server_context if we_serve else client_context)(key.version)
        context.keylog_filename = str(self.secrets)
        answers: list[str] = []

        async def tell(command: str) -> None:
            answers.extend(await self.lab.does(command))

        # Whatever fails, the stream closes, and the lab does not wait forever.
        async with AsyncExitStack() as stack:
            async with trio.open_nursery() as nursery:
                if we_serve:
                    nursery.start_soon(tell, f"connect {self.our_port}")
                    transport = await self.listener.accept()
                else:
                    nursery.start_soon(tell, "accept")
                    transport = await trio.open_tcp_stream("127.0.0.1", self.lab.port)
                stream = await stack.enter_async_context(
                    TLSStream(
                        transport,
                        context,
                        server_side=we_serve,
                        server_hostname=None if we_serve else NAME,
                        trace=trace.append,
                    )
                )
                await stream.do_handshake()
            # Some libraries do not tell the version.
            assert answers in ([f"handshaken {key.version}"], ["handshaken"])
            yield stream


async def play(
    keys: Sequence[Key],
    command: Sequence[str],
    folder: Path,
    is_captured: Callable[[Key], bool] = lambda key: True,
) -> Runs:
    """Play situations with a peer, one after the other.

    Args:
      keys: Which ones.
      command: Of its lab.
      folder: For files.
      is_captured: Which of them are captured.
    """
    runs = Runs()
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener, open_lab(command, folder, 2 * BUDGET) as lab:
        runs.peer_version = lab.version
        player = Player(lab, listener, folder / "secrets")
        captured = [key for key in keys if is_captured(key)]

        played: dict[Key, Ports] = {}

        async def play_captured(secrets: Path) -> Connections:
            nonlocal played
            player.secrets = secrets
            played = await player.play_all(captured, runs)
            return played.values()

        try:
            packets = await witness(
                folder,
                play_captured,
                only=f"port {lab.port} or port {player.our_port}",
                patience=2 * BUDGET,
            )
        except pytest.skip.Exception as skipped:
            runs.no_witness = str(skipped)
            await player.play_all(captured, runs)
        else:
            runs.packets = dict(zip(played, packets, strict=True))
        rest = [key for key in keys if key not in captured]
        await player.play_all(rest, runs)
    return runs
