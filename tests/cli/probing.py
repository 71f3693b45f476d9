"""What the tests of the probe share: servers in a thread, and how to probe them."""

from __future__ import annotations

import json
import queue
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import trio
from click.testing import CliRunner, Result

from tests.support import CA, server_context
from trio_tlsdown import TLSStream, open_tls_nursery
from trio_tlsdown.cli._app import app
from trio_tlsdown.cli.probe._checks import Version
from trio_tlsdown.cli.probe._contexts import make_contexts
from trio_tlsdown.cli.probe._observe import Limits
from trio_tlsdown.cli.probe._protocols import PROTOCOLS, Protocol
from trio_tlsdown.cli.probe._results import HostResult
from trio_tlsdown.cli.probe._run import Settings, probe_host
from trio_tlsdown.cli.probe._targets import Target
from trio_tlsdown.testing import NAME

HOST = "127.0.0.1"
QUICK = Limits(handshake=5.0, answer=1.0)

Stream: TypeAlias = TLSStream[trio.SocketStream]
Handler: TypeAlias = Callable[[Stream], Awaitable[object]]
Serve: TypeAlias = Callable[..., Awaitable[object]]

ANSWER = b"HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nContent-Length: 5\r\n\r\nhello"
REFUSAL = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"


async def web(stream: trio.abc.Stream) -> None:
    """A web server that ends well, and goes on after a half-close."""
    async for data in stream:
        if data.startswith(b"\x01"):
            return await stream.send_all(REFUSAL)
        await stream.send_all(ANSWER)
        if b"close" in data:
            return None
    return None


async def serve_tls(
    handler: Handler,
    context: ssl.SSLContext,
    *,
    task_status: trio.TaskStatus[int],
    **options: Any,
) -> None:
    async with open_tls_nursery() as tls:
        server = await tls.start_server(handler, 0, context, host=HOST, **options)
        task_status.started(server.addresses[0][1])
        await trio.sleep_forever()


async def serve_tcp(
    handler: Callable[[trio.SocketStream], Awaitable[None]],
    *,
    task_status: trio.TaskStatus[int],
) -> None:
    listeners = await trio.open_tcp_listeners(0, host=HOST)
    task_status.started(listeners[0].socket.getsockname()[1])
    await trio.serve_listeners(handler, listeners)


@contextmanager
def in_thread(serve: Serve) -> Iterator[int]:
    """Run a server beside a command that has an event loop of its own."""
    started: queue.Queue[tuple[int, Callable[[], None]]] = queue.Queue()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            port = await nursery.start(serve)
            token = trio.lowlevel.current_trio_token()
            cancel = nursery.cancel_scope.cancel
            started.put((port, partial(token.run_sync_soon, cancel)))

    thread = threading.Thread(target=trio.run, args=(main,))
    thread.start()
    port, stop = started.get(timeout=30)
    try:
        yield port
    finally:
        stop()
        thread.join()


def web_server(handler: Handler = web, version: str | None = None) -> Serve:
    return partial(serve_tls, handler, server_context(version))


def write_ca(folder: Path) -> Path:
    path = folder / "ca.pem"
    CA.cert_pem.write_to_path(path)
    return path


def settings_of(
    folder: Path,
    *,
    protocol: Protocol | str = "http",
    versions: tuple[Version, ...] = ("1.3", "1.2"),
    limits: Limits = QUICK,
    **options: Any,
) -> Settings:
    return Settings(
        protocol=PROTOCOLS[protocol] if isinstance(protocol, str) else protocol,
        contexts=make_contexts(versions, ca_file=str(write_ca(folder))),
        limits=limits,
        server_name=NAME,
        **options,
    )


async def probed(port: int, settings: Settings) -> HostResult:
    with trio.fail_after(60):
        return await probe_host(Target(HOST, port), settings)


def verdicts(result: HostResult, version: Version) -> dict[str, str]:
    [found] = [each for each in result.versions if each.tls == version]
    return {name: finding.verdict.value for name, finding in found.findings.items()}


def run(*arguments: object, **options: Any) -> Result:
    return CliRunner().invoke(app, [str(each) for each in arguments], **options)


def lines_of_json(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]
