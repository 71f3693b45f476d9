"""The standard library's TLS as a party, independent of our stream and test kit."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from contextlib import suppress

import attrs
import trio
from trio.testing import wait_all_tasks_blocked


@attrs.frozen
class Plain:
    """OpenSSL, and a transport."""

    transport: trio.abc.Stream
    tls: ssl.SSLObject
    incoming: ssl.MemoryBIO
    outgoing: ssl.MemoryBIO

    @classmethod
    def client(
        cls, transport: trio.abc.Stream, context: ssl.SSLContext, name: str
    ) -> Plain:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_hostname=name)
        return cls(transport, tls, incoming, outgoing)

    @classmethod
    def server(cls, transport: trio.abc.Stream, context: ssl.SSLContext) -> Plain:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_side=True)
        return cls(transport, tls, incoming, outgoing)

    async def run(self, *, closes_first: bool = False) -> None:
        """Shake hands, read until TLS or the transport ends, answer, and close.

        It gives other tasks a turn first, so that what the other party does unasked comes before
        its close_notify.

        Args:
          closes_first: Send close_notify before reading.
        """
        async with self.transport:
            with suppress(ssl.SSLError, trio.BrokenResourceError):
                await self._call(self.tls.do_handshake)
                if closes_first:
                    await wait_all_tasks_blocked()
                    await self._close_notify()
                # Since OpenSSL 3.2, close_notify after user_canceled is reported as that:
                # https://github.com/openssl/openssl/issues/25254
                with suppress(ssl.SSLEOFError):
                    while await self._call(lambda: self.tls.read(2**14)):
                        pass
                await wait_all_tasks_blocked()
                await self._close_notify()
            await wait_all_tasks_blocked()

    async def _close_notify(self) -> None:
        with suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        await self._flush()

    async def _call(self, method: Callable[[], object]) -> object:
        while True:
            try:
                return method()
            except ssl.SSLWantReadError:
                pass
            finally:
                await self._flush()  # the alert, if it failed
            data = await self.transport.receive_some()
            if not data:
                # Not told to OpenSSL, which would send an alert.
                raise trio.BrokenResourceError
            self.incoming.write(data)

    async def _flush(self) -> None:
        if self.outgoing.pending:
            await self.transport.send_all(self.outgoing.read())
