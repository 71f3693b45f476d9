"""Alerts as a peer should not send them: RFC 9846 section 6, RFC 5246 section 7.2."""

from __future__ import annotations

import pytest

from tests.support import Maker
from trio_tlsdown import ShutdownOutcome, TLSFailedError

WARNING, FATAL = 1, 2
CLOSE_NOTIFY, UNEXPECTED_MESSAGE, USER_CANCELED, UNKNOWN = 0, 10, 90, 200

FAILURES = {
    "an unknown fatal alert": [bytes([FATAL, UNKNOWN])],
    "half an alert": [bytes([WARNING])],
    "two alerts in a record": [bytes([WARNING, CLOSE_NOTIFY] * 2)],
    "an empty record of alerts": [b""],
    "warnings without end": [bytes([WARNING, USER_CANCELED])] * 20,
    "a fatal alert": [bytes([FATAL, UNEXPECTED_MESSAGE])],
}


@pytest.mark.parametrize("alerts", FAILURES.values(), ids=list(FAILURES))
async def test_an_alert_that_is_none_is_a_failure_and_never_an_end(
    tls: Maker, alerts: list[bytes]
) -> None:
    async with tls.client_and_bare_server() as (client, peer):
        said = peer.encrypt(b"before")
        for alert in alerts:
            said += peer.record(21, alert)
        await peer.send(said + peer.close_notify())
        assert await client.receive_some() == b"before"
        with pytest.raises(TLSFailedError):
            await client.receive_some()
        report = await client.shutdown()
        assert report.outcome is ShutdownOutcome.FAILED
        assert not report.secure
        assert not report.peer_data_complete


async def test_an_unknown_warning_is_fatal_on_tls13(tls13: Maker) -> None:
    """RFC 9846 section 6: all alerts but closures are errors, whatever their level."""
    async with tls13.client_and_bare_server() as (client, peer):
        await peer.send(peer.alert(WARNING, UNKNOWN) + peer.close_notify())
        with pytest.raises(TLSFailedError):
            await client.receive_some()


async def test_a_few_warnings_before_the_end_are_ignored(tls: Maker) -> None:
    async with tls.client_and_bare_server() as (client, peer):
        said = peer.encrypt(b"data")
        for _ in range(3):
            said += peer.alert(WARNING, USER_CANCELED)
        await peer.send(said + peer.close_notify())
        assert await client.receive_some() == b"data"
        assert await client.receive_some() == b""
        assert (await client.shutdown()).outcome is ShutdownOutcome.COMPLETE


async def test_empty_records_and_warnings_by_turns_are_no_end(tls12: Maker) -> None:
    async with tls12.client_and_bare_server() as (client, peer):
        turns = b"".join(
            peer.record(23, b"") + peer.alert(WARNING, USER_CANCELED) for _ in range(3)
        )
        await peer.send(turns + peer.encrypt(b"data") + peer.close_notify())
        assert await client.receive_some() == b"data"
        assert await client.receive_some() == b""


async def test_a_close_notify_in_clear_text_is_no_end(tls: Maker) -> None:
    """Anybody on the way can send that."""
    async with tls.client_and_bare_server() as (client, peer):
        clear = b"\x15\x03\x03\x00\x02" + bytes([WARNING, CLOSE_NOTIFY])
        await peer.send(peer.encrypt(b"before") + clear)
        assert await client.receive_some() == b"before"
        with pytest.raises(TLSFailedError):
            await client.receive_some()
        assert not client.report.peer_data_complete
