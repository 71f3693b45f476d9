"""What has to be played with each server and client, or why it is not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

# From `situations.SITUATIONS`. Whether a program answers our close_notify, or waits for
# it, is its own business; data before a cut make no difference to it.
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
    "CCC, we shut down": WE_SHUT_DOWN,
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
    "3B": CLOSES,
    "4B": CLOSES,
    "we close without waiting": WE_DO_NOT_WAIT,
    "STOR, we close without waiting (8 MiB to it)": WE_DO_NOT_WAIT,
    "4A": WE_DO_NOT_WAIT,
    "we half-close": WE_HALF_CLOSE,
    "it half-closes": HALF_CLOSES,
    "we cut a record": WE_CUT_INSIDE,
    "STOR, we cut a record": WE_CUT_INSIDE,
    "it is killed inside a record": CUTS_INSIDE,
    "we reset": WE_RESET,
    "STOR, we reset": WE_RESET,
    "it is killed before it reads": RESETS,
    "2A reset": RESETS,
    "8 MiB to it": TO_IT,
    "8 MiB to it (3A)": TO_IT,
    "8 MiB to it (4A)": TO_IT,
    "STOR, we shut down (8 MiB to it)": TO_IT,
    "RETR (8 MiB to it)": TO_IT,
    "8 MiB from it": FROM_IT,
    "RETR (8 MiB from it)": FROM_IT,
    "STOR (8 MiB from it)": FROM_IT,
}
"""Which situation each row of a program is."""

WAITS_FOR_NOTHING: Final = {
    "it closes behind its own close_notify, and waits for nothing": (
        CUT_INSTEAD,
        HALF_CLOSES,
    )
}
SAYS_NO_GOODBYE: Final = {"it never sends a close_notify": (CUT_INSTEAD, HALF_CLOSES)}
HAS_ASKED: Final = {
    "it asks before our close_notify, and has nothing to say behind it": (
        WE_HALF_CLOSE,
    )
}
WHOLE_RECORDS: Final = {
    "killed while it sends more than there is room for, it leaves whole records": (
        CUTS_INSIDE,
    )
}
LIKE_CURL: Final = {
    "see [curl](#curl-client): this is about how it leaves TLS and goes on": tuple(
        each for each in REQUIRED if each not in {WE_SHUT_DOWN, TO_IT, FROM_IT}
    )
}

REASONS: Final[Mapping[str, Mapping[str, Sequence[str]]]] = {
    "curl": {**WAITS_FOR_NOTHING, **HAS_ASKED, **WHOLE_RECORDS},
    "curl FTPS, CCC active": LIKE_CURL,
    "curl FTPS, CCC passive": {
        **LIKE_CURL,
        "see the active one: there is nothing to be left before it": (FROM_IT,),
    },
    "gnutls-cli": {
        "it goes when our close_notify comes": (WE_HALF_CLOSE,),
        "it prints byte by byte: it is sent 1 MiB, and gets that": (TO_IT,),
    },
    "HAProxy http": WAITS_FOR_NOTHING,
    "nginx http": WAITS_FOR_NOTHING,
    "nginx stream, proxy_half_close": {
        "it sends no close_notify when the server behind closes": (
            CUT_INSTEAD,
            HALF_CLOSES,
        )
    },
    "openssl s_client": {
        **WAITS_FOR_NOTHING,
        **WHOLE_RECORDS,
        "it answers a close_notify as soon as it reads it": (WE_HALF_CLOSE,),
    },
    "openssl s_server": {
        "it answers a close_notify as soon as it reads it": (WE_HALF_CLOSE,),
        "what comes behind its own close_notify it drops": (HALF_CLOSES,),
    },
    "PostgreSQL": WAITS_FOR_NOTHING,
    "ProFTPD": {
        "behind its own close_notify it closes (QUIT) or goes on in clear text (CCC)": (
            CUT_INSTEAD,
            HALF_CLOSES,
        ),
        **WHOLE_RECORDS,
    },
    "psql": {**WAITS_FOR_NOTHING, **HAS_ASKED},
    "redis-cli": {**SAYS_NO_GOODBYE, **HAS_ASKED},
    "redis-server": {**WAITS_FOR_NOTHING, **WHOLE_RECORDS},
    "stunnel": {"it writes when there is room for a whole record": (CUTS_INSIDE,)},
    "wget": {**SAYS_NO_GOODBYE, **HAS_ASKED, **WHOLE_RECORDS},
}
"""By program: the reasons why it does not play some of them."""
