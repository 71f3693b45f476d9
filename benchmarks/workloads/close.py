"""Close an idle connection, whose data were acknowledged, as users are told to.

The connection is as in ``shutdown``. In the clock: the stack's usual close, such as
``aclose()``. Some wait for the far end's close_notify there, some do not, and some
send none: then the remarks say "cut". A lap is a connection.
"""

from __future__ import annotations

from operator import attrgetter

from .exchange import end_after_exchange, exchange_and_answer_close as far

__all__ = ["client", "far"]

client = end_after_exchange(attrgetter("close"))
