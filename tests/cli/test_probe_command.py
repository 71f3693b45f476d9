"""``trio-tlsdown probe`` as a command: what it prints, writes, and exits with."""

from __future__ import annotations

import html.parser
import json
import os
import re
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import trio

from tests.support import CA, CERT, needs_posix
from trio_tlsdown import TLSStream
from trio_tlsdown.cli.probe import _observe
from trio_tlsdown.cli.probe._checks import CHECKS
from trio_tlsdown.cli.probe._results import schema
from trio_tlsdown.cli.probe._targets import parse_target
from trio_tlsdown.testing import serve_rogue, server_context as kit_context

from .probing import (
    ANSWER,
    HOST,
    in_thread,
    lines_of_json,
    run,
    serve_tcp,
    serve_tls,
    web_server,
    write_ca,
)

pytestmark = pytest.mark.long  # each run waits to see what a server leaves out

EVIL = "nginx \x1b[2J<script>alert(1)</script>\u202e\"'&"


async def evil(stream: TLSStream[Any]) -> None:
    await stream.receive_some()
    head = b"HTTP/1.1 200 OK\r\nServer: " + EVIL.encode() + b"\r\n"
    await stream.send_all(head + b"Content-Length: 0\r\n\r\n")
    raise OSError("no close_notify")  # it is cut


async def serve_badly(name: str, *, task_status: trio.TaskStatus[int]) -> None:
    async with trio.open_nursery() as nursery:
        serve = partial(serve_rogue, name, ca=CA)
        task_status.started((await nursery.start(serve))[1])


@pytest.fixture
def ca(tmp_path: Path) -> Path:
    return write_ca(tmp_path)


@pytest.fixture
def port() -> Iterator[int]:
    with in_thread(web_server()) as number:
        yield number


@pytest.fixture
def evil_port() -> Iterator[int]:
    with in_thread(web_server(evil)) as number:
        yield number


def probe(ca: Path, *arguments: object) -> Any:
    timeouts = ("--timeout", 1, "--handshake-timeout", 5)
    return run("probe", "--ca-file", ca, *timeouts, *arguments)


def test_a_good_server_gets_exit_code_0_and_each_check_a_line(
    ca: Path, port: int
) -> None:
    result = probe(ca, f"{HOST}:{port}")
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    for check in CHECKS:
        assert result.stdout.count(check.id) == 2
    assert result.stdout.endswith("1 host: 1 pass\n")
    assert "\x1b" not in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_a_server_that_fails_gets_exit_code_1_and_a_remedy(
    ca: Path, evil_port: int
) -> None:
    result = probe(ca, f"{HOST}:{evil_port}")
    assert result.exit_code == 1
    assert "fail  ends-with-close-notify" in result.stdout
    assert "RFC 9846 section 6.1: Both versions demand it." in result.stdout
    assert "https://nginx.org/en/docs/stream/" in result.stdout
    assert "with the same: trio-tlsdown rogue" in result.stdout
    assert "\x1b" not in result.stdout
    assert "\u202e" not in result.stdout


def test_a_host_that_is_away_gets_exit_code_3_unless_another_one_fails(
    ca: Path, port: int, evil_port: int
) -> None:
    away = f"{HOST}:1"
    result = probe(ca, "--brief", away, f"{HOST}:{port}")
    assert result.exit_code == 3
    assert f"unreachable  {away}" in result.stdout
    assert "2 hosts: 1 pass, 1 unreachable" in result.stdout
    result = probe(ca, away)
    assert result.exit_code == 3
    assert "no session" in result.stdout
    result = probe(ca, "--brief", away, f"{HOST}:{evil_port}", "--tls", "1.3")
    assert result.exit_code == 1
    assert "ends-with-close-notify (TLS 1.3)" in result.stdout
    assert "Ends like the rogue " in result.stdout


def test_a_server_that_does_not_say_what_it_is_gets_a_remedy_for_any(ca: Path) -> None:
    with in_thread(partial(serve_badly, "cut_before_close_notify")) as port:
        result = probe(ca, f"{HOST}:{port}", "--tls", "1.3")
    assert result.exit_code == 1
    assert "Call the TLS library's shutdown function" in result.stdout
    assert "https://" not in result.stdout


def test_another_protocol_has_another_port(ca: Path) -> None:
    result = probe(ca, "--protocol", "smtp", "--brief", HOST)
    assert result.exit_code in (1, 3)
    assert f"  {HOST}:25  " in result.stdout


