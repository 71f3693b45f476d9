"""The tests that every peer has to pass. `README.md` says how to add one."""

from __future__ import annotations

from typing import ClassVar

import pytest

from trio_tlsdown import TraceKind

from .capture import CLOSE_NOTIFY
from .endings import as_told, check_report
from .peer import Key, Peer, rule
from .playing import Runs
from .rows import agreed, record, row_of
from .signs import ENDS, TRACED, by, bytes_sent, told
from .situations import HELLO, SITUATIONS


class PeerSuite:
    """Tests of one peer: a subclass says which."""

    peer: ClassVar[Peer]

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        plays = self.peer.plays()
        fixtures = {
            "key": plays,
            "captured": [key for key in plays if self.peer.is_captured(key)],
            "any_key": self.peer.keys(),
        }
        for name, keys in fixtures.items():
            if name in metafunc.fixturenames:
                metafunc.parametrize(name, keys, ids="-".join)

    def test_the_peer_and_we_agree_how_it_ended(self, runs: Runs, key: Key) -> None:
        ending = agreed(self.peer, runs, key)
        run = runs[key]
        check_report(run.after, ending)
        # Closing a stream that has ended changes nothing.
        assert as_told(run.before) == as_told(run.after)

    def test_the_wire_shows_what_our_trace_and_report_say(
        self, runs: Runs, captured: Key
    ) -> None:
        runs.require_witness()
        report, trace = runs[captured].after, told(runs[captured].trace)
        wire = runs.wire(captured)
        # Our trace ends when we close: the peer may have sent more.
        heard = by("<", trace)
        seen = [sign for sign in by("<", wire) if ("<", sign) in TRACED.values()]
        assert heard == seen[: len(heard)]
        due = [CLOSE_NOTIFY] * report.close_notify_received
        due += ENDS.get(report.outcome, [])
        assert heard[: len(due)] == due
        assert by(">", trace) == [sign for sign in by(">", wire) if "alert" in sign]

    def test_all_that_we_have_to_send_has_left(self, runs: Runs, key: Key) -> None:
        left = sum(
            event.size
            for event in runs[key].trace
            if event.kind is TraceKind.BYTES_SENT
        )
        assert left > len(HELLO) + SITUATIONS[key.situation].sends
        if key in runs.packets:
            assert bytes_sent(runs.packets[key], runs[key].our_port) >= left

    def test_a_deviation_is_none_that_is_asked_for(self, key: Key) -> None:
        for deviation in self.peer.deviations_in(key):
            for field, value in deviation.changes.items():
                assert getattr(rule(key), field) != value

    def test_what_came_of_it_is_recorded(self, runs: Runs, any_key: Key) -> None:
        record(row_of(self.peer, any_key, runs))
