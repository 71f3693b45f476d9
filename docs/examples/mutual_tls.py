"""Mutual TLS with authorisation: a certificate tells who it is, and a table who may what.

That a certificate is valid only says that the CA knows its owner.
"""

import ssl
from collections.abc import Mapping

import trio

from trio_tlsdown import TLSStream

Rights = Mapping[str, set[bytes]]


def make_context(certificate: str, key: str, client_ca: str) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    # The CA of the clients only: whoever it signs for can connect.
    context.load_verify_locations(client_ca)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def names(stream: TLSStream[trio.SocketStream]) -> set[str]:
    """The DNS names that the client's certificate is for."""
    certificate = stream.getpeercert() or {}
    entries = certificate.get("subjectAltName", ())
    return {str(entry[1]) for entry in entries if entry[0] == "DNS"}


async def handler(rights: Rights, stream: TLSStream[trio.SocketStream]) -> None:
    """Do what a client may ask for; the answer to anything else is a refusal."""
    allowed = set[bytes]().union(*(rights.get(name, ()) for name in names(stream)))
    async for request in stream:
        answer = b"done\n" if request.strip() in allowed else b"forbidden\n"
        await stream.send_all(answer)
