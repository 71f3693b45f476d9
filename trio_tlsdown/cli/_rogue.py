"""``trio-tlsdown rogue``: badly behaved servers, for clients in any language."""

from __future__ import annotations

import datetime as dt
import json
import logging
import textwrap
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from html import escape
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import attrs
import click
import trio
import trustme

from trio_tlsdown import (
    ListenFailedError,
    TLSFailedError,
    TLSStream,
    open_tls_nursery,
)
from trio_tlsdown.testing import BEHAVIOURS, NAME, RoguePeer, server_context

from ._interrupt import run_until_interrupt
from ._options import alone
from ._tls_words import is_alert

LOOPBACK: Final = "127.0.0.1"
# How clients reach what listens there; they cannot connect to the last two.
REACHED_AT: Final[Mapping[str, str]] = {LOOPBACK: NAME, "0.0.0.0": NAME, "::": "::1"}  # noqa: S104
UNKNOWN_CA: Final = "TLSV1_ALERT_UNKNOWN_CA"
MAX_PORT: Final = 65535
Framing: TypeAlias = Literal["close", "length", "chunked", "none"]

HEAD: Final = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n"
PART: Final = "half an answer"
# Each says how it would go on; only the end of the connection ends the first.
ANSWERS: Final[Mapping[Framing, bytes]] = {
    "close": f"{HEAD}\r\n{PART}".encode(),
    "length": f"{HEAD}Content-Length: 1000\r\n\r\n{PART}".encode(),
    "chunked": (
        f"{HEAD}Transfer-Encoding: chunked\r\n\r\n{len(PART):x}\r\n{PART}\r\n".encode()
    ),
    "none": b"",
}

HELP: Final = """\
Serve TLS on this machine, and end each connection badly.

Which clients notice that an answer was cut? Each gets the first half of an
answer, and then BEHAVIOUR. A line tells what the client did. An alert in it says
that its TLS library noticed, which does not mean that it told its user.

\b
trio-tlsdown rogue --list
trio-tlsdown rogue cut_before_close_notify --port 8443 --write-ca ca.pem
curl --cacert ca.pem https://localhost:8443/; echo $?   # 0: it did not notice

Ctrl-C ends it. Exit codes: 0; 2 for wrong usage; 3 if it cannot listen there,
or cannot write the CA.
"""


class _CannotServe(click.ClickException):
    exit_code = 3


class Rogue(RoguePeer):
    """A rogue that remembers the TLS version, which OpenSSL forgets after an error."""

    version: str | None = None
    """Such as ``"TLSv1.3"``; None before the handshake is done."""

    def step_of_handshake(self) -> bool:
        """Note the version when the handshake is done."""
        done = super().step_of_handshake()
        if done:
            self.version = self.tls.version()
        return done


@attrs.frozen
class Encounter:
    """What one client did."""

    time: str
    behaviour: str
    client: str
    tls: str | None
    """Such as ``"TLSv1.3"``; None if the handshake was not done."""

    received: int
    """Bytes of its request."""

    close_notify: bool
    """Whether it sent one."""

    alert: str | None
    """OpenSSL's name for the alert that it sent, such as TLSV1_ALERT_UNKNOWN_CA."""

    error: str | None
    """OpenSSL's reason why TLS failed, if the client sent no alert."""

    end: str | None
    """How it ended TCP: FIN or reset."""

    @property
    def words(self) -> str:
        """What it did, in words."""
        if self.alert is not None:
            did = f"TLS failed: {self.alert}"
        elif self.error is not None:
            did = f"TLS failed without an alert: {self.error}"
        elif self.close_notify:
            did = "sent close_notify"
        else:
            did = "sent no close_notify"
        end = f", then {self.end}" if self.end else ""
        return f"{did}{end}"

    def as_line(self) -> str:
        """One line, for people."""
        return (
            f"{self.time}  {self.behaviour}  {self.client}  {self.tls or 'no TLS'}  "
            f"{self.received} B  {self.words}"
        )


