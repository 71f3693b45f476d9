"""``trio-tlsdown rogue``: badly behaved servers, met by a client of Python's own."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.client import IncompleteRead
from pathlib import Path

import attrs
import pytest
import trio

from tests.support import memory_transports, needs_linux, needs_posix
from trio_tlsdown import TLSFailedError, TLSStream
from trio_tlsdown.cli._rogue import Encounter, Rogue, encounter, url_of
from trio_tlsdown.testing import BEHAVIOURS, client_context

from .probing import run

SIGINT = "SIGINT for another process"


@attrs.frozen
class Rogues:
    process: subprocess.Popen[str]
    ports: dict[str, int]
    context: ssl.SSLContext
    host: str

    def get(self, name: str) -> bytes:
        url = f"https://{self.host}:{self.ports[name]}/"
        with urllib.request.urlopen(url, timeout=10, context=self.context) as answer:
            data: bytes = answer.read()
            return data

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()


@contextmanager
def rogues(
    folder: Path, *arguments: str, count: int = 1, trusted: bool = True
) -> Iterator[Rogues]:
    ca = str(folder / "rogue-ca.pem") if trusted else None
    process = subprocess.Popen(  # noqa: S603
        [
            *(sys.executable, "-m", "trio_tlsdown", "rogue"),
            *(("--write-ca", ca) if ca else ()),
            *arguments,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stderr is not None
        ports, host = {}, ""
        for _ in range(count):
            line = process.stderr.readline()
            found = re.fullmatch(r"(\w+)  https://([\d.]+|localhost):(\d+)/\n", line)
            assert found is not None, line + process.stderr.read()
            ports[found[1]], host = int(found[3]), found[2]
        context = ssl.create_default_context(cafile=ca)
        try:
            yield Rogues(process, ports, context, host)
        finally:
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=30)
        assert (process.returncode, errors) == (0, "")


def test_the_list_has_every_behaviour_and_who_does_so() -> None:
    result = run("rogue", "--list")
    assert result.exit_code == 0
    for name in BEHAVIOURS:
        assert f"{name}\n    " in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--all", "flood"),
        ("nothing",),
        ("flood", "--port", "65536"),
        ("--all", "--port", "65530"),
        ("--list", "--all"),
        ("flood", "--host", "my_host"),
        ("flood", "--host", ""),
    ],
)
def test_wrong_usage_is_exit_code_2(arguments: tuple[str, ...]) -> None:
    result = run("rogue", *arguments)
    assert result.exit_code == 2
    assert result.stdout == ""


def test_wrong_usage_is_told_as_what_it_is() -> None:
    assert "Give BEHAVIOUR, --all or --list." in run("rogue").stderr
    assert "BEHAVIOUR or --all, not both" in run("rogue", "flood", "--all").stderr
    told = run("rogue", "flood", "--list", "--port", 1, "--json").stderr
    assert "--list must be used alone: leave out --port, --json." in told
    more = f"needs {len(BEHAVIOURS)} more ports above this one"
    assert more in run("rogue", "--all", "--port", 65530).stderr


def test_the_list_can_be_of_one_behaviour() -> None:
    result = run("rogue", "slow_drip", "--list")
    assert result.exit_code == 0
    assert result.stdout.startswith("slow_drip\n    Sends application data")
    assert "flood" not in result.stdout


@pytest.mark.parametrize(("which", "above"), [("flood", 0), ("--all", 0), ("--all", 9)])
def test_a_port_that_is_taken_is_named_with_exit_code_3(which: str, above: int) -> None:
    first = next(filter(are_free, range(21_000, 32_000, 100)))
    port = first + above
    with socket.create_server(("127.0.0.1", port)):
        result = run("rogue", which, "--port", first)
    assert result.exit_code == 3
    why = os.strerror(errno.EADDRINUSE)
    assert result.stderr == f"Error: 127.0.0.1:{port}: cannot listen: {why}\n"


def test_an_address_of_another_machine_is_named_with_exit_code_3() -> None:
    result = run("rogue", "flood", "--host", "192.0.2.1", "--port", 8443)
    assert result.exit_code == 3
    assert result.stderr.startswith("Error: 192.0.2.1:8443: cannot listen: ")


def test_a_ca_that_cannot_be_written_is_exit_code_3(tmp_path: Path) -> None:
    path = tmp_path / "no" / "ca.pem"
    result = run("rogue", "flood", "--write-ca", path)
    assert result.exit_code == 3
    why = os.strerror(errno.ENOENT)
    assert result.stderr == f"Error: --write-ca {path}: {why}\n"


def test_a_rogue_that_cannot_listen_leaves_the_ca_of_the_one_that_does(
    tmp_path: Path,
) -> None:
    path = tmp_path / "ca.pem"
    path.write_text("of another rogue")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        run("rogue", "flood", "--port", port, "--write-ca", path)
    assert path.read_text() == "of another rogue"


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ("127.0.0.1", "localhost"),
        ("0.0.0.0", "localhost"),  # noqa: S104
        ("127.0.0.2", "127.0.0.2"),
        ("example.org", "example.org"),
        ("::1", "[::1]"),
        ("::", "[::1]"),
        ("fe80::1%eth0", "[fe80::1%25eth0]"),
    ],
)
def test_what_is_shown_is_where_it_listens(host: str, shown: str) -> None:
    assert url_of(host, 8443) == f"https://{shown}:8443/"


def test_a_client_that_breaks_tls_is_told_with_the_version_that_it_spoke() -> None:
    met = trio.run(met_by, "bad_record", refuses_a_record)
    assert met.tls == "TLSv1.2"
    assert met.alert == "SSLV3_ALERT_BAD_RECORD_MAC"
    assert met.error is None
    assert "  TLSv1.2  2 B  TLS failed: SSLV3_ALERT_BAD_RECORD_MAC" in (met.as_line())


def test_what_a_client_says_instead_of_tls_is_no_alert() -> None:
    met = trio.run(met_by, "flood", speaks_http)
    assert met.tls is None
    assert met.alert is None
    assert met.error == "HTTP_REQUEST"
    assert "TLS failed without an alert: HTTP_REQUEST" in met.as_line()


async def met_by(
    name: str, client: Callable[[trio.abc.Stream], Awaitable[None]]
) -> Encounter:
    ours, theirs = await memory_transports()
    rogue = Rogue(name, theirs, hears=2, version="TLSv1.2")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rogue.run)
        await client(ours)
        await ours.aclose()
    return encounter(rogue, "a client")


async def refuses_a_record(transport: trio.abc.Stream) -> None:
    stream = TLSStream(transport, client_context(), server_hostname="localhost")
    await stream.send_all(b"hi")
    with pytest.raises(TLSFailedError):
        await stream.receive_some()


async def speaks_http(transport: trio.abc.Stream) -> None:
    await transport.send_all(b"GET / HTTP/1.1\r\n\r\n")
    assert await transport.receive_some() == b""


@needs_posix(SIGINT)
def test_the_log_tells_what_a_client_did(tmp_path: Path) -> None:
    with rogues(tmp_path, "close_without_waiting", "--tls", "1.2") as rogue:
        assert rogue.get("close_without_waiting") == b"half an answer"
        line = rogue.line()
    assert re.search(
        r"close_without_waiting  127\.0\.0\.1:\d+  TLSv1\.2  \d+ B  sent no close_notify",
        line,
    )


@needs_posix(SIGINT)
def test_the_log_tells_a_close_notify(tmp_path: Path) -> None:
    with rogues(tmp_path, "second_close_notify", "--answer", "none") as rogue:
        with socket.create_connection(
            ("127.0.0.1", rogue.ports["second_close_notify"])
        ) as bare:
            with rogue.context.wrap_socket(bare, server_hostname="localhost") as tls:
                assert tls.recv(1) == b""
                tls.unwrap()
        assert "sent close_notify, then " in rogue.line()


@needs_posix(SIGINT)
def test_the_log_can_be_json(tmp_path: Path) -> None:
    with rogues(tmp_path, "fatal_alert", "--json", trusted=False) as rogue:
        with pytest.raises(ssl.SSLError):
            with socket.create_connection(
                ("127.0.0.1", rogue.ports["fatal_alert"])
            ) as bare:
                rogue.context.wrap_socket(bare, server_hostname="localhost")
        told = json.loads(rogue.line())
    assert told["behaviour"] == "fatal_alert"
    assert told["alert"] == "TLSV1_ALERT_UNKNOWN_CA"
    assert told["error"] is None
    assert told["received"] == 0
    assert told["close_notify"] is False


@needs_posix(SIGINT)
@pytest.mark.parametrize(
    "framing", [pytest.param("length", marks=pytest.mark.long), "chunked"]
)
def test_the_answer_can_say_how_long_it_is(tmp_path: Path, framing: str) -> None:
    name = "cut_before_close_notify"
    with rogues(tmp_path, name, "--answer", framing) as rogue:
        with pytest.raises(IncompleteRead):
            rogue.get(name)


@needs_posix(SIGINT)
def test_the_answer_can_last_until_the_end_and_there_can_be_none(
    tmp_path: Path,
) -> None:
    name = "cut_before_close_notify"
    with rogues(tmp_path, name, "--answer", "close") as rogue:
        assert rogue.get(name) == b"half an answer"
        # OpenSSL notices, and says so, unless Python has told it not to, as Debian's
        # does. Neither tells its user.
        ignored = rogue.context.options & getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
        said = "TLS failed: TLSV1_ALERT_DECODE_ERROR" in rogue.line()
        assert said is not bool(ignored)
    with rogues(tmp_path, name, "--answer", "none") as rogue:
        with pytest.raises((urllib.error.URLError, OSError)):
            rogue.get(name)


@needs_posix(SIGINT)
def test_all_of_them_have_a_port_each_and_a_page(tmp_path: Path) -> None:
    with rogues(tmp_path, "--all", count=len(BEHAVIOURS) + 1) as rogue:
        page = rogue.get("index").decode()
        for name in BEHAVIOURS:
            assert (
                f'<a href="https://localhost:{rogue.ports[name]}/">{name}</a>' in page
            )


@needs_linux("the whole of 127.0.0.0/8 as loopback addresses")
def test_the_page_is_at_the_host_that_was_given_and_its_certificate_is_for_it(
    tmp_path: Path,
) -> None:
    options = ("--all", "--host", "127.0.0.2")
    with rogues(tmp_path, *options, count=len(BEHAVIOURS) + 1) as rogue:
        assert rogue.host == "127.0.0.2"
        assert b'<a href="https://127.0.0.2:' in rogue.get("index")


@needs_posix(SIGINT)
def test_who_does_not_trust_the_ca_is_told_how_by_the_page(tmp_path: Path) -> None:
    with rogues(tmp_path, "--all", count=len(BEHAVIOURS) + 1) as rogue:
        address = ("127.0.0.1", rogue.ports["index"])
        stranger = ssl.create_default_context()
        with socket.create_connection(address) as bare:
            with pytest.raises(ssl.SSLCertVerificationError):
                stranger.wrap_socket(bare, server_hostname="localhost")
        assert rogue.process.stderr is not None
        assert rogue.process.stderr.readline() == (
            "index  TLS failed: TLSV1_ALERT_UNKNOWN_CA (clients have to trust the CA of "
            "--write-ca)\n"
        )
        with socket.create_connection(address) as bare:
            bare.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert (
                rogue.process.stderr.readline() == "index  TLS failed: HTTP_REQUEST\n"
            )


def are_free(first: int) -> bool:
    """Whether so many ports are free, below those that the kernel gives to others."""
    with ExitStack() as stack:
        try:
            for port in range(first, first + len(BEHAVIOURS) + 1):
                stack.enter_context(socket.create_server(("127.0.0.1", port)))
        except OSError:  # pragma: no cover - it depends on what else runs here
            return False
    return True


@needs_posix(SIGINT)
def test_all_of_them_follow_the_port_that_was_given(tmp_path: Path) -> None:
    port = next(filter(are_free, range(21_000, 32_000, 100)))
    with rogues(
        tmp_path, "--all", "--port", str(port), count=len(BEHAVIOURS) + 1
    ) as rogue:
        assert rogue.ports["index"] == port
        assert sorted(rogue.ports.values()) == list(
            range(port, port + len(BEHAVIOURS) + 1)
        )
