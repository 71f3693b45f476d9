"""``trio-tlsdown rogue``: badly behaved servers, met by a client of Python's own."""

from __future__ import annotations

import json
import re
import signal
import socket
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.client import IncompleteRead
from pathlib import Path

import attrs
import pytest

from tests.support import needs_posix
from trio_tlsdown.testing import BEHAVIOURS

from .probing import run

SIGINT = "SIGINT for another process"


@attrs.frozen
class Rogues:
    process: subprocess.Popen[str]
    ports: dict[str, int]
    context: ssl.SSLContext

    def get(self, name: str) -> bytes:
        url = f"https://localhost:{self.ports[name]}/"
        with urllib.request.urlopen(url, timeout=10, context=self.context) as answer:
            data: bytes = answer.read()
            return data

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()


@contextmanager
def rogues(folder: Path, *arguments: str, count: int = 1) -> Iterator[Rogues]:
    ca = folder / "rogue-ca.pem"
    process = subprocess.Popen(  # noqa: S603
        [
            *(sys.executable, "-m", "trio_tlsdown", "rogue"),
            *("--write-ca", str(ca), *arguments),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stderr is not None
        ports = {}
        for _ in range(count):
            line = process.stderr.readline()
            found = re.fullmatch(r"(\w+)  https://localhost:(\d+)/\n", line)
            assert found is not None, line + process.stderr.read()
            ports[found[1]] = int(found[2])
        try:
            yield Rogues(process, ports, ssl.create_default_context(cafile=str(ca)))
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
    ],
)
def test_wrong_usage_is_exit_code_2(arguments: tuple[str, ...]) -> None:
    result = run("rogue", *arguments)
    assert result.exit_code == 2
    assert result.stdout == ""


def test_a_port_that_is_taken_is_exit_code_3() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = run("rogue", "flood", "--port", port)
    assert result.exit_code == 3
    assert "Address already in use" in result.stderr
    assert "Traceback" not in result.output


def test_a_ca_that_cannot_be_written_is_exit_code_3(tmp_path: Path) -> None:
    result = run("rogue", "flood", "--write-ca", tmp_path / "no" / "ca.pem")
    assert result.exit_code == 3


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
    with rogues(tmp_path, "fatal_alert", "--json") as rogue:
        context = ssl.create_default_context()  # it does not know the CA
        with pytest.raises(ssl.SSLError):
            with socket.create_connection(
                ("127.0.0.1", rogue.ports["fatal_alert"])
            ) as bare:
                context.wrap_socket(bare, server_hostname="localhost")
        told = json.loads(rogue.line())
    assert told["behaviour"] == "fatal_alert"
    assert told["alert"] == "TLSV1_ALERT_UNKNOWN_CA"
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
