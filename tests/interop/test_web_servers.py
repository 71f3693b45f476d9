"""nginx and HAProxy as HTTP servers, in front of one that the test plays."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from pathlib import Path

import attrs
import pytest
import trio
import trio.testing

from tests import support
from tests.support import Maker
from trio_tlsdown import ShutdownReport, TruncatedError
from trio_tlsdown.testing._transports import reset_when_closed

from . import haproxy, nginx, we
from .data import DATA, digest
from .endings import TABLE, check
from .parts import Part, kill_it, kill_it_before_it_reads
from .rows import RealProgram, Remark
from .tunnels import Front, Site, all_from, front

MUCH = DATA * 8

WHOLE, IN_PART = True, False


@attrs.frozen
class Kind:
    """A program, and where it does not do what RFC 9112 section 9.8 asks."""

    program: RealProgram
    command: Callable[[Site], tuple[str, ...]]
    when_we_shut_down: str = "3A"
    """A cell of `endings.TABLE`: it has to answer our close_notify."""

    half_close_ends: Mapping[str, Collection[bool]] = {"3A": [WHOLE]}
    """Cells of `endings.TABLE`, and whether the answer comes whole."""

    a_cut_looks_whole: bool = False
    """RFC 9112 section 8: an answer that ends with the connection is incomplete if
    that ends without close_notify."""

    remarks: Mapping[str, Remark] = {}

    def ended(
        self,
        tls: Maker,
        situation: str,
        report: ShutdownReport,
        *,
        either: Collection[str] = (),
    ) -> None:
        """Record it."""
        self.program.ended(
            tls.version,
            situation,
            report,
            remark=self.remarks.get(situation),
            either=[TABLE[cell] for cell in either],
        )


KINDS = [
    Kind(
        nginx.program("nginx http"),
        nginx.http,
        when_we_shut_down=nginx.NO_ANSWER.ending,
        remarks={"we shut down": nginx.NO_ANSWER.remark},
    ),
    Kind(
        haproxy.program("HAProxy http"),
        haproxy.http,
        half_close_ends={"3A": [WHOLE], "2A reset": [WHOLE, IN_PART]},
        a_cut_looks_whole=True,
        remarks={
            "we half-close": Remark(
                "now and then closes with our close_notify unread: that makes a RST,"
                " which destroys what is still to be sent",
                # conn_ctrl_close() drains only if CO_FL_WANT_DRAIN is set, which the
                # end of an answer does not do. RFC 9112 section 9.6 warns of that.
                haproxy.CONNECTION,
            ),
            "the server behind resets": haproxy.SAYS_GOODBYE,
        },
    ),
]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.program.name)
def kind(request: pytest.FixtureRequest) -> Kind:
    result: Kind = request.param
    return result


@pytest.fixture
async def web(kind: Kind, tls: Maker, tmp_path: Path) -> AsyncIterator[Front]:
    """A connection to a program that hands requests to the server behind it."""
    async with front(kind.command, tls.version, tmp_path) as result:
        yield result


async def ask(web: Front, *headers: str, body: bytes = b"") -> trio.SocketStream:
    """Send a request; return the connection on which the server behind gets it."""
    lines = ["POST / HTTP/1.1", "Host: localhost", *headers, "", ""]
    head = "\r\n".join([*lines[:2], f"Content-Length: {len(body)}", *lines[2:]])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(web.ours.send_all, head.encode() + body)
        server = await web.behind.accept()
        assert await body_from(server) == body
    return server


async def body_from(stream: trio.abc.ReceiveStream) -> bytes:
    data = bytearray()
    while b"\r\n\r\n" not in data:
        data += await stream.receive_some()
    head, _, body = data.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
    assert length is not None
    while len(body) < int(length[1]):
        body += await stream.receive_some()
    return bytes(body)


async def answer(server: trio.SocketStream, body: bytes) -> None:
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n"
    await server.send_all(head.encode() + body)


async def test_much_data_each_way_arrives_when_a_web_server_closes_right_after_it(
    kind: Kind, tls: Maker, web: Front
) -> None:
    async with (
        await ask(web, "Connection: close", body=MUCH) as server,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(answer, server, MUCH[::-1])
        assert digest(await body_from(web.ours)) == digest(MUCH[::-1])
    await we.shut_down_too(web.ours, web.program)
    check(web.ours.report, "4B")
    for event in ("it closes", "8 MiB to it", "8 MiB from it"):
        kind.ended(tls, event, web.ours.report)


async def test_a_web_server_and_we_agree_when_we_shut_down_between_requests(
    kind: Kind, tls: Maker, web: Front
) -> None:
    async with await ask(web) as server:
        await answer(server, b"answer")
        assert await body_from(web.ours) == b"answer"
        await web.ours.shutdown()
    check(web.ours.report, kind.when_we_shut_down)
    kind.ended(tls, "we shut down", web.ours.report)


async def test_a_web_server_and_we_agree_when_we_close_without_waiting(
    kind: Kind, tls: Maker, web: Front
) -> None:
    async with await ask(web) as server:
        await answer(server, b"answer")
        assert await body_from(web.ours) == b"answer"
        await web.ours.shutdown(wait=False)
        await web.ours.aclose()
    check(web.ours.report, "4A")
    kind.ended(tls, "we close without waiting", web.ours.report)


PARTS: Mapping[str, tuple[Part, str]] = {
    "we cut": (we.close_the_transport, "1B"),
    "we cut a record": (we.cut_a_record, "1B"),
    "we reset": (we.reset_it, "1B"),
    "it is killed": (kill_it, "1A"),
    "it is killed before it reads": (kill_it_before_it_reads, "2A reset"),
}


@pytest.mark.parametrize("event", PARTS)
async def test_a_web_server_or_we_abort_between_requests(
    kind: Kind, tls: Maker, web: Front, event: str
) -> None:
    play, cell = PARTS[event]
    async with await ask(web) as server:
        await answer(server, b"answer")
        assert await body_from(web.ours) == b"answer"
        await play(web.ours, web.program)
    check(web.ours.report, cell)
    kind.ended(tls, event, web.ours.report)


async def test_a_web_server_answers_after_our_half_close(
    kind: Kind, tls: Maker, web: Front
) -> None:
    """On TLS 1.2, too: it does not look for a close_notify."""
    async with (
        await ask(web, "Connection: close") as server,
        trio.open_nursery() as nursery,
    ):
        await web.ours.send_eof(allow_tls12=True)
        nursery.start_soon(answer, server, MUCH)
        whole = (await all_from(web.ours)).endswith(MUCH)
    report = await web.ours.shutdown()
    [cell] = [
        cell for cell in kind.half_close_ends if TABLE[cell].outcome is report.outcome
    ]
    check(report, cell)
    assert whole in kind.half_close_ends[cell]
    kind.ended(tls, "we half-close", report, either=kind.half_close_ends)


async def test_an_answer_that_is_cut_behind_does_not_look_whole(
    kind: Kind, tls: Maker, web: Front
) -> None:
    server = await ask(web, "Connection: close")
    await server.send_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhalf of it")
    received = bytearray()
    while b"half of it" not in received:
        received += await web.ours.receive_some()
    reset_when_closed(server)
    await server.aclose()
    received += await all_from(web.ours)
    head, _, body = received.partition(b"\r\n\r\n")
    # RFC 9112 section 7.1: the last chunk is empty.
    framed = b"transfer-encoding: chunked" in head.lower()
    ends = body.endswith(b"\r\n0\r\n\r\n") if framed else True
    looks_whole = ends and web.ours.report.close_notify_received
    assert looks_whole is kind.a_cut_looks_whole
    await support.cut(web.ours)
    kind.ended(tls, "the server behind resets", web.ours.report)


async def test_a_web_server_is_killed_while_much_data_is_on_its_way(
    kind: Kind, tls: Maker, web: Front
) -> None:
    async with await ask(web) as server:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer, server, MUCH)
            await trio.testing.wait_all_tasks_blocked(0.05)  # all buffers are full
            nursery.cancel_scope.cancel()
        web.program.process.kill()
        assert len(await all_from(web.ours)) < len(MUCH)
    await web.ours.shutdown()
    check(web.ours.report, "1A")
    assert isinstance(web.ours.report.error, TruncatedError)
    assert web.ours.report.error.mid_record
    kind.ended(tls, "it is killed inside a record", web.ours.report)
