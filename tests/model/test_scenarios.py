"""Any order of calls, cancellations and faults, beside what RFC 9846 says.

`TLSDOWN_EXAMPLES=5000 make test ARGS=tests/model` looks at so many of each.
"""

from __future__ import annotations

import os
from typing import Final

import pytest
from hypothesis import HealthCheck, example, given, settings, strategies as st

from trio_tlsdown.testing import Cut, Delay, Fault, Rechunk, Reset, Stall

from .records import ENDS_OF_TLS, WHAT_IS_NO_END, Monologue
from .scenarios import ERRORS, Call, Scenario

# None: the same few in each run.
EXAMPLES: Final = os.environ.get("TLSDOWN_EXAMPLES")

many = settings(
    max_examples=int(EXAMPLES or "60"),
    derandomize=EXAMPLES is None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)

SIZES = st.sampled_from([0, 1, 100, 3000, 17_000, 70_000, 300_000])
CANCEL = st.none() | st.integers(0, 8)
CALLS = st.lists(
    st.one_of(
        st.builds(Call, st.just("send"), SIZES, CANCEL),
        st.builds(
            Call, st.just("receive"), st.sampled_from([0, 0, 1, 50, 20_000]), CANCEL
        ),
        st.builds(Call, st.sampled_from(sorted(ERRORS)), st.integers(0, 3), CANCEL),
    ),
    max_size=5,
)

PLACES = st.integers(0, 60) | st.integers(0, 80_000)
DIRECTIONS = st.sampled_from(["send", "receive"])


FAULTS: st.SearchStrategy[list[Fault]] = st.lists(
    st.one_of(
        st.builds(Cut, DIRECTIONS, at=PLACES),
        st.builds(Reset, DIRECTIONS, at=PLACES),
        st.builds(Stall, DIRECTIONS, at=PLACES),
        st.builds(
            Rechunk, DIRECTIONS, at=PLACES, size=st.sampled_from([1000, (500, 9000)])
        ),
        st.builds(Delay, DIRECTIONS, at=PLACES, seconds=st.sampled_from([0.1, 3, 20])),
    ),
    max_size=2,
)


@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
@many
@example(tasks=([Call("unwrap")], [], [Call("unwrap")], []), faults=([], []))
@given(
    tasks=st.tuples(CALLS, CALLS, CALLS, CALLS),
    faults=st.tuples(FAULTS, FAULTS),
)
def test_whatever_tasks_and_transports_do_each_side_sees_only_what_the_other_said(
    version: str,
    tasks: tuple[list[Call], list[Call], list[Call], list[Call]],
    faults: tuple[list[Fault], list[Fault]],
) -> None:
    Scenario(version, tasks, faults).play()


RECORDS: st.SearchStrategy[list[tuple[str, int]]] = st.lists(
    st.tuples(
        st.sampled_from([*WHAT_IS_NO_END, *ENDS_OF_TLS]),
        st.integers(1, 40) | st.just(16_384),
    ),
    max_size=8,
)


@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
@pytest.mark.parametrize("server_side", [False, True])
@many
@given(
    records=RECORDS,
    end=st.sampled_from(["FIN", "FIN in a record", "reset"]),
    piece=st.integers(1, 100) | st.just(2**16),
    calls=st.lists(st.sampled_from(["send", "send_eof", "peer state"]), max_size=2),
)
def test_what_a_stream_tells_of_a_peer_is_what_the_records_of_the_peer_say(
    version: str,
    server_side: bool,
    records: list[tuple[str, int]],
    end: str,
    piece: int,
    calls: list[str],
) -> None:
    Monologue(version, server_side, records, end, piece, calls).play()
