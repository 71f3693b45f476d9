"""End a connection gracefully, as well as the implementation can.

The connection is open and idle, one byte has gone each way, and the reference server waits
in a read; it answers a close_notify at once with its own, and closes. Timed: our
close_notify, the wait for the server's, and closing the socket. A sample is a connection.
"""

from __future__ import annotations

from operator import attrgetter

from .exchange import end_after_exchange, exchange_and_answer_close as serve

__all__ = ["client", "serve"]

client = end_after_exchange(attrgetter("shutdown"))
