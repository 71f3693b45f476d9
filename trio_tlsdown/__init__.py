"""TLS for Trio that ends well.

A TLS stream that can half-close, close without losing data, and tell you how the
connection ended.
"""

from ._errors import (
    HalfCloseUnsupportedError as HalfCloseUnsupportedError,
    TLSDownError as TLSDownError,
    TLSFailedError as TLSFailedError,
    TransportBrokenError as TransportBrokenError,
    TruncatedError as TruncatedError,
    UnreadDataError as UnreadDataError,
)
from ._listener import TLSListener as TLSListener
from ._shutdown import (
    ShutdownOutcome as ShutdownOutcome,
    ShutdownPolicy as ShutdownPolicy,
    ShutdownReport as ShutdownReport,
)
from ._stream import TLSStream as TLSStream
from ._trace import TraceEvent as TraceEvent, TraceKind as TraceKind
from ._version import __version__ as __version__
