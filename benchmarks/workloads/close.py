"""Close an idle connection, whose data were acknowledged, as users are told to.

The connection is as in ``shutdown``. Timed: the implementation's usual close, such as
``aclose()``. Some wait for the reference server's close_notify there, some do not, and
some send none: then a note says so. A sample is a connection.
"""

from __future__ import annotations

from operator import attrgetter

from .exchange import end_after_exchange, exchange_and_answer_close as serve

__all__ = ["client", "serve"]

client = end_after_exchange(attrgetter("close"))
