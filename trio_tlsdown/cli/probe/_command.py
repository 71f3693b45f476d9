"""``trio-tlsdown probe``: how does a server end its connections?"""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from os.path import realpath
from pathlib import Path
from typing import Final, Literal, TextIO

import attrs
import click
import trio
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.text import Text

from trio_tlsdown.cli._interrupt import run_until_interrupt
from trio_tlsdown.cli._options import Seconds, alone, given, one_of
from trio_tlsdown.cli._paper import Paper

from ._checks import Version
from ._contexts import VERSIONS, UnusableError, make_contexts
from ._escapes import unescape
from ._html import HtmlReport
from ._junit import JUnitReport
from ._observe import Limits
from ._prometheus import PrometheusReport
from ._protocols import PROTOCOLS, Protocol, http, raw
from ._results import HostResult, as_json, as_line, schema
from ._run import LEAKING_LIMIT, Settings, probe_hosts
from ._summary import Summary
from ._targets import Target, parse_target
from ._text import brief, check_list, full

HELP: Final = """\
Find out how TLS servers end their connections.

Each host is asked with TLS 1.3 and with TLS 1.2, on up to seven connections
each, one after the other. They carry a handshake, a harmless request, a
goodbye, and an invalid request. Probe only hosts that you are allowed to
probe.

\b
trio-tlsdown probe example.org
trio-tlsdown probe --protocol smtp mail.example.org
trio-tlsdown probe --json --file hosts.txt >results.jsonl
trio-tlsdown probe --list-checks

A fail is a MUST of the RFC that was broken; a warn is allowed, but clients
pay for it. TLS 1.3 does not oblige a server to answer a close_notify.

\b
Exit codes:
0  nothing failed, and all hosts could be reached
1  a check failed, or the probe was interrupted, by Ctrl-C or because the
   reader of its output has gone, as head does
2  wrong usage
3  a host could not be reached (and nothing failed), or the output cannot be
   written
"""
FILE: Final = click.Path(dir_okay=False, path_type=Path)
INPUT: Final = click.Path(exists=True, dir_okay=False)
# With or without the mark that Windows puts at the beginning.
TEXT: Final = click.File(encoding="utf-8-sig")


class _Failed(click.ClickException):
    """Wrong usage that only shows when a file is read."""

    exit_code = 2


@attrs.frozen
class _Report:
    """Something that takes each result, and is finished at the end."""

    add: Callable[[HostResult], object]
    finish: Callable[[], object]


