"""TLSStream without `TLSServer`: what a drain is compared with.

As `sslstream` does it: each connection has a task, which waits for data in a cancel scope
of its own. To end them all the scopes are cancelled, and each task calls ``shutdown()`` and
``aclose()``.
"""

from __future__ import annotations

import ssl
from functools import partial

import trio

import trio_tlsdown
from trio_tlsdown import serve_tls_over_tcp

from . import served
from .interface import Control, PythonPeer
from .tlsdown import POLICY, shut_down


async def serve(host: str, context: ssl.SSLContext, control: Control) -> None:
    listen = partial(
        serve_tls_over_tcp, port=0, ssl_context=context, host=host, policy=POLICY
    )
    await served.serve(listen, shut_down, control)


PEER = PythonPeer(
    version=f"trio_tlsdown {trio_tlsdown.__version__}, trio {trio.__version__}",
    run=trio.run,
    serve=serve,
)
