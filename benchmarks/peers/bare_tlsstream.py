"""TLSStream without `TLSServer`: what a drain is compared with.

The same that `sslstream` does: each connection has a task, which waits for data in a
cancel scope of its own. When all shall end the scopes are cancelled, and each task does
``shutdown()`` and ``aclose()``.
"""

from __future__ import annotations

import ssl
from functools import partial

import trio

import trio_tlsdown
from benchmarks.clock import Lap
from trio_tlsdown import serve_tls_over_tcp

from . import served
from .interface import Orders, PythonPeer
from .tlsdown import POLICY, shut_down


async def hold(host: str, context: ssl.SSLContext, orders: Orders) -> Lap:
    serve = partial(
        serve_tls_over_tcp, port=0, ssl_context=context, host=host, policy=POLICY
    )
    return await served.hold(serve, shut_down, orders)


PEER = PythonPeer(
    version=f"trio_tlsdown {trio_tlsdown.__version__}, trio {trio.__version__}",
    run=trio.run,
    hold=hold,
)
