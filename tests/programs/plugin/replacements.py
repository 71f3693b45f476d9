"""What a program finds where it looks for Trio's."""

from __future__ import annotations

from collections.abc import Callable

from trio_tlsdown import (
    TLSListener,
    TLSStream,
    open_tls_over_tcp_listeners,
    open_tls_over_tcp_stream,
    serve_tls_over_tcp,
)

IN_PLACE: dict[str, Callable[..., object]] = {
    "SSLListener": TLSListener,
    "SSLStream": TLSStream,
    "open_ssl_over_tcp_listeners": open_tls_over_tcp_listeners,
    "open_ssl_over_tcp_stream": open_tls_over_tcp_stream,
    "serve_ssl_over_tcp": serve_tls_over_tcp,
}
