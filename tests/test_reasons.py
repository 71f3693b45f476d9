"""What a failed handshake tells each side: whose fault it is, and what to do."""

from __future__ import annotations

import datetime as dt
import ssl
import sys
from collections.abc import Callable
from typing import TypeAlias

import attrs
import pytest
import trio
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support import CA, CERT, NAME, client_context, memory_transports
from trio_tlsdown import TLSFailedError, TLSStream

STRANGER = trustme.CA()
V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3

# Prepares the contexts of a client that trusts the CA, and of a server that has no
# certificate yet.
Prepare: TypeAlias = Callable[[ssl.SSLContext, ssl.SSLContext], None]


# The server's certificate:


def untrusted(client: ssl.SSLContext, server: ssl.SSLContext) -> None:
    STRANGER.issue_cert(NAME).configure_cert(server)


def root_sent(client: ssl.SSLContext, server: ssl.SSLContext) -> None:
    leaf = STRANGER.issue_cert(NAME)
    chain = leaf.private_key_and_cert_chain_pem.bytes() + STRANGER.cert_pem.bytes()
    load(server, chain)


def intermediate_missing(client: ssl.SSLContext, server: ssl.SSLContext) -> None:
    leaf = CA.create_child_ca().issue_cert(NAME)
    load(server, leaf.private_key_pem.bytes() + leaf.cert_chain_pems[0].bytes())


def self_signed(client: ssl.SSLContext, server: ssl.SSLContext) -> None:
    load(server, certificate())


def for_clients(client: ssl.SSLContext, server: ssl.SSLContext) -> None:
    usage = x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH])
    pem = certificate(usage)
    load(server, pem)
    client.load_verify_locations(cadata=pem.decode())


def not_strict(client: ssl.SSLContext, server: ssl.SSLContext) -> None:
    """As many companies issue them, and as Python 3.13 takes them no more."""
    load(server, certificate(issuer=CA))  # without an authority key identifier
    client.verify_flags |= ssl.VERIFY_X509_STRICT


def expired(client: ssl.SSLContext, server: ssl.SSLContext) -> None:
    long_ago = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    CA.issue_cert(NAME, not_before=long_ago, not_after=long_ago).configure_cert(server)


def too_new(client: ssl.SSLContext, server: ssl.SSLContext) -> None:
    far, farther = (dt.datetime(year, 1, 1, tzinfo=dt.UTC) for year in (2090, 2091))
    CA.issue_cert(NAME, not_before=far, not_after=farther).configure_cert(server)


def other_name(client: ssl.SSLContext, server: ssl.SSLContext) -> None:
    CA.issue_cert("other.example").configure_cert(server)


def no_revocation_list(client: ssl.SSLContext, server: ssl.SSLContext) -> None:
    CERT.configure_cert(server)
    client.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF


# The client's certificate:


def client_has_none(client: ssl.SSLContext, server: ssl.SSLContext) -> None:
    CERT.configure_cert(server)
    server.verify_mode = ssl.CERT_REQUIRED
    CA.configure_trust(server)


def client_untrusted(client: ssl.SSLContext, server: ssl.SSLContext) -> None:
    client_has_none(client, server)
    STRANGER.issue_cert("client.example").configure_cert(client)


# Nothing in common:


def no_certificate(client: ssl.SSLContext, server: ssl.SSLContext) -> None:
    pass


def other_versions(client: ssl.SSLContext, server: ssl.SSLContext) -> None:
    CERT.configure_cert(server)
    client.minimum_version, client.maximum_version = V13, V13
    server.minimum_version, server.maximum_version = V12, V12


def no_version(client: ssl.SSLContext, server: ssl.SSLContext) -> None:
    client.minimum_version, client.maximum_version = V13, V12


def other_ciphers(client: ssl.SSLContext, server: ssl.SSLContext) -> None:
    CERT.configure_cert(server)
    client.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
    server.set_ciphers("ECDHE-ECDSA-AES256-GCM-SHA384")


def no_cipher(client: ssl.SSLContext, server: ssl.SSLContext) -> None:
    client.set_ciphers("PSK")  # and there is no such key


