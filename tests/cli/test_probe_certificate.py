"""What the probe tells of a server's certificate, whatever stands in it."""

from __future__ import annotations

import datetime as dt
import ssl
import xml.etree.ElementTree as ET
from functools import partial
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from trio_tlsdown.cli.probe._certificate import Certificate, read_certificate
from trio_tlsdown.testing import NAME

from .probing import HOST, in_thread, lines_of_json, run, serve_tls, web

EVIL = "\x1b]0;owned\x07\x1b[2J<script>alert(1)</script>\u202e\"'&\r\n" + "A" * 500
DESCRIPTION = x509.ObjectIdentifier("2.5.4.13")
ENDS = dt.datetime(2099, 12, 31, 23, 59, 59, tzinfo=dt.UTC)


def certificate_for(name: str, folder: Path) -> Path:
    """A self-signed certificate whose subject and issuer have that name."""
    key = ec.generate_private_key(ec.SECP256R1())
    named = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, name[:60], _validate=False),
            x509.NameAttribute(DESCRIPTION, name),
        ]
    )
    signed = (
        x509.CertificateBuilder()
        .subject_name(named)
        .issuer_name(named)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(dt.datetime(2020, 1, 1, tzinfo=dt.UTC))
        .not_valid_after(ENDS)
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "server.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + signed.public_bytes(serialization.Encoding.PEM)
    )
    return path


@pytest.mark.long
@pytest.mark.parametrize("trust", ["--insecure", "--ca-file"])
def test_a_certificate_is_told_and_cannot_steer_a_terminal_or_a_page(
    tmp_path: Path, trust: str
) -> None:
    pem = certificate_for(EVIL, tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    arguments = ["--server-name", NAME, "--timeout", "1"]
    arguments += [trust] if trust == "--insecure" else [trust, str(pem)]
    page, suites, metrics = (tmp_path / name for name in ("p.html", "p.xml", "p.prom"))
    with in_thread(partial(serve_tls, web, context)) as port:
        told = run("probe", *arguments, f"{HOST}:{port}")
        result = run(
            *("probe", *arguments, "--json", f"{HOST}:{port}"),
            *("--html", page, "--junit", suites, "--prometheus", metrics),
        )
    assert told.exit_code == result.exit_code == 0, told.output
    assert "Certificate of 2.5.4.13=" in told.stdout  # once, not for each version
    assert told.stdout.count("valid until 2099-12-31") == 1
    assert max(map(len, told.stdout.splitlines())) <= 80
    texts = [path.read_text("utf-8") for path in (page, suites, metrics)]
    for text in (told.stdout, result.stdout, *texts):
        for bad in ("\x1b", "\x07", "\u202e", "\r", "<script>"):
            assert bad not in text or (bad == "<script>" and text is not texts[0])
        assert len(text) < 100_000
    assert "&lt;script" in texts[0]
    assert "valid until 2099-12-31" in texts[0]
    ET.fromstring(texts[1])  # noqa: S314 - we wrote it
    for version in lines_of_json(result.stdout)[0]["versions"]:
        found = version["certificate"]
        assert found["not_after"] == ENDS.isoformat()
        assert found["subject"] == found["issuer"]
        assert found["subject"].isprintable()
        assert len(found["subject"]) < 2_000


def test_what_is_no_certificate_is_none() -> None:
    assert read_certificate(None) is None
    assert read_certificate(b"\x30\x82") is None


def test_a_certificate_in_one_line() -> None:
    text = str(Certificate("CN=localhost", "CN=Some CA", ENDS))
    assert text == (
        "Certificate of CN=localhost, issued by CN=Some CA, valid until 2099-12-31"
    )