def encounter(peer: Rogue, client: str) -> Encounter:
    """What a client has done, of which the peer knows."""
    failed = None
    if peer.error is not None:
        # It knows the reasons that Python has no name for.
        reason = TLSFailedError(peer.error, during_handshake=False).reason
        failed = reason or str(peer.error)
    alerted = failed is not None and is_alert(failed)
    return Encounter(
        time=dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds"),
        behaviour=peer.behaviour.name,
        client=client,
        tls=peer.version,
        received=len(peer.received),
        close_notify=peer.close_notify_received,
        alert=failed if alerted else None,
        error=None if alerted else failed,
        end=peer.transport_end,
    )


@click.command(help=HELP)
@click.argument(
    "behaviour",
    required=False,
    type=click.Choice(list(BEHAVIOURS)),
    metavar="[BEHAVIOUR]",
)
@click.option(
    "--list",
    "show_list",
    is_flag=True,
    help="Print all behaviours, or BEHAVIOUR only, and which software does so.",
)
@click.option(
    "--all",
    "serve_all",
    is_flag=True,
    help="Serve all of them, each on a port of its own, and a page with links.",
)
@click.option(
    "--port",
    type=click.IntRange(0, MAX_PORT),
    metavar="PORT",
    default=0,
    help="Where to listen. With --all the page is there, and the behaviours are on the "
    "ports above it. Default: any that are free.",
)
@click.option(
    "--host",
    default=LOOPBACK,
    show_default=True,
    help="An address or a name of this machine. The certificate is for it, and for "
    "localhost, 127.0.0.1 and ::1.",
)
@click.option("--tls", type=click.Choice(["1.2", "1.3"]), help="Only this version.")
@click.option(
    "--answer",
    type=click.Choice(list(ANSWERS)),
    default="close",
    show_default=True,
    help="The half answer to an HTTP request: one that ends with the connection, has "
    "a Content-Length, or is chunked. none: no answer, and no wait for a request.",
)
@click.option(
    "--write-ca",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Write the CA that clients have to trust (PEM). It is new each time.",
)
@click.option(
    "--json", "as_data", is_flag=True, help="Print a line of JSON for each client."
)
def rogue(
    *,
    behaviour: str | None,
    show_list: bool,
    serve_all: bool,
    port: int,
    host: str,
    tls: str | None,
    answer: Framing,
    write_ca: Path | None,
    as_data: bool,
) -> None:
    """Serve, until Ctrl-C."""
    if show_list:
        alone("--list")
        names = [behaviour] if behaviour else list(BEHAVIOURS)
        click.echo("\n\n".join(_described(name) for name in names))
        return
    if behaviour and serve_all:
        raise click.UsageError("Give BEHAVIOUR or --all, not both.")
    if not behaviour and not serve_all:
        raise click.UsageError("Give BEHAVIOUR, --all or --list.")
    names = [behaviour] if behaviour else list(BEHAVIOURS)
    if serve_all and port + len(names) > MAX_PORT:
        raise click.BadParameter(
            f"--all needs {len(names)} more ports above this one", param_hint="--port"
        )
    show = partial(_show, as_data=as_data)
    version = f"TLSv{tls}" if tls else None
    kit = _Kit(host, _ca_for(host), version, ANSWERS[answer], show, write_ca)
    try:
        trio.run(run_until_interrupt, partial(kit.serve, names, port, index=serve_all))
    except ExceptionGroup as group:
        # Not by except*: what that raises may be in a group again.
        failed, others = group.split((ListenFailedError, click.ClickException))
        if failed is None or others is not None:
            raise  # pragma: no cover - a bug of ours
        raise _CannotServe(str(_first(failed))) from group


class _CA(trustme.CA):
    """A CA that adds a host to the names of each certificate."""

    host: str = NAME

    def issue_cert(self, *identities: str, **options: Any) -> trustme.LeafCert:
        """Issue a certificate that is for the host, too."""
        return super().issue_cert(*dict.fromkeys((*identities, self.host)), **options)


def _ca_for(host: str) -> trustme.CA:
    ca = _CA()
    ca.host = host.partition("%")[0]  # no certificate has a zone
    try:
        ca.issue_cert(NAME)
    except UnicodeError as exc:
        raise click.BadParameter(
            f"no certificate can have this name: {exc}", param_hint="--host"
        ) from exc
    return ca


def _first(group: BaseExceptionGroup[Exception]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]  # pyright: ignore[reportUnknownVariableType]
    return error