def test_a_version_that_is_not_spoken_is_told(ca: Path) -> None:
    with in_thread(web_server(version="TLSv1.3")) as port:
        result = probe(ca, f"{HOST}:{port}")
    assert result.exit_code == 0
    assert "TLS 1.2: not supported" in result.stdout
    assert "ssl_context" not in result.stdout  # which its user does not have


def test_each_line_of_json_is_as_the_schema_has_it(
    ca: Path, port: int, evil_port: int
) -> None:
    hosts = f"{HOST}:{port}\n\n# a comment\n{HOST}:{evil_port} # evil\n{HOST}:1\n"
    result = run(
        *("probe", "--ca-file", ca, "--timeout", 1, "--json", "--file", "-"),
        input=hosts,
    )
    assert result.exit_code == 1
    assert result.stdout.isascii()
    found = lines_of_json(result.stdout)
    assert {each["port"] for each in found} == {port, evil_port, 1}
    validator = jsonschema.Draft202012Validator(json.loads(schema()))
    for each in found:
        validator.validate(each)
        # What is not in the schema has to be put there.
        [described, has] = [json.loads(schema())["properties"], each]
        assert set(has) == set(described)
        for version in has["versions"]:
            properties = described["versions"]["items"]["properties"]
            assert set(version) == set(properties)
            if version["certificate"]:
                about = properties["certificate"]["properties"]
                assert set(version["certificate"]) == set(about)
            for check in version["checks"]:
                assert set(check) == set(properties["checks"]["items"]["properties"])
            for seen in version["connections"]:
                assert set(seen) == set(
                    properties["connections"]["items"]["properties"]
                )
    [evil_one] = [each for each in found if each["port"] == evil_port]
    assert evil_one["server"] == EVIL.replace("\x1b", r"\x1b").replace(
        "\u202e", r"\u202e"
    )


def test_results_of_many_machines_are_summed_up(
    ca: Path, port: int, evil_port: int, tmp_path: Path
) -> None:
    files = []
    for number in (port, evil_port):
        files.append(tmp_path / f"{number}.jsonl")
        files[-1].write_text(probe(ca, "--json", f"{HOST}:{number}").stdout)
    result = run("probe", "merge", *files)
    assert result.exit_code == 1
    assert result.stdout.startswith("2 hosts: 1 pass, 1 fail\n")
    result = run("probe", "merge", "--json", *files)
    told = json.loads(result.stdout)
    assert told["hosts"] == 2
    assert told["verdicts"] == {"pass": 1, "warn": 0, "fail": 1, "n/a": 0}
    [row] = [
        row
        for row in told["checks"]
        if (row["id"], row["tls"]) == ("ends-with-close-notify", "1.3")
    ]
    assert (row["pass"], row["fail"]) == (1, 1)


@pytest.mark.parametrize("line", ["x", "{}", "[]", '{"reachable": true}'])
def test_what_is_no_result_is_told_with_its_place(tmp_path: Path, line: str) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text(line + "\n")
    result = run("probe", "merge", path)
    assert result.exit_code == 2
    assert f"{path}:1: not a result of a probe" in result.stderr


class Page(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def test_reports_in_files_are_whole_and_nothing_in_them_is_the_servers(
    ca: Path, port: int, evil_port: int, tmp_path: Path
) -> None:
    alerting = partial(serve_badly, "fatal_alert")
    with in_thread(web_server(version="TLSv1.2")) as old, in_thread(alerting) as bad:
        result = run(
            *("probe", "--timeout", 1, "--brief", "--insecure"),
            *(f"{HOST}:{each}" for each in (port, evil_port, old, bad, 1)),
            *("--html", tmp_path / "p.html", "--junit", tmp_path / "p.xml"),
            *("--prometheus", tmp_path / "p.prom"),
        )
    assert result.exit_code == 1
    assert "WARNING: certificates are not verified" in result.stderr
    page = Page()
    text = (tmp_path / "p.html").read_text("utf-8")
    page.feed(text)
    assert text.endswith("</html>\n")
    assert "script" not in page.tags
    assert page.tags.count("svg") >= 2 * 2 * 5
    assert r"\x1b[2J<script>" in page.text
    assert "TLS failed" in page.text
    assert "The certificate was not verified" in page.text
    suites = ET.parse(tmp_path / "p.xml").getroot()  # noqa: S314 - we wrote it
    assert len(suites) == 5
    for suite in suites:
        assert int(suite.get("tests", "")) == len(suite)
        assert int(suite.get("failures", "")) == len(suite.findall("*/failure"))
        assert int(suite.get("errors", "")) == len(suite.findall("*/error"))
        assert int(suite.get("skipped", "")) == len(suite.findall("*/skipped"))
    assert suites.find("*/*/failure") is not None
    sample = re.compile(r'[a-z_]+\{([a-z]+="[^"\\\n]*",?)+\} [-0-9.e]+')
    names: list[str] = []
    for line in (tmp_path / "p.prom").read_text("utf-8").splitlines():
        if line.startswith("#"):
            names += [line.split()[2]] if line.startswith("# TYPE") else []
        else:
            assert sample.fullmatch(line), line
            assert line.startswith(names[-1] + "{")
    assert len(set(names)) == len(names)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("ca.pem", "p.html", "p.prom", "p.xml"),
    ]