def other_curves(client: ssl.SSLContext, server: ssl.SSLContext) -> None:
    CERT.configure_cert(server)
    client.set_ecdh_curve("prime256v1")
    server.set_ecdh_curve("secp521r1")


# The server's callback:


def alert(number: int) -> Prepare:
    def prepare(client: ssl.SSLContext, server: ssl.SSLContext) -> None:
        server.sni_callback = lambda *_: number

    return prepare


def callback_raises(client: ssl.SSLContext, server: ssl.SSLContext) -> None:
    def callback(*_: object) -> None:
        raise ValueError("a bug")

    server.sni_callback = callback


@attrs.frozen
class Row:
    """A failure, and what both sides have to be told of it."""

    prepare: Prepare
    client: str
    server: str
    name: str = attrs.field()
    versions: tuple[ssl.TLSVersion, ...] = V12, V13

    @name.default
    def _default_name(self) -> str:
        return self.prepare.__name__


UNKNOWN_CA = (
    "the client refused our certificate: it does not know the CA. Make it trust the "
    "CA, or include the intermediate certificates in load_cert_chain()"
)
REFUSED = "a callback of ssl_context, such as its sni_callback, refused the client"
VERSIONS = "see minimum_version and maximum_version of ssl_context"

ROWS = [
    Row(
        untrusted,
        "certificate verification: unable to get local issuer certificate: load the CA "
        "with ssl_context.load_verify_locations(), unless the server fails to send its "
        "intermediate certificates",
        UNKNOWN_CA,
    ),
    Row(
        intermediate_missing,
        "unless the server fails to send its intermediate certificates",
        UNKNOWN_CA,
    ),
    Row(
        root_sent,
        "if you trust it, load it with ssl_context.load_verify_locations()",
        UNKNOWN_CA,
    ),
    Row(
        self_signed,
        "if you trust it, load it with ssl_context.load_verify_locations()",
        UNKNOWN_CA,
    ),
    Row(
        for_clients,
        "unsuitable certificate purpose: it was not issued for a server",
        "the client refused our certificate: it does not accept its type or purpose",
    ),
    Row(
        not_strict,
        "clear VERIFY_X509_STRICT in ssl_context.verify_flags",
        "the client refused our certificate without saying why",
    ),
    Row(
        expired,
        "certificate has expired: the server needs another certificate, or a clock is "
        "wrong",
        "the client refused our certificate: it has expired",
    ),
    Row(
        too_new,
        "certificate is not yet valid: the server needs another certificate",
        "the client refused our certificate: bad certificate",
    ),
    Row(
        other_name,
        "certificate is not valid for 'localhost': pass a server_hostname that it is "
        "valid for",
        "the client refused our certificate: bad certificate, such as one for another "
        "name (SSLV3_ALERT_BAD_CERTIFICATE)",
    ),
    Row(
        no_revocation_list,
        "unable to get certificate CRL: load a CRL with",
        UNKNOWN_CA,
    ),
    Row(
        client_has_none,
        "it may have no certificate, require one of ours, or",
        "the client sent no certificate, but ssl_context.verify_mode requires one",
        versions=(V12,),
    ),
    Row(
        client_has_none,
        "the server requires a client certificate: load one with "
        "ssl_context.load_cert_chain()",
        "the client sent no certificate, but ssl_context.verify_mode requires one",
        versions=(V13,),
    ),
    Row(
        client_untrusted,
        "the server refused our certificate: it does not know the CA",
        "certificate verification: unable to get local issuer certificate: load the CA "
        "with ssl_context.load_verify_locations(), unless the client fails to send its "
        "intermediate certificates",
    ),
    Row(
        no_certificate,
        "the server refused the handshake without saying why: it may have no "
        "certificate",
        "no cipher in common with the client: does ssl_context have a certificate",
        versions=(V12,),
    ),
    Row(
        no_certificate,
        f"the server accepts none of the TLS versions that we offer: {VERSIONS}",
        f"no TLS version in common with the client: {VERSIONS}; TLS 1.3 needs a "
        "certificate (load_cert_chain())",
        versions=(V13,),
    ),
    Row(
        other_versions,
        f"the server accepts none of the TLS versions that we offer: {VERSIONS}",
        f"no TLS version in common with the client: {VERSIONS}",
    ),
    Row(
        no_version,
        f"ssl_context leaves no TLS version to use: {VERSIONS}",
        "unexpected message",
    ),
    Row(
        other_ciphers,
        "or share no cipher or curve with us",
        "no cipher in common with the client",
        versions=(V12,),
    ),
    Row(
        no_cipher,
        "ssl_context leaves no cipher to use",
        "unexpected message",
        versions=(V12,),
    ),
    Row(
        other_curves,
        "or share no cipher or curve with us",
        "no key exchange in common with the client: see ssl_context.set_ecdh_curve()",
        versions=(V13,),
    ),
    Row(
        alert(44),
        "the server refused our certificate: it was revoked",
        REFUSED,
        "certificate_revoked",
    ),
    Row(
        alert(49),
        "the server accepted our certificate but denied access",
        REFUSED,
        "access_denied",
    ),
    Row(
        alert(80),
        "the server had an internal error: see its log",
        REFUSED,
        "internal_error",
    ),
    Row(
        alert(112),
        "the server does not know the name we asked for: see server_hostname",
        REFUSED,
        "unrecognized_name",
    ),
    Row(
        alert(120),
        "the server supports none of the protocols in ssl_context.set_alpn_protocols() "
        "(TLSV1_ALERT_NO_APPLICATION_PROTOCOL)",
        REFUSED,
        "no_application_protocol",
    ),
    Row(
        callback_raises,
        "the server refused the handshake without saying why",
        f"{REFUSED} or raised (see sys.unraisablehook) (CALLBACK_FAILED)",
    ),
]


