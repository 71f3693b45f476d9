"""The TLS contexts of a probe, made from what its options name."""

from __future__ import annotations

import ssl
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from trio_tlsdown.cli._options import check_key_log

from ._checks import Version

VERSIONS: Final[Mapping[Version, ssl.TLSVersion]] = {
    "1.3": ssl.TLSVersion.TLSv1_3,
    "1.2": ssl.TLSVersion.TLSv1_2,
}

# How PEM calls them, at the end of what it begins with.
CERTIFICATE: Final = b"CERTIFICATE-----"
PRIVATE_KEY: Final = b"PRIVATE KEY-----"


class UnusableError(Exception):
    """An option names what cannot be used; the message begins with the option."""


def make_contexts(
    versions: Iterable[Version],
    *,
    alpn: Iterable[str] = (),
    ca_file: str | None = None,
    client_certificate: str | None = None,
    client_key: str | None = None,
    insecure: bool = False,
) -> dict[Version, ssl.SSLContext]:
    """Make a context for each version. They are shared: to load the CAs takes long.

    Raises:
      UnusableError: a file is not what it should be.
      OSError: a file cannot be read, or that of SSLKEYLOGFILE cannot be written.
    """
    check_key_log()
    _check_files(ca_file, client_certificate, client_key)
    contexts: dict[Version, ssl.SSLContext] = {}
    for version in versions:
        with _blaming(f"--ca-file {ca_file}"):
            context = ssl.create_default_context(cafile=ca_file)
        context.minimum_version = context.maximum_version = VERSIONS[version]
        if client_certificate is not None:
            with _blaming(f"--cert {client_certificate}"):
                context.load_cert_chain(client_certificate, client_key)
        if insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        context.set_alpn_protocols(list(alpn))
        contexts[version] = context
    return contexts


def _check_files(ca_file: str | None, certificate: str | None, key: str | None) -> None:
    """Tell what OpenSSL does not: which file lacks what."""
    for option, path in (("--ca-file", ca_file), ("--cert", certificate)):
        if path is not None and _lacks(path, CERTIFICATE):
            raise UnusableError(f"{option} {path}: no certificate in it")
    if key is not None and _lacks(key, PRIVATE_KEY):
        raise UnusableError(f"--key {key}: no private key in it")
    if certificate is not None and key is None and _lacks(certificate, PRIVATE_KEY):
        raise UnusableError(
            f"--cert {certificate}: no private key in it; give it with --key"
        )


def _lacks(path: str, what: bytes) -> bool:
    file = Path(path)
    return file.is_file() and what not in file.read_bytes()  # a pipe is read only once


@contextmanager
def _blaming(option: str) -> Generator[None]:
    try:
        yield
    except ssl.SSLError as exc:
        why: object = exc
        if exc.reason == "KEY_VALUES_MISMATCH":
            why = "it is not the certificate of the private key"
        raise UnusableError(f"{option}: {why}") from exc
