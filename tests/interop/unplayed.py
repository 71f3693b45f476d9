"""What has to be played with each server and client, or else why it is not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

# Of `situations.SITUATIONS`. Whether a program answers our close_notify, or waits for
# ours, is its own affair; that data came before a cut makes no difference to it.
BREAKS_OFF, WE_BREAK_OFF = "1A", "1B"
WE_SHUT_DOWN: Final = "2A/3A"
CUT_INSTEAD: Final = "2B"
CLOSES: Final = "3B/4B"
WE_DO_NOT_WAIT: Final = "4A"
WE_HALF_CLOSE, HALF_CLOSES = "half-close A", "half-close B"
WE_CUT_INSIDE, CUTS_INSIDE = "cut inside A", "cut inside B"
WE_RESET, RESETS = "reset A", "reset B"
TO_IT, FROM_IT = "8 MiB A", "8 MiB B"

REQUIRED: Final[Sequence[str]] = (
    *(BREAKS_OFF, WE_BREAK_OFF, WE_SHUT_DOWN, CUT_INSTEAD, CLOSES, WE_DO_NOT_WAIT),
    *(WE_HALF_CLOSE, HALF_CLOSES, WE_CUT_INSIDE, CUTS_INSIDE, WE_RESET, RESETS),
    *(TO_IT, FROM_IT),
)

PLAYS: Final[Mapping[str, str]] = {
    "it is killed": BREAKS_OFF,
    "1A": BREAKS_OFF,
    "we cut": WE_BREAK_OFF,
    "we cut, the length is known": WE_BREAK_OFF,
    "STOR, we cut": WE_BREAK_OFF,
    "1B": WE_BREAK_OFF,
    "we shut down": WE_SHUT_DOWN,
    "3A": WE_SHUT_DOWN,
    "it shuts down, we cut": CUT_INSTEAD,
    "2B": CUT_INSTEAD,
    "it closes": CLOSES,
    "it shuts down": CLOSES,
    "it is asked to quit": CLOSES,
    "it ends the session": CLOSES,
    "it terminates": CLOSES,
    "we terminate": CLOSES,
    "the server behind closes": CLOSES,
    "QUIT": CLOSES,
    "CCC": CLOSES,
    "3B": CLOSES,
    "4B": CLOSES,
    "we close without waiting": WE_DO_NOT_WAIT,
    "STOR, we close without waiting": WE_DO_NOT_WAIT,
    "4A": WE_DO_NOT_WAIT,
    "we half-close": WE_HALF_CLOSE,
    "it half-closes": HALF_CLOSES,
    "we cut a record": WE_CUT_INSIDE,
    "it is killed inside a record": CUTS_INSIDE,
    "we reset": WE_RESET,
    "it is killed before it reads": RESETS,
    "2A reset": RESETS,
    "8 MiB to it": TO_IT,
    "8 MiB from it": FROM_IT,
}
"""Which of them each row of a program is."""

REASONS: Final[Mapping[str, Mapping[str, Sequence[str]]]] = {}
"""By program, why it does not play some of them."""
