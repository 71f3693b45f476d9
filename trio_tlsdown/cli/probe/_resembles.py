"""Which behaviour of the test kit a server's ending resembles.

`trio_tlsdown.testing.BEHAVIOURS` has them, and ``trio-tlsdown rogue`` plays them: a
client can be tested against what its server does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from ._checks import LATE, Observations
from ._observe import FATAL_CLOSE_NOTIFY, Ending, Experiment, Observation, Refusal
from ._witness import Behind, TransportEnd

Test: TypeAlias = Callable[[Observation], bool]

IN_HANDSHAKE: Final = {
    Refusal.CUT: "cut_in_handshake",
    Refusal.STALLED: "stall_in_handshake",
}


def _first(seen: Observation) -> bool:
    return seen.ended is not None and (seen.ours is None or seen.ended < seen.ours)


def _unasked(seen: Observation, ending: Ending) -> bool:
    return _first(seen) and seen.ending is ending


def _asked(seen: Observation, ending: Ending) -> bool:
    return not _first(seen) and seen.ending is ending


def _closes_without_waiting(seen: Observation) -> bool:
    if not _unasked(seen, Ending.CLOSE_NOTIFY) or seen.behind is not Behind.NOTHING:
        return False
    return seen.tcp is not TransportEnd.OPEN and (
        seen.ours is None or (seen.tcp_ended or 0.0) < seen.ours
    )


# What an idle connection showed; the first that fits.
ON_AN_IDLE_CONNECTION: Final[dict[str, Test]] = {
    "slow_drip": lambda seen: seen.drips,
    "flood": lambda seen: seen.ending is Ending.FLOOD,
    "cut_inside_record": lambda seen: seen.ending is Ending.FIN and seen.mid_record,
    "cut_before_close_notify": lambda seen: _unasked(seen, Ending.FIN),
    "reset_before_close_notify": lambda seen: _unasked(seen, Ending.RESET),
    "cut_after_close_notify": lambda seen: _asked(seen, Ending.FIN),
    "reset_after_close_notify": lambda seen: _asked(seen, Ending.RESET),
    "fatal_close_notify": lambda seen: seen.alert == FATAL_CLOSE_NOTIFY,
    "fatal_alert": lambda seen: seen.ending is Ending.ALERT,
    "bad_record": lambda seen: seen.ending is Ending.BAD_RECORD,
    "second_close_notify": lambda seen: seen.behind is Behind.ALERT,
    "data_after_close_notify": lambda seen: seen.behind is Behind.DATA,
    "cleartext_after_close_notify": lambda seen: seen.behind is Behind.CLEAR_TEXT,
    "garbage_after_close_notify": lambda seen: seen.behind is Behind.GARBAGE,
    "user_canceled_first": lambda seen: seen.theirs is not None and seen.odd_alerts > 0,
    "close_without_waiting": _closes_without_waiting,
    "keep_sending_after_close_notify": lambda seen: seen.data_after > 0,
    "never_answer": lambda seen: _asked(seen, Ending.OPEN),
    "answer_late": lambda seen: (
        seen.theirs is not None
        and seen.ours is not None
        and seen.theirs - seen.ours > LATE
    ),
}


def resembles(seen: Observations, refusal: Refusal | None = None) -> str | None:
    """The name of the behaviour, if it is like one."""
    if refusal in IN_HANDSHAKE:
        return IN_HANDSHAKE[refusal]
    if (idle := seen.get(Experiment.IDLE)) is None:
        return None
    return next(
        (name for name, test in ON_AN_IDLE_CONNECTION.items() if test(idle)), None
    )