def test_swimlanes_show_what_crossed(ca: Path, port: int, tmp_path: Path) -> None:
    page = tmp_path / "p.html"
    result = probe(
        ca, *("--swimlane", "--tls", "1.3", "--html", page), f"{HOST}:{port}"
    )
    assert "not verified" not in page.read_text("utf-8")
    assert result.exit_code == 0
    for experiment in ("idle", "half-close", "goodbye", "bad-request", "unread"):
        assert f"\n  {experiment}\n" in result.stdout
    assert "close_notify" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_insecure_is_said_in_each_result(ca: Path, port: int) -> None:
    arguments = (
        "probe",
        "--insecure",
        "--timeout",
        1,
        "--tls",
        "1.3",
        f"{HOST}:{port}",
    )
    result = run(*arguments)
    assert result.exit_code == 0
    assert "THE CERTIFICATE WAS NOT VERIFIED" in result.stdout
    assert lines_of_json(run(*arguments, "--json").stdout)[0]["insecure"] is True


def test_a_client_certificate_and_alpn_are_offered(ca: Path, tmp_path: Path) -> None:
    pem = tmp_path / "client.pem"
    key = tmp_path / "client.key"
    for path, blobs in (
        (pem, CERT.cert_chain_pems),
        (key, [CERT.private_key_pem]),
    ):
        for blob in blobs:
            blob.write_to_path(path, append=True)
    chosen: list[str | None] = []

    async def handler(stream: TLSStream[Any]) -> None:
        chosen.append(stream.selected_alpn_protocol())
        await stream.receive_some()
        await stream.send_all(ANSWER)

    context = kit_context(ca=CA, client_certificate=True, alpn=["acme"])
    with in_thread(partial(serve_tls, handler, context)) as port:
        target = (f"{HOST}:{port}", "--tls", "1.3", "--alpn", "acme")
        refused = probe(ca, *target)
        assert refused.exit_code == 3
        assert "wants one" in " ".join(refused.stdout.split())
        assert probe(ca, *target, "--cert", pem, "--key", key).exit_code != 3
    assert set(chosen) == {"acme"}


def test_the_name_to_ask_for_can_be_another_one(ca: Path, port: int) -> None:
    target = (f"{HOST}:{port}", "--tls", "1.3")
    assert probe(ca, *target, "--server-name", "localhost").exit_code == 0
    result = probe(ca, *target, "--server-name", "other.example")
    assert result.exit_code == 3
    assert "certificate not trusted" in result.stdout
    assert "(see --server-name)" in " ".join(result.stdout.split())


def test_raw_sends_what_is_asked_with_escapes(ca: Path) -> None:
    heard: set[bytes] = set()

    async def handler(stream: TLSStream[Any]) -> None:
        heard.add((await stream.receive_some())[:4])

    with in_thread(web_server(handler)) as port:
        probe(ca, *("--protocol", "raw", "--send", r"a\x00\r\n"), f"{HOST}:{port}")
    assert b"a\0\r\n" in heard


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "HOST"),
        (("https://example.org/",), "not HOST or HOST:PORT"),
        (("example.org:99999",), "the port must be"),
        (("x", "--path", "y"), "--path"),
        (("x", "--send", "y"), "--send"),
        (("x", "--protocol", "raw", "--send", "\\x"), "--send"),
        (("x", "--protocol", "gopher"), "--protocol"),
        (("x", "--server-name", "a b"), "--server-name"),
        (("x", "--concurrency", "0"), "--concurrency"),
        (("x", "--timeout", "0"), "--timeout"),
        (("x", "--ca-file", "/nowhere"), "--ca-file"),
        (("x", "--ca-file", __file__), __file__),
        (("x", "--cert", __file__), __file__),
        (("x", "--alpn", ""), "--alpn"),
        (("x:1", "--html", "/nowhere/x.html"), "/nowhere/x.html"),
    ],
)
def test_wrong_usage_is_exit_code_2_and_says_what(
    arguments: tuple[str, ...], told: str
) -> None:
    result = run("probe", *arguments)
    assert result.exit_code == 2, result.output
    assert told in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("example.org", "example.org", 443),
        ("example.org:8443", "example.org", 8443),
        ("[::1]:8443", "::1", 8443),
        ("[fe80::1%eth0]", "fe80::1%eth0", 443),
        ("::1", "::1", 443),
        ("b\u00fccher.example", "b\u00fccher.example", 443),
    ],
)
def test_a_target_is_a_host_and_maybe_a_port(text: str, host: str, port: int) -> None:
    target = parse_target(text, 443)
    assert (target.host, target.port) == (host, port)
    assert parse_target(str(target), 1) == target


