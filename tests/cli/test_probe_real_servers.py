"""Verdicts on real servers, as found by other means, too (docs/interop.md).

Each was seen in the version that Debian 12 has; another one may do better.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import pytest
import trio

from harness.process import running
from tests.interop import nginx
from tests.interop.programs import require
from tests.interop.servers import connect, key_and_certificate, reserved_port
from trio_tlsdown.cli.probe._results import HostResult

from .probing import HOST, probed, settings_of, verdicts

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
NODE = """
const https = require('https'), fs = require('fs');
const pem = fs.readFileSync(process.argv[2]);
https.createServer({key: pem, cert: pem}, (_, answer) => answer.end('hello'))
  .listen(+process.argv[1], '127.0.0.1');
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


@attrs.frozen
class Server:
    """How to start it, and what has to be found, with TLS 1.3 and TLS 1.2 alike."""

    name: str
    answers: str
    ends: str
    bad_request: str

    def command(self, folder: Path, port: int, pem: Path) -> tuple[str, ...]:
        match self.name:
            case "nginx":
                servers = NGINX.format(port=port, pem=pem)
                return nginx.command(folder, nginx.http_servers(folder, servers))
            case "HAProxy":
                path = folder / "haproxy.cfg"
                path.write_text(HAPROXY.format(port=port, pem=pem))
                return require("haproxy"), "-db", "-f", str(path)
            case "Node.js":
                return require("node"), "-e", NODE, str(port), str(pem)
            case "OpenSSL":
                return (
                    *(require("openssl"), "s_server", "-www", "-quiet"),
                    *("-accept", f"{HOST}:{port}", "-cert", str(pem)),
                )
            case "Python":
                return sys.executable, "-c", PYTHON, str(port), str(pem)
            case _:
                path = folder / "main.go"
                path.write_text(GO)
                return require("go"), "run", str(path), str(port), str(pem)


SERVERS = [
    Server("nginx", answers="fail", ends="pass", bad_request="pass"),
    Server("HAProxy", answers="pass", ends="pass", bad_request="pass"),
    Server("Node.js", answers="pass", ends="pass", bad_request="fail"),
    Server("OpenSSL", answers="pass", ends="pass", bad_request="n/a"),
    Server("Python", answers="fail", ends="fail", bad_request="fail"),
    pytest.param(
        Server("Go", answers="pass", ends="pass", bad_request="pass"),
        marks=pytest.mark.long,
    ),
]


@asynccontextmanager
async def probing(server: Server, folder: Path) -> AsyncIterator[HostResult]:
    pem = key_and_certificate(folder)
    with reserved_port() as port:
        async with running(*server.command(folder, port, pem), patience=120) as program:
            await trio.aclose_forcefully(await connect(port, program))
            yield await probed(port, settings_of(folder))


@pytest.mark.long
@pytest.mark.parametrize("server", SERVERS, ids=lambda server: server.name)
async def test_the_verdicts_on_a_real_server_are_those_that_it_deserves(
    server: Server, tmp_path: Path
) -> None:
    async with probing(server, tmp_path) as result:
        for version in result.versions:
            assert version.error is None
            found = verdicts(result, version.tls)
            assert found["answers-close-notify"] == server.answers
            assert found["ends-with-close-notify"] == server.ends
            assert found["bad-request-close-notify"] == server.bad_request
            assert found["answer-is-whole"] == "pass"
            if version.tls == "1.3":
                assert found["answers-after-half-close"] == "pass"
            resembled = "cut_after_close_notify" if server.answers == "fail" else None
            if server.name != "HAProxy":  # it says 400 to who has said nothing
                assert version.resembles == resembled
