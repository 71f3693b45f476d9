"""The secrets that the probe needs to tell the level of a close_notify on TLS 1.3."""

from __future__ import annotations

import re
import ssl
from contextlib import suppress
from pathlib import Path

from tests.support import NAME, client_context, needs_posix, server_context
from trio_tlsdown.cli.probe._key_log import KeyLog

SECRET = re.compile(r"SERVER_TRAFFIC_SECRET_0 (\w+) (\w+)")


def shake_hands(context: ssl.SSLContext, server: ssl.SSLContext) -> None:
    one, other = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(one, other, server_hostname=NAME)
    opposite = server.wrap_bio(other, one, server_side=True)
    for _ in range(2):
        for party in (client, opposite):
            with suppress(ssl.SSLWantReadError):
                party.do_handshake()


@needs_posix("a file that has no name")
def test_each_session_gets_its_secret_once_and_nothing_is_kept(tmp_path: Path) -> None:
    context, server = client_context("TLSv1.3"), server_context("TLSv1.3")
    server.keylog_filename = str(tmp_path / "keys")
    log = KeyLog(context)
    assert not Path(context.keylog_filename).exists()
    for _ in range(3):
        shake_hands(context, server)
    wanted = SECRET.findall((tmp_path / "keys").read_text())
    assert len(wanted) == 3
    for random, secret in reversed(wanted):
        assert log.take(bytes.fromhex(random)) == bytes.fromhex(secret)
        assert log.take(bytes.fromhex(random)) is None


def test_a_key_log_that_the_user_has_asked_for_stays(tmp_path: Path) -> None:
    context = client_context("TLSv1.3")
    context.keylog_filename = str(tmp_path / "keys")
    log = KeyLog(context)
    shake_hands(context, server_context("TLSv1.3"))
    [(random, _)] = SECRET.findall((tmp_path / "keys").read_text())
    assert log.take(bytes.fromhex(random)) is None