@click.command(help=HELP)
@click.argument("hosts", metavar="[HOST[:PORT]]...", nargs=-1)
@click.option(
    "--file",
    "host_file",
    type=TEXT,
    help="Read hosts from a file, one per line; # starts a comment. - is standard "
    "input.",
)
@click.option(
    "--protocol",
    "protocol_name",
    type=click.Choice(list(PROTOCOLS)),
    default="http",
    show_default=True,
    metavar="NAME",
    help="http or raw; smtp, imap, pop3, ftp, ldap, xmpp or postgres, which begin "
    "with STARTTLS or the like; smtps, imaps, pop3s, ftps or ldaps.",
)
@click.option("--path", default="/", show_default=True, help="What to get over HTTP.")
@click.option(
    "--send",
    help=r"The request of --protocol raw; \r, \n, \x00 and so on are escapes. Default: "
    "only the handshake.",
)
@click.option(
    "--tls",
    "versions",
    type=click.Choice(list(VERSIONS)),
    multiple=True,
    help="Only this version.",
)
@click.option(
    "--alpn",
    multiple=True,
    help="A protocol to offer; may be repeated. Default: http/1.1 for http, else none.",
)
@click.option(
    "--server-name",
    help="The name for SNI, certificate verification and the HTTP Host header. Default: "
    "the host.",
)
@click.option("--ca-file", type=INPUT, help="Trust these CAs only (PEM).")
@click.option(
    "--cert", type=INPUT, help="Our client certificate, with its chain (PEM)."
)
@click.option("--key", type=INPUT, help="Its private key, if it is in a separate file.")
@click.option(
    "--insecure", is_flag=True, help="Do NOT verify certificates. Each result says so."
)
@click.option(
    "--timeout",
    type=Seconds(),
    metavar="SECONDS",
    default=5.0,
    show_default=True,
    help="How long a server may take for an answer, and for an end.",
)
@click.option(
    "--handshake-timeout",
    type=Seconds(),
    metavar="SECONDS",
    default=10.0,
    show_default=True,
    help="How long TCP may take, and again STARTTLS and the handshake.",
)
@click.option(
    "--concurrency",
    type=click.IntRange(1, 10_000),
    metavar="HOSTS",
    default=20,
    show_default=True,
    help="How many to probe at a time.",
)
@click.option(
    "--resumption",
    type=click.IntRange(0),
    metavar="HOSTS",
    default=LEAKING_LIMIT,
    help="How many hosts to test for session resumption. Default: all; 100 on Pythons "
    "where the test leaks memory (before 3.12.8, and 3.13.0).",
)
@click.option("--brief", "is_brief", is_flag=True, help="One line for each host.")
@click.option("--json", "as_data", is_flag=True, help="One line of JSON for each host.")
@click.option("--swimlane", is_flag=True, help="Draw each connection.")
@click.option("--junit", type=FILE, help="Write a JUnit report (XML).")
@click.option(
    "--html", type=FILE, help="Write a web page, with drawings of all connections."
)
@click.option(
    "--prometheus",
    type=FILE,
    help="Write metrics for node_exporter's textfile collector.",
)
@click.option(
    "--schema", "show_schema", is_flag=True, help="Print the schema of --json."
)
@click.option(
    "--list-checks", is_flag=True, help="Print all checks, with all remedies."
)
def probe(
    *,
    hosts: tuple[str, ...],
    host_file: TextIO | None,
    protocol_name: str,
    path: str,
    send: str | None,
    versions: tuple[Version, ...],
    alpn: tuple[str, ...],
    server_name: str | None,
    ca_file: str | None,
    cert: str | None,
    key: str | None,
    insecure: bool,
    timeout: float,
    handshake_timeout: float,
    concurrency: int,
    resumption: int | None,
    is_brief: bool,
    as_data: bool,
    swimlane: bool,
    junit: Path | None,
    html: Path | None,
    prometheus: Path | None,
    show_schema: bool,
    list_checks: bool,
) -> None:
    """Probe hosts, and print what came of it."""
    if show_schema:
        alone("--schema", beside=hosts)
        click.echo(schema())
        return
    if list_checks:
        alone("--list-checks", beside=hosts)
        click.echo("\n".join(check_list(Paper.of(Console()))))
        return
    one_of("--brief", "--json", "--swimlane")
    if key is not None and cert is None:
        raise click.UsageError("--key has no effect without --cert: give --cert too.")
    if insecure and ca_file is not None:
        raise click.UsageError(
            "--insecure verifies nothing, so --ca-file has no effect: leave one of them out."
        )
    files = [realpath(path) for path in (junit, html, prometheus) if path is not None]
    if len(set(files)) < len(files):
        raise click.UsageError("Two reports name the same file: each needs its own.")
    protocol = _protocol(protocol_name, path, send)
    targets = _targets(hosts, host_file, protocol.port)
    settings = Settings(
        protocol=protocol,
        contexts=_contexts(
            versions or tuple(VERSIONS),
            _alpn(alpn) or protocol.alpn,
            ca_file,
            (cert, key),
            insecure=insecure,
        ),
        limits=Limits(handshake=handshake_timeout, answer=timeout),
        server_name=_server_name(server_name),
        insecure=insecure,
        keep_events=swimlane or html is not None,
        resumption=resumption,
    )
    if insecure:
        click.echo("WARNING: certificates are not verified (--insecure)", err=True)
    summary = Summary()
    reports = [_Report(lambda result: summary.add(as_json(result)), lambda: None)]
    with ExitStack() as stack:
        for path_, kind in (
            (junit, JUnitReport),
            (html, HtmlReport),
            (prometheus, PrometheusReport),
        ):
            if path_ is not None:
                file = stack.enter_context(_replacing(path_))
                report = kind(file)
                reports.append(_Report(report.add, report.finish))
        with _output(len(targets), is_brief, as_data, swimlane) as show:
            ended = _probe(targets, settings, concurrency, reports, show)
        for report_ in reports:
            report_.finish()
    if isinstance(ended, OSError):
        raise ended
    if not as_data:
        click.echo("\n".join(summary.lines()))
    if ended == "interrupted":
        click.echo(f"Interrupted: {summary.hosts} of {len(targets)} hosts", err=True)
        raise click.exceptions.Exit(1)
    raise click.exceptions.Exit(summary.exit_code)


