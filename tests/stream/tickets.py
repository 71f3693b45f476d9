"""Session tickets that a scripted server sends: RFC 9846 section 4.7.1."""

from __future__ import annotations

from trio_tlsdown.testing import ScriptedPeer

NEW_SESSION_TICKET = 4
LIFETIME = (7200).to_bytes(4, "big")  # seconds


def session_ticket(server: ScriptedPeer, number: int) -> bytes:
    """The record with the ticket of this number."""
    return server.handshake_message(NEW_SESSION_TICKET, ticket_body(number))


def ticket_body(number: int) -> bytes:
    nonce = number.to_bytes(4, "big")
    ticket = nonce * 50
    return (
        LIFETIME
        + bytes(4)
        + bytes([len(nonce)])
        + nonce
        + len(ticket).to_bytes(2, "big")
        + ticket
        + bytes(2)  # no extensions
    )
