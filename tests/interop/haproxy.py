"""HAProxy, which terminates TLS for TCP and for HTTP."""

from __future__ import annotations

from .programs import require
from .rows import RealProgram, Remark
from .tunnels import Deviation, Kind, Site

CONNECTION = (
    "https://github.com/haproxy/haproxy/blob/v2.6.0/include/haproxy/connection.h"
)
SSL = "https://github.com/haproxy/haproxy/blob/v2.6.0/src/ssl_sock.c"
STCONN = "https://github.com/haproxy/haproxy/blob/v2.6.0/src/stconn.c"

A_CUT_IS_AN_END = Deviation(
    "FIN",
    Remark("ssl_sock_to_buf() takes an unexpected end for the end (read0)", SSL),
)
SAYS_GOODBYE = Remark(
    "sc_app_shutw_conn() says goodbye (CO_SHW_NORMAL), whatever happened at the other"
    " side",
    STCONN,
)


def program(name: str) -> RealProgram:
    return RealProgram(name, "server", "haproxy", "-v")


def _run(site: Site, mode: str) -> tuple[str, ...]:
    configuration = site.folder / "haproxy.cfg"
    configuration.write_text(
        f"""
global
    nbthread 1
defaults
    mode {mode}
    timeout connect 20s
    timeout client 20s
    timeout server 20s
frontend tls
    bind 127.0.0.1:{site.port} ssl crt {site.pem}
    default_backend plain
backend plain
    server plain 127.0.0.1:{site.behind}
"""
    )
    return require("haproxy"), "-db", "-f", str(configuration)


def tcp(site: Site) -> tuple[str, ...]:
    return _run(site, "tcp")


def http(site: Site) -> tuple[str, ...]:
    return _run(site, "http")


KINDS = [
    Kind(
        program("HAProxy tcp"),
        tcp,
        {
            "the server behind resets": Deviation("3B", SAYS_GOODBYE),
            "we cut": A_CUT_IS_AN_END,
            "we cut a record": A_CUT_IS_AN_END,
        },
    )
]
