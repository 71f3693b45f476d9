"""We leave TLS, and go on with ProFTPD in clear text: CCC (RFC 4217 section 5)."""

from __future__ import annotations

import grp
import os
import pwd
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import attrs
import pytest
import trio

from harness.process import Program, running, stop_other
from tests.support import NAME, Maker, client_context
from trio_tlsdown import ShutdownOutcome as Outcome, TLSStream, TruncatedError

from . import we
from .data import DATA, digest
from .endings import Saw, check
from .programs import require
from .rows import RealProgram, Remark
from .servers import HOST, connect, key_and_certificate, reserved_port
from .situations import PART_OF_A_RECORD

MUCH = DATA * 8
PASSWORD = "$1$salt$ez2vlPGdaLYkJam5pWs/Y1"  # noqa: S105 - crypt(3) of "secret"
CONFIGURATION = """
LoadModule mod_tls.c
ServerType standalone
DefaultAddress 127.0.0.1
Port {port}
UseIPv6 off
User {user}
Group {group}
RootLogin on
RequireValidShell off
AuthOrder mod_auth_file.c
AuthUserFile {folder}/users
PidFile {folder}/pid
ScoreboardFile {folder}/scoreboard
DelayEngine off
WtmpLog off
TransferLog none
SystemLog none
AllowOverwrite on
TLSEngine on
TLSProtocol TLSv1.2 TLSv1.3
TLSECCertificateFile {pem}
TLSECCertificateKeyFile {pem}
TLSLog {folder}/tls.log
TLSVerifyClient off
TLSRequired auth+data
TLSOptions NoSessionReuseRequired
"""


PROFTPD = RealProgram("ProFTPD", "server", "proftpd")
A_CUT_IS_AN_END = Remark(
    "takes half a file for a whole one: to tls_read() any 0 of SSL_read() is an end",
    "https://github.com/proftpd/proftpd/blob/v1.3.8/contrib/mod_tls.c",
)


def start_tls(transport: trio.SocketStream, version: str) -> we.Stream:
    return TLSStream(transport, client_context(version), server_hostname=NAME)


@attrs.define
class Client:
    """A control connection, in clear text or in TLS."""

    program: Program
    version: str
    transport: trio.SocketStream
    tls: we.Stream
    stream: trio.abc.Stream

    async def reply(self) -> bytes:
        reply = bytearray()
        while not reply.endswith(b"\n"):
            reply += await self.stream.receive_some()
        return bytes(reply[:3])

    async def ask(self, command: str) -> bytes:
        await self.stream.send_all(f"{command}\r\n".encode())
        return await self.reply()

    async def open_data(self, command: str) -> we.Stream:
        await self.stream.send_all(b"EPSV\r\n")
        reply = await self.stream.receive_some()
        port = int(reply.split(b"|")[3])
        data = await trio.open_tcp_stream(HOST, port)
        assert await self.ask(command) == b"150"
        return start_tls(data, self.version)

    @property
    def pid(self) -> int:
        """The pid of the process that serves us: proc_tid_children(5)."""
        pid = self.program.process.pid
        [child] = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return int(child)

    def ended(
        self,
        situation: str,
        stream: we.Stream,
        saw: Saw = Saw.NOTHING,
        remark: Remark | None = None,
    ) -> None:
        """Record it."""
        PROFTPD.ended(self.version, situation, stream.report, saw, remark)


@pytest.fixture
async def client(tls: Maker, tmp_path: Path) -> AsyncIterator[Client]:
    """A client that has logged in, in TLS."""
    users = tmp_path / "users"
    users.touch(mode=0o600)
    users.write_text(
        f"name:{PASSWORD}:{os.getuid()}:{os.getgid()}::{tmp_path}:/bin/sh\n"
    )
    configuration = tmp_path / "proftpd.conf"
    with reserved_port() as port:
        configuration.write_text(
            CONFIGURATION.format(
                port=port,
                user=pwd.getpwuid(os.getuid()).pw_name,
                group=grp.getgrgid(os.getgid()).gr_name,
                folder=tmp_path,
                pem=key_and_certificate(tmp_path),
            )
        )
        async with (
            running(require("proftpd"), "-n", "-c", str(configuration)) as program,
            await connect(port, program) as transport,
        ):
            control = start_tls(transport, tls.version)
            client = Client(program, tls.version, transport, control, transport)
            assert await client.reply() == b"220"
            assert await client.ask("AUTH TLS") == b"234"
            client.stream = control
            assert await client.ask("USER name") == b"331"
            assert await client.ask("PASS secret") == b"230"
            assert await client.ask("PBSZ 0") == b"200"
            assert await client.ask("PROT P") == b"200"
            assert await client.ask("TYPE I") == b"200"
            yield client
            # It has a child for the connection, which ends with that.


async def clear(client: Client) -> None:
    assert await client.ask("CCC") == b"200"
    assert await client.tls.receive_some() == b""
    client.stream, trailing = await client.tls.unwrap()
    assert trailing == b""
    check(client.tls.report, "3B")