def test_the_checks_can_be_listed_with_what_to_do(ca: Path) -> None:
    result = run("probe", "--list-checks")
    assert result.exit_code == 0
    for check in CHECKS:
        assert f"{check.id}\n" in result.stdout
    for name in ("nginx: ", "HAProxy: ", "Apache: ", "Go: ", "Java: ", "Node.js: "):
        assert name in result.stdout


def test_the_schema_can_be_printed() -> None:
    assert json.loads(run("probe", "--schema").stdout)["properties"]["schema"] == {
        "const": 1
    }


# In a process of its own:


def command(*arguments: object) -> list[str]:
    return [
        *(sys.executable, "-m", "trio_tlsdown", "probe"),
        *(str(each) for each in arguments),
    ]


async def silent(transport: trio.SocketStream) -> None:
    await trio.sleep_forever()


@needs_posix("SIGINT for another process")
def test_ctrl_c_keeps_what_is_done(ca: Path, port: int) -> None:
    with in_thread(partial(serve_tcp, silent)) as stuck:
        process = subprocess.Popen(  # noqa: S603
            command(
                *("--ca-file", ca, "--json", "--tls", "1.3", "--concurrency", 2),
                *(f"{HOST}:{port}", f"{HOST}:{stuck}", "--timeout", 1),
            ),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with process:
            assert process.stdout is not None
            first = process.stdout.readline()
            process.send_signal(signal.SIGINT)
            rest, errors = process.communicate(timeout=30)
    assert json.loads(first)["port"] == port
    assert rest == ""
    assert errors == "Interrupted: 1 of 2 hosts\n"
    assert process.returncode == 1


@needs_posix("a pipe as Linux has it")
@pytest.mark.parametrize("form", [(), ("--json",), ("--brief",)])
def test_a_reader_that_has_gone_ends_the_probe_without_a_traceback(
    ca: Path, port: int, form: tuple[str, ...]
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    result = subprocess.run(  # noqa: S603
        command("--ca-file", ca, *form, "--tls", "1.3", f"{HOST}:{port}"),
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=60,
    )
    os.close(writing)
    assert result.returncode == 1
    assert result.stderr == ""


@needs_posix("pseudo-terminals")
@pytest.mark.parametrize("form", [(), ("--json",), ("--brief",)])
def test_a_terminal_gets_a_bar_of_progress(
    ca: Path, port: int, form: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    import pty

    monkeypatch.setenv("TERM", "xterm")
    master, slave = pty.openpty()
    process = subprocess.Popen(  # noqa: S603
        command("--ca-file", ca, *form, f"{HOST}:{port}", "--timeout", 1),
        stdout=slave,
        stderr=slave,
    )
    os.close(slave)
    shown = b""
    while True:
        try:
            shown += os.read(master, 2**16)
        except OSError:  # the other end is closed
            break
    os.close(master)
    assert process.wait(timeout=30) == 0
    assert b"Probing" in shown
    assert b"0/1" in shown
    assert str(port).encode() in shown


def test_hosts_that_never_answer_are_probed_together(
    ca: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_observe, "QUIET", 0.0)
    with in_thread(partial(serve_tcp, silent)) as first:
        with in_thread(partial(serve_tcp, silent)) as second:
            began = time.monotonic()
            result = run(
                *("probe", "--handshake-timeout", 1, "--tls", "1.3", "--brief"),
                *(f"{HOST}:{first}", f"{HOST}:{second}"),
            )
    assert time.monotonic() - began < 1.9
    assert result.exit_code == 3
    assert result.stdout.count("took longer than 1 s") == 2
