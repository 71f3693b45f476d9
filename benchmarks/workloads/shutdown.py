"""End a connection gracefully, as well as the stack can.

The connection is open and idle, one byte has gone each way, and the far end waits in
a read; it answers a close_notify at once with its own, and closes. In the clock: our
close_notify, the wait for the far end's, and closing the socket. A lap is a connection.
"""

from __future__ import annotations

from operator import attrgetter

from .exchange import end_after_exchange, exchange_and_answer_close as far

__all__ = ["client", "far"]

client = end_after_exchange(attrgetter("shutdown"))
