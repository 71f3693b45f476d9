"""dnspython asks over TLS (RFC 7858), on a TLSStream in trio.SSLStream's place."""

from __future__ import annotations

import pytest

from tests.interop.programs import require_module
from tests.servers import HOST, Stream, port_of, serving
from tests.support import NAME, Maker, client_context
from trio_tlsdown import ShutdownOutcome

require_module("dns")

import dns.asyncquery
import dns.message
import dns.rrset

SIZE = 250  # the most that one string of a TXT record holds


async def answer(stream: Stream) -> None:
    """As a name server: length and query in, length and response out."""
    async for received in stream:
        query = dns.message.from_wire(bytes(received[2:]))
        response = dns.message.make_response(query)
        response.answer = [
            dns.rrset.from_text(
                query.question[0].name,
                300,
                "IN",
                "TXT",
                *(f"{n:0{SIZE}}" for n in range(200)),
            )
        ]
        await stream.send_all(response.to_wire(prepend_length=True))


@pytest.mark.usefixtures("in_place")
async def test_dnspython_asks_over_tls_and_closes_with_close_notify(tls: Maker) -> None:
    async with serving(tls.version, answer) as (_, server):
        response = await dns.asyncquery.tls(
            dns.message.make_query("example.org", "TXT"),
            HOST,
            port=port_of(server),
            ssl_context=client_context(tls.version),
            server_hostname=NAME,
        )
        assert len(response.answer[0]) == 200
    # It closes as trio.SSLStream does: with close_notify.
    assert server.tally == {ShutdownOutcome.COMPLETE: 1}
