"""nginx, which terminates TLS as a TCP proxy and as an HTTP server."""

from __future__ import annotations

import os
from pathlib import Path

from .programs import require
from .rows import RealProgram, Remark
from .tunnels import Deviation, Kind, Site

OPENSSL = (
    "https://github.com/nginx/nginx/blob/release-1.22.1/src/event/ngx_event_openssl.c"
)
PROXY = (
    "https://github.com/nginx/nginx/blob/release-1.22.1/src/stream/"
    "ngx_stream_proxy_module.c"
)

NO_ANSWER = Deviation(
    "2A",
    Remark(
        "ngx_ssl_handle_recv() sets no_send_shutdown also when it has read a"
        " close_notify; so ngx_ssl_shutdown() sends none",
        OPENSSL,
    ),
)
A_CUT_IS_AN_END = Deviation(
    "FIN",
    Remark(
        "it sets SSL_OP_IGNORE_UNEXPECTED_EOF, and ngx_stream_proxy_process() takes an"
        " error of a connection for its end",
        PROXY,
    ),
)
HALF_CLOSE_OFF = Remark(
    "drops what comes from the other side after a half-close: proxy_half_close is off",
    "https://nginx.org/en/docs/stream/ngx_stream_proxy_module.html#proxy_half_close",
)
NO_GOODBYE = Deviation(
    "1A",
    Remark(
        "with proxy_half_close, ngx_stream_proxy_process() calls shutdown(2) on the"
        " socket under TLS",
        PROXY,
    ),
)


def program(name: str) -> RealProgram:
    return RealProgram(name, "server", "nginx", "-v")


MODULE = "/usr/lib/nginx/modules/ngx_stream_module.so"  # where Debian puts it


def command(folder: Path, servers: str) -> tuple[str, ...]:
    """How to run it in one process, which leaves none behind when it is killed."""
    configuration = folder / "nginx.conf"
    configuration.write_text(
        f"""
        daemon off;
        master_process off;
        pid {folder}/nginx.pid;
        error_log stderr;
        {servers}
        """
    )
    return (
        *(require("nginx"), "-p", str(folder)),
        *("-e", "stderr", "-c", str(configuration)),
    )


def http_servers(folder: Path, servers: str) -> str:
    """A configuration for HTTP that keeps all files in *folder*."""
    return f"""
        events {{}}
        http {{
            access_log off;
            client_body_temp_path {folder}/client;
            proxy_temp_path {folder}/proxy;
            fastcgi_temp_path {folder}/fastcgi;
            scgi_temp_path {folder}/scgi;
            uwsgi_temp_path {folder}/uwsgi;
            {servers}
        }}
        """


def _tls(site: Site) -> str:
    return f"""
        listen 127.0.0.1:{site.port} ssl;
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_certificate {site.pem};
        ssl_certificate_key {site.pem};
        """


def stream(site: Site, options: str = "") -> tuple[str, ...]:
    return command(
        site.folder,
        f"""
        load_module {require(MODULE, os.F_OK)};
        events {{}}
        stream {{
            server {{ {_tls(site)} {options} proxy_pass 127.0.0.1:{site.behind}; }}
        }}
        """,
    )


def http(site: Site) -> tuple[str, ...]:
    servers = f"""
        client_max_body_size 0;
        proxy_buffering off;
        server {{
            {_tls(site)}
            location / {{ proxy_pass http://127.0.0.1:{site.behind}; }}
        }}
        """
    return command(site.folder, http_servers(site.folder, servers))


def half_closing_stream(site: Site) -> tuple[str, ...]:
    # https://nginx.org/en/docs/stream/ngx_stream_proxy_module.html#proxy_half_close
    return stream(site, "proxy_half_close on;")


KINDS = [
    Kind(
        program("nginx stream"),
        stream,
        {
            "the server behind resets": Deviation(
                "3B",
                Remark(
                    "ngx_stream_proxy_process() takes an error of a connection for its"
                    " end, and says goodbye",
                    PROXY,
                ),
            ),
            "we shut down": NO_ANSWER,
            "we half-close": Deviation("2A", HALF_CLOSE_OFF),
            "we cut": A_CUT_IS_AN_END,
            "we cut a record": A_CUT_IS_AN_END,
            "we reset": A_CUT_IS_AN_END,
        },
        half_closes=False,
        drops_an_answer=HALF_CLOSE_OFF,
    ),
    Kind(
        program("nginx stream, proxy_half_close"),
        half_closing_stream,
        {
            "the server behind closes": NO_GOODBYE,
            "the server behind resets": NO_GOODBYE,
            "we shut down": NO_ANSWER,
            "we half-close": NO_ANSWER,
            "we cut": A_CUT_IS_AN_END,
            "we cut a record": A_CUT_IS_AN_END,
            "we reset": A_CUT_IS_AN_END,
        },
    ),
]