async def test_after_our_goodbye_proftpd_goes_on_in_clear_text(client: Client) -> None:
    await clear(client)
    assert await client.ask("NOOP") == b"200"
    assert await client.ask("PWD") == b"257"
    assert await client.ask("QUIT") == b"221"
    assert await client.transport.receive_some() == b""
    client.ended("CCC", client.tls)


async def test_proftpd_goes_on_in_clear_text_with_a_client_that_sent_no_close_notify(
    client: Client,
) -> None:
    """It checks before it reads: tls_end_sess() in
    https://github.com/proftpd/proftpd/blob/v1.3.8/contrib/mod_tls.c.
    """
    assert await client.ask("CCC") == b"200"
    assert await client.tls.receive_some() == b""
    client.stream = client.transport
    assert await client.ask("NOOP") == b"200"
    assert client.tls.report.outcome is Outcome.OPEN
    assert client.tls.report.peer_data_complete
    assert not client.tls.report.secure


async def test_proftpd_sends_close_notify_when_the_client_quits(client: Client) -> None:
    assert await client.ask("QUIT") == b"221"
    await we.shut_down_too(client.tls, client.program)
    check(client.tls.report, "4B")
    client.ended("QUIT", client.tls)


async def test_proftpd_answers_our_close_notify(client: Client) -> None:
    await client.tls.shutdown()
    check(client.tls.report, "3A")
    assert await client.transport.receive_some() == b""
    client.ended("we shut down", client.tls)


async def test_proftpd_answers_what_was_asked_before_our_half_close(
    client: Client,
) -> None:
    await client.tls.send_all(b"NOOP\r\n")
    await client.tls.send_eof(allow_tls12=True)
    assert b"".join([chunk async for chunk in client.tls]).startswith(b"200 ")
    await client.tls.shutdown()
    check(client.tls.report, "3A")
    client.ended("we half-close", client.tls)


async def test_proftpd_is_killed(client: Client) -> None:
    os.kill(client.pid, signal.SIGKILL)
    with pytest.raises(TruncatedError):
        await client.tls.receive_some()
    await client.tls.shutdown()
    check(client.tls.report, "1A")
    client.ended("it is killed", client.tls)


async def test_proftpd_is_killed_before_it_reads_our_close_notify(
    client: Client,
) -> None:
    pid = client.pid
    stop_other(pid)
    await client.tls.shutdown(wait=False)
    os.kill(pid, signal.SIGKILL)
    await client.tls.shutdown()
    check(client.tls.report, "2A reset")
    client.ended("it is killed before it reads", client.tls)


# The data connections stay in TLS after the control connection has left it.


async def test_what_proftpd_sent_right_before_closing_reaches_us(
    client: Client, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(MUCH)
    await clear(client)
    async with await client.open_data("RETR file") as data:
        received = await we.receive(data, len(MUCH))
        await we.shut_down_too(data, client.program)
    assert digest(received) == digest(MUCH)
    check(data.report, "3B")
    assert await client.reply() == b"226"
    client.ended("RETR (8 MiB from it)", data)


@pytest.mark.parametrize(
    ("how", "cell"), [("we shut down", "3A"), ("we close without waiting", "4A")]
)
async def test_proftpd_stores_what_we_sent_right_before_closing(
    client: Client, tmp_path: Path, how: str, cell: str
) -> None:
    our_part = {"3A": we.shut_down, "4A": we.shut_down_and_close_at_once}[cell]
    await clear(client)
    async with await client.open_data("STOR file") as data:
        await data.send_all(MUCH)
        await our_part(data, client.program)
    check(data.report, cell)
    assert await client.reply() == b"226"
    assert digest((tmp_path / "file").read_bytes()) == digest(MUCH)
    client.ended(f"STOR, {how} (8 MiB to it)", data, Saw.CLOSE_NOTIFY)


@pytest.mark.parametrize("part", [b"", PART_OF_A_RECORD], ids=["", "a record"])
async def test_proftpd_takes_a_truncated_upload_for_a_whole_one(
    client: Client, part: bytes
) -> None:
    """RFC 9846 section 6.1 and RFC 5246 section 7.2.1 are there to prevent that."""
    data = await client.open_data("STOR file")
    await data.send_all(b"half of it")
    await data.transport_stream.send_all(part)
    # FIN; with unread session tickets, closing would send RST.
    await data.transport_stream.send_eof()
    assert await client.reply() == b"226"
    await trio.aclose_forcefully(data)
    check(data.report, "1B")
    what = "we cut a record" if part else "we cut"
    client.ended(f"STOR, {what}", data, Saw.CLOSE_NOTIFY, A_CUT_IS_AN_END)


async def test_proftpd_sees_that_we_reset(client: Client, tmp_path: Path) -> None:
    data = await client.open_data("STOR file")
    await data.send_all(b"half of it")
    # A RST destroys what it has not read yet.
    read = 0
    while not read:
        await trio.sleep(0.002)
        read = (tmp_path / "file").stat().st_size
    await we.reset_it(data, client.program)
    assert await client.reply() == b"426"
    check(data.report, "1B")
    client.ended("STOR, we reset", data, Saw.FAILED)
