"""What ``trio-tlsdown probe`` refuses before it connects, and how it says so."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import trustme

from tests.support import Files, write_files
from trio_tlsdown.cli.probe import _command
from trio_tlsdown.cli.probe._escapes import unescape
from trio_tlsdown.cli.probe._html import HtmlReport
from trio_tlsdown.cli.probe._results import HostResult
from trio_tlsdown.cli.probe._run import Settings
from trio_tlsdown.cli.probe._targets import Target

from .probing import run


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return write_files(tmp_path)


@pytest.fixture
def probed(monkeypatch: pytest.MonkeyPatch) -> list[Target]:
    """What would be probed."""
    targets: list[Target] = []

    async def probe_hosts(hosts: list[Target], _: Settings, **options: object) -> None:
        targets.extend(hosts)

    monkeypatch.setattr(_command, "probe_hosts", probe_hosts)
    return targets


def refusal(*arguments: object) -> str:
    """The last line, which says what is wrong."""
    result = run("probe", *arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    return result.stderr.splitlines()[-1].removeprefix("Error: ")


@pytest.mark.parametrize("option", ["--timeout", "--handshake-timeout"])
@pytest.mark.parametrize("value", ["nan", "NaN", "inf", "-1", "0", "x"])
def test_a_number_of_seconds_is_a_number_and_has_limits(
    option: str, value: str
) -> None:
    assert f"Invalid value for '{option}': " in refusal("x", option, value)


@pytest.mark.parametrize("name", ["", "\u00e9", "x" * 256])
def test_a_protocol_that_alpn_cannot_have_is_told(name: str) -> None:
    words = f"a protocol has 1 to 255 characters of ASCII: {name!r}"
    assert refusal("x", "--alpn", name) == f"Invalid value for --alpn: {words}"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--key", __file__), "--key has no effect without --cert: give --cert too."),
        (
            ("--insecure", "--ca-file", __file__),
            "--insecure verifies nothing, so --ca-file has no effect: leave one of them out.",
        ),
        (
            ("--protocol", "smtp", "--path", "/"),
            "Invalid value for --path: only for --protocol http",
        ),
        (("--json", "--brief"), "Give only one of --brief, --json."),
        (("--json", "--swimlane"), "Give only one of --json, --swimlane."),
        (("--schema",), "--schema must be used alone: leave out x."),
        (
            ("--list-checks", "--json"),
            "--list-checks must be used alone: leave out x, --json.",
        ),
    ],
)
def test_an_option_that_would_have_no_effect_is_refused(
    arguments: tuple[str, ...], words: str
) -> None:
    assert refusal("x", *arguments) == words


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("foo", "(it must begin with /)"),
        ("/a b", "(write a space as %20"),
        ("/a\tb", "(write a space as %20"),
        ("/\u00e9", "(write a space as %20"),
    ],
)
def test_a_path_that_a_request_cannot_have_is_told(path: str, hint: str) -> None:
    words = f"Invalid value for --path: not a path: {path!r} {hint}"
    assert refusal("x", "--path", path).startswith(words)


@pytest.mark.parametrize("escape", [r"\q", r"\x", "\\", r"\400", "\\\u00e9"])
def test_an_escape_that_there_is_not_is_told(escape: str) -> None:
    told = refusal("x", "--protocol", "raw", "--send", f"a{escape}")
    assert told.startswith("Invalid value for --send: no such escape: \\")


@pytest.mark.parametrize(
    ("text", "data"),
    [
        (r"PING\r\n", b"PING\r\n"),
        (r"\x00\0\377\\n\"", b'\0\0\xff\\n"'),
        ("\u00e9", "\u00e9".encode()),
    ],
)
def test_bytes_are_what_was_typed_with_escapes(text: str, data: bytes) -> None:
    assert unescape(text) == data


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ("localhost:99999", "the port must be between 1 and 65535: 'localhost:99999'"),
        ("x:0", "the port must be between 1 and 65535: 'x:0'"),
        (f"x:{'9' * 5000}", "the port must be between 1 and 65535: 'x:99"),
        ("::1:18443", "not an IPv6 address: '::1:18443' (did you mean [::1]:18443?)"),
        ("1:2:3", "not an IPv6 address: '1:2:3'"),
        ("[1:2]:3", "not HOST or HOST:PORT: '[1:2]:3'"),
    ],
)
def test_what_is_no_host_is_told(host: str, words: str) -> None:
    assert refusal(host).startswith(f"Invalid value for HOST: {words}")


@pytest.mark.parametrize("name", ["a b", "localhost:443", "a..b", "[::1]"])
def test_what_is_no_server_name_is_told(name: str) -> None:
    words = f"Invalid value for --server-name: not a host name: {name!r}"
    assert refusal("x", "--server-name", name) == words


# Hosts in a file:


def test_a_file_without_hosts_is_named(tmp_path: Path) -> None:
    path = tmp_path / "empty.txt"
    for text in ("", "\n# a comment\n"):
        path.write_text(text)
        assert refusal("--file", path) == f"{path}: no hosts in it"


def test_a_line_without_a_host_is_told_with_its_number(tmp_path: Path) -> None:
    path = tmp_path / "bad.txt"
    path.write_text("localhost\n\na b # this one\n")
    assert refusal("--file", path) == f"{path}:3: not HOST or HOST:PORT: 'a b'"


@pytest.mark.parametrize("command", [("--file",), ("merge",)])
def test_a_file_that_is_not_utf_8_is_named(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    path = tmp_path / "latin.txt"
    path.write_bytes(b"h\xe9\n")
    assert refusal(*command, path) == f"{path}: not UTF-8"


def test_the_mark_that_windows_puts_at_the_beginning_is_no_part_of_a_host(
    tmp_path: Path, probed: list[Target]
) -> None:
    path = tmp_path / "hosts.txt"
    text = b"\xef\xbb\xbfexample.org\r\nexample.net:8443\r\n"
    path.write_bytes(text)
    for arguments, data in (((path,), None), (("-",), text)):
        assert run("probe", "--file", *arguments, input=data).exit_code == 0
        assert probed == [Target("example.org", 443), Target("example.net", 8443)]
        probed.clear()


# Certificates and keys:


def test_a_certificate_without_its_key_is_told_what_to_do(files: Files) -> None:
    cert = files.certificate
    advice = f"--cert {cert}: no private key in it; give it with --key"
    assert refusal("x", "--cert", cert) == advice


def test_a_file_that_lacks_what_its_option_is_for_is_named(files: Files) -> None:
    cert, key = files.certificate, files.key
    for option in ("--ca-file", "--cert"):
        words = f"{option} {key}: no certificate in it"
        assert refusal("x", option, key) == words
    words = f"--key {cert}: no private key in it"
    assert refusal("x", "--cert", cert, "--key", cert) == words


def test_the_key_of_another_certificate_is_told(files: Files) -> None:
    other = files.folder / "other.pem"
    trustme.CA().issue_cert("x").private_key_pem.write_to_path(other)
    assert refusal("x", "--cert", files.certificate, "--key", other) == (
        f"--cert {files.certificate}: it is not the certificate of the private key"
    )


def test_what_else_openssl_says_of_a_file_is_kept(files: Files) -> None:
    broken = files.folder / "broken.pem"
    broken.write_text("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n")
    assert refusal("x", "--ca-file", broken).startswith(f"--ca-file {broken}: [")


def test_a_key_log_that_cannot_be_written_is_told_with_the_variable_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "no" / "keys")
    monkeypatch.setenv("SSLKEYLOGFILE", path)
    assert refusal("x") == f"SSLKEYLOGFILE={path}: {os.strerror(errno.ENOENT)}"


# Where it goes:


def test_a_disk_that_is_full_of_output_is_no_fault_of_a_report_which_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[HostResult] = []

    def full(result: HostResult, *_: object, **__: object) -> None:
        shown.append(result)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(_command, "full", full)
    page = tmp_path / "report.html"
    result = run("probe", "localhost:1", "--html", page)
    assert len(shown) == 1
    assert isinstance(result.exception, OSError)  # `main` tells it
    assert result.exception.errno == errno.ENOSPC
    text = page.read_text("utf-8")
    assert "<h2>localhost:1</h2>" in text
    assert text.endswith("</html>\n")


def test_a_report_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(HtmlReport, "add", full)
    page = tmp_path / "report.html"
    result = run("probe", "localhost:1", "--html", page)
    assert result.exit_code == 2
    # Some versions of rich end the bar with a line of its own.
    assert result.stderr.lstrip() == f"Error: {page}: {os.strerror(errno.ENOSPC)}\n"
    assert list(tmp_path.iterdir()) == []


def test_two_reports_in_one_file_are_refused(tmp_path: Path) -> None:
    page = tmp_path / "report"
    words = "Two reports name the same file: each needs its own."
    other = tmp_path / "." / "report"
    assert refusal("x", "--html", page, "--junit", other) == words
    assert list(tmp_path.iterdir()) == []
