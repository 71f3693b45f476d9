"""TLS for Trio that ends well.

A TLS stream that can half-close, close without losing data, and tell you how the
connection ended.
"""

from ._drain import DrainReport as DrainReport, cancel_on_drain as cancel_on_drain
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
from ._listener import TLSListener as TLSListener
from ._nursery import TLSNursery as TLSNursery, open_tls_nursery as open_tls_nursery
from ._peer import PeerState as PeerState
from ._server import TLSServer as TLSServer
from ._shutdown import (
    ShutdownOutcome as ShutdownOutcome,
    ShutdownPolicy as ShutdownPolicy,
    ShutdownReport as ShutdownReport,
)
from ._stream import TLSStream as TLSStream
from ._tcp import (
    open_tls_over_tcp_listeners as open_tls_over_tcp_listeners,
    open_tls_over_tcp_stream as open_tls_over_tcp_stream,
    serve_tls_over_tcp as serve_tls_over_tcp,
)
from ._trace import TraceEvent as TraceEvent, TraceKind as TraceKind
from ._version import __version__ as __version__
