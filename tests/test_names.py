"""Names: whom to connect to, and whom the certificate has to be for."""

from __future__ import annotations

import ssl
from typing import Any

import pytest
import trio

from tests.support import CA, Maker, client_context, memory_transports, server_context
from trio_tlsdown import TLSStream, open_tls_nursery, open_tls_over_tcp_stream
from trio_tlsdown._names import certificate_name, check_host

NAMES = {
    "localhost": "localhost",
    "localhost.": "localhost",
    b"localhost": "localhost",
    b"localhost.": "localhost",
    "Example.ORG": "Example.ORG",
    "_dmarc.example.org": "_dmarc.example.org",
    "faß.de": "xn--fa-hia.de",  # IDNA 2003 made fass.de of it
    "Bücher.example。": "xn--bcher-kva.example",
    "x" * 63 + ".example": "x" * 63 + ".example",
    "127.0.0.1": "127.0.0.1",
    "127.0.0.1%1": "127.0.0.1",
    "::1": "::1",
    "::1%1": "::1",
    b"fe80::1%eth0": "fe80::1",
    "fe80::1%Größe": "fe80::1",
}


@pytest.mark.parametrize("host", list(NAMES), ids=repr)
def test_a_trailing_dot_and_a_zone_are_not_part_of_the_certificate_name(
    host: str | bytes,
) -> None:
    check_host(host)
    assert certificate_name(host) == NAMES[host].encode()


@pytest.mark.parametrize("host", ["x." * 126 + "x", "x." * 126 + "x."])
def test_a_name_may_have_253_bytes(host: str) -> None:
    assert len(certificate_name(host)) == 253


@pytest.mark.parametrize(
    ("host", "complaint"),
    [
        ("", "must be a name or an address"),
        (".", "must be a name or an address"),
        (".bad.example", "must be a name or an address"),
        ("bad..example", "must be a name or an address"),
        ("bad.example..", "must be a name or an address"),
        ("bad example", "must be a name or an address"),
        ("bad\0example", "must be a name or an address"),
        ("fe80::zz", "must be a name or an address"),
        ("local%1", "must be a name or an address"),
        ("x" * 64 + ".example", "must be a name or an address"),
        ("x." * 126 + "xx", "has 254 bytes; a name has at most 253"),
        (b"x" * 300, "has 300 bytes; a name has at most 253"),
        ("ü" * 70, "is not a valid name: Label too long"),
        ("ü..example", "is not a valid name: Empty Label"),
        (b"b\xfccher.example", "is not a valid name: 'ascii' codec"),
        ("https://localhost/", 'pass "localhost", not'),
        ("localhost:443", 'pass "localhost", not'),
    ],
    ids=lambda value: repr(value)[:30],
)
async def test_a_host_that_is_no_name_is_refused(
    host: str | bytes, complaint: str
) -> None:
    transport, _ = await memory_transports()
    with pytest.raises(ValueError, match=f"^server_hostname .*{complaint}"):
        TLSStream(transport, client_context(), server_hostname=host)


@pytest.mark.parametrize(
    ("host", "instead"),
    [
        ("https://localhost/", '"localhost" and port 443'),
        ("https://localhost", '"localhost" and port 443'),
        ("wss://localhost/", '"localhost"'),
        ("https://localhost:8443/a/b?c", '"localhost" and port 8443'),
        ("localhost/", '"localhost"'),
        ("localhost:443", '"localhost" and port 443'),
        (b"localhost:443", '"localhost" and port 443'),
        ("[::1]", '"::1"'),
        ("[::1]:443", '"::1" and port 443'),
    ],
    ids=repr,
)
async def test_a_host_that_is_more_than_that_is_told_what_to_pass(
    host: str | bytes, instead: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trio, "open_tcp_stream", None)  # it is not even looked up
    complaint = f"^host must be a name or an address, .* pass {instead}, not "
    with pytest.raises(ValueError, match=complaint):
        await open_tls_over_tcp_stream(host, 443)
    async with open_tls_nursery() as nursery:
        with pytest.raises(ValueError, match=complaint):
            await nursery.connect(host, 443)


async def test_a_host_is_str_or_bytes() -> None:
    host: Any = 7
    with pytest.raises(TypeError, match=r"host must be a str \| bytes, not 7"):
        await open_tls_over_tcp_stream(host, 443)


async def test_a_server_has_no_server_hostname() -> None:
    transport, _ = await memory_transports()
    with pytest.raises(ValueError, match="server_hostname is for clients"):
        TLSStream(transport, server_context(), server_side=True, server_hostname="a")


@pytest.mark.parametrize(
    ("host", "sent"),
    [
        ("localhost.", "localhost"),
        (b"localhost.", "localhost"),
        ("127.0.0.1%1", None),
        ("::1%1", None),
    ],
    ids=repr,
)
async def test_the_peer_hears_the_name_and_has_to_have_its_certificate(
    host: str | bytes, sent: str | None, tls: Maker
) -> None:
    heard: list[str | None] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    CA.issue_cert("localhost", "127.0.0.1", "::1").configure_cert(context)
    context.sni_callback = lambda _object, name, _context: heard.append(name)
    ours, theirs = await memory_transports()
    client = TLSStream(ours, client_context(tls.version), server_hostname=host)
    server = TLSStream(theirs, context, server_side=True)
    async with client, server, trio.open_nursery() as nursery:
        nursery.start_soon(server.do_handshake)
        await client.do_handshake()
    assert heard == [sent]
    assert client.server_hostname == certificate_name(host).decode()