@pytest.mark.parametrize(
    ("row", "version"),
    [
        pytest.param(row, version, id=f"{row.name}-{version.name}")
        for row in ROWS
        for version in row.versions
    ],
)
async def test_each_side_is_told_what_to_do(
    row: Row, version: ssl.TLSVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)
    client = client_context(version.name.replace("_", "."))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.minimum_version = server.maximum_version = version
    row.prepare(client, server)
    ours, theirs = await memory_transports()
    told = {}

    async def fail(side: str, stream: TLSStream[trio.abc.Stream]) -> None:
        # On TLS 1.3 a side may hear of it behind its own handshake.
        with pytest.raises(TLSFailedError) as caught:
            await stream.receive_some()
        assert caught.value.reason is not None
        told[side] = str(stream.report.error)
        assert told[side] == str(caught.value)
        await trio.aclose_forcefully(stream)

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                fail, "client", TLSStream(ours, client, server_hostname=NAME)
            )
            nursery.start_soon(
                fail, "server", TLSStream(theirs, server, server_side=True)
            )
    assert row.client in told["client"]
    assert row.server in told["server"]


# Parts:


def load(context: ssl.SSLContext, pem: bytes) -> None:
    with trustme.Blob(pem).tempfile() as path:
        context.load_cert_chain(path)


def certificate(
    *extensions: x509.ExtensionType, issuer: trustme.CA | None = None
) -> bytes:
    """One that trustme would not issue, and its key; signed by itself, or by a CA."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, NAME)])
    signer, signing_key = subject, key
    if issuer is not None:
        signer = x509.load_pem_x509_certificate(issuer.cert_pem.bytes()).subject
        loaded = serialization.load_pem_private_key(
            issuer.private_key_pem.bytes(), None
        )
        assert isinstance(loaded, ec.EllipticCurvePrivateKey)
        signing_key = loaded
    names = x509.SubjectAlternativeName([x509.DNSName(NAME)])
    signed = x509.CertificateBuilder(
        issuer_name=signer,
        subject_name=subject,
        public_key=key.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=dt.datetime(2020, 1, 1, tzinfo=dt.UTC),
        not_valid_after=dt.datetime(2090, 1, 1, tzinfo=dt.UTC),
        extensions=[
            x509.Extension(one.oid, critical=False, value=one)
            for one in (names, *extensions)
        ],
    ).sign(signing_key, hashes.SHA256())
    pem = serialization.Encoding.PEM
    return signed.public_bytes(pem) + key.private_bytes(
        pem,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
