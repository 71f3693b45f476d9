"""The tests that every peer has to pass. `README.md` says how to add one."""

from __future__ import annotations

from typing import ClassVar

import attrs
import pytest

from trio_tlsdown import ShutdownReport

from .capture import CLOSE_NOTIFY
from .endings import Ending, as_told, check_report
from .peer import Key, Peer
from .playing import Runs
from .programs import unavailable
from .rows import record, row_of
from .signs import TRACED, by, on_the_wire, told
from .situations import SITUATIONS, Seen


class PeerSuite:
    """Tests of one peer: a subclass says which."""

    peer: ClassVar[Peer]

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        plays = self.peer.plays()
        fixtures = {
            "key": plays,
            "captured": [key for key in plays if SITUATIONS[key.situation].witnessed],
            "any_key": self.peer.keys(),
        }
        for name, keys in fixtures.items():
            if name in metafunc.fixturenames:
                metafunc.parametrize(name, keys, ids="-".join)

    def test_the_peer_and_we_agree_how_it_ended(self, runs: Runs, key: Key) -> None:
        run = runs[key]
        ending = ending_of(run.after, run.seen)
        endings = self.peer.endings(key)
        assert ending in endings
        assert ending_of(run.before, run.seen) == ending
        check_report(run.after, ending)

    def test_the_wire_shows_what_our_trace_and_report_say(
        self, runs: Runs, captured: Key
    ) -> None:
        if runs.no_witness:
            unavailable(runs.no_witness)
        run = runs[captured]
        trace, wire = told(run), on_the_wire(runs.packets[captured], run)
        # Of what it sent we know what came before we closed.
        heard = by("<", trace)
        seen = [sign for sign in by("<", wire) if ("<", sign) in TRACED.values()]
        assert heard == seen[: len(heard)]
        assert by(">", trace) == [sign for sign in by(">", wire) if "alert" in sign]
        crossed = "".join(who for who, sign in wire if sign == CLOSE_NOTIFY)
        ours = self.peer.ending(captured).our_alerts
        assert crossed.startswith(ours)
        assert set(crossed.removeprefix(ours)) <= {"<"}

    def test_what_came_of_it_is_recorded(self, runs: Runs, any_key: Key) -> None:
        record(row_of(self.peer, any_key, runs))


def ending_of(report: ShutdownReport, seen: Seen) -> Ending:
    return attrs.evolve(
        as_told(report, seen.by_it), received=seen.received, whole=seen.whole
    )
