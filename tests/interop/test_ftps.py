"""curl leaves TLS, and goes on with our FTP server in clear text: CCC.

RFC 4217 section 5: both shut TLS down on the socket and leave it open. What curl does
instead when it is passive is documented:
https://curl.se/docs/manpage.html#--ftp-ssl-ccc-mode
"""

from __future__ import annotations

import runpy
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from harness.process import Program, running
from tests.support import Maker, cut, server_context
from trio_tlsdown import (
    ShutdownOutcome as Outcome,
    ShutdownReport,
    TLSFailedError,
    TruncatedError,
)

from .data import DATA, digest
from .programs import require
from .rows import RealProgram, Remark
from .servers import HOST, certificate_authority

EXAMPLE = runpy.run_path(str(Path(__file__).parents[2] / "docs/examples/ftps.py"))
Session: Any = EXAMPLE["Session"]
MUCH = DATA * 8

PARTIAL_FILE = 18  # https://curl.se/docs/manpage.html#EXIT


class WaitsForGoodbye(Session):  # type: ignore[misc]
    """A server that does not expect a client to misbehave."""

    async def ccc(self, argument: str) -> None:
        await self.reply("200 clear text from now on")
        try:
            await self.stream.unwrap()
        finally:
            self.ended("control", self.stream.report)


class Cuts(Session):  # type: ignore[misc]
    """A server that crashes when half of a file is sent."""

    async def retr(self, name: str) -> None:
        data = await self.open_data()
        await data.send_all(self.files[name][: len(MUCH) // 2])
        await cut(data)
        await self.reply("426 cut")


@attrs.define
class FTPServer:
    """Serve one client."""

    port: int
    files: dict[str, bytes]
    error: trio.BrokenResourceError | None = None
    reports: dict[str, ShutdownReport] = attrs.field(factory=dict)


@asynccontextmanager
async def serving(version: str, kind: Any = Session) -> AsyncIterator[FTPServer]:
    [listener] = await trio.open_tcp_listeners(0, host=HOST)
    server = FTPServer(listener.socket.getsockname()[1], {"file": MUCH})

    context = server_context(version)
    context.num_tickets = 0  # a client that is killed before it reads them sends RST

    async def serve() -> None:
        async with listener, await listener.accept() as transport:
            session = kind(transport, context, server.files, server.reports.__setitem__)
            try:
                await session.run()
            except trio.BrokenResourceError as exc:
                server.error = exc

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        yield server


@asynccontextmanager
async def curl(
    server: FTPServer, folder: Path, *options: str, mode: str = "active"
) -> AsyncIterator[Program]:
    async with running(
        *(require("curl"), "-sSv", "--ssl-reqd", "--user", "name:password"),
        *("--cacert", str(certificate_authority(folder))),
        *("--ftp-ssl-ccc", "--ftp-ssl-ccc-mode", mode),
        *(f"ftp://localhost:{server.port}/file", *options),
    ) as program:
        yield program


def recorded(
    tls: Maker, mode: str, situation: str, report: ShutdownReport, *, ccc: bool = False
) -> None:
    """Record how it ended."""
    remark = SAYS_NO_GOODBYE if ccc and mode == "passive" else None
    program = RealProgram(f"curl FTPS, CCC {mode}", "client", "curl")
    program.ended(tls.version, situation, report, remark=remark)


SAYS_NO_GOODBYE = Remark(
    "does not answer our close_notify, and goes on in clear text",
    "https://curl.se/docs/manpage.html#--ftp-ssl-ccc-mode",
)

# What curl -v prints about the control connection, and our report.
MODES = {
    "active": ("SSL_SENT_SHUTDOWN|SSL_RECEIVED__SHUTDOWN", Outcome.COMPLETE),
    "passive": ("SSL_RECEIVED_SHUTDOWN", Outcome.SENT),
}


@pytest.mark.parametrize("mode", MODES)
async def test_curl_goes_on_in_clear_text_whether_or_not_it_said_goodbye(
    tls: Maker, tmp_path: Path, mode: str
) -> None:
    shutdown, outcome = MODES[mode]
    async with (
        serving(tls.version) as server,
        curl(server, tmp_path, mode=mode) as program,
    ):
        await program.ended.wait()
    assert program.process.returncode == 0
    assert f"SSL_get_shutdown() returned {shutdown}\n".encode() in program.log
    assert server.reports["control"].outcome is outcome
    assert server.reports["control"].secure
    assert server.reports["control"].first == "local"
    assert server.reports["file"].outcome is Outcome.COMPLETE
    assert digest(program.output) == digest(MUCH)
    recorded(tls, mode, "CCC, we shut down", server.reports["control"], ccc=True)
    recorded(tls, mode, "RETR (8 MiB to it)", server.reports["file"])


async def test_a_server_that_waits_for_a_goodbye_gets_clear_text_and_says_so(
    tls: Maker, tmp_path: Path
) -> None:
    async with (
        serving(tls.version, WaitsForGoodbye) as server,
        curl(server, tmp_path, mode="passive") as program,
    ):
        await program.ended.wait()
    assert isinstance(server.error, TLSFailedError)
    report = server.reports["control"]
    assert report.outcome is Outcome.FAILED
    assert report.close_notify_sent
    assert not report.close_notify_received
    recorded(tls, "passive", "CCC, we wait for its close_notify", report, ccc=True)


async def test_what_curl_sent_right_before_closing_is_stored(
    tls: Maker, tmp_path: Path
) -> None:
    async with (
        serving(tls.version) as server,
        curl(server, tmp_path, "--upload-file", "-") as program,
    ):
        await program.type(MUCH[::-1])
        await program.type_eof()
        await program.ended.wait()
    assert program.process.returncode == 0
    assert server.reports["file"].outcome is Outcome.COMPLETE
    assert server.reports["file"].first == "peer"
    recorded(tls, "active", "STOR (8 MiB from it)", server.reports["file"])
    assert digest(server.files["file"]) == digest(MUCH[::-1])


async def test_a_truncated_upload_of_a_killed_curl_is_not_stored(
    tls: Maker, tmp_path: Path
) -> None:
    async with (
        serving(tls.version) as server,
        curl(server, tmp_path, "--upload-file", "-") as program,
    ):
        await program.type(b"half of it")
        await program.says("(?s)> STOR.*SSL connection using")
        program.process.kill()
    assert isinstance(server.error, TruncatedError)
    assert server.files == {"file": MUCH}
    assert "file" not in server.reports


async def test_curl_tells_that_a_file_was_cut(tls: Maker, tmp_path: Path) -> None:
    async with (
        serving(tls.version, Cuts) as server,
        curl(server, tmp_path) as program,
    ):
        await program.ended.wait()
    assert program.process.returncode == PARTIAL_FILE
    assert digest(program.output) == digest(MUCH[: len(MUCH) // 2])
