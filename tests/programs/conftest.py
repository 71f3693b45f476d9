from collections.abc import Callable

import pytest
import trio

from trio_tlsdown import (
    TLSListener,
    TLSStream,
    open_tls_over_tcp_listeners,
    open_tls_over_tcp_stream,
    serve_tls_over_tcp,
)

# What a program finds where it looks for Trio's.
IN_PLACE: dict[str, Callable[..., object]] = {
    "SSLListener": TLSListener,
    "SSLStream": TLSStream,
    "open_ssl_over_tcp_listeners": open_tls_over_tcp_listeners,
    "open_ssl_over_tcp_stream": open_tls_over_tcp_stream,
    "serve_ssl_over_tcp": serve_tls_over_tcp,
}


@pytest.fixture
def in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs that ask for an SSLStream get a TLSStream."""
    for name, thing in IN_PLACE.items():
        monkeypatch.setattr(trio, name, thing)