# What was asked for:


def _protocol(name: str, path: str, send: str | None) -> Protocol:
    if send is not None and name != "raw":
        raise click.BadParameter("only for --protocol raw", param_hint="--send")
    if name != "http" and "--path" in given():
        raise click.BadParameter("only for --protocol http", param_hint="--path")
    if name == "http":
        return http(_path(path))
    if name == "raw":
        return raw(_request(send or ""))
    return PROTOCOLS[name]


def _path(path: str) -> str:
    if not path.startswith("/"):
        raise click.BadParameter(
            f"not a path: {path!r} (it must begin with /)", param_hint="--path"
        )
    if not path.isascii() or not path.isprintable() or " " in path:
        raise click.BadParameter(
            f"not a path: {path!r} (write a space as %20, and other characters than "
            "those of ASCII likewise)",
            param_hint="--path",
        )
    return path


def _request(text: str) -> bytes:
    try:
        return unescape(text)
    except ValueError as exc:
        raise click.BadParameter(str(exc), param_hint="--send") from exc


def _alpn(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if not (name.isascii() and 0 < len(name) < 2**8):
            raise click.BadParameter(
                f"a protocol has 1 to 255 characters of ASCII: {name!r}",
                param_hint="--alpn",
            )
    return names


def _targets(hosts: Iterable[str], file: TextIO | None, port: int) -> list[Target]:
    try:
        targets = [parse_target(host, port) for host in hosts]
    except ValueError as exc:
        raise click.BadParameter(str(exc), param_hint="HOST") from exc
    if file is not None:
        targets += _targets_in(file, port)
        if not targets:
            raise _Failed(f"{_name_of(file)}: no hosts in it")
    if not targets:
        raise click.UsageError("Missing argument 'HOST', or --file.")
    return list(dict.fromkeys(targets))


def _targets_in(file: TextIO, port: int) -> Iterator[Target]:
    for where, line in _lines(file):
        if text := line.partition("#")[0].strip():
            try:
                yield parse_target(text, port)
            except ValueError as exc:
                raise _Failed(f"{where}: {exc}") from exc


def _lines(file: TextIO) -> Iterator[tuple[str, str]]:
    """Each line, behind the place where it is."""
    try:
        for number, line in enumerate(file, 1):
            yield f"{_name_of(file)}:{number}", line
    except UnicodeDecodeError as exc:
        raise _Failed(f"{_name_of(file)}: not UTF-8") from exc


def _name_of(file: TextIO) -> str:
    return getattr(file, "name", "<stdin>")  # which may be a stream without one


def _server_name(name: str | None) -> str | None:
    if name is not None and not _is_host(name):
        raise click.BadParameter(
            f"not a host name: {name!r}", param_hint="--server-name"
        )
    return name


def _is_host(name: str) -> bool:
    try:
        name.encode("idna")
        return parse_target(name, 1) == Target(name, 1)
    except ValueError:
        return False


def _contexts(
    versions: Iterable[Version],
    alpn: Iterable[str],
    ca_file: str | None,
    certificate: tuple[str | None, str | None],
    *,
    insecure: bool,
) -> dict[Version, ssl.SSLContext]:
    try:
        return make_contexts(
            versions,
            alpn=alpn,
            ca_file=ca_file,
            client_certificate=certificate[0],
            client_key=certificate[1],
            insecure=insecure,
        )
    except (OSError, UnusableError) as exc:
        raise _Failed(str(exc)) from exc


# Where it goes:


@contextmanager
def _replacing(path: Path) -> Generator[TextIO]:
    """Open a file that takes the place of another one when it is complete."""
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("w", encoding="utf-8") as file:
            yield file
        part.replace(path)
    except OSError as exc:
        raise _Failed(f"{path}: {exc.strerror}") from exc
    finally:
        part.unlink(missing_ok=True)


class _Console(Console):
    """A console whose reader may go: that is an error for `_probe`, like any other."""

    def on_broken_pipe(self) -> None:
        """Let the error pass; rich would exit from within a task."""
        raise


@contextmanager
def _output(
    count: int, is_brief: bool, as_data: bool, swimlane: bool
) -> Generator[Callable[[HostResult], None]]:
    """Give what shows a result, with a bar of progress on a terminal."""
    console = _Console(highlight=False, soft_wrap=True)
    paper = Paper.of(console)
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        # On the terminal that shows the results, the bar has to step aside for them.
        console=console if console.is_terminal else Console(stderr=True),
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    progress.disable = not progress.console.is_terminal
    task = progress.add_task("Probing", total=count)

    def show(result: HostResult) -> None:
        if as_data:
            # Not by rich, which would break the line.
            line = as_line(result)
            if console.is_terminal:
                console.print(Text(line))
            else:
                click.echo(line)
        else:
            lines = (
                [brief(result)] if is_brief else full(result, paper, swimlanes=swimlane)
            )
            for text in lines:
                console.print(text)
        progress.advance(task)

    with progress:
        yield show


def _probe(
    targets: list[Target],
    settings: Settings,
    concurrency: int,
    reports: list[_Report],
    show: Callable[[HostResult], object],
) -> Literal["interrupted"] | OSError | None:
    """Probe all targets.

    Returns:
      What ended it before, if anything did: Ctrl-C, or an error of the output. The
      reports keep what is done then.

    Raises:
      OSError: a report cannot be written.
    """
    of_reports: list[OSError] = []
    of_output: list[OSError] = []

    async def main() -> None:
        with trio.CancelScope() as scope:

            def done(result: HostResult) -> None:
                errors = of_reports
                try:
                    for report in reports:
                        report.add(result)
                    errors = of_output
                    show(result)
                except OSError as exc:
                    errors.append(exc)
                    scope.cancel()

            await probe_hosts(targets, settings, concurrency=concurrency, done=done)

    interrupted = trio.run(run_until_interrupt, main)
    if of_reports:
        raise of_reports[0]
    return of_output[0] if of_output else "interrupted" if interrupted else None


@click.command(short_help="Sum up results of `probe --json`.")
@click.argument("files", nargs=-1, required=True, type=TEXT)
@click.option("--json", "as_data", is_flag=True, help="Print JSON instead.")
def merge(*, files: tuple[TextIO, ...], as_data: bool) -> None:
    """Sum up what `trio-tlsdown probe --json` printed, on one machine or many.

    The exit code is that of the probe.
    """
    summary = Summary()
    for file in files:
        for where, line in _lines(file):
            try:
                summary.add(json.loads(line))
            except (ValueError, KeyError, TypeError) as exc:
                raise _Failed(f"{where}: not a result of a probe") from exc
    click.echo(json.dumps(summary.as_json()) if as_data else "\n".join(summary.lines()))
    raise click.exceptions.Exit(summary.exit_code)
