"""Mutual TLS with authorisation: a certificate says who, a table says who may do what.

A valid certificate only proves that the CA knows its owner.
"""

import ssl
from collections.abc import Mapping

import trio

from trio_tlsdown import TLSStream

Rights = Mapping[str, set[bytes]]


def make_context(certificate: str, key: str, client_ca: str) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    # Only the CA of the clients: anyone with a certificate from it can connect.
    context.load_verify_locations(client_ca)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def names(stream: TLSStream[trio.SocketStream]) -> set[str]:
    """The DNS names that the client's certificate is for."""
    certificate = stream.getpeercert() or {}
    entries = certificate.get("subjectAltName", ())
    return {str(entry[1]) for entry in entries if entry[0] == "DNS"}


async def handler(rights: Rights, stream: TLSStream[trio.SocketStream]) -> None:
    """Do what the client is entitled to, and refuse everything else."""
    allowed = set[bytes]().union(*(rights.get(name, ()) for name in names(stream)))
    async for request in stream:
        answer = b"done\n" if request.strip() in allowed else b"forbidden\n"
        await stream.send_all(answer)