def url_of(host: str, port: int) -> str:
    """Where clients reach what listens on that host."""
    host = REACHED_AT.get(host, host)
    if ":" in host:
        host = f"[{host.replace('%', '%25')}]"  # a zone: RFC 6874 section 2
    return f"https://{host}:{port}/"


def _described(name: str) -> str:
    return f"{name}\n{textwrap.indent(textwrap.fill(_description(name), 75), '    ')}"


def _description(name: str) -> str:
    """What it does, without the marks of reStructuredText."""
    return " ".join(BEHAVIOURS[name].description.split()).replace("``", "`")


def _show(met: Encounter, *, as_data: bool) -> None:
    click.echo(json.dumps(attrs.asdict(met)) if as_data else met.as_line())


@attrs.frozen
class _Kit:
    """All that the servers share."""

    host: str
    ca: trustme.CA
    version: str | None
    answer: bytes
    show: Callable[[Encounter], object]
    write_ca: Path | None

    async def serve(self, names: list[str], port: int, *, index: bool) -> None:
        """Serve the behaviours, and a page with links to them."""
        async with trio.open_nursery() as nursery:
            ports: dict[str, int] = {}
            first = port + index if port else 0
            for number, name in enumerate(names):
                where = first + number if first else 0
                ports[name] = await nursery.start(self._serve_one, name, where)
            urls = {name: url_of(self.host, number) for name, number in ports.items()}
            if index:
                where = await nursery.start(self._serve_index, _page(ports, urls), port)
                urls = {"index": url_of(self.host, where), **urls}
            # Not before: another rogue, which has these ports, may have its CA there.
            if self.write_ca is not None:
                _write(self.ca, self.write_ca)
            for name, url in urls.items():
                click.echo(f"{name}  {url}", err=True)

    async def _serve_one(  # noqa: ASYNC114  (nobody else starts it)
        self, name: str, port: int, *, task_status: trio.TaskStatus[int]
    ) -> None:
        async def handle(transport: trio.SocketStream) -> None:
            client = "a client that has disconnected"
            with suppress(OSError):
                client = "{}:{}".format(*transport.socket.getpeername())
            peer = Rogue(
                name,
                transport,
                hears=1 if self.answer else 0,
                says=self.answer,
                ca=self.ca,
                version=self.version,
            )
            await peer.run()
            self.show(encounter(peer, client))

        try:
            listeners = await trio.open_tcp_listeners(port, host=self.host)
        except OSError as exc:
            raise ListenFailedError(self.host, port, exc) from exc
        task_status.started(listeners[0].socket.getsockname()[1])
        await trio.serve_listeners(handle, listeners)

    async def _serve_index(  # noqa: ASYNC114  (nobody else starts it)
        self, page: bytes, port: int, *, task_status: trio.TaskStatus[int]
    ) -> None:
        # What the library logs is for programmers.
        logging.getLogger("trio_tlsdown").addHandler(logging.NullHandler())

        async def handle(stream: TLSStream[Any]) -> None:
            await stream.receive_some()
            await stream.send_all(page)

        def tell(error: Exception, _: object) -> None:
            reason = error.reason if isinstance(error, TLSFailedError) else None
            note = (
                " (clients have to trust the CA of --write-ca)"
                if reason == UNKNOWN_CA
                else ""
            )
            click.echo(f"index  TLS failed: {reason or error}{note}", err=True)

        async with open_tls_nursery() as tls:
            context = server_context(ca=self.ca, version=self.version)
            server = await tls.start_server(
                handle, port, context, host=self.host, on_error=tell
            )
            task_status.started(server.addresses[0][1])
            await trio.sleep_forever()


def _write(ca: trustme.CA, path: Path) -> None:
    try:
        ca.cert_pem.write_to_path(path)
    except OSError as exc:
        raise _CannotServe(f"--write-ca {path}: {exc.strerror}") from exc


def _page(ports: Mapping[str, int], urls: Mapping[str, str]) -> bytes:
    rows = "".join(
        f'<tr><td><a href="{escape(urls[name])}">{name}</a><td>{port}<td>'
        f"{escape(_description(name))}\n"
        for name, port in ports.items()
    )
    body = (
        '<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>Rogues</title>\n'
        f"<h1>Servers that end badly</h1>\n<table>{rows}</table></html>\n"
    ).encode()
    head = (
        "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body
