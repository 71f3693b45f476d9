"""TLS for Trio that ends well.

A TLS stream that can half-close, close without losing data, and tell you how the
connection ended.
"""

from ._core.report import (
    PeerState as PeerState,
    ShutdownOutcome as ShutdownOutcome,
    ShutdownPolicy as ShutdownPolicy,
    ShutdownReport as ShutdownReport,
    TraceEvent as TraceEvent,
    TraceKind as TraceKind,
)
from ._core.trace import (
    ConnectionTrace as ConnectionTrace,
    TracedConnection as TracedConnection,
)
from ._errors import (
    ConnectFailedError as ConnectFailedError,
    HalfCloseUnsupportedError as HalfCloseUnsupportedError,
    HandshakeTimeoutError as HandshakeTimeoutError,
    ListenFailedError as ListenFailedError,
    TLSDownError as TLSDownError,
    TLSFailedError as TLSFailedError,
    TransportBrokenError as TransportBrokenError,
    TruncatedError as TruncatedError,
    UnreadDataError as UnreadDataError,
)
from ._serving.accept import TLSListener as TLSListener
from ._serving.drain import (
    DrainReport as DrainReport,
    cancel_on_drain as cancel_on_drain,
    draining as draining,
    peer_name as peer_name,
    receive_until_drain as receive_until_drain,
)
from ._serving.nursery import (
    TLSNursery as TLSNursery,
    open_tls_nursery as open_tls_nursery,
)
from ._serving.server import (
    TLSServer as TLSServer,
    TLSServerStatistics as TLSServerStatistics,
)
from ._serving.tcp import (
    open_tls_over_tcp_listeners as open_tls_over_tcp_listeners,
    open_tls_over_tcp_stream as open_tls_over_tcp_stream,
    serve_tls_over_tcp as serve_tls_over_tcp,
)
from ._stream.sslstream import shutdown as shutdown
from ._stream.stream import TLSStream as TLSStream
from ._version import __version__ as __version__
